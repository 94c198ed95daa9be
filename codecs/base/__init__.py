"""The contract of all codecs, and one base for each medium. Imports no family."""
