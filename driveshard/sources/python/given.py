"""Samples from an object that is given itself, in a script or a notebook: no file names it.

A worker process gets it by cloudpickle, which takes along what was written in the script or the notebook. What cannot
go there, or is too large to be sent with every part, is used where it is: by threads.
"""

from __future__ import annotations

import inspect
import itertools
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from driveshard.core.errors import UsageError
from driveshard.core.formatting import error_text, human_size
from driveshard.sources.python.foreign import guarded
from driveshard.sources.python.function import NamedFunction, let_go, ready
from driveshard.sources.python.source import PythonSource
from driveshard.sources.python.target import check_samples, make_importable

_MOST_SENT = 32 * 2**20  # bytes that go to a worker with every part
_objects: dict[tuple[int, int], Any] = {}
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class GivenSource(PythonSource):
    """As its parent, but ``target`` is only a name for it. ``token`` stands for the object in the process that has
    it, ``pickled`` is it for all others."""

    token: tuple[int, int] = (0, 0)
    pickled: bytes | None = field(default=None, repr=False)

    def _parsed(self) -> _Given:
        return _Given(self)


@dataclass(frozen=True, slots=True)
class _Given:
    """The object behind a source."""

    source: GivenSource

    @property
    def portable(self) -> str:
        return self.source.target

    def call(self) -> Any:
        """What it gives when it is a class or a function, else itself. Raises UsageError."""
        given = self._object()
        samples = guarded(given, self.portable) if _makes(given) else given
        check_samples(samples, self.portable)
        return samples

    def _object(self) -> Any:
        return _object_of(self.source.token, self.source.pickled, self.source.base, self.portable)


@dataclass(frozen=True, slots=True)
class GivenFunction:
    """A function, or a class whose objects can be called, for batches of samples (see ``function.NamedFunction``)."""

    portable: str
    base: Path | None
    token: tuple[int, int]
    pickled: bytes | None = field(default=None, repr=False, compare=False)

    @property
    def file(self) -> Path | None:
        given = _objects.get(self.token)
        code = given if inspect.isroutine(given) or isinstance(given, type) else type(given)
        with suppress(TypeError, OSError):  # of a notebook's cell, or built in
            found = inspect.getsourcefile(code)
            return Path(found) if found else None
        return None

    def load(self) -> Callable[[Any], Any]:
        """The function itself, in this process. Raises UsageError."""
        return ready(self, lambda: _object_of(self.token, self.pickled, self.base, self.portable))

    def check(self) -> None:
        """It is here already."""


def _object_of(token: tuple[int, int], pickled: bytes | None, base: Path | None, name: str) -> Any:
    """What the token stands for, in this process."""
    if token not in _objects:
        assert pickled is not None
        _objects[token] = guarded(lambda: _unpickled(pickled, base), f"{name}, in a worker process,")
    return _objects[token]


def _unpickled(pickled: bytes, base: Path | None) -> Any:
    import cloudpickle

    if base is not None:
        make_importable(base)  # it may need what lies beside its module
    return cloudpickle.loads(pickled)  # our own bytes


def given_source(given: Any) -> tuple[GivenSource, str | None]:
    """The source that an object is, and why worker processes cannot have it (None: they can).

    Raises UsageError for what can be gone through only once.
    """
    if hasattr(type(given), "__next__"):
        raise UsageError(
            f"a {type(given).__name__} can be gone through only once, and a push may have to begin anew",
            advice="Give the function that makes it instead, or an object with __len__ and __getitem__.",
        )
    token = _kept(given)
    pickled, why = _pickled(given)
    return GivenSource(_name(given), _import_root(given), token, pickled), why


def given_function(given: Any) -> tuple[GivenFunction, str | None]:
    """As ``given_source``, for what is called with batches of samples. Raises UsageError when it cannot be called."""
    if not callable(given):
        raise UsageError(
            f"a function is meant, not a value of type {type(given).__name__}",
            advice="Give a function that takes a list of samples, or the text 'module:callable'.",
        )
    token = _kept(given)
    pickled, why = _pickled(given)
    return GivenFunction(_name(given), _import_root(given), token, pickled), why


def _kept(given: Any) -> tuple[int, int]:
    """The token under which it is kept from now on."""
    token = os.getpid(), next(_numbers)
    _objects[token] = given
    return token


def forget(source: object) -> None:
    """Let go of the object; of a function that is named, since its file may be another one when it is used again."""
    if isinstance(source, NamedFunction):
        let_go(source)
    if isinstance(source, GivenSource | GivenFunction):
        let_go(source)
        _objects.pop(source.token, None)


def _makes(given: Any) -> bool:
    """Whether samples come from calling it."""
    return isinstance(given, type) or (callable(given) and not hasattr(type(given), "__getitem__"))


def _pickled(given: Any) -> tuple[bytes | None, str | None]:
    try:
        import cloudpickle

        data: bytes = cloudpickle.dumps(given)  # type: ignore[no-untyped-call]
    except Exception as error:  # whatever the object's own code raises
        return None, f"it cannot be sent to worker processes ({error_text(error)})"
    if len(data) > _MOST_SENT:
        return None, f"it has {human_size(len(data))}, too much to be sent to worker processes with every part"
    return data, None


def _name(given: Any) -> str:
    """``module:Name``; a script's own file stands for its module."""
    named = given if hasattr(given, "__qualname__") else type(given)
    module = getattr(named, "__module__", None) or "python"
    if module == "__main__":
        file = getattr(sys.modules.get("__main__"), "__file__", None)
        module = Path(file).name if file else "notebook"
    return f"{module}:{named.__qualname__.rpartition('.')[2].strip('<>')}"


def _import_root(given: Any) -> Path | None:
    """The folder from which its module is imported; None is the current one."""
    name = getattr(given if hasattr(given, "__qualname__") else type(given), "__module__", "") or ""
    file = getattr(sys.modules.get(name), "__file__", None)
    if not file:
        return None
    path = Path(file).absolute()
    up = name.count(".") + (path.name == "__init__.py")
    return path.parents[up]
