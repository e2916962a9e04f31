"""Samples from the user's own code: ``package.module:callable`` or ``file.py:callable``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from driveshard.core.errors import UsageError
from driveshard.core.model import Failure, Sample, SampleRange, Selection, sample_key
from driveshard.core.paths import path_of
from driveshard.sources.base import MemberWriter, Packed
from driveshard.sources.estimate import member_bytes
from driveshard.sources.python.encode import encode_field
from driveshard.sources.python.foreign import CodeFailed, guarded, keep_process, run_foreign
from driveshard.sources.python.target import Target

_GIVE_UP = 100  # samples that fail before any is good: a mistake in the code, and not a few bad inputs
_END = object()


class Named(Protocol):
    """What gives the samples."""

    @property
    def portable(self) -> str:
        """What it is called on every machine."""

    def call(self) -> Any:
        """An indexable or an iterable of samples, afresh."""


Members = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class PythonSource:
    """What the callable named by ``target`` returns: an indexable object (``__len__`` and ``__getitem__``), whose
    parts are built side by side, or an iterable, which is read once from its start to its end.

    ``base`` is the folder that a relative file, and the modules beside it, are looked for in; None means the folder
    that is the current one when this is made, since the user's code may go elsewhere. Nothing is imported before it is
    needed, and each process calls the callable for itself, so it must give the same samples each time. Samples keep
    their own order within a part; the members of one sample are sorted.
    """

    kind: ClassVar[str] = "python"

    target: str
    base: Path | None = None

    def __post_init__(self) -> None:
        if self.base is None:
            with suppress(FileNotFoundError):  # the current folder was removed; a module elsewhere may do without it
                object.__setattr__(self, "base", Path.cwd())

    def describe(self) -> str:
        return self.target

    def settings(self) -> Mapping[str, Any]:
        """The target without its folder. Not the length: a source that has grown goes on in new parts."""
        return {"kind": self.kind, "target": self._parsed().portable}

    @property
    def file(self) -> Path | None:
        """Where the code lies, if a file was named."""
        parsed = self._parsed()
        return path_of(parsed.place, self.base) if isinstance(parsed, Target) and parsed.is_file else None

    def open(self) -> Any:
        """Call the target afresh and keep what it returns for this process; a run starts with it.

        Raises SourceMissing when file, module or callable is not there, and UsageError when it is not fit for use.
        """
        keep_process()
        opened = _Opened(self._parsed().call())
        _kept[self] = opened
        return opened.samples

    def check(self) -> None:
        """Raises as ``open``."""
        self.open()

    def close(self) -> None:
        """Let go of what ``open`` keeps, a generator's own end included. Raises UsageError when that fails."""
        opened = _kept.pop(self, None)
        if opened is not None and opened.stream is not None:
            opened.stream.close()

    @property
    def indexable(self) -> bool:
        return self._opened().indexable

    def __len__(self) -> int:
        """Samples in all. Raises UsageError when the source is a plain iterable, or its own ``__len__`` fails."""
        if not self.indexable:
            raise UsageError(f"{self.target} gives a plain iterable, whose length nobody knows.")
        length: int = guarded(lambda: len(self._opened().samples), f"len() of what {self.target} gives")
        return length

    def pack(self, selection: Selection, writer: MemberWriter, part_size: int) -> Packed:
        """Write the selection's samples. A sample that raises, or cannot be encoded, is a Failure and left out.

        An iterable with ``stop`` None goes on until the next sample would carry ``writer.size`` past ``part_size``
        (but for at least one), and says ``exhausted`` when the iterable has ended. Raises UsageError when the
        iterable itself raises, when it gives fewer samples than before, or when the first hundred all fail.
        """
        assert isinstance(selection, SampleRange)
        part = PartRun(self.target, writer)
        opened = self._opened()
        if opened.indexable:
            stop = len(self) if selection.stop is None else selection.stop
            for index in range(selection.start, stop):
                part.take(_label(index), lambda index=index: encode_sample(opened.samples[index]))  # type: ignore[misc]
            return part.packed(SampleRange(selection.start, stop))
        return self._pack_stream(selection, part, part_size)

    def _pack_stream(self, selection: SampleRange, part: PartRun, part_size: int) -> Packed:
        stream = self._stream_at(selection.start)
        limit = part_size if selection.stop is None else None
        while selection.stop is None or stream.position < selection.stop:
            sample = stream.peek()
            if sample is _END:
                break
            if not part.take(_label(stream.position), lambda sample=sample: encode_sample(sample), limit):  # type: ignore[misc]
                break
            stream.advance()
        if selection.stop is not None and stream.position < selection.stop:
            raise self._fell_short(stream.position, selection.stop)
        done = SampleRange(selection.start, stream.position)
        return part.packed(done, exhausted=selection.stop is None and stream.peek() is _END)

    def _stream_at(self, start: int) -> _Stream:
        """The live iterator when it stands at ``start``; else a new one, moved there."""
        opened = self._opened()
        if opened.stream is None or opened.stream.position != start:
            if opened.stream is not None:
                self.close()
                self.open()
                opened = self._opened()
            opened.stream = _Stream(self.target, opened.samples)
        stream = opened.stream
        while stream.position < start:
            if stream.peek() is _END:
                raise self._fell_short(stream.position, start)
            stream.advance()
        return stream

    def _fell_short(self, given: int, wanted: int) -> UsageError:
        return UsageError(
            f"{self.target} gave only {given} samples, and an earlier run had {wanted} of it.",
            advice="A Python source must give the same samples in the same order each time; new ones come after them.",
        )

    def _parsed(self) -> Named:
        return Target.parse(self.target, self.base)

    def _opened(self) -> _Opened:
        if self not in _kept:
            self.open()
        return _kept[self]


