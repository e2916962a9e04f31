"""What member names do to other tools and systems: paths in, kinds of trouble out. Pure: no disk, no ledger.

A part is looked at where it is built. What can be said of one name alone is counted there; for what takes two names
(twins, repeated keys, a file where another part has a folder) the part gives sorted columns of 64-bit hashes, which
``settling`` compares over all parts, a range of hashes at a time.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from struct import Struct
from typing import TYPE_CHECKING

from driveshard.core.formatting import plural
from driveshard.core.model import NameFacts

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

EXAMPLES = 3
"""Names a kind that are kept to be shown."""

PAIR, PAIR_BYTES = [("fold", "<u8"), ("rest", "<u8")], 16
"""A column's entry: the hash of the folded name, by which it is sorted, and one that tells apart what folds alike."""

_LENGTHS = Struct("<HH")  # of a directory entry's name and extra field
_STEP_BYTES = 255  # ext4, APFS and NTFS take no longer step of a path
_MOST_FIELDS = 1000

OTHER = ""
"""The kind of members whose field or suffix is odd, or one of very many."""

_MOST_KINDS = 50
_KIND = re.compile(rb"[\w+-]+(?:\.[\w+-]+)*")
_KIND_BYTES = 40

# A name is refused or changed by Windows for a letter in it, for its end, or for being a device's (COM² is one, too).
_WINDOWS = re.compile(
    rb'[<>:"|?*\\\x01-\x1f]|[. ](?=/|\0|\Z)|(?:\A|(?<=[/\0]))'
    rb"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)(?:[1-9]|\xc2[\xb9\xb2\xb3]))(?=[ ./\0]|\Z)",
    re.I,
)

_WORDS = {
    "repeated": ("sample whose key an earlier part has, too", "readers see the newest one only"),
    "folders": ("name of a file and of a folder at once", "unpacking the parts loses one of the two"),
    "twins": ("name with a twin in other case or Unicode form", "macOS and Windows unpack one over the other"),
    "windows": ("name that Windows cannot take as it is", "unpack on another system, or read it with driveshard"),
    "encoding": ("name in another encoding than UTF-8", "Java and jar refuse the whole part that has one"),
    "long": ("name with a step of more than 255 bytes", "most file systems refuse it"),
}
KINDS = tuple(_WORDS)


def sentence(kind: str, count: int) -> str:
    """``3 names in another encoding than UTF-8: Java and jar refuse the whole part that has one``"""
    what, means = _WORDS[kind]
    noun, _, rest = what.partition(" ")
    return f"{plural(count, noun)} {rest}: {means}"


def paths_in(directory: bytes) -> list[bytes]:
    """The members' paths of a zip's central directory, in order."""
    paths, at = [], 0
    while at < len(directory):
        length, extra = _LENGTHS.unpack_from(directory, at + 28)
        paths.append(directory[at + 46 : at + 46 + length])
        at += 46 + length + extra
    return paths


def facts_of(paths: Sequence[bytes], *, by_key: bool) -> NameFacts:
    """What is to be known of a part's member names. ``by_key``: the members are fields of made samples, which are
    told apart by their keys; else they are files, told apart by their paths."""
    counts, examples = _single(paths)
    names, fields = _keys(paths) if by_key else (list(dict.fromkeys(paths)), {b""})
    folders = [_halves(folder) if by_key else (folder, b"") for folder in _folders(paths)]
    if by_key:  # a made member's name has a dot in its last step, so only such a folder can meet one
        folders = [pair for pair in folders if pair[1]]
    return NameFacts(
        counts,
        examples,
        _column(folded(names), _hashes(names)),
        _column(folded([one for one, _ in folders]), _hashes([one for _, one in folders])),
        _hashes(sorted(fields)).tobytes() if len(fields) <= _MOST_FIELDS else b"",
        kinds_of(paths, by_key=by_key),
    )


