"""Names that make trouble elsewhere: found in one part, and over all parts."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from driveshard.archive.names import KINDS, facts_of, paths_in, sentence
from driveshard.archive.zip_writer import ZipWriter
from driveshard.core.model import FileList, Part, PartSpec, SampleRange
from driveshard.upload.dataset_folder.clashes import find_clashes
from driveshard.upload.dataset_folder.settling import sentences, settle
from driveshard.upload.ledger.ledger import Ledger

NFC, NFD = (unicodedata.normalize(form, "é.txt").encode() for form in ("NFC", "NFD"))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        yield ledger


def add(ledger: Ledger, *paths: bytes, made: bool = False, look: bool = True) -> None:
    """A packed part with these members; each run of the planner cuts one."""
    number = ledger.next_number()
    rows = [(path, 1, 1) for path in sorted(paths)]
    selection = SampleRange(number * 100, number * 100 + len(rows)) if made else FileList.of(rows)
    ledger.plan(PartSpec(number, f"d-{number:05d}.zip", selection, 1), number)
    facts = facts_of(list(paths), by_key=made) if look else None
    keys = {path.partition(b".")[0] for path in paths}
    count = (len(keys), len(paths))
    ledger.packed(Part(number, f"d-{number:05d}.zip", 1, "", f"{number}", *count, "", "", selection, names=facts))


def names(ledger: Ledger) -> dict[str, int]:
    settle(ledger)
    found: dict[str, int] = ledger.settled()["names"]
    return found


@pytest.mark.parametrize(
    "path",
    [
        b"a:b",
        b"con",
        b"x/CON.txt",
        b"a\\b",
        b"a\nb",
        b"a.",
        b"x /y",
        b"a?",
        b"lpt1.tar.gz",
        b"x/Nul",
        b"end ",
        b"CONIN$",
        "lpt².txt".encode(),
    ],
)
def test_what_windows_refuses_is_found(path: bytes) -> None:
    facts = facts_of([b"fine.txt", path, b"zz.txt"], by_key=False)
    assert dict(facts.counts) == {"windows": 1}


@pytest.mark.parametrize("path", [b"confetti", b"a.b", "ü/é.jpg".encode(), b".hidden", b"x/com10", b"a b", b"~"])
def test_what_every_system_takes_is_not(path: bytes) -> None:
    assert facts_of([b"fine.txt", path, b"zz.txt"], by_key=False).counts == {}


def test_names_that_are_not_utf8_or_too_long_are_counted() -> None:
    facts = facts_of([b"a", b"caf\xe9", b"n" * 256 + b"/x", b"n" * 255 + b"/" + b"m" * 255], by_key=False)
    assert facts.counts == {"encoding": 1, "long": 1}
    assert facts.examples["encoding"] == ("caf\\xe9",)


def test_a_zips_directory_gives_its_names(tmp_path: Path) -> None:
    paths = [b"a", "ü".encode(), b"caf\xe9", b"d/e"]
    with ZipWriter(tmp_path / "z", limit=150) as writer:  # with zip64's extra fields, too
        for path in paths:
            writer.add(path, bytes(60))
        writer.close()
    assert paths_in(writer.directory) == paths


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ((b"A/x", b"a/X"), {"twins": 2}),
        ((NFC, NFD), {"twins": 2}),
        ((b"STRASSE", "straße".encode()), {"twins": 2}),
        ((b"a", b"a/b/c"), {"folders": 1}),
        ((b"a/b", b"a/b/c/d"), {"folders": 1}),
        ((b"a.d", b"a/d", b"ab"), {}),
    ],
)
def test_two_names_are_compared_within_a_part_and_between_parts(
    ledger: Ledger, paths: tuple[bytes, ...], expected: dict[str, int], apart: bool
) -> None:
    for one in [(path,) for path in paths] if apart else [paths]:
        add(ledger, *one)
    assert names(ledger) == expected
    assert len(sentences(ledger)) == len(expected)


def test_parts_of_an_older_driveshard_are_looked_at_later(ledger: Ledger) -> None:
    add(ledger, b"a", b"b:c", look=False)
    add(ledger, b"a/b")
    assert names(ledger) == {"folders": 1, "windows": 1}
    assert "(such as a)" in sentences(ledger)[0]


def test_a_file_that_a_newer_part_replaces_is_no_twin_and_counts_once(ledger: Ledger) -> None:
    add(ledger, b"a.jpg", b"b.jpg")
    add(ledger, b"a.jpg", b"b.json")
    assert names(ledger) == {}
    assert (ledger.totals().samples, ledger.totals().files) == (2, 3)


def test_made_keys_that_come_again_are_counted_by_part(ledger: Ledger) -> None:
    add(ledger, b"k1.x", b"k2.x", made=True)
    add(ledger, b"k3.x", b"k1.x", made=True)
    add(ledger, b"k1.x", b"k2.x", made=True)
    assert settle(ledger) == {1: 1, 2: 2}
    assert ledger.settled()["names"] == {"repeated": 3}
    assert (ledger.totals().samples, ledger.totals().files) == (3, 3)
    add(ledger, b"k3.y", made=True)
    assert settle(ledger) == {3: 1}  # the others are no news
    assert settle(ledger) == {}


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ((b"a.d", b"a.d/b.d"), {"folders": 1}),
        ((b"a.d", b"a.e/b.d"), {}),
        ((b"a.d", b"a/b.d"), {}),
        ((b"k.txt", b"k.txt/z.txt"), {"folders": 1}),
        ((b"Ab.d", b"aB.d"), {"twins": 2}),
    ],
)
def test_a_field_beside_a_folder_of_its_members_name(
    ledger: Ledger, paths: tuple[bytes, ...], expected: dict[str, int]
) -> None:
    for path in paths:
        add(ledger, path, made=True)
    assert names(ledger) == expected


def test_a_range_at_a_time_finds_the_same_as_all_at_once(ledger: Ledger) -> None:
    for number in range(5):
        add(ledger, *(b"%d/%04d.x" % (number % 2, one) for one in range(number, 3000)), made=True)
        add(ledger, *(b"%d/%04d.X/y.x" % (number % 2, one) for one in range(20)), made=True)
    whole = find_clashes(ledger, made=True)
    for at_once in (7, 100, 4096):
        pieces = find_clashes(ledger, made=True, at_once=at_once)
        assert (pieces.twins, pieces.folders, pieces.repeated) == (whole.twins, whole.folders, whole.repeated)
    assert whole.repeated == {4: 2998, 6: 2997, 8: 2996, 5: 20, 7: 20, 9: 20}
    assert whole.folders == 0  # the member is .x, the folder .X


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_sentence(kind: str) -> None:
    assert sentence(kind, 1).startswith("1 ")
    assert sentence(kind, 2000).startswith("2,000 ")
    assert ": " in sentence(kind, 2)
