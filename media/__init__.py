"""Media: what a file holds, and the values that codecs take and give. May import files and errors only."""
