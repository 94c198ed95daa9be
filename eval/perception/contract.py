"""The contract of machine perception: samples, tasks, scores.

A task is a model that looks at (or listens to) values, and the question what its answers are worth. A model sees the
original once and every decoded value; `compare` turns an answer into counts that can be added over samples, and a score
is a function of such sums. So one bootstrap serves accuracy, word error rates and F-scores alike.

    class Birds(Task):
        name, medium, models = "birds", "image", ("birds.pt",)

        def samples(self, data):
            return labelled_pictures(data)

        def load(self, model):
            net = torch.jit.load(model).eval()
            return lambda pixels: int(net(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255).argmax())
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ..bench.contract import Medium, Value
from ..bench.items import Skipped

__all__ = ["ACCURACY", "AGREEMENT", "Counts", "Predict", "Sample", "Score", "Task", "share"]

Counts = Mapping[str, float]  # of one sample; they add up over samples
Predict = Callable[[Any], Any]


@dataclass(frozen=True, eq=False)
class Sample:
    """One value that is coded and looked at.

    name: short and unique in the task. digest: a hash of its values, so that a row is of this value and no other.
    label: the truth, in whatever form the task's `compare` takes; None where nobody knows it.
    """

    name: str
    value: Value
    digest: str
    label: Any = None


@dataclass(frozen=True)
class Score:
    """A number in [0, 1] or so, higher is better, of counts that are summed over samples.

    value: of sums, which may be arrays of equal shape (a bootstrap's); NaN where it isn't defined. chance: the score
    of answers that know nothing of the value; None if that depends on the data.
    """

    name: str
    about: str
    value: Callable[[Mapping[str, Any]], Any]
    chance: float | None = None


def share(
    part: str | Sequence[str], whole: str | Sequence[str], *, rest: bool = False
) -> Callable[[Mapping[str, Any]], Any]:
    """A function for `Score.value`: sums by their names, divided by others; NaN where those are 0.

    A name that is given twice counts twice: share(("pairs", "pairs"), ("answered", "wanted")) is an F-score. rest: 1
    less the share, for scores from errors.
    """
    import numpy as np

    tops, bottoms = ((names,) if isinstance(names, str) else tuple(names) for names in (part, whole))

    def value(sums: Mapping[str, Any]) -> Any:
        top, bottom = (sum(np.asarray(sums.get(key, 0.0), float) for key in names) for names in (tops, bottoms))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(np.asarray(bottom) > 0, np.asarray(top) / np.asarray(bottom), np.nan)
        return 1 - ratio if rest else ratio

    return value


ACCURACY = Score("accuracy", "share of true answers", share("correct", "labelled"))
AGREEMENT = Score("agreement", "share of answers that are those for the original", share("agree", "asked"))


class Task(ABC):
    """A model with its data and its scores.

    name: as it is typed. medium: of what it looks at. about: a line. models: names that `load` takes, in the order in
    which they are tried; the first is the one that the literature uses, the last can be had without a network. scores:
    the first of them that the data defines is the task's score.
    """

    name: ClassVar[str]
    medium: ClassVar[Medium]
    models: ClassVar[tuple[str, ...]]
    about: ClassVar[str] = ""
    data: ClassVar[str] = ""
    scores: ClassVar[tuple[Score, ...]] = (ACCURACY, AGREEMENT)

    @abstractmethod
    def samples(self, data: Path | None) -> Iterable[Sample | Skipped]:
        """Yields the samples in a fixed order, and what can't be one. data: a folder of the user's; None: the task's
        own data, looked for. It is gone through twice: nobody keeps all values in memory.

        Raises UsageError that says what to do if there is none.
        """

    @abstractmethod
    def load(self, model: str) -> Predict:
        """Returns a function from a value to an answer, of a name in `models` or of a path.

        Raises UsageError that says how to get the model if it can't be had here.
        """

    def compare(self, answer: Any, original: Any, label: Any) -> Counts:
        """Returns counts of an answer beside the answer for the original, and beside the label where there is one."""
        counts = {"asked": 1.0, "agree": float(answer == original)}
        if label is not None:
            counts |= {"labelled": 1.0, "correct": float(answer == label)}
        return counts

    def versions(self) -> Mapping[str, str]:
        """Libraries that do the work, with their versions: rows of other versions aren't mixed with these."""
        return {}
