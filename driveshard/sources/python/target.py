"""Find and call what a Python source's target names."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from types import ModuleType
from typing import Any

from driveshard.core.errors import SourceMissing, UsageError
from driveshard.core.paths import path_of
from driveshard.sources.python.foreign import guarded

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_NONE = object()
_FORM = "A Python source is written package.module:callable or file.py:callable."


@dataclass(frozen=True, slots=True)
class Target:
    """A target taken apart. ``place`` is a module's dotted name or, ending in ``.py``, a file's path; ``base`` is the
    folder that relative files and modules are looked for in (None: the current one)."""

    place: str
    name: str
    base: Path | None

    @classmethod
    def parse(cls, text: str, base: Path | None = None) -> Target:
        """Split at the last colon, so that a drive letter stays with its path. Raises UsageError."""
        place, colon, name = text.rpartition(":")
        is_file = place.lower().endswith(".py")
        if not colon or not _DOTTED.fullmatch(name) or not (is_file or _DOTTED.fullmatch(place)):
            raise UsageError(f"Not a Python source: {text!r}.", advice=_FORM)
        return cls(place, name, base)

    @property
    def is_file(self) -> bool:
        return self.place.lower().endswith(".py")

    @property
    def portable(self) -> str:
        """The target without the folder it is in on this machine."""
        place = PureWindowsPath(self.place).name if self.is_file else self.place
        return f"{place}:{self.name}"

    def call(self) -> Any:
        """Import, find and call it; returns an indexable or an iterable of samples.

        Raises SourceMissing when file, module or callable is not there; UsageError when importing or calling it
        raises, or when what it returns holds no samples.
        """
        samples = guarded(self.find(), self.portable)
        check_samples(samples, self.portable)
        return samples

    def find(self) -> Any:
        """Import it and find the callable, which is not called. Raises as ``call``."""
        return self._find(self._load_file() if self.is_file else self._load_module())

    @property
    def file(self) -> Path | None:
        """The file that it names, or that its module lies in, as far as that is known; nothing of it is run."""
        if self.is_file:
            return path_of(self.place, self._folder())
        make_importable(self._folder())
        with suppress(Exception):  # a package above it is imported, which may raise anything
            spec = importlib.util.find_spec(self.place)
            if spec is not None and spec.has_location and spec.origin:
                return Path(spec.origin)
        return None

    def _folder(self) -> Path:
        return (Path.cwd() if self.base is None else self.base).absolute()

    def _load_module(self) -> ModuleType:
        make_importable(self._folder())
        try:
            return guarded(lambda: importlib.import_module(self.place), f"Importing {self.place}")
        except UsageError as failed:
            error = failed.__cause__
            if isinstance(error, ModuleNotFoundError) and f"{self.place}.".startswith(f"{error.name}."):
                raise SourceMissing(f"There is no module {error.name} to import.", advice=_FORM) from error
            raise

    def _load_file(self) -> ModuleType:
        """Run the file anew each time, so that an edited one is never mistaken for the old."""
        path = path_of(self.place, self._folder())
        if not path.is_file():
            raise SourceMissing(f"There is no file {path}.")
        make_importable(path.parent)  # it may import what lies beside it
        name = f"_driveshard_source_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        loader = spec.loader
        assert loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses and pickle look a class's module up there
        guarded(lambda: loader.exec_module(module), f"Running {self.place}")
        return module

    def _find(self, module: ModuleType) -> Any:
        found: Any = module
        for step in self.name.split("."):
            found = guarded(lambda at=found, step=step: getattr(at, step, _NONE), f"{self.portable}")  # type: ignore[misc]
            if found is _NONE:
                raise SourceMissing(f"{self.place} has no {self.name}.", advice=_FORM)
        if not callable(found):
            raise UsageError(f"{self.portable} cannot be called: it is of type {type(found).__name__}.", advice=_FORM)
        return found


def check_samples(samples: Any, name: str) -> None:
    """Raises UsageError when what ``name`` returned cannot hold samples."""
    if guarded(lambda: _holds_none(samples), f"looking at what {name} returned"):
        raise UsageError(
            f"{name} returned a value of type {type(samples).__name__}, which holds no samples.",
            advice="It must return a list, a generator, or an object with __len__ and __getitem__.",
        )


def _holds_none(samples: Any) -> bool:
    if isinstance(samples, Mapping | str | bytes):
        return True
    return not (isinstance(samples, Iterable) or hasattr(type(samples), "__getitem__"))


def make_importable(folder: Path) -> None:
    """Last, so that no ``queue.py`` or ``random.py`` lying in that folder stands in for the standard library's."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
