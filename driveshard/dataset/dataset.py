"""``driveshard.Dataset``: the samples of a dataset, by number, straight from its zip parts."""

from __future__ import annotations

import copy
import errno
import operator
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, SupportsIndex, overload

import numpy as np
from numpy.typing import NDArray

from driveshard.archive.index import BrokenIndex, Index, open_index
from driveshard.archive.index_builder import path_of, regrouped
from driveshard.core.errors import Mismatch, SourceMissing
from driveshard.dataset.coco import FIELD, annotations_in
from driveshard.dataset.decode import Decode, Decoder, decoder_for
from driveshard.dataset.members import ONE_READ, Batch, body_of, read_batch, unpacked
from driveshard.dataset.parts import OpenParts, Parts, pread
from driveshard.dataset.regroup import Split, split_for
from driveshard.sources.globs import matcher

Sample = dict[str, Any]
_DAMAGE = (IndexError, ValueError, OverflowError, OSError)
"""What an index that lies leads to."""
_TOGETHER = 64  # samples read at once when all are wanted in order


class Dataset:
    """The samples of a directory of zips, or of a link, as dictionaries in the WebDataset convention.

        dataset = driveshard.Dataset("photos/", decode="numpy")
        dataset[0]  # {"__key__": "d/000", "image.jpg": array(...), "json": {...}}

    ``where`` is a directory with parts of driveshard or any zips, or what ``driveshard ls`` takes. ``decode`` is
    ``"pil"``, ``"numpy"`` or a callable for each field or extension; fields come as bytes without it. ``key`` regroups
    members: ``"trees"``, ``"coco"``, ``"yolo"`` or a callable from a path to (key, field), or to None to leave it out;
    with ``"coco"`` an image has its part of ``annotations/instances_*.json`` as the field ``annotations.json``, a list.
    Parts of a link are kept in ``cache`` up to ``cache_limit`` bytes (or text: ``"20GiB"``). With ``check`` every CRC
    is compared.

    Numbers and slices as a list's; a slice, like ``select``, is a Dataset again that shares everything. Safe in
    threads, in forked and in spawned processes. Raises SourceMissing, and Mismatch for bytes that are not as they
    should be.
    """

    def __init__(
        self,
        where: str | os.PathLike[str],
        decode: Decode = None,
        key: str | Split | None = None,
        cache: str | os.PathLike[str] | None = None,
        cache_limit: int | str | None = None,
        *,
        check: bool = False,
    ) -> None:
        from driveshard.dataset.places import open_place

        place = open_place(os.fspath(where), cache, cache_limit)
        self.name = place.name
        self._check = check
        self._decode = decode
        self._order: NDArray[np.int64] | None = None
        self._members, self._file = place.index, place.index_file
        self._samples = self._members if key is None else regrouped(self._members, split_for(key))
        self._annotations = annotations_in(self._samples.keys()) if key == "coco" else None
        self._set_up(place.parts)

    def _set_up(self, parts: Parts) -> None:
        self._parts = OpenParts(parts)
        index = self._samples
        self._views = index.key_ends, index.key_bytes, index.firsts, index.fields, index.columns
        self._decoders = self._decoders_of(index)

    def _decoders_of(self, index: Index) -> dict[str, Decoder]:
        found = ((field, decoder_for(field, self._decode)) for field in index.fields)
        decoders = {field: decoder for field, decoder in found if decoder is not None}
        if self._annotations is not None:  # with this, ``_decoded`` is asked
            decoders[FIELD] = decoder_for(FIELD, self._decode) or bytes
        return decoders

    # -- samples -----------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._samples) if self._order is None else len(self._order)

    @overload
    def __getitem__(self, at: SupportsIndex) -> Sample: ...
    @overload
    def __getitem__(self, at: slice) -> Dataset: ...
    def __getitem__(self, at: SupportsIndex | slice) -> Sample | Dataset:
        if isinstance(at, slice):
            return self._view(self._numbers()[at])
        sample = self._number(at)
        try:
            found = self._sample(sample)
        except _DAMAGE as error:
            self._lied(error)
        except Mismatch as error:
            raise Mismatch(f"the sample {self._samples.key(sample)}: {error}", advice=error.advice) from error
        return self._decoded(found) if self._decoders else found

    def _sample(self, sample: int) -> Sample:
        """Written out, for it is what a training loop waits for: each call in it would cost a tenth of all."""
        ends, keys, firsts, names, (part_of, field_of, begin_of, stored_of, size_of, crc_of, method_of) = self._views
        key = keys[ends[sample - 1] if sample else 0 : ends[sample]]
        found: Sample = {"__key__": str(key, "utf-8", "surrogateescape")}
        for member in range(firsts[sample], firsts[sample + 1]):
            number, stored = part_of[member], stored_of[member]
            part = self._parts.opened[number] or self._parts.open(number)
            data = pread(part.descriptor, stored, begin_of[member]) if stored <= ONE_READ else b""
            if len(data) != stored:
                data = part.read(begin_of[member], stored)
            if method_of[member] or stored != size_of[member] or self._check:
                crc = crc_of[member] if self._check else None
                data = unpacked(part.name, data, size_of[member], method_of[member], crc)
            found[names[field_of[member]]] = data
        return found

    def __getitems__(self, numbers: Sequence[int]) -> list[Sample]:
        """Many samples at once, read in the order in which they lie; torch's DataLoader asks for its batches so."""
        chosen = np.asarray(numbers, np.int64)
        total = len(self)
        if len(chosen) and (chosen.min() < -total or chosen.max() >= total):
            raise IndexError(f"the dataset has {total:,} samples")
        chosen = np.where(chosen < 0, chosen + total, chosen)
        samples = chosen if self._order is None else self._order[chosen]
        try:
            found = read_batch(self._parts, self._samples, Batch.of(self._samples, samples), self._check)
        except _DAMAGE as error:
            self._lied(error)
        return [self._decoded(sample) for sample in found] if self._decoders else found

    def __iter__(self) -> Iterator[Sample]:
        for at in range(0, len(self), _TOGETHER):
            yield from self.__getitems__(range(at, min(at + _TOGETHER, len(self))))

    def read(self, name: str) -> bytes:
        """One member's bytes by its path. Raises SourceMissing, Mismatch."""
        try:
            member = self._members.find_member(name)
            if member is not None:
                return body_of(self._parts, self._members.columns, member, self._check)
        except _DAMAGE as error:
            self._lied(error)
        raise SourceMissing(f"{self.name} has no member {name}", advice="See its keys.")

    @property
    def keys(self) -> Keys:
        """The samples' keys: a sequence that decodes those asked for."""
        return Keys(self._samples, self._order)

    @property
    def fields(self) -> list[str]:
        """The names of all fields that samples of the whole dataset have."""
        return [*self._samples.fields, *([FIELD] if self._annotations is not None else [])]

    def select(self, which: str | Callable[[str], object]) -> Dataset:
        """The samples whose key a callable says yes to, or that a glob means by key or by the path of a member.

        Globs are those of ``--include``: ``*.jpg`` anywhere, ``train/`` all below, ``**`` any number of folders.
        """
        index, numbers = self._samples, self._numbers()
        if callable(which):
            wanted = [at for at, key in enumerate(self.keys) if which(key)]
        else:
            means = matcher([which])
            wanted = [at for at, sample in enumerate(numbers.tolist()) if _is_meant(index, sample, means)]
        return self._view(numbers[np.array(wanted, np.int64)])

    def raw(self) -> Dataset:
        """The same samples with fields as bytes."""
        view = copy.copy(self)
        view._decode = None
        view._decoders = view._decoders_of(view._samples)
        return view

    def _view(self, numbers: NDArray[np.int64]) -> Dataset:
        view = copy.copy(self)
        view._order = numbers
        return view

    def _numbers(self) -> NDArray[np.int64]:
        return np.arange(len(self._samples)) if self._order is None else self._order

    def _number(self, at: SupportsIndex) -> int:
        found, order = operator.index(at), self._order
        total = len(self._samples) if order is None else len(order)
        if found < 0:
            found += total
        if not 0 <= found < total:
            raise IndexError(f"the dataset has {total:,} samples")
        return found if order is None else int(order[found])

    def _decoded(self, sample: Sample) -> Sample:
        if self._annotations is not None:
            mine = self._annotations.of(sample["__key__"], self.read)
            if mine is not None:
                sample[FIELD] = mine
        for field, decode in self._decoders.items():
            if field in sample:
                try:
                    sample[field] = decode(sample[field])
                except Exception as error:
                    error.add_note(f"in the field {field} of the sample {sample['__key__']}")
                    raise
        return sample

    # -- where they lie ----------------------------------------------------------------------------------------------

    def part_numbers(self) -> NDArray[np.int64]:
        """For each sample the number of the part that its first member lies in."""
        firsts = self._samples.arrays["firsts"][:-1][self._numbers()].astype(np.int64)
        members = self._samples.members
        found: NDArray[np.int64] = self._samples.arrays["part"][np.minimum(firsts, max(0, members - 1))].astype(
            np.int64
        )
        return found

    @property
    def index(self) -> Index:
        """Where the bytes of all samples of the whole dataset are."""
        return self._samples

    @property
    def parts(self) -> Parts:
        """Where its parts come from."""
        return self._parts.source

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        for name in ("_parts", "_decoders", "_views"):
            del state[name]
        state["_source"] = self._parts.source
        if self._file is not None:  # mapped anew at the other end, instead of copied
            state["_members"] = None
            state["_samples"] = None if self._samples is self._members else dict(self._samples.arrays)
        else:
            state["_members"] = dict(self._members.arrays)
            state["_samples"] = None if self._samples is self._members else dict(self._samples.arrays)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        source = state.pop("_source")
        members, samples = state["_members"], state["_samples"]
        self.__dict__.update(state)
        self._members = self._reopened(source) if members is None else Index(members)
        self._samples = self._members if samples is None else Index(samples)
        self._set_up(source)

    def _reopened(self, source: Parts) -> Index:
        assert self._file is not None
        try:
            index = open_index(self._file)
        except (OSError, BrokenIndex) as error:
            raise Mismatch(f"{self._file.name} is gone or damaged: {error}", advice="Open the dataset anew.") from error
        if index.parts != list(source.parts):
            raise Mismatch(f"{self.name} changed while it was read", advice="Open it anew.")
        return index

    def _lied(self, error: Exception) -> NoReturn:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise Mismatch(
                f"{self.name} cannot be read: {error}", advice="Check the disk, or fetch it again."
            ) from error
        raise Mismatch(f"the index of {self.name} is damaged", advice="Delete its index.npz.") from error

    def __repr__(self) -> str:
        return f"<Dataset {self.name}: {len(self):,} samples>"

    def _repr_html_(self) -> str:
        from driveshard.dataset.html import as_html

        return as_html(self.name, len(self), self.fields, self.raw().__getitems__)


def _is_meant(index: Index, sample: int, means: Callable[[str], object]) -> bool:
    members = index.members_of(sample)
    return bool(means(index.key(sample))) or any(means(path_of(index, sample, member)) for member in members)


class Keys(Sequence[str]):
    """The keys of some samples of an index."""

    def __init__(self, index: Index, order: NDArray[np.int64] | None) -> None:
        self._index = index
        self._order = order

    def __len__(self) -> int:
        return len(self._index) if self._order is None else len(self._order)

    @overload
    def __getitem__(self, at: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: SupportsIndex | slice) -> str | list[str]:
        if isinstance(at, slice):
            return [self[one] for one in range(len(self))[at]]
        found = range(len(self))[at]
        return self._index.key(found if self._order is None else int(self._order[found]))

    def __iter__(self) -> Iterator[str]:
        return self._index.keys() if self._order is None else map(self._index.key, self._order.tolist())

    def __contains__(self, key: object) -> bool:
        sample = self._index.find(key) if isinstance(key, str) else None
        return sample is not None and (self._order is None or bool((self._order == sample).any()))

    def __repr__(self) -> str:
        return f"<{len(self):,} keys>"
