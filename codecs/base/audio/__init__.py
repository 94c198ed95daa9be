"""The base of audio codecs: contract and files (`codec`), what a file says (`headers`), streams, rates."""
