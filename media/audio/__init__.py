"""Sound as values and as files. Values: values; reading: reader and the modules of formats; rates: resample; writing: writer."""
