"""The addresses of the page and what is at each: knows nothing of sockets.

    /                      the page itself
    /page?filter=&first=   48 samples that a filter means, from a place on: keys and fields
    /texts?ids=1,2         the beginnings of text fields
    /sample?filter=&at=    all fields of one sample
    /image/ID, /raw/ID     a field as a picture to see, or as it is, to keep

An ID is a member's number in the index. What is in a member is shown as a picture or as text, and otherwise only ever
downloaded: a browser is never told that it were a page.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from driveshard.archive.index_builder import path_of
from driveshard.core.errors import DriveshardError, Mismatch, UsageError
from driveshard.core.formatting import error_text, human_size, printable
from driveshard.dataset.view.fields import IMAGE, JSON, OTHER, TEXT, kind_of, note_on, picture, snippet, text_of
from driveshard.dataset.view.samples import Samples

PAGE = 48  # samples
_SOON = 1 << 20  # bytes of a field up to which it is read before somebody asks for it
_SOON_ALL = 24 << 20  # bytes of a page's fields that are
_LARGEST = {IMAGE: 64 << 20, JSON: 4 << 20, TEXT: 4 << 20, OTHER: 64 << 10}  # bytes of a field that is shown
_BESIDE = 4  # images of a sample in the overview
_TEXTS = 2 * PAGE
_FIELDS = 100  # of a sample; a directory that somebody zipped may be one with thousands

LOCKED = "default-src 'none'; sandbox; frame-ancestors 'none'"
"""The policy of everything but the page: should somebody open it as a page, it can do nothing."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply: ``length`` is the body's in bytes."""

    status: int
    media: str
    body: Iterable[bytes]
    length: int
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, status: int, media: str, body: bytes, **headers: str) -> Answer:
        return cls(status, media, (body,), len(body), headers)


def as_json(document: Mapping[str, Any], status: int = 200) -> Answer:
    return Answer.of(status, "application/json", json.dumps(document).encode())


def refusal(status: int, message: str, advice: str = "") -> Answer:
    return as_json({"error": message, "advice": advice}, status)


