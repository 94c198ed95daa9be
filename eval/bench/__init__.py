"""Rate, distortion and speed of codecs on items, as rows."""
