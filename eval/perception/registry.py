"""The tasks there are: those of this package, of other packages (entry points), and of a Python file of the user's.

    codec perceive --task classification
    codec perceive --task birds.py                     # the one Task in a file
    [project.entry-points."codec.perception"]          # in another package's pyproject.toml
    birds = "my_package:Birds"

A file that is named runs: it is the user's own code, as with `python birds.py`.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import os
from importlib import metadata
from pathlib import Path

from ...errors import UsageError
from .contract import Task

__all__ = ["GROUP", "TASKS", "find_task", "names"]

GROUP = "codec.perception"  # of entry points
TASKS = {  # modules, relative to this package, and classes in them; imported when asked for
    "classification": ("tasks.classification", "Classification"),
    "digits": ("tasks.digits", "Digits"),
    "segmentation": ("tasks.segmentation", "Segmentation"),
    "text": ("tasks.text", "Text"),
    "faces": ("tasks.faces", "Faces"),
    "speech": ("tasks.speech", "Speech"),
    "spoken-digits": ("tasks.spoken_digits", "SpokenDigits"),
    "turbulence": ("tasks.turbulence", "Turbulence"),
}


def names() -> list[str]:
    """The names of all tasks: ours, then those of entry points."""
    return [*TASKS, *sorted({entry.name for entry in metadata.entry_points(group=GROUP)} - set(TASKS))]


def find_task(name: str) -> Task:
    """The task of a name, or of a Python file that holds one. UsageError says which there are."""
    if name.endswith(".py") or os.sep in name:
        return _from_file(Path(name))
    if name in TASKS:
        module, cls = TASKS[name]
        return getattr(importlib.import_module(f".{module}", __package__), cls)()
    for entry in metadata.entry_points(group=GROUP):
        if entry.name == name:
            return _made(entry.load(), f"entry point {entry.value}")
    near = difflib.get_close_matches(name, names(), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UsageError(f"no task {name!r}: {hint}There are {', '.join(names())}; or name a Python file with a Task in it")


def _from_file(path: Path) -> Task:
    if not path.is_file():
        raise UsageError(f"{path}: no such file; expected a Python file with a Task in it")
    spec = importlib.util.spec_from_file_location("codec_perception_task", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
        raise UsageError(f"{path}: can't be run ({type(error).__name__}: {error})") from error
    own = [
        cls
        for cls in vars(module).values()
        if inspect.isclass(cls) and issubclass(cls, Task) and cls.__module__ == module.__name__
    ]
    if len(own) != 1:
        raise UsageError(f"{path}: holds {len(own)} classes that are a Task; expected one")
    return _made(own[0], str(path))


def _made(cls: object, place: str) -> Task:
    if not (inspect.isclass(cls) and issubclass(cls, Task)):
        raise UsageError(f"{place}: {cls!r} is no Task: derive a class from codec.eval.perception.Task")
    missing = [name for name in ("name", "medium", "models") if not hasattr(cls, name)]
    if missing or inspect.isabstract(cls):
        lacks = ", ".join([*missing, *sorted(getattr(cls, "__abstractmethods__", ()))])
        raise UsageError(f"{place}: {cls.__name__} lacks {lacks}")
    return cls()
