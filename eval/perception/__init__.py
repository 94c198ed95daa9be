"""Machine perception: how codecs change the answers of models that look and listen.

Jacobellis, Cummings, Yadwadkar, "Machine Perceptual Quality", DCC 2024, arXiv 2401.07957, asks what severe compression
costs pretrained models. Differs from that study: real files and their whole size, at least four settings a codec,
scores at equal rates, paired intervals, and similarity of the very values that the model saw.
"""

from ..bench.items import Skipped
from .contract import ACCURACY, AGREEMENT, Counts, Predict, Sample, Score, Task, share
from .harness import Results, perceive
from .registry import find_task, names
from .samples import digest_of, labelled_pictures, photographs

__all__ = [
    "ACCURACY",
    "AGREEMENT",
    "Counts",
    "Predict",
    "Results",
    "Sample",
    "Score",
    "Skipped",
    "Task",
    "digest_of",
    "find_task",
    "labelled_pictures",
    "names",
    "perceive",
    "photographs",
    "share",
]
