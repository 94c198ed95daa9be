"""The base of codecs of Gaussian splats: error bounds, scenes and sequences, their files, random access to frames."""
