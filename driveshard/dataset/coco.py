"""COCO's annotations, image by image: ``annotations/instances_*.json`` has those of all images in one list."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from driveshard.core.errors import Mismatch

FIELD = "annotations.json"
_BEFORE = "annotations/instances_"
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODE = json.JSONDecoder().raw_decode


class Annotations:
    """The annotations of each image, from these ``files`` by path.

    They are gone through when the first one is asked for, once in each process; what is kept is their text, which takes
    about as much memory as the files have bytes.
    """

    def __init__(self, files: Iterable[str]) -> None:
        self._files = list(files)
        self._found: dict[str, list[str]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_files": self._files, "_found": None}

    def of(self, key: str, read: Callable[[str], bytes]) -> bytes | None:
        """Those of the sample ``key`` as a JSON list, which may be empty; None for what no file tells of. ``read``
        gives a file. Raises Mismatch for one that is not what COCO's are, and what ``read`` raises."""
        if self._found is None:
            found: dict[str, list[str]] = {}
            for file in self._files:
                self._take(found, file, read(file))
            self._found = found
        mine = self._found.get(key)
        return None if mine is None else f"[{','.join(mine)}]".encode()

    def _take(self, found: dict[str, list[str]], file: str, data: bytes) -> None:
        split = file.removeprefix(_BEFORE).removesuffix(".json")
        images: dict[Any, str] = {}
        texts: dict[Any, list[str]] = {}
        try:
            text = data.decode("utf-8-sig")
            for name, item, written in _items(text):
                if name == "images":
                    images[item["id"]] = item["file_name"]
                else:
                    texts.setdefault(item["image_id"], []).append(written)
            for image, path in images.items():
                mine = texts.get(image, [])
                stem = path.replace("\\", "/").removeprefix("images/").rpartition(".")[0]
                for key in {stem, f"{split}/{stem}"}:  # one of them is the sample's
                    found.setdefault(key, []).extend(mine)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise Mismatch(
                f"{file} is no file of COCO annotations", advice="Leave it out, or open the dataset without key='coco'."
            ) from error


def annotations_in(keys: Iterable[str]) -> Annotations | None:
    """Those of a dataset whose samples have these keys by the rule ``coco``; None without any."""
    files = [f"{key}.json" for key in keys if key.startswith(_BEFORE)]
    return Annotations(files) if files else None


def _items(text: str) -> Iterator[tuple[str, Any, str]]:
    """(``images`` or ``annotations``, an item of that list, its text), one after another."""
    at = _after(text, 0, "{")
    while text[at] != "}":
        name, at = _DECODE(text, at)
        at = _after(text, at, ":")
        if name in ("images", "annotations"):
            at = _after(text, at, "[")
            while text[at] != "]":
                item, end = _DECODE(text, at)
                yield name, item, text[at:end]
                at = _next(text, end)
            at += 1
        else:
            at = _DECODE(text, at)[1]
        at = _next(text, at)


def _after(text: str, at: int, sign: str) -> int:
    """Where the next thing begins behind a sign that must come. Raises ValueError."""
    at = _skipped(text, at)
    if text[at] != sign:
        raise ValueError(f"no {sign}")
    return _skipped(text, at + 1)


def _next(text: str, at: int) -> int:
    """Where the next of several things begins, or stands the sign that ends them."""
    at = _skipped(text, at)
    return _skipped(text, at + 1) if text[at] == "," else at


def _skipped(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()
