"""Samples from the user's own code: finding it, calling it, packing it, and every way in which it can go wrong."""

from __future__ import annotations

import io
import multiprocessing
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from driveshard.archive.zip_writer import ZipWriter
from driveshard.core.errors import SourceMissing, UsageError
from driveshard.core.model import Failure, PartSpec, Sample, SampleRange, sample_key
from driveshard.sources.base import Packed
from driveshard.sources.estimate import estimate_sample_bytes
from driveshard.sources.python.encode import encode_field
from driveshard.sources.python.source import PythonSource, encode_sample
from driveshard.sources.python.target import Target
from driveshard.upload.pack.build import build_part

CODE = """
from __future__ import annotations
from dataclasses import dataclass
import helper
from driveshard.core.model import Sample

calls = []

@dataclass
class Numbers:
    length: int

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index in helper.BAD:
            raise ValueError(f"number {index} is bad")
        return Sample(f"n/{index:04}", {"txt": "x" * 100, "json": {"index": index}})

def numbers():
    return Numbers(50)

def stream():
    calls.append(1)
    for index in range(50):
        yield Sample(f"n/{index:04}", {"txt": "x" * 100})

def breaking():
    yield Sample("a", {"txt": ""})
    raise OSError("the disk of the data is gone")

def all_bad():
    return [None] * 1000

def few_bad():
    return [Sample("a", {"txt": b""})] + [None] * 1000

def twins():
    return [Sample("a", {"txt": b"1"}), Sample("b", {"txt": b"2"}), Sample("a", {"txt": b"3"})]

def nothing(): pass
def number(): return 7
def mapping(): return {"a": 1}
def text(): return "abc"
def needy(argument): return []
def leaving(): raise SystemExit(3)
class Holder:
    @staticmethod
    def samples(): return [Sample("a", {"txt": "1"})]
constant = []
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "made.py").write_text(CODE)
    (tmp_path / "helper.py").write_text("BAD = {3, 7}\n")
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "lacking.py").write_text("import no_such_library\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name in ("made", "helper", "broken", "lacking") or name.startswith("_driveshard_source_"):
            del sys.modules[name]


def pack(
    source: PythonSource, start: int, stop: int | None, path: Path, part_size: int = 0
) -> tuple[Packed, list[str]]:
    with ZipWriter(path) as writer:
        packed = source.pack(SampleRange(start, stop), writer, part_size)
        writer.close()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return packed, archive.namelist()


@pytest.mark.parametrize(
    ("text", "place", "name", "portable"),
    [
        ("package.module:make", "package.module", "make", "package.module:make"),
        ("m:Class.method", "m", "Class.method", "m:Class.method"),
        ("file.py:make", "file.py", "make", "file.py:make"),
        ("/data/file.py:make", "/data/file.py", "make", "file.py:make"),
        ("C:\\data\\file.py:make", "C:\\data\\file.py", "make", "file.py:make"),
        ("C:/data/File.PY:make", "C:/data/File.PY", "make", "File.PY:make"),
    ],
)
def test_a_target_is_taken_apart(text: str, place: str, name: str, portable: str) -> None:
    target = Target.parse(text)
    assert (target.place, target.name, target.portable) == (place, name, portable)


@pytest.mark.parametrize("text", ["", ":", "module", "file.py", "C:\\file.py", "m:", ":f", "m:f()", "a-b:f", "m:1"])
def test_what_is_no_target_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        PythonSource(text).open()
    assert "module:callable" in caught.value.advice


def test_a_file_and_a_module_are_found_from_the_base(project: Path) -> None:
    for target in ("made.py:numbers", "made:numbers", str(project / "made.py") + ":numbers"):
        source = PythonSource(target, project)
        assert source.indexable
        assert len(source) == 50
    assert len(PythonSource("made:Holder.samples", project)) == 1


def test_without_a_base_the_current_folder_counts(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    assert len(PythonSource("made.py:numbers")) == 50


@pytest.mark.parametrize(
    ("target", "kind", "words"),
    [
        ("gone.py:f", SourceMissing, "no file"),
        ("gone:f", SourceMissing, "no module gone"),
        ("json.gone:f", SourceMissing, r"no module json\.gone"),
        ("made.py:f", SourceMissing, "has no f"),
        ("made:Holder.f", SourceMissing, "has no Holder.f"),
        ("lacking:f", UsageError, "no_such_library"),
        ("lacking.py:f", UsageError, "no_such_library"),
        ("broken.py:f", UsageError, "SyntaxError"),
        ("broken:f", UsageError, "SyntaxError"),
        ("made.py:constant", UsageError, "cannot be called"),
        ("made.py:nothing", UsageError, "NoneType"),
        ("made.py:number", UsageError, "type int"),
        ("made.py:mapping", UsageError, "type dict"),
        ("made.py:text", UsageError, "type str"),
        ("made.py:needy", UsageError, "missing 1 required positional argument"),
        ("made.py:leaving", UsageError, "SystemExit: 3"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_sentence(
    project: Path, target: str, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        PythonSource(target, project).check()
    assert type(caught.value) is kind
    assert "\n" not in caught.value.message
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args


def test_an_indexable_packs_any_range_and_leaves_bad_samples_out(project: Path, tmp_path: Path) -> None:
    source = PythonSource("made.py:numbers", project)
    packed, names = pack(source, 2, 5, tmp_path / "a.zip")
    assert names == ["n/0002.json", "n/0002.txt", "n/0004.json", "n/0004.txt"]
    bad = Failure("sample 3", f"ValueError: number 3 is bad ({tmp_path / 'made.py'}, line 18)")
    assert packed == Packed(SampleRange(2, 5), 2, 4, (bad,))
    rest, names = pack(source, 48, None, tmp_path / "a.zip")
    assert (rest.selection, len(names)) == (SampleRange(48, 50), 4)


def test_parts_are_the_same_from_other_processes(project: Path, tmp_path: Path) -> None:
    source = PythonSource("made.py:numbers", project)
    specs = [PartSpec(number, f"{number}.zip", SampleRange(25 * number, 25 * number + 25), 0) for number in range(2)]
    here = [build_part(spec, source, tmp_path / spec.file_name, 1 << 30) for spec in specs]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        there = list(pool.map(build_part, specs, [source] * 2, [tmp_path / "w0", tmp_path / "w1"], [1 << 30] * 2))
    assert here == there
    assert here[0].samples == 23


def test_open_calls_anew_so_that_a_rerun_sees_what_is_new(project: Path) -> None:
    source = PythonSource("made.py:numbers", project)
    assert len(source) == 50
    (project / "made.py").write_text(CODE.replace("Numbers(50)", "Numbers(60)"))
    assert len(source) == 50
    source.open()
    assert len(source) == 60


def test_an_iterable_fills_parts_up_to_their_size(project: Path, tmp_path: Path) -> None:
    source = PythonSource("made.py:stream", project)
    assert not source.indexable
    with pytest.raises(UsageError, match="nobody knows"):
        len(source)
    start, stops, names = 0, [], []
    while True:
        packed, added = pack(source, start, None, tmp_path / "a.zip", part_size=3000)
        size = (tmp_path / "a.zip").stat().st_size
        assert size <= 3000 < size + 196 or packed.exhausted
        assert packed.selection == SampleRange(start, start + packed.samples)
        names += added
        start += packed.samples
        stops.append(start)
        if packed.exhausted:
            break
    assert names == [f"n/{index:04}.txt" for index in range(50)]
    assert stops == [15, 30, 45, 50]
    assert calls(source) == 1, "one pass over the iterable serves all parts"


def calls(source: PythonSource) -> int:
    return len(sys.modules["_driveshard_source_made"].calls)


def test_an_iterable_can_be_taken_up_anywhere(project: Path, tmp_path: Path) -> None:
    source = PythonSource("made.py:stream", project)
    first, _ = pack(source, 0, None, tmp_path / "a.zip", 3000)
    data = (tmp_path / "a.zip").read_bytes()
    again, _ = pack(source, 0, first.selection.stop, tmp_path / "b.zip", 3000)  # type: ignore[union-attr]
    assert (tmp_path / "b.zip").read_bytes() == data
    assert again.selection == first.selection
    assert not again.exhausted
    late, names = pack(source, 40, None, tmp_path / "c.zip", 1 << 20)
    assert names[0] == "n/0040.txt"
    assert late.exhausted
    assert pack_nothing(source, 50) == Packed(SampleRange(50, 50), 0, 0, (), exhausted=True)


def pack_nothing(source: PythonSource, start: int) -> Packed:
    class Refuses:
        size = 22

        def add(self, path: bytes, data: object) -> None:
            raise AssertionError(path)

        def add_file(self, path: bytes, file: Path) -> int:
            raise AssertionError(path)

    return source.pack(SampleRange(start, None), Refuses(), 1000)


def test_a_sample_larger_than_a_part_is_a_part_of_its_own(project: Path, tmp_path: Path) -> None:
    source = PythonSource("made.py:stream", project)
    for start in range(3):
        packed, names = pack(source, start, None, tmp_path / "a.zip", part_size=10)
        assert (packed.selection, len(names)) == (SampleRange(start, start + 1), 1)


def test_an_iterable_that_gives_less_than_before_is_an_error(project: Path) -> None:
    source = PythonSource("made.py:stream", project)
    with pytest.raises(UsageError, match=r"gave only 50 samples, and an earlier run had 60") as caught:
        pack_nothing(source, 60)
    assert "same order" in caught.value.advice


def test_an_iterable_that_raises_ends_the_run_with_its_words(project: Path, tmp_path: Path) -> None:
    source = PythonSource("made.py:breaking", project)
    with pytest.raises(UsageError, match="after 1 samples raised OSError: the disk of the data is gone") as caught:
        pack(source, 0, None, tmp_path / "a.zip", 1000)
    assert isinstance(caught.value.__cause__, OSError)
    assert not (tmp_path / "a.zip").exists()


def test_code_that_makes_no_sample_at_all_ends_the_run(project: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"first 100 samples .* must be a driveshard\.Sample, not of type NoneType"):
        pack(PythonSource("made.py:all_bad", project), 0, 1000, tmp_path / "a.zip")
    packed, _ = pack(PythonSource("made.py:few_bad", project), 0, 1001, tmp_path / "a.zip")
    assert (packed.samples, len(packed.failed)) == (1, 1000)


def test_a_key_twice_in_a_part_is_left_out(project: Path, tmp_path: Path) -> None:
    packed, names = pack(PythonSource("made.py:twins", project), 0, 3, tmp_path / "a.zip")
    assert names == ["a.txt", "b.txt"]
    assert packed.failed == (Failure("sample 2", "ValueError: key 'a' is already in this part"),)


def test_settings_and_description(project: Path) -> None:
    source = PythonSource(str(project / "made.py") + ":numbers")
    assert source.settings() == {"kind": "python", "target": "made.py:numbers"}
    assert PythonSource("made.py:numbers", project).settings() == source.settings()
    assert pickle.loads(pickle.dumps(source)) == source
    assert source.describe().endswith("made.py:numbers")


def test_the_estimate_counts_good_samples_and_says_why_there_is_none(project: Path) -> None:
    exact = 2 * (76 + 100 // 2) + 2 * len("n/0000.json" + "n/0000.txt") + len('{"index":10}')
    assert abs(estimate_sample_bytes(PythonSource("made.py:numbers", project)) - exact) <= 1
    with pytest.raises(SourceMissing, match=r"No sample of made\.py:all_bad can be made: sample .*NoneType"):
        estimate_sample_bytes(PythonSource("made.py:all_bad", project))


@pytest.mark.parametrize("key", ["a", "a/b", "a.b/c", ".hidden", "a/.hidden", "ü/日本 x", "a b"])
def test_a_good_key_is_the_one_a_reader_finds(key: str) -> None:
    found, members = encode_sample(Sample(key, {"seg.png": b"1", "image.jpg": b"2", "json": {}}))
    assert found.decode() == key
    assert [path.decode() for path, _ in members] == [f"{key}.image.jpg", f"{key}.json", f"{key}.seg.png"]
    assert {sample_key(path.decode()) for path, _ in members} == {key}


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/.", "a.b", "a/b.c", "C:a", "C:\\a", "a\0", None, 7]
)
def test_a_bad_key_is_refused(key: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="key"):
        encode_sample(Sample(key, {"txt": "x"}))


def test_backslashes_in_a_key_are_steps() -> None:
    assert encode_sample(Sample("a\\b", {"txt": "x"}))[1] == [(b"a/b.txt", b"x")]


@given(st.text())
def test_any_key_is_refused_or_found_again(key: str) -> None:
    try:
        found, ((path, _),) = encode_sample(Sample(key, {"image.jpg": b""}))
    except ValueError:
        return
    assert sample_key(path.decode()) == found.decode() == key.replace("\\", "/")
    assert not {"", ".", ".."} & set(path.decode().split("/"))


@pytest.mark.parametrize("name", ["", ".jpg", "a/b", "a\\b", "a\0", 3])
def test_a_bad_field_name_is_refused(name: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="field"):
        encode_sample(Sample("a", {name: b""}))


def test_a_reader_s_mapping_is_a_sample_too() -> None:
    assert encode_sample({"__key__": "a/1", "txt": "x"}) == (b"a/1", [(b"a/1.txt", b"x")])
    for wrong in ({"txt": "x"}, Sample("a", {}), ("a", {"txt": "x"}), None):
        with pytest.raises((ValueError, TypeError), match="sample"):
            encode_sample(wrong)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("bin", b"\0\1", b"\0\1"),
        ("jpg", bytearray(b"as it is"), b"as it is"),
        ("bin", memoryview(b"view"), b"view"),
        ("txt", "grün", "grün".encode()),
        ("json", '{"already": "text"}', b'{"already": "text"}'),
        ("json", {"b": [1, 2.5, None, True], "a": "ü"}, '{"a":"ü","b":[1,2.5,null,true]}'.encode()),
        ("label.json", [1], b"[1]"),
        ("json", 7, b"7"),
        ("json", None, b"null"),
        ("json", {"x": np.float32(0.5), "y": np.array([1, 2])}, b'{"x":0.5,"y":[1,2]}'),
        ("json", np.int64(3), b"3"),
    ],
)
def test_fields_become_bytes(name: str, value: Any, expected: bytes) -> None:
    assert encode_field(name, value) == expected


def test_images_are_encoded_by_their_extension() -> None:
    image = Image.linear_gradient("L").convert("RGB")
    for name, form in (("image.jpg", "JPEG"), ("JPEG", "JPEG"), ("a.png", "PNG"), ("webp", "WEBP")):
        data = encode_field(name, image)
        with Image.open(io.BytesIO(data)) as back:
            assert (back.format, back.size) == (form, (256, 256))
        assert data == encode_field(name, image.copy())
    palette = encode_field("jpg", image.convert("P"))
    assert Image.open(io.BytesIO(palette)).mode == "RGB"


def test_arrays_are_encoded_by_their_extension() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    back = np.load(io.BytesIO(encode_field("depth.npy", array)))
    assert back.dtype == np.float32
    assert (back == array).all()
    pixels = np.full((5, 6, 3), 9, np.uint8)
    assert Image.open(io.BytesIO(encode_field("png", pixels))).getpixel((5, 4)) == (9, 9, 9)


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("image.xyz", lambda: Image.new("L", (2, 2)), "must end in jpg, jpeg, png, webp"),
        ("image.jpg", lambda: Image.new("RGBA", (2, 2)), "holds no transparency"),
        ("image.png", lambda: np.zeros((2, 2)), "must be of uint8, not float64"),
        ("image", lambda: np.zeros((2, 2)), "must end in npy"),
        ("a.npy", lambda: np.array([object()]), "pickle"),
        ("txt", lambda: 7, "of type int"),
        ("txt", lambda: {"a": 1}, "named json"),
        ("json", lambda: {"a": object()}, "type object cannot stand in JSON"),
        ("json", lambda: float("nan"), "JSON"),
    ],
)
def test_what_does_not_go_together_is_said(name: str, make: Callable[[], Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        encode_field(name, make())


def test_numpy_is_not_imported_without_need() -> None:
    code = (
        "import sys; from driveshard.sources.python.source import encode_sample; from driveshard import Sample;"
        "encode_sample(Sample('a', {'json': {'x': 1}})); print('numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