class _Opened:
    """What the callable returned, in this process, and the live iterator over it if it is no indexable."""

    def __init__(self, samples: Any) -> None:
        self.samples = samples
        self.indexable = hasattr(type(samples), "__len__") and hasattr(type(samples), "__getitem__")
        self.stream: _Stream | None = None


_kept: dict[PythonSource, _Opened] = {}


class _Stream:
    """A user's iterator with one sample of look-ahead. ``position`` is the number of the sample ``peek`` shows."""

    def __init__(self, target: str, samples: Any) -> None:
        self.position = 0
        self._target = target
        self._iterator: Iterator[Any] = guarded(lambda: iter(samples), f"iter() of what {target} gives")
        self._ahead: list[Any] = []

    def peek(self) -> Any:
        """The next sample, or ``_END``."""
        if not self._ahead:
            what = f"{self._target} after {self.position} samples"
            self._ahead.append(guarded(lambda: next(self._iterator, _END), what))
        return self._ahead[0]

    def close(self) -> None:
        """End a generator before its end; its ``finally`` may raise, too."""
        end = getattr(type(self._iterator), "close", None)
        if end is not None:
            guarded(lambda: end(self._iterator), f"closing what {self._target} gives")

    def advance(self) -> None:
        self._ahead.clear()
        self.position += 1


def _label(number: int) -> str:
    return f"sample {number}"


class PartRun:
    """One part being filled: counts, failures, and the keys it has, since a zip must not hold one name twice."""

    def __init__(self, target: str, writer: MemberWriter) -> None:
        self._target = target
        self._writer = writer
        self._keys: set[bytes] = set()
        self._failed: list[Failure] = []
        self._files = 0

    def take(self, label: str, encoded: Callable[[], tuple[bytes, Members]], limit: int | None = None) -> bool:
        """Add what ``encoded()`` gives, key and members, or note why not, by its ``label``. False, and nothing done, if
        the zip would outgrow ``limit``."""
        try:
            key, members = run_foreign(encoded)
            if key in self._keys:
                raise CodeFailed(f"ValueError: key {key.decode()!r} is already in this part")
        except CodeFailed as failed:
            self.fail(label, failed)
            return True
        grown = self._writer.size + sum(member_bytes(path, len(data)) for path, data in members)
        if limit is not None and self._keys and grown > limit:
            return False
        self._keys.add(key)
        for path, data in members:
            self._writer.add(path, data)
        self._files += len(members)
        return True

    def packed(self, selection: SampleRange, exhausted: bool = False) -> Packed:
        return Packed(selection, len(self._keys), self._files, tuple(self._failed), exhausted)

    def fail(self, label: str, failed: CodeFailed) -> None:
        """Note a sample that cannot be had. Raises UsageError when the first hundred of the part failed."""
        why = str(failed)
        self._failed.append(Failure(label, why))
        if not self._keys and len(self._failed) >= _GIVE_UP:
            raise UsageError(
                f"The first {_GIVE_UP} samples of a part of {self._target} all failed; {label}: {why}"
            ) from failed.__cause__


def encode_sample(sample: Any) -> tuple[bytes, Members]:
    """The key, and the members as (path, data) sorted by path, of a Sample or of a mapping with ``__key__``.

    Raises TypeError or ValueError with a sentence for the user when it is neither, has no field, or holds a key or a
    field name that cannot be a zip member's path.
    """
    if isinstance(sample, Mapping) and "__key__" in sample:
        sample = Sample(sample["__key__"], {name: sample[name] for name in sample if name != "__key__"})
    if not isinstance(sample, Sample):
        raise TypeError(f"a sample must be a driveshard.Sample, not of type {type(sample).__name__}")
    return encode_members(_checked_key(sample.key), sample.fields)


def encode_members(key: str, fields: Mapping[str, Any], errors: str = "strict") -> tuple[bytes, Members]:
    """As ``encode_sample``, for a key that is known to be one; ``errors`` is how it becomes bytes."""
    if not fields:
        raise ValueError(f"sample {key!r} has no field")
    members = [
        (f"{key}.{_checked_field(name)}".encode("utf-8", errors), _plain_bytes(encode_field(name, value)))
        for name, value in fields.items()
    ]
    return key.encode("utf-8", errors), sorted(members)


def _plain_bytes(data: bytes) -> bytes:
    """A subclass may answer ``len`` as it likes, in the middle of the zip."""
    return data if type(data) is bytes else bytes(memoryview(data))


def _checked_key(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a sample's key must be text, not of type {type(key).__name__}")
    path = key.replace("\\", "/")
    if not path or "\0" in path or any(step in ("", ".", "..") for step in path.split("/")):
        raise ValueError(f"key {key!r} must be a relative path without empty, '.' or '..' steps")
    if path[1:2] == ":":
        raise ValueError(f"key {key!r} must be a relative path, and this names a drive")
    if sample_key(f"{path}.x") != path:
        raise ValueError(f"key {key!r} must have no dot in its last step, for a reader ends the key at its first dot")
    return path


def _checked_field(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a field's name must be text, not of type {type(name).__name__}")
    if not name or name.startswith(".") or any(mark in name for mark in "/\\\0"):
        raise ValueError(f"field name {name!r} must be like 'image.jpg': no slash, no leading dot, not empty")
    return name
