"""Sound as values and as files. Values: values; reading: reader; other rates: resample; writing: writer."""