class Site:
    """Answers requests about one dataset. Safe in threads."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._index = samples.index
        self._kinds = [kind_of(name) for name in samples.index.fields]
        self._places: dict[str, Callable[[Mapping[str, str]], Answer]] = {
            "/": lambda _: self._page,
            "/page": self._overview,
            "/texts": self._snippets,
            "/sample": self._sample,
        }

    def answer(self, target: str) -> Answer:
        """What is at an address. Never raises for what a dataset holds or a line does: that is an answer, too."""
        try:
            parts = urlsplit(target)
            query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
            place = self._places.get(parts.path)
            if place is not None:
                return place(query)
            found = re.fullmatch(r"/(image|raw)/(\d{1,15})", parts.path, re.ASCII)
            if found is None or int(found[2]) >= self._index.members:
                return refusal(404, "there is nothing at this address")
            return (self._image if found[1] == "image" else self._raw)(int(found[2]))
        except UsageError as error:
            return refusal(400, error.message, error.advice)
        except DriveshardError as error:
            return refusal(502, error.message, error.advice)
        except (IndexError, ValueError, OverflowError):  # what an index that lies leads to, or a number that is none
            return refusal(400, "there is no such sample, or the index is damaged")
        except Exception as error:  # the outermost edge: a bug is told on the page
            return refusal(500, error_text(error), "This is a defect in driveshard.")

    # -- the page ----------------------------------------------------------------------------------------------------

    @cached_property
    def _page(self) -> Answer:
        text = files("driveshard.dataset.view").joinpath("page.html").read_text(encoding="utf-8")
        policy = (
            f"default-src 'none'; img-src 'self'; connect-src 'self'; script-src {_hash_of(text, 'script')}; style-src"
            f" {_hash_of(text, 'style')}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
            "require-trusted-types-for 'script'"
        )
        return Answer.of(200, "text/html; charset=utf-8", text.encode(), **{"Content-Security-Policy": policy})

    # -- many samples ------------------------------------------------------------------------------------------------

    def _overview(self, query: Mapping[str, str]) -> Answer:
        text = query.get("filter", "")
        numbers = self._samples.keys.meant_by(text)
        first = max(0, min(int(query.get("first") or 0), len(numbers) - 1))
        first -= first % PAGE
        chosen = numbers[first : first + PAGE].tolist()
        self._begin(chosen)
        return as_json(
            {
                "name": self._samples.name,
                "total": len(self._samples),
                "matching": len(numbers),
                "first": first,
                "page": PAGE,
                "samples": [self._card(sample) for sample in chosen],
            }
        )

    def _card(self, sample: int) -> dict[str, Any]:
        members = self._index.members_of(sample)[:_FIELDS]
        images = [one for one in sorted(members, key=self._rank) if self._kind(one) == IMAGE][:_BESIDE]
        texts = [one for one in members if self._kind(one) in (JSON, TEXT) and self._size(one) <= _SOON]
        return {
            "key": self._key(sample),
            "images": [{"id": one, "field": self._field(one)} for one in images],
            "text": texts[0] if texts else None,
            "fields": len(self._index.members_of(sample)),
        }

    def _rank(self, member: int) -> tuple[bool, bool, bool]:
        """Pictures first, an image before its mask, and what is called an image before all."""
        name = self._field(member)
        return self._kind(member) != IMAGE, "mask" in name, "image" not in name

    def _begin(self, samples: list[int]) -> None:
        """Have read what the overview of these shows, as far as it is small."""
        wanted, total = [], 0
        for sample in samples:
            card = self._card(sample)
            for member in [one["id"] for one in card["images"]] + [card["text"]] * (card["text"] is not None):
                size = self._size(member)
                if size <= _SOON and total + size <= _SOON_ALL:
                    wanted.append(member)
                    total += size
        self._samples.bodies.begin(wanted)

    def _snippets(self, query: Mapping[str, str]) -> Answer:
        members = [int(one) for one in query.get("ids", "").split(",")[:_TEXTS] if one]
        texts = {}
        for member in members:
            if 0 <= member < self._index.members and self._kind(member) in (JSON, TEXT) and self._size(member) <= _SOON:
                try:
                    texts[member] = snippet(self._samples.bodies.get(member), self._kind(member))
                except Mismatch as error:
                    texts[member] = error.message
        return as_json({"texts": texts})

    # -- one sample --------------------------------------------------------------------------------------------------

    def _sample(self, query: Mapping[str, str]) -> Answer:
        numbers = self._samples.keys.meant_by(query.get("filter", ""))
        at = int(query.get("at") or 0)
        if not 0 <= at < len(numbers):
            raise UsageError("there is no such sample")
        first = at - at % PAGE
        self._begin(numbers[first : first + PAGE].tolist())  # the next one looked at is most often its neighbour
        sample = int(numbers[at])
        members = self._index.members_of(sample)[:_FIELDS]
        self._samples.bodies.begin([one for one in members if self._size(one) <= self._most(one)])
        fields = [self._described(one) for one in sorted(members, key=self._rank)]
        more = len(self._index.members_of(sample)) - len(members)
        return as_json({"at": at, "matching": len(numbers), "key": self._key(sample), "fields": fields, "more": more})

    def _described(self, member: int) -> dict[str, Any]:
        kind, size = self._kind(member), self._size(member)
        found: dict[str, Any] = {
            "id": member,
            "field": self._field(member),
            "kind": kind,
            "size": human_size(size),
            "part": printable(self._index.parts[self._index.columns[0][member]].name.encode()),
        }
        if size > self._most(member):
            return {**found, "kind": OTHER}
        try:
            data = self._samples.bodies.get(member)
            if kind == IMAGE:
                return {**found, "note": note_on(data)}
        except Mismatch as error:
            return {**found, "error": error.message}
        text = text_of(data, kind)
        if text is None:
            return {**found, "kind": OTHER}
        return {**found, "kind": JSON if kind == JSON else TEXT, "text": text.text, "whole": text.whole}

    # -- one field ---------------------------------------------------------------------------------------------------

    def _image(self, member: int) -> Answer:
        if self._kind(member) != IMAGE or self._size(member) > self._most(member):
            return refusal(404, "this field is not shown as a picture")
        shown = picture(self._samples.bodies.get(member))
        return Answer.of(200, shown.media, shown.data)

    def _raw(self, member: int) -> Answer:
        """The bytes as they are, as a download whatever they are."""
        path = path_of(self._index, self._samples.sample_of(member), member)
        name = path.rpartition("/")[2].encode("utf-8", "surrogateescape")
        headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
        blocks = self._samples.blocks(member)
        return Answer(200, "application/octet-stream", blocks, self._size(member), headers)

    # -- the index ---------------------------------------------------------------------------------------------------

    def _key(self, sample: int) -> str:
        return printable(self._index.key(sample).encode("utf-8", "surrogateescape"))

    def _field(self, member: int) -> str:
        return printable(self._index.field_of(member).encode("utf-8", "surrogateescape"))

    def _kind(self, member: int) -> str:
        return self._kinds[self._index.columns[1][member]]

    def _size(self, member: int) -> int:
        return int(self._index.columns[4][member])

    def _most(self, member: int) -> int:
        return _LARGEST[self._kind(member)]


def _hash_of(page: str, element: str) -> str:
    """The one script, or style, that is allowed."""
    found = re.search(rf"<{element}>(.*?)</{element}>", page, re.DOTALL)
    assert found is not None
    return f"'sha256-{base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()}'"
