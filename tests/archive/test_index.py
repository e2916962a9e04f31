"""The index says where members are as zipfile does, whoever made the zip, and takes no harm from a hostile one."""

from __future__ import annotations

import contextlib
import io
import random
import shutil
import struct
import subprocess
import zipfile
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driveshard.archive import directory as directories
from driveshard.archive import hashes
from driveshard.archive.directory import BrokenDirectory, Directory, map_directory, read_directory
from driveshard.archive.hashes import hash_of, hashes_of
from driveshard.archive.index import (
    BrokenIndex,
    Index,
    IndexedPart,
    key_length,
    open_index,
    save_index,
)
from driveshard.archive.index_builder import build_index, path_of, regrouped
from driveshard.archive.zip_reader import member_path
from driveshard.archive.zip_writer import ZipWriter

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0\\"), min_size=1, max_size=12)
BODIES = st.binary(max_size=60) | st.just(b"ab" * 500)


def indexed(*files: Path) -> Index:
    return build_index([(IndexedPart(file.name, file.stat().st_size), map_directory(file)) for file in files])


def contents(index: Index, files: list[Path]) -> dict[str, bytes]:
    """Path and content of every member, read at the places that the index gives."""
    found = {}
    for sample in range(len(index)):
        for member in index.members_of(sample):
            place = index.location(member)
            data = files[place.part].read_bytes()[place.begin : place.begin + place.stored]
            body = data if place.method == directories.STORED else zlib.decompress(data, -15)
            assert (len(body), zlib.crc32(body)) == (place.size, place.crc)
            path = path_of(index, sample, member)
            assert index.find_member(path) == member
            assert path not in found
            found[path] = body
    assert sum(len(index.members_of(sample)) for sample in range(len(index))) == index.members
    return found


def by_zipfile(*files: Path) -> dict[str, bytes]:
    """The same as zipfile sees it; later files replace."""
    found = {}
    for file in files:
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                path = member_path(info).decode("utf-8", "surrogateescape")
                if not path.endswith("/"):
                    found[path] = archive.read(info)
    return found


