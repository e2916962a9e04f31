"""The published description: the same dataset gives the same bytes, and what is no manifest is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driveshard.archive import manifest as manifests
from driveshard.archive.manifest import FORMAT, VERSION, Manifest, ManifestPage, ManifestPart, manifest_in, split
from driveshard.core.errors import Mismatch
from driveshard.core.model import FileList, Part, PartSpec
from driveshard.upload.dataset_folder.publish import manifest_of
from driveshard.upload.ledger.ledger import Ledger

PART = ManifestPart(0, "d-00000.zip", "id", 480, "m" * 32, "5" * 64, 2, 3, "a 'b' ü.txt", "\\xff.txt")
WHOLE = Manifest("d", "job", {"kind": "folder", "include": []}, 2, 3, (PART,))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.create_job("d", settings={"kind": "folder", "include": ["*.jpg"]}, where="/secret/place", source="x")
        for number in (0, 1):
            files = FileList.of([(b"a", 1, 1), (b"b", 2, 2)])
            name = f"d-{number:05d}.zip"
            ledger.plan(PartSpec(number, name, files, 100, 100), 1, (1, 1) if number else (0, 0))
            ledger.packed(Part(number, name, 480 + number, "m" * 32, "5" * 64, 2, 2, "a", "b", files))
            ledger.reserve(number, f"id{number}")
            ledger.released(number)
        yield ledger


def test_it_comes_back_as_it_was() -> None:
    assert Manifest.decode(WHOLE.encode()) == WHOLE


def test_people_can_read_it() -> None:
    text = WHOLE.encode().decode()
    assert text.endswith("}\n")
    assert '"bytes": 480' in text
    assert "a 'b' ü.txt" in text


def test_names_that_are_no_text_do_not_break_it() -> None:
    odd = Manifest("d", "job", {}, 0, 0, (ManifestPart(0, "d\udcff.zip", "", 0, "", "", 0, 0, "", ""),))
    assert json.loads(odd.encode())["parts"][0]["name"]


def test_it_is_made_from_the_ledger_alone(ledger: Ledger) -> None:
    manifest = manifest_of(ledger)

    assert (manifest.name, manifest.job, manifest.size) == ("d", ledger.get("job"), 961)
    assert (manifest.files, manifest.samples) == (3, 3)  # one member of the first part is replaced by the second
    assert manifest.source == {"kind": "folder", "include": ["*.jpg"]}
    assert [(part.number, part.name, part.id, part.size) for part in manifest.parts] == [
        (0, "d-00000.zip", "id0", 480),
        (1, "d-00001.zip", "id1", 481),
    ]
    assert manifest.encode() == manifest_of(ledger).encode()
    assert b"secret" not in manifest.encode()


# -- pages -----------------------------------------------------------------------------------------------------------

MANY = replace(
    WHOLE, parts=tuple(replace(PART, number=number, name=f"d-{number:05d}.zip") for number in (0, 1, 2, 5, 9, 40))
)


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "SPLIT_OVER", 1000)
    monkeypatch.setattr(manifests, "PAGE_NUMBERS", 3)


def reading(pages: Sequence[tuple[ManifestPage, bytes]]) -> Callable[[Sequence[ManifestPage]], list[bytes]]:
    stored = {page.name: data for page, data in pages}
    return lambda wanted: [stored[page.name] for page in wanted]


def test_what_is_small_stays_in_one_file(small_pages: None) -> None:
    assert split(replace(MANY, parts=MANY.parts[:3])) == []
    assert MANY.encode([]) == MANY.encode()
    assert json.loads(MANY.encode())["version"] == 1


def test_a_split_manifest_comes_back_as_it_was(small_pages: None) -> None:
    pages = split(MANY)
    assert [(page.lowest, page.highest, page.parts) for page, _ in pages] == [
        (0, 2, 3),
        (5, 5, 1),
        (9, 9, 1),
        (40, 40, 1),
    ]
    assert [page.name[:15] for page, _ in pages] == [f"manifest-{index:05d}-" for index in (0, 1, 3, 13)]
    assert all(page.sha256.startswith(page.name[15:27]) and page.size == len(data) for page, data in pages)
    document = MANY.encode([page for page, _ in pages])
    assert json.loads(document)["version"] == VERSION and "parts" not in json.loads(document)
    assert Manifest.decode(document, reading(pages)) == MANY
    with pytest.raises(Mismatch, match="listed in 4 files that are not here"):
        Manifest.decode(document)


def test_a_part_more_or_less_changes_one_page_alone(small_pages: None) -> None:
    before = {page.name for page, _ in split(MANY)}
    more = replace(MANY, parts=(*MANY.parts, replace(PART, number=41, name="d-00041.zip")))
    assert [page.highest for page, _ in split(more) if page.name not in before] == [41]
    less = replace(MANY, parts=MANY.parts[1:])
    assert [page.lowest for page, _ in split(less) if page.name not in before] == [1]


def test_those_who_know_no_pages_refuse_to_read(small_pages: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = split(MANY)
    monkeypatch.setattr(manifests, "VERSION", 2)
    document = MANY.encode([page for page, _ in pages]).replace(b'"version": 2', b'"version": 3')
    with pytest.raises(Mismatch, match="version 3") as caught:
        Manifest.decode(document, reading(pages))
    assert "pip install" in caught.value.advice


OTHERS = [
    {"name": "../manifest-00000-0123456789ab.json"},
    {"name": "manifest-00000-0123456789ab.json/"},
    {"name": "manifest.json"},
    {"id": "../x?alt=media#"},
    {"id": "a/b"},
    {"size": 1 << 40},
    {"size": -1},
    {"size": 5},
    {"sha256": "0" * 64},
    {"sha256": 5},
    {"parts": 0},
    {"parts": 2},
    {"lowest": 1},
    {"highest": 1},
    {"highest": 8},
    {"lowest": 6},
    {"lowest": 2**60},
]


@pytest.mark.parametrize("other", OTHERS, ids=repr)
def test_a_page_that_is_not_what_it_should_be_is_refused(small_pages: None, other: dict[str, Any]) -> None:
    pages = split(MANY)
    document = json.loads(MANY.encode([page for page, _ in pages]))
    document["pages"][0 if "highest" in other or other == {"lowest": 1} else 1].update(other)
    stored = {page["name"]: data for page, (_, data) in zip(document["pages"], pages, strict=True)}
    with pytest.raises(Mismatch):
        Manifest.decode(json.dumps(document).encode(), lambda wanted: [stored[page.name] for page in wanted])


@pytest.mark.parametrize("change", ["twice", "reversed", "none", "short", "many"])
def test_pages_that_do_not_fit_together_are_refused(small_pages: None, change: str) -> None:
    pages = split(MANY)
    document = json.loads(MANY.encode([page for page, _ in pages]))
    listed = document["pages"]
    changes = {"twice": [*listed, listed[-1]], "reversed": listed[::-1], "none": None, "many": listed * 3000}
    document["pages"] = changes.get(change, listed)
    fetch = reading(pages) if change != "short" else lambda wanted: [data for _, data in pages[:-1]]
    with pytest.raises(Mismatch):
        Manifest.decode(json.dumps(document).encode(), fetch)


def test_a_directory_with_pages_is_read_by_their_names(small_pages: None, tmp_path: Path) -> None:
    pages = split(MANY)
    (tmp_path / "manifest.json").write_bytes(MANY.encode([replace(page, id="elsewhere") for page, _ in pages]))
    for page, data in pages:
        (tmp_path / page.name).write_bytes(data)
    assert manifest_in(tmp_path) == MANY
    (tmp_path / pages[1][0].name).unlink()
    with pytest.raises(Mismatch, match=r"manifest-00001-[0-9a-f]{12}\.json, in which the manifest lists 1 part,"):
        manifest_in(tmp_path)


# -- from anybody ----------------------------------------------------------------------------------------------------


def changed(**changes: Any) -> bytes:
    return json.dumps({**json.loads(WHOLE.encode()), **changes}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe\x00",
        b'"driveshard"',
        WHOLE.encode()[:-20],
        changed(format="other"),
        changed(version=VERSION + 1),
        changed(version="new"),
        changed(parts=None),
        changed(parts=[{}]),
        changed(parts=["x"]),
        changed(parts=[5]),
        b"[" * 100_000,
    ],
)
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(Mismatch):
        Manifest.decode(data)


def test_a_newer_version_says_to_update() -> None:
    with pytest.raises(Mismatch) as caught:
        Manifest.decode(changed(version=VERSION + 1))
    assert "pip install" in caught.value.advice


def test_fields_added_later_do_no_harm() -> None:
    document = json.loads(WHOLE.encode())
    document["parts"][0]["colour"] = "blue"
    assert Manifest.decode(json.dumps({**document, "index": "x"}).encode()) == WHOLE
    assert document["format"] == FORMAT


ODD_VALUES = [None, True, -1, 1.5, 10**30, 2**63, "x", "5", [], {}, [1], {"a": 1}]
NUMBERS = ("number", "size", "samples", "files")
TEXTS = ("name", "id", "md5", "sha256", "first", "last")


@pytest.mark.parametrize("value", ODD_VALUES, ids=repr)
@pytest.mark.parametrize("field", NUMBERS + TEXTS)
def test_a_parts_field_of_another_type_is_refused(field: str, value: object) -> None:
    if field in TEXTS and isinstance(value, str) and field != "name":
        return
    document = json.loads(WHOLE.encode())
    document["parts"][0][field] = value
    with pytest.raises(Mismatch, match=r"manifest\.json cannot be read"):
        Manifest.decode(json.dumps(document).encode())


@pytest.mark.parametrize("value", [None, 5, [], "x", {}], ids=repr)
@pytest.mark.parametrize("field", ["format", "version", "name", "job", "source", "samples", "files", "parts"])
def test_a_field_of_another_type_is_refused(field: str, value: object) -> None:
    right = {"name": "x", "job": "x", "samples": 5, "files": 5, "parts": [], "source": {}}
    if right.get(field) == value:
        return
    with pytest.raises(Mismatch):
        Manifest.decode(changed(**{field: value}))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(data=st.data())
def test_a_manifest_from_anybody_is_read_or_refused(data: st.DataObject) -> None:
    document = json.loads(WHOLE.encode())
    for place in (document, document["parts"][0]):
        for key in data.draw(st.sets(st.sampled_from(sorted(place)), max_size=2)):
            place[key] = data.draw(VALUES)
    try:
        Manifest.decode(json.dumps(document).encode())
    except Mismatch as error:
        assert error.message.isprintable()


def test_a_part_that_is_listed_twice_is_refused() -> None:
    document = json.loads(WHOLE.encode())
    document["parts"] *= 2
    with pytest.raises(Mismatch, match="twice"):
        Manifest.decode(json.dumps(document).encode())


NAMES = [
    *("../d-00000.zip", "/etc/d.zip", "a\\b.zip", "C:d.zip", ".hidden.zip", "a\nb.zip", "", ".", "..", "sub", ".zip"),
    *("CON.zip", "nul.zip", "Com1.x.zip", "x.", "x.zip ", "a\x1b[2J.zip", "a\x9b2J.zip", "a?.zip", "a" * 252 + ".zip"),
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_part_name_that_leads_elsewhere_is_refused(name: str) -> None:
    document = json.loads(WHOLE.encode())
    document["parts"][0]["name"] = name
    with pytest.raises(Mismatch):
        Manifest.decode(json.dumps(document).encode())
