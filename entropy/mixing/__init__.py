"""Context mixing: the smallest files of the entropy layer, one decision after the other, in exact integers.

A symbol is a series of binary decisions. Hashed contexts predict each of them, and a logistic mixer weighs the
predictions; all of it learns while it codes. After the PAQ family (Mahoney, "Adaptive Weighing of Context Models for
Lossless Data Compression", Florida Tech CS-2005-16, 2005). Differs: all states are integers whose updates are given to
the last digit, so that a stream decodes the same everywhere; states can start from those that were learned before
(`Mixer.copy`), or be frozen, so that parts of a file decode alone.
"""
