"""Video as values and as files. Values: values; reading: reader, y4m; sound: sound; writing: writer."""
