"""Samples by another rule than the file names': parallel trees such as ``images/x.jpg`` with ``labels/x.txt``."""

from __future__ import annotations

import re
from collections.abc import Callable

from driveshard.core.errors import UsageError

Split = Callable[[str], tuple[str, str] | None]
"""A member's path -> (key, field) of the sample it belongs to, or None to leave it out."""


def split_for(key: str | Split) -> Split:
    """The rule of that name, or the rule itself. Raises UsageError.

    ``trees`` takes members of parallel folders together: ``fg_bg/x.jpg`` and ``fg_bg_mask/x_mask.jpg`` are the fields
    ``fg_bg.jpg`` and ``fg_bg_mask.jpg`` of the sample ``x``. ``yolo`` does the same for ``images`` and ``labels``
    anywhere in a path, ``coco`` leaves the pictures as they are and each annotation file a sample of its own; of
    those called ``instances_*`` a ``Dataset`` gives each picture its own annotations, too.
    """
    if callable(key):
        return key
    if key not in _RULES:
        raise UsageError(
            f"key cannot be {key!r}", advice=f"Give a callable, or one of {', '.join(map(repr, sorted(_RULES)))}."
        )
    return _RULES[key]


def by_trees(path: str) -> tuple[str, str] | None:
    """The first folder is the field; what it adds to the file's name (``_mask``) is taken off again."""
    tree, slash, rest = path.partition("/")
    if not slash:
        return None
    folder, _, base = rest.rpartition("/")
    stem, extension = _parted(base)
    steps = re.split(r"[_-]", tree)
    for count in range(len(steps), 0, -1):
        ending = "_".join(steps[-count:])
        for joint in "_-":
            if ending and stem.endswith(joint + ending) and len(stem) > len(ending) + 1:
                stem = stem[: -len(ending) - 1]
                return _joined(folder, stem), tree + extension
    return _joined(folder, stem), tree + extension


def by_yolo(path: str) -> tuple[str, str] | None:
    """``images/train/x.jpg`` and ``labels/train/x.txt``, or ``train/images/x.jpg`` and ``train/labels/x.txt``."""
    steps = path.split("/")
    for at in range(len(steps) - 2, -1, -1):
        if steps[at] in _YOLO:
            stem, extension = _parted(steps[-1])
            return "/".join([*steps[:at], *steps[at + 1 : -1], stem]), _YOLO[steps[at]] + extension
    return None


def by_coco(path: str) -> tuple[str, str] | None:
    """``images/train2017/0001.jpg`` is ``train2017/0001`` with the field ``jpg``; ``annotations/x.json`` is
    ``annotations/x`` with ``json``; ``annotations/train2017/0001.png`` joins its picture as ``annotation.png``."""
    tree, slash, rest = path.partition("/")
    folder, _, base = rest.rpartition("/")
    stem, extension = _parted(base)
    if not slash:
        return None
    if tree == "annotations":
        if not folder:
            return f"annotations/{stem}", extension.lstrip(".")
        return _joined(folder, stem), f"annotation{extension}"
    return _joined(folder, stem) if tree == "images" else _joined(tree, _joined(folder, stem)), extension.lstrip(".")


_YOLO = {"images": "image", "labels": "label", "masks": "mask"}
_RULES: dict[str, Split] = {"trees": by_trees, "yolo": by_yolo, "coco": by_coco}


def _parted(base: str) -> tuple[str, str]:
    """A file's name without its last extension, and that with its dot."""
    stem, dot, extension = base.rpartition(".")
    return (stem, dot + extension) if stem else (base, "")


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
