"""WaLLoC for sound: the codec `walloc-audio`, its lapped model, and the model of the paper.

Jacobellis and Yadwadkar, "Learned Compression for Compressed Learning", DCC 2025, arXiv 2412.09405, with their audio
configurations. The card is in the folder above.
"""
