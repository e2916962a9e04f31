"""The published description: the same dataset gives the same bytes, and what is no manifest is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driveshard.archive.manifest import FORMAT, VERSION, Manifest, ManifestPart
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
