"""``driveshard.derive``: a function over every sample of a dataset, as a new dataset that is aligned with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from driveshard.archive.zip_writer import ZipWriter
from driveshard.core.errors import SourceMissing, UsageError
from driveshard.core.model import SampleRange, Selection
from driveshard.dataset.dataset import Sample
from driveshard.dataset.decode import Decoder, decoder_for
from driveshard.dataset.part_samples import LentSamples, PartSamples
from driveshard.sources.base import MemberWriter, Packed
from driveshard.sources.estimate import Meter
from driveshard.sources.python.foreign import CodeFailed, keep_process, run_foreign
from driveshard.sources.python.function import Function, NamedFunction
from driveshard.sources.python.source import PartRun, encode_members

if TYPE_CHECKING:  # a worker process does without the planner, and so without what that needs
    from driveshard.upload.plan.parts import GivenPart

BATCH = 64
_FEW = 8  # samples that are made at each of two places to learn how large they are
_RETURN = "It gets a list of samples and must return a list of as many mappings of new fields, in the same order."

Outcome = Mapping[str, Any] | CodeFailed
"""What became of one sample: its new fields, or why there are none."""


@dataclass(frozen=True, eq=False)
class DerivedSource:
    """What ``function`` makes of the samples of a dataset, ``batch`` at a time: the same keys in parts of the same
    numbers. ``decode`` is ``"pil"``, ``"numpy"`` or None for bytes. ``unsendable`` says why worker processes cannot
    have the function, None when they can."""

    kind: ClassVar[str] = "derived"

    function: Function
    samples: PartSamples | LentSamples
    batch: int = BATCH
    decode: str | None = None
    unsendable: str | None = None

    def describe(self) -> str:
        return f"{self.function.portable} of {self.samples.name}"

    def settings(self) -> Mapping[str, Any]:
        """Not the parts: a dataset that has grown goes on in new ones. The ledger knows which they were."""
        return {
            "kind": self.kind,
            "function": self.function.portable,
            "of": self.samples.name,
            "decode": self.decode,
        }

    def lent(self, *, renew: bool = False) -> DerivedSource:
        """The same with what a worker elsewhere needs to read the dataset itself; ``renew`` as for ``Shelf.lend``."""
        assert isinstance(self.samples, PartSamples)
        return replace(self, samples=self.samples.lent(renew=renew))

    def check(self) -> None:
        """Raises SourceMissing when file, module or callable is not there, and UsageError when it cannot be used."""
        keep_process()
        self.function.check()

    def given_parts(self) -> Sequence[GivenPart]:
        """As ``CutSource``."""
        from driveshard.upload.plan.parts import GivenPart

        assert isinstance(self.samples, PartSamples)
        rows = zip(self.samples.numbers, self.samples.digests, self.samples.counts(), strict=True)
        return [GivenPart(*row) for row in rows]

    def sample_bytes(self) -> int:
        """As ``CutSource``, from samples at the beginning and in the middle."""
        meter = Meter()
        run = PartRun(self.describe(), meter)
        full = [at for at, count in enumerate(self.samples.counts()) if count]
        for at in {full[0], full[len(full) // 2]}:
            self._take(run, self.samples.few(at, min(_FEW, self.batch)))
        packed = run.packed(SampleRange(0, 0))
        if not packed.samples:
            failure = packed.failed[-1]
            raise SourceMissing(f"no sample of {self.describe()} can be made: {failure.path}: {failure.why}")
        return max(1, -(-meter.size // packed.samples))

    def pack(self, selection: Selection, writer: MemberWriter, part_size: int) -> Packed:
        """Make the samples of the parts ``selection.start`` up to ``selection.stop``, batch by batch. A sample for
        which the function raises, or whose new fields cannot be encoded, is a Failure and left out.

        Raises UsageError when the function returns something else than it must, or when the first hundred all fail;
        Mismatch when the dataset's own bytes are damaged; SourceMissing when it has such a part no more.
        """
        assert isinstance(selection, SampleRange) and selection.stop is not None
        run = PartRun(self.describe(), writer)
        folder = writer.path.parent if isinstance(writer, ZipWriter) else None  # of the temp folder that was chosen
        for number in range(selection.start, selection.stop):
            if number not in self.samples.numbers:
                raise SourceMissing(
                    f"part {number} of {self.samples.name} is gone, and what was made of it is to be made again",
                    advice="Derive under another --name.",
                )
            for samples in self.samples.batches(self.samples.numbers.index(number), self.batch, folder):
                self._take(run, samples)
        return run.packed(selection)

    def _take(self, run: PartRun, samples: list[Sample]) -> None:
        """One batch into the part."""
        decoded = []
        for sample, failed in self._decoded(samples):
            if failed is None:
                decoded.append(sample)
            else:
                run.fail(sample["__key__"], failed)
        if not decoded:
            return
        function = self.function.load()
        for key, outcome in _applied(function, self.function.portable, decoded):
            if isinstance(outcome, CodeFailed):
                run.fail(key, outcome)
            else:
                run.take(key, lambda key=key, fields=outcome: _encoded(key, fields))  # type: ignore[misc]

    def _decoded(self, samples: list[Sample]) -> Iterator[tuple[Sample, CodeFailed | None]]:
        decoders: dict[str, Decoder | None] = {}
        for sample in samples:
            failed = None
            for field in [name for name in sample if name != "__key__"] if self.decode else ():
                if field not in decoders:
                    decoders[field] = decoder_for(field, self.decode)
                decode = decoders[field]
                try:
                    sample[field] = sample[field] if decode is None else decode(sample[field])
                except Exception as error:
                    failed = CodeFailed(str(error).partition("\n")[0])
                    break
            yield sample, failed


def _encoded(key: str, fields: Mapping[str, Any]) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The key is one of the dataset's, and as such may hold bytes that are not UTF-8."""
    return encode_members(key, {name: fields[name] for name in fields if name != "__key__"}, "surrogateescape")