class Pipe(io.RawIOBase):
    """A stream that cannot seek, so that zipfile writes data descriptors."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.data += data
        return len(data)


def made(members: list[tuple[str, bytes, bool]], *, piped: bool, comment: bytes, prefix: bytes, extra: bytes) -> bytes:
    sink = Pipe() if piped else io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.comment = comment
        for name, body, deflated in members:
            info = zipfile.ZipInfo(name)
            info.extra, info.comment = extra, comment[:9]
            info.compress_type = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
            archive.writestr(info, body)
    return prefix + bytes(sink.data if isinstance(sink, Pipe) else sink.getvalue())


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(NAMES, BODIES, st.booleans()), max_size=12, unique_by=lambda one: one[0]),
    st.booleans(),
    st.sampled_from([b"", b"a comment", b"PK\5\6", b"PK\1\2" * 9, bytes(60_000)]),
    st.sampled_from([b"", b"#!/bin/sh\n", b"PK\3\4" * 30]),
    st.sampled_from([b"", struct.pack("<HHI", 0x5455, 4, 7)]),
)
def test_it_says_what_zipfile_says(
    tmp_path_factory: pytest.TempPathFactory,
    members: list[tuple[str, bytes, bool]],
    piped: bool,
    comment: bytes,
    prefix: bytes,
    extra: bytes,
) -> None:
    file = tmp_path_factory.mktemp("zips") / "a.zip"
    file.write_bytes(made(members, piped=piped, comment=comment, prefix=prefix, extra=extra))
    if b"PK\5\6" not in comment:  # which misleads zipfile
        assert contents(indexed(file), [file]) == by_zipfile(file)
    assert contents(indexed(file), [file]) == {name: body for name, body, _ in members if not name.endswith("/")}


@pytest.mark.skipif(shutil.which("zip") is None, reason="Info-ZIP is not here")
@pytest.mark.parametrize("flags", [["-0"], ["-9"], ["-0", "-fd"], ["-X", "-0"]])
def test_zips_of_info_zip(tmp_path: Path, flags: list[str]) -> None:
    source = tmp_path / "src" / "d"
    source.mkdir(parents=True)
    for number in range(20):
        (source / f"{number}.a.jpg").write_bytes(bytes([number]) * 500)
        (source / f"{number}.json").write_bytes(b"{}")
    (source / ".hidden").write_bytes(b"h")
    subprocess.run(["zip", "-q", "-r", *flags, "../a.zip", "."], cwd=tmp_path / "src", check=True)
    file = tmp_path / "a.zip"
    index = indexed(file)
    found = contents(index, [file])
    assert found == by_zipfile(file)
    assert len(found) == 41 and len(index) == 21  # directories are no samples
    assert sorted(index.field_of(one) for one in index.members_of(index.find("d/7") or 0)) == ["a.jpg", "json"]


@pytest.mark.parametrize("limits", [{}, {"limit": 300}, {"member_limit": 3}, {"limit": 1, "member_limit": 1}])
def test_our_own_zips_with_any_zip64_record(tmp_path: Path, limits: dict[str, int]) -> None:
    file = tmp_path / "a.zip"
    with ZipWriter(file, **limits) as writer:  # type: ignore[arg-type]
        for number in range(9):
            writer.add(b"k%d.bin" % number, bytes([number]) * 100)
        writer.close()
    assert contents(indexed(file), [file]) == {f"k{n}.bin": bytes([n]) * 100 for n in range(9)}


def test_more_members_than_a_plain_zip_counts(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    with ZipWriter(file) as writer:
        for number in range(70_000):
            writer.add(b"%d" % number, b"")
        writer.close()
    index = indexed(file)
    assert len(index) == index.members == 70_000
    assert index.find("69999") == 69_999 and index.key(12_345) == "12345" and index.find("70000") is None


@pytest.mark.parametrize(
    "name",
    [b"caf\xe9.jpg", b"PK\1\2.jpg", b"a/PK\1\2PK\1\2.b", b"PK\6\7" + b"x" * 16, b"x" * 16 + b"PK\5\6", b"a.", b"."],
)
def test_odd_names(tmp_path: Path, name: bytes) -> None:
    file = tmp_path / "a.zip"
    with ZipWriter(file) as writer:
        writer.add(b"a", b"first")
        writer.add(name, b"odd")
        writer.close()
    index = indexed(file)
    assert contents(index, [file]) == {"a": b"first", name.decode("utf-8", "surrogateescape"): b"odd"}


@given(st.lists(st.binary(max_size=20), max_size=40))
def test_a_hash_is_the_same_alone_and_among_others(keys: list[bytes]) -> None:
    data = np.frombuffer(b"".join(keys), np.uint8)
    many = hashes_of(data, np.array([len(key) for key in keys], np.int64))
    assert many.tolist() == [hash_of(key) for key in keys]


@pytest.mark.parametrize("alike", [lambda data, lengths: lengths * 0, lambda data, lengths: lengths])
def test_keys_with_one_hash_stay_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alike: object) -> None:
    """An attacker can find such keys, since anybody may compute the hash."""
    monkeypatch.setattr(
        "driveshard.archive.index_builder.hashes_of",
        lambda data, lengths: alike(data, lengths).astype(np.uint64),  # type: ignore[operator]
    )
    file = tmp_path / "a.zip"
    members = {f"{key}.{field}": f"{key} {field}".encode() for key in ("a", "b", "cc") for field in ("x", "y", "zz")}
    with ZipWriter(file) as writer:
        for name, body in members.items():
            writer.add(name.encode(), body)
        writer.close()
    index = indexed(file)
    assert list(index.keys()) == ["a", "b", "cc"]
    assert [index.field_of(one) for one in index.members_of(1)] == ["x", "y", "zz"]


def test_the_newest_part_counts(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.zip" for name in "abc"]
    for file, names in zip(files, ("1.x 1.y 2.x", "3.x 1.y", "2.x 1.z"), strict=True):
        with ZipWriter(file) as writer:
            for name in names.split():
                writer.add(name.encode(), f"{file.name} {name}".encode())
            writer.close()
    index = indexed(*files)
    assert contents(index, files) == by_zipfile(*files)
    assert list(index.keys()) == ["1", "2", "3"]


@pytest.mark.parametrize(
    "path", ["a", "a.b", "a.b.c", ".a", ".a.b", "d.e/a", "d.e/.a.b", "a.", "a..", "a..b", "/.", "d/"]
)
def test_the_key_of_one_path_is_the_key_among_many(tmp_path: Path, path: str) -> None:
    with ZipWriter(tmp_path / "a.zip") as writer:
        for name in ("q/r.s.t", path, "u"):
            writer.add(name.encode(), b"")
        writer.close()
    assert list(indexed(tmp_path / "a.zip").keys()) == [
        "q/r",
        *([] if path == "d/" else [path[: key_length(path)]]),
        "u",
    ]


def test_samples_by_another_rule(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    with ZipWriter(file) as writer:
        for name in ("img/1.jpg", "img/2.jpg", "mask/2_m.png", "mask/1_m.png", "notes.txt"):
            writer.add(name.encode(), name.encode())
        writer.close()

    def split(path: str) -> tuple[str, str] | None:
        folder, _, base = path.rpartition("/")
        return (base[0], folder) if folder else None

    index = regrouped(indexed(file), split)
    data = file.read_bytes()
    found = {}
    for sample in range(len(index)):
        for member in index.members_of(sample):
            place = index.location(member)
            found[index.key(sample), index.field_of(member)] = data[place.begin : place.begin + place.size].decode()
    assert found == {
        ("1", "img"): "img/1.jpg",
        ("1", "mask"): "mask/1_m.png",
        ("2", "img"): "img/2.jpg",
        ("2", "mask"): "mask/2_m.png",
    }


# -- the file --------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    file = tmp_path / "a.zip"
    with ZipWriter(file) as writer:
        for number in range(30):
            writer.add(b"k%d.image.jpg" % number, bytes(number))
            writer.add(b"k%d.json" % number, b"{}")
        writer.close()
    with (tmp_path / "index.npz").open("wb") as stream:
        save_index(indexed(file), stream)
    return tmp_path / "index.npz"


def test_a_saved_index_is_mapped_and_numpy_opens_it_too(saved: Path) -> None:
    built, mapped = indexed(saved.parent / "a.zip"), open_index(saved)
    assert mapped.parts == built.parts and mapped.fields == built.fields
    assert contents(mapped, [saved.parent / "a.zip"]) == contents(built, [saved.parent / "a.zip"])
    with np.load(saved) as arrays:
        for name, array in built.arrays.items():
            assert np.array_equal(arrays[name], array)
            address = mapped.arrays[name].__array_interface__["data"][0]
            assert address % 64 == 0 and not mapped.arrays[name].flags.owndata
    again = io.BytesIO()
    save_index(mapped, again)
    assert again.getvalue() == saved.read_bytes()


def test_an_empty_index(tmp_path: Path) -> None:
    with (tmp_path / "index.npz").open("wb") as stream:
        save_index(build_index([]), stream)
    index = open_index(tmp_path / "index.npz")
    assert len(index) == index.members == 0 and index.parts == [] and index.find("a") is None


def test_no_wrong_byte_in_an_index_does_harm(saved: Path) -> None:
    """It is refused, or what is asked of it is a value or an IndexError: never another error, never bytes beyond it."""
    whole = saved.read_bytes()
    rng = random.Random(1)
    places = [*range(0, len(whole), 7), *rng.sample(range(len(whole)), 300)]
    opened = 0
    for at in places:
        spoilt = bytearray(whole)
        spoilt[at] ^= 1 << rng.randrange(8)
        opened += _tried(saved, bytes(spoilt))
    assert 0 < opened < len(places)  # some bytes are padding, or a value that may be another one
    assert not any(_tried(saved, whole[:length]) for length in range(0, len(whole), 97))


def _tried(file: Path, data: bytes) -> bool:
    """Whether it was opened; then everything was asked of it."""
    file.unlink(missing_ok=True)  # what is mapped is not written to
    file.write_bytes(data)
    try:
        index = open_index(file)
    except BrokenIndex:
        return False
    for sample in range(len(index)):
        with contextlib.suppress(IndexError):
            index.find(index.key(sample))
            for member in index.members_of(sample):
                index.location(member)
                index.field_of(member)
    return True


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("part", np.zeros(60)),
        ("begin", np.zeros((60, 1), np.uint64)),
        ("crc", np.zeros(60, np.int32)),
        ("size", np.zeros(59, np.uint32)),
        ("firsts", np.zeros(31, np.uint32)),
        ("keys", np.zeros(3, np.uint8)),
        ("parts", np.frombuffer(b'[{"name":"../../etc/passwd","size":1}]', np.uint8)),
        ("parts", np.frombuffer(b'[{"name":"a","size":-1}]', np.uint8)),
        ("parts", np.frombuffer(b"[[]]", np.uint8)),
        ("fields", np.frombuffer(b"[1]", np.uint8)),
        ("fields", np.frombuffer(b"[" * 100_000, np.uint8)),
        ("hashes", None),
    ],
)
def test_an_index_that_is_not_one(saved: Path, name: str, value: np.ndarray | None) -> None:
    with np.load(saved) as arrays:
        given = dict(arrays)
    given[name] = value
    if value is None:
        del given[name]
    np.savez(saved.with_name("other.npz"), **given)
    with pytest.raises(BrokenIndex):
        open_index(saved.with_name("other.npz"))


def test_a_compressed_index_is_refused(saved: Path) -> None:
    with np.load(saved) as arrays:
        np.savez_compressed(saved.with_name("other.npz"), **arrays)
    with pytest.raises(BrokenIndex, match="compressed"):
        open_index(saved.with_name("other.npz"))


# -- hostile zips ----------------------------------------------------------------------------------------------------


def _whole(file: Path) -> Directory | None:
    try:
        return map_directory(file)
    except BrokenDirectory:
        return None


@pytest.mark.parametrize("piped", [False, True])
def test_no_wrong_bit_in_a_zip_does_harm(tmp_path: Path, piped: bool) -> None:
    """A zip is refused, or every place in it lies within it."""
    members = [("a.x", b"body", False), ("a.y", b"more" * 9, True), ("b/c.x", b"", False)]
    whole = made(members, piped=piped, comment=b"note", prefix=b"", extra=b"")
    file = tmp_path / "a.zip"
    for bit in range(8 * len(whole)):
        spoilt = bytearray(whole)
        spoilt[bit // 8] ^= 1 << bit % 8
        file.write_bytes(spoilt)
        found = _whole(file)
        if found is not None and len(found):
            assert (found.begins >= 0).all() and (found.begins + found.stored <= len(whole)).all()
            build_index([(IndexedPart("a.zip", len(whole)), found)])
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(BrokenDirectory):
            map_directory(file)


@given(
    st.binary(max_size=400).map(
        lambda data: data + b"PK\6\6" + data[:20] + b"PK\6\7" + data[:16] + b"PK\5\6" + b"\xff" * 16
    )
)
def test_any_bytes_are_a_zip_or_a_broken_one(data: bytes) -> None:
    for ending in (b"", b"\0\0", b"\0" * 18):
        whole = data + ending
        with contextlib.suppress(BrokenDirectory):
            found = read_directory(partial(_piece, whole), len(whole))
            assert len(found) <= len(whole) // 46  # of an entry without a name


def _piece(whole: bytes, start: int, length: int) -> bytes:
    return whole[start : start + length]


def _zip64_entry(extra: bytes) -> bytes:
    head = struct.pack("<4s6H3L5H2L", b"PK\1\2", 45, 45, 0, 0, 0, 0, 0, *[0xFFFFFFFF] * 2, 1, len(extra), 0, 0, 0, 0, 0)
    entry = head + b"a" + extra
    return entry + struct.pack("<4s4HLLH", b"PK\5\6", 0, 0, 1, 1, len(entry), 0, 0)


@pytest.mark.parametrize(
    "extra",
    [
        struct.pack("<HH", 1, 16),
        struct.pack("<HHQ", 1, 16, 5),
        struct.pack("<HHQQ", 1, 16, 1 << 63, 1 << 63),
        struct.pack("<HHQQ", 1, 16, 5, 1 << 40),
        b"\1",
        b"",
    ],
)
def test_zip64_fields_that_lie(extra: bytes) -> None:
    whole = _zip64_entry(extra)
    with pytest.raises(BrokenDirectory):
        read_directory(lambda start, length: whole[start : start + length], len(whole))


def test_members_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """As in a zip that unpacks to a thousand times its size."""
    one = made([("a", b"x" * 50, False)], piped=False, comment=b"", prefix=b"", extra=b"")
    start = one.index(b"PK\1\2")
    entry = one[start : one.index(b"PK\5\6")]
    twice = one[:start] + entry * 2 + struct.pack("<4s4HLLH", b"PK\5\6", 0, 0, 2, 2, 2 * len(entry), start, 0)
    (tmp_path / "a.zip").write_bytes(twice)
    with pytest.raises(BrokenDirectory, match="over each other"):
        map_directory(tmp_path / "a.zip")


@pytest.mark.parametrize(("at", "value", "why"), [(8, 1, "encrypted"), (10, 14, "compressed in a way")])
def test_what_is_not_read_here_is_said(tmp_path: Path, at: int, value: int, why: str) -> None:
    whole = bytearray(made([("a", b"x", False)], piped=False, comment=b"", prefix=b"", extra=b""))
    whole[whole.index(b"PK\1\2") + at] = value
    (tmp_path / "a.zip").write_bytes(whole)
    with pytest.raises(BrokenDirectory, match=why):
        map_directory(tmp_path / "a.zip")


def test_hashes_do_not_depend_on_how_many_are_computed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    data, lengths = np.arange(200, dtype=np.uint8), np.full(20, 10)
    whole = hashes_of(data, lengths)
    monkeypatch.setattr(hashes, "_BLOCK", 1)
    assert hashes_of(data, lengths).tolist() == whole.tolist()
