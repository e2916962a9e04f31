"""The picture beside the parts: from all over the dataset, in few requests; and the kinds of members."""

from __future__ import annotations

import io
import itertools
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from driveshard.archive.contact_sheet import Tile
from driveshard.archive.manifest import Manifest, ManifestPart
from driveshard.archive.names import OTHER, kinds_of
from driveshard.archive.zip_reader import whole_members
from driveshard.archive.zip_writer import ZipWriter
from driveshard.upload.dataset_folder import preview as module
from driveshard.upload.dataset_folder.preview import preview, windows

KIB = 1024


class Stored:
    """Parts on a disk, and what is read of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts: list[ManifestPart] = []
        self.samples = 0
        self.reads: list[tuple[str, int, int]] = []

    def add(self, members: list[tuple[str, bytes]], samples: int) -> None:
        number = len(self.parts)
        path = self.folder / f"p-{number:05d}.zip"
        with ZipWriter(path) as writer:
            for name, data in members:
                writer.add(name.encode(), data)
            writer.close()
        sizes = (path.stat().st_size, "", "", samples, len(members))
        self.parts.append(ManifestPart(number, path.name, path.name, *sizes, members[0][0], members[-1][0]))
        self.samples += samples

    @property
    def manifest(self) -> Manifest:
        files = sum(part.files for part in self.parts)
        return Manifest("p", "j", {}, self.samples, files, tuple(self.parts))

    def read(self, part: ManifestPart, start: int, length: int) -> bytes:
        self.reads.append((part.name, start, length))
        with (self.folder / part.name).open("rb") as file:
            file.seek(start)
            return file.read(length)


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return Stored(tmp_path)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Tile]:
    """The tiles that the sheet is made of."""
    seen: list[Tile] = []

    def sheet(tiles: list[Tile], **_: str) -> bytes:
        seen.extend(tiles)
        return b"sheet"

    monkeypatch.setattr(module, "contact_sheet", sheet)
    return seen


def samples(first: int, count: int, size: int, mask: bool = True, background: bool = False) -> list[tuple[str, bytes]]:
    """As the generator packs them, a hundred of each background one after the other."""
    made = []
    for number in range(first, first + count):
        key = f"bg_{number // 100:03d}/fg_{number % 100:03d}"
        made += [(f"{key}.background.jpg", b"b" * size)] if background else []
        made += [(f"{key}.image.jpg", bytes([number % 251]) * size), (f"{key}.json", b"{}")]
        made += [(f"{key}.mask.jpg", bytes([number % 241]) * (size // 3))] if mask else []
    return made


@pytest.mark.parametrize(("parts", "each"), [(1, 4000), (4, 1000), (40, 100)])
def test_tiles_come_from_all_over_the_dataset(stored: Stored, shown: list[Tile], parts: int, each: int) -> None:
    for number in range(parts):
        stored.add(samples(number * each, each, 6000), each)
    assert preview(stored.manifest, {}, stored.read) == b"sheet"
    assert len(shown) == 24
    assert len({tile.label[:6] for tile in shown}) >= 22  # of 40 backgrounds
    assert [tile.label for tile in shown] == sorted(tile.label for tile in shown)
    assert shown[0].label < "bg_003" < "bg_037" < shown[-1].label
    assert all(tile.mask is not None and len(tile.image) == 6000 for tile in shown)
    assert len(stored.reads) <= 24
    assert sum(length for _, _, length in stored.reads) < 12 << 20


@pytest.mark.parametrize(("count", "size"), [(1, 100), (5, 3000), (200, 4000), (3000, 10)])
def test_a_small_dataset_takes_one_request(stored: Stored, shown: list[Tile], count: int, size: int) -> None:
    stored.add(samples(0, count, size), count)
    preview(stored.manifest, {"image.jpg": count}, stored.read)
    assert len(stored.reads) == 1
    assert len(shown) == min(count, 24)
    assert len({tile.label for tile in shown}) == len(shown)
    assert all(tile.mask is not None for tile in shown)


def test_a_sample_that_a_window_cuts_is_not_shown_without_its_background(stored: Stored, shown: list[Tile]) -> None:
    for number in range(4):
        stored.add(samples(number * 1000, 1000, 6000, background=True), 1000)
    preview(stored.manifest, {}, stored.read)
    assert len(shown) == 24
    assert all(tile.mask is not None and tile.others == (b"b" * 6000,) for tile in shown)


def test_large_pictures_are_shown_too(stored: Stored, shown: list[Tile]) -> None:
    stored.add(samples(0, 20, 1_200_000, mask=False), 20)
    preview(stored.manifest, {}, stored.read)
    assert 2 <= len(shown) <= 24
    assert sum(length for _, _, length in stored.reads) < 26 << 20


def test_nothing_is_read_of_what_holds_no_image(stored: Stored) -> None:
    stored.add([(f"{number}.txt", b"x") for number in range(50)], 50)
    assert preview(stored.manifest, {"txt": 50}, stored.read) is None
    assert stored.reads == []
    assert preview(stored.manifest, {"txt": 49, OTHER: 1}, stored.read) is None
    assert preview(stored.manifest, {}, stored.read) is None
    assert len(stored.reads) == 2


def test_windows_lie_inside_and_do_not_overlap(stored: Stored) -> None:
    for count in (1, 2, 700, 30, 5):
        stored.add(samples(0, count, 20_000), count)
    found = windows(stored.manifest)
    assert sum(window.tiles for window in found) == 24
    for before, after in itertools.pairwise(found):
        assert before.part.number < after.part.number or before.start + before.length < after.start
    assert all(one.start >= 0 and 0 < one.length <= one.part.size - one.start for one in found)


def test_members_are_found_from_anywhere_in_a_part(stored: Stored) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("hidden.jpg", b"not a member of ours" * 9)
    members = [("a.docx", inner.getvalue()), ("b.jpg", b"PK\3\4" * 500), ("c.png", b"c" * 300), ("d.png", b"d" * 300)]
    stored.add(members, 4)
    data = (stored.folder / "p-00000.zip").read_bytes()
    wanted = [(name.encode(), content) for name, content in members]
    assert list(whole_members(data)) == wanted
    assert list(whole_members(data[10:])) == wanted[1:]
    middle = data.index(b"b.jpg") + 100
    assert list(whole_members(data[middle:-200])) == wanted[2:]
    assert list(whole_members(b"PK\3\4" * 100)) == list(whole_members(b"")) == []


# -- counts in the card ----------------------------------------------------------------------------------------------


def test_kinds_are_fields_or_suffixes() -> None:
    made = [b"a/1.image.jpg", b"a/1.json", b"a/2.image.jpg", b"b.c/3.Image.JPG", b"a/4"]
    assert kinds_of(made, by_key=True) == {"image.jpg": 3, "json": 1, OTHER: 1}
    files = [b"a/1.image.jpg", b"x.y/2.JPG", b".hidden", b"x.y/none", b"a.tar.gz", b"w.\xff\xfe", b"z.a b"]
    assert kinds_of(files, by_key=False) == {"jpg": 2, "gz": 1, OTHER: 4}
    many = kinds_of([b"f.%d" % number for number in range(900)], by_key=False)
    assert (len(many), sum(many.values())) == (51, 900)


def test_an_image_that_is_no_jpeg_is_drawn_at_its_brightness() -> None:
    buffer = io.BytesIO()
    Image.new("I;16", (40, 40), 40000).save(buffer, "PNG")
    sheet = Image.open(io.BytesIO(module.contact_sheet([Tile("a", buffer.getvalue())], tile=80, format="PNG")))
    red, green, blue = sheet.convert("RGB").getpixel((60, 60))  # type: ignore[misc]
    assert abs(red - 156) <= 1
    assert red == green == blue
