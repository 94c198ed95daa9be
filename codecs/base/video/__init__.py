"""The base of video codecs: groups of frames, scenes, encoding, the stream, the journal of an encoding."""
