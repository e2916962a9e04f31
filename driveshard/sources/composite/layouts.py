"""Where a composite's members lie: all fields of a sample side by side, or each in a tree of its own.

    sample                             trees
    bg_000/fg_003_o_07.background.jpg  bg/bg_000/fg_003_o_07.jpg
    bg_000/fg_003_o_07.image.jpg       fg_bg/bg_000/fg_003_o_07.jpg
    bg_000/fg_003_o_07.json            fg_bg_mask/bg_000/fg_003_o_07_mask.jpg
    bg_000/fg_003_o_07.mask.jpg        labels/bg_000/fg_003_o_07.json
    bg_000/fg_003_o_19.table.csv       table/bg_000/fg_003_o_19.csv

The names of each side are in path order. The trees are those that ``driveshard.Dataset(..., key="trees")`` takes
together again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

LAYOUTS = ("sample", "trees")


class Member(NamedTuple):
    """Where a field of the sample ``key`` lies: at ``before + key + after``."""

    field: str
    before: bytes
    after: bytes

    def path(self, key: bytes) -> bytes:
        return self.before + key + self.after


_FORMS: Mapping[str, Mapping[str, tuple[bytes, bytes]]] = {
    "sample": {
        "background": (b"", b".background.jpg"),
        "image": (b"", b".image.jpg"),
        "label": (b"", b".json"),
        "mask": (b"", b".mask.%s"),
        "table": (b"", b".table.csv"),
    },
    "trees": {
        "background": (b"bg/", b".jpg"),
        "image": (b"fg_bg/", b".jpg"),
        "mask": (b"fg_bg_mask/", b"_mask.%s"),
        "label": (b"labels/", b".json"),
        "table": (b"table/", b".csv"),
    },
}


def as_sample(path: str) -> str:
    """A path of the trees as ``driveshard.Dataset(..., key="trees")`` names it: ``fg_bg_mask/x_mask.jpg`` is the field
    ``fg_bg_mask.jpg`` of the sample ``x``."""
    tree, _, rest = path.partition("/")
    key, _, extension = rest.rpartition(".")
    return f"{key.removesuffix('_mask') if tree == 'fg_bg_mask' else key}.{tree}.{extension}"


def members_of(layout: str, wanted: Iterable[str], mask: str) -> list[Member]:
    """The wanted ones of the fields ``background``, ``image``, ``label``, ``mask`` and ``table``, in path order.
    ``mask`` is the extension of the masks."""
    chosen = set(wanted)
    return [
        Member(field, before, after.replace(b"%s", mask.encode()))
        for field, (before, after) in _FORMS[layout].items()
        if field in chosen
    ]