def _applied(function: Callable[[Any], Any], name: str, samples: list[Sample]) -> Iterator[tuple[str, Outcome]]:
    """(key, outcome) of each sample. Where the function raises for a batch it is asked for each sample alone, so that
    one bad sample costs itself only. Raises UsageError for what it must not return."""
    try:
        returned = run_foreign(lambda: _as_list(function([dict(sample) for sample in samples])))
    except CodeFailed as failed:
        if len(samples) == 1:
            yield samples[0]["__key__"], failed
            return
        for sample in samples:
            yield from _applied(function, name, [sample])
        return
    keys = [sample["__key__"] for sample in samples]
    yield from zip(keys, _checked(returned, keys, name), strict=True)


def _as_list(returned: Any) -> Any:
    """What a generator gives, as a list; all else as it is."""
    return list(returned) if isinstance(returned, Iterator) else returned


def _checked(returned: Any, keys: list[str], name: str) -> Sequence[Mapping[str, Any]]:
    """What the function returned for the samples of these keys, if it is what it must be. Raises UsageError."""
    batch = f"the batch from {keys[0]} to {keys[-1]}" if len(keys) > 1 else f"the sample {keys[0]}"
    if not isinstance(returned, list | tuple):
        raise UsageError(f"{name} returned a value of type {type(returned).__name__} for {batch}", advice=_RETURN)
    if len(returned) != len(keys):
        raise UsageError(f"{name} returned {len(returned):,} items for {len(keys):,} samples, {batch}", advice=_RETURN)
    for key, fields in zip(keys, returned, strict=True):
        if not isinstance(fields, Mapping):
            raise UsageError(
                f"{name} returned a value of type {type(fields).__name__} for the sample {key}", advice=_RETURN
            )
        if fields.get("__key__", key) != key:
            found = [one.get("__key__") for one in returned if isinstance(one, Mapping)]
            why = "in another order" if key in found else "under another key"
            raise UsageError(
                f"{name} returned the sample {key} {why}: at its place is {fields['__key__']!r}",
                advice="Return the samples in their order, with their own __key__ or without one.",
            )
    return returned


def derived_source(
    what: str | os.PathLike[str], function: Any, *, batch: int = BATCH, decode: str | None = None
) -> DerivedSource:
    """The source that a function over a dataset is. ``function`` is ``"module:callable"``, ``"file.py:callable"``, or
    the callable itself; ``what`` and ``decode`` are as for ``Dataset``.

    Raises SourceMissing when there is no such dataset, UsageError when the function cannot be called, and errors of the
    way to the dataset.
    """
    if batch < 1:
        raise UsageError(f"a batch cannot have {batch} samples", advice="Give 1 or more.")
    if decode is not None:
        decoder_for("png", decode)  # raises when it is no way to decode
    if isinstance(function, str):
        named = NamedFunction(function)
        named.portable  # noqa: B018  (raises when it is not written as it must be)
        return DerivedSource(named, PartSamples(os.fspath(what)), batch, decode)
    from driveshard.sources.python.given import given_function

    given, why = given_function(function)
    return DerivedSource(given, PartSamples(os.fspath(what)), batch, decode, why)
