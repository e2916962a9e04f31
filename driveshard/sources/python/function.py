"""A function of the user's for batches of samples, as something that can be sent to a worker process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from driveshard.core.errors import UsageError
from driveshard.sources.python.foreign import guarded
from driveshard.sources.python.target import Target


class Function(Protocol):
    """A function that each process loads for itself. A hashable, picklable value."""

    @property
    def portable(self) -> str:
        """What it is called on every machine."""

    @property
    def file(self) -> Path | None:
        """Where it is written, as far as that is known."""

    def load(self) -> Callable[[Any], Any]:
        """The function itself, in this process; made once if a class was named."""

    def check(self) -> None:
        """Raises SourceMissing or UsageError when it is not there, or not fit for use."""


@dataclass(frozen=True, slots=True)
class NamedFunction:
    """What ``target`` names, ``module:callable`` or ``file.py:callable``: a function, or a class that is made once in
    each process, so that a model is loaded once. ``base`` is as in ``PythonSource``."""

    target: str
    base: Path | None = None

    def __post_init__(self) -> None:
        if self.base is None:
            with suppress(FileNotFoundError):  # the current folder was removed; a module elsewhere may do without it
                object.__setattr__(self, "base", Path.cwd())

    @property
    def portable(self) -> str:
        return Target.parse(self.target, self.base).portable

    @property
    def file(self) -> Path | None:
        return Target.parse(self.target, self.base).file

    def load(self) -> Callable[[Any], Any]:
        """Raises as ``check``."""
        return ready(self, Target.parse(self.target, self.base).find)

    def check(self) -> None:
        """Find it, and make nothing: a model belongs into the processes that use it."""
        Target.parse(self.target, self.base).find()


_loaded: dict[Function, Callable[[Any], Any]] = {}


def ready(function: Function, find: Callable[[], Any]) -> Callable[[Any], Any]:
    """What ``find()`` gives, kept for this process; of a class an object. Raises UsageError when making it fails, or
    what is made cannot be called."""
    if function not in _loaded:
        found = find()
        made = guarded(found, function.portable) if isinstance(found, type) else found
        if not callable(made):
            raise UsageError(
                f"{function.portable} is a class whose objects cannot be called",
                advice="Give it a method __call__(self, samples), or name a function.",
            )
        _loaded[function] = made
    return _loaded[function]


def let_go(function: object) -> None:
    """Do not keep it any longer."""
    _loaded.pop(function, None)  # type: ignore[call-overload]
