"""The exact beginning and length of coded sound: what an encoder put around it, by the file's own words.

Encoders give more samples than they got: a delay in front, and padding that fills the last packet. Each format says in
a way of its own how many there are. Here it is read, so that files join without a gap (gapless) and nothing depends on
the version of a decoder. FLAC: flac; MP3: mp3; Ogg: pages; MP4: boxes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..notes import Note
from .tags import Tags

__all__ = ["Timing"]


@dataclass
class Timing:
    """A file's words about its sound.

    skip: samples that a decoder gives before the first one. n_samples: of each channel after that; None if the file
    doesn't say it. end: the time at which the sound ends, in samples, skip included; -1 if that isn't said. rate:
    in whose samples these count; 0 for the decoder's. late: seconds by which the sound begins after the file's time
    does. bits: of a sample as they were, 0 where that isn't said.
    """

    skip: int = 0
    n_samples: int | None = None
    end: int = -1
    rate: int = 0
    late: float = 0.0
    bits: int = 0
    tags: Tags = field(default_factory=Tags)
    notes: list[Note] = field(default_factory=list)