def kinds_of(paths: Iterable[bytes], *, by_key: bool) -> dict[str, int]:
    """Members by what they are: made ones by field (``image.jpg``), a folder's files by suffix (``jpg``)."""
    counted = Counter(_halves(path)[1] for path in paths) if by_key else Counter(map(_suffix, paths))
    kinds: Counter[str] = Counter()
    for kind, count in counted.most_common():
        usual = len(kinds) < _MOST_KINDS and len(kind) <= _KIND_BYTES and _KIND.fullmatch(kind)
        kinds[kind.decode("ascii").lower() if usual else OTHER] += count
    return dict(kinds)


def _suffix(path: bytes) -> bytes:
    dot = path.rfind(b".")
    return path[dot + 1 :] if dot > path.rfind(b"/") + 1 else b""


def _single(paths: Sequence[bytes]) -> tuple[dict[str, int], dict[str, tuple[str, ...]]]:
    """(counts, examples) of the kinds that one name is enough for; nearly always none, which one look tells."""
    whole = b"\0".join(paths)
    found = {
        "windows": [path for path in paths if _WINDOWS.search(path)] if _WINDOWS.search(whole) else [],
        "encoding": [] if _is_utf8(whole) else [path for path in paths if not _is_utf8(path)],
        "long": [path for path in paths if len(path) > _STEP_BYTES and _longest(path) > _STEP_BYTES],
    }
    return (
        {kind: len(bad) for kind, bad in found.items() if bad},
        {kind: tuple(as_text(path) for path in bad[:EXAMPLES]) for kind, bad in found.items() if bad},
    )


def as_text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


def _longest(path: bytes) -> int:
    return max(map(len, path.split(b"/")))


def _is_utf8(path: bytes) -> bool:
    try:
        path.decode()
    except UnicodeDecodeError:
        return False
    return True


def _keys(paths: Iterable[bytes]) -> tuple[list[bytes], set[bytes]]:
    """The samples' keys, each once, and the fields that any of them has."""
    keys: dict[bytes, None] = {}
    fields = set()
    for path in paths:
        key, field = _halves(path)
        keys[key] = None
        fields.add(field)
    return list(keys), fields


def _halves(path: bytes) -> tuple[bytes, bytes]:
    """(key, field) as ``model.sample_key`` cuts."""
    dot = path.find(b".", path.rfind(b"/") + 2)
    return (path, b"") if dot < 0 else (path[:dot], path[dot + 1 :])


def _folders(paths: Iterable[bytes]) -> list[bytes]:
    """Every folder that unpacking makes, each once."""
    found: set[bytes] = set()
    for path in paths:
        folder = path.rpartition(b"/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition(b"/")[0]
    return sorted(found)


def folded(names: Sequence[bytes]) -> npt.NDArray[np.uint64]:
    """Hashes of the names as a system sees them that minds neither case nor Unicode form."""
    if not names:
        return _hashes(names)
    whole = b"\0".join(names)
    return _hashes(whole.lower().split(b"\0") if whole.isascii() else [_fold(name) for name in names])


def _fold(name: bytes) -> bytes:
    text = unicodedata.normalize("NFD", name.decode("utf-8", "surrogateescape")).casefold()
    return unicodedata.normalize("NFC", text).encode("utf-8", "surrogateescape")


def _hashes(names: Sequence[bytes]) -> npt.NDArray[np.uint64]:
    """64 bits each, the same on every machine."""
    import numpy as np  # it takes a while to load, and a run with nothing to do has no need of it

    return np.frombuffer(b"".join([hashlib.blake2b(name, digest_size=8).digest() for name in names]), "<u8")


def _column(fold: npt.NDArray[np.uint64], rest: npt.NDArray[np.uint64]) -> bytes:
    import numpy as np

    pairs = np.empty(len(fold), PAIR)
    order = np.lexsort((rest, fold))
    pairs["fold"], pairs["rest"] = fold[order], rest[order]
    return pairs.tobytes()
