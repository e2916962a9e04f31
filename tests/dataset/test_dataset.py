"""Samples come back as they were packed: from any zips, in any process, and damage is said."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import multiprocessing
import os
import pickle
import random
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import driveshard
from driveshard.archive.manifest import Manifest, ManifestPart
from driveshard.archive.zip_writer import ZipWriter
from driveshard.core.errors import Mismatch, SourceMissing, UsageError
from driveshard.dataset import parts as parts_module

Contents = dict[str, bytes]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIVESHARD_HOME", str(tmp_path / "home"))


def write_part(file: Path, members: Contents) -> None:
    with ZipWriter(file) as writer:
        for name, body in members.items():
            writer.add(name.encode("utf-8", "surrogateescape"), body)
        writer.close()


def write_manifest(directory: Path, parts: list[Path], **changes: object) -> None:
    rows = tuple(
        ManifestPart(number, part.name, "", part.stat().st_size, "", "", 0, 0, "", "")
        for number, part in enumerate(parts)
    )
    document = json.loads(Manifest("set", "job", {}, 0, 0, rows).encode())
    document["parts"][0].update(changes)
    (directory / "manifest.json").write_text(json.dumps(document))


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Three parts of 100 samples with two fields."""
    directory = tmp_path / "set"
    directory.mkdir()
    for part in range(3):
        members: Contents = {}
        for number in range(part * 100, part * 100 + 100):
            members[f"d/{number:03d}.bin"] = bytes([number % 256]) * (number + 1)
            members[f"d/{number:03d}.json"] = b'{"n": %d}' % number
        write_part(directory / f"set-{part:05d}.zip", members)
    return directory


def sample(number: int) -> dict[str, object]:
    return {
        "__key__": f"d/{number:03d}",
        "bin": bytes([number % 256]) * (number + 1),
        "json": b'{"n": %d}' % number,
    }


def test_samples_by_number_slice_and_batch(pairs: Path) -> None:
    dataset = driveshard.Dataset(pairs)
    assert len(dataset) == 300
    assert dataset[7] == sample(7) and dataset[-1] == sample(299) and dataset[np.int64(250)] == sample(250)
    assert list(dataset) == [sample(number) for number in range(300)]
    some = [5, 299, -300, 5, 100, 101]
    assert dataset.__getitems__(some) == [sample(number % 300) for number in some]
    assert dataset.__getitems__([]) == []
    view = dataset[250:100:-50]
    assert isinstance(view, driveshard.Dataset)
    assert list(view) == [sample(250), sample(200), sample(150)] and view[-1] == sample(150) and len(view[1:]) == 2
    for outside in (300, -301):
        with pytest.raises(IndexError):
            dataset[outside]
        with pytest.raises(IndexError):
            dataset.__getitems__([0, outside])


def test_members_by_name_and_keys(pairs: Path) -> None:
    dataset = driveshard.Dataset(str(pairs))
    assert dataset.read("d/042.bin") == sample(42)["bin"]
    with pytest.raises(SourceMissing, match="has no member d/042"):
        dataset.read("d/042")
    assert dataset.keys[3] == "d/003" and dataset.keys[-1] == "d/299" and dataset.keys[1:3] == ["d/001", "d/002"]
    assert "d/299" in dataset.keys and "d/300" not in dataset.keys and "d/005" not in dataset[:5].keys
    assert list(dataset[:2].keys) == ["d/000", "d/001"] and len(dataset.keys) == 300
    assert dataset.fields == ["bin", "json"]


def test_a_choice_of_samples(pairs: Path) -> None:
    dataset = driveshard.Dataset(pairs)
    assert list(dataset.select("d/01?").keys) == [f"d/{number:03d}" for number in range(10, 20)]
    assert len(dataset.select("*.json")) == 300 and len(dataset.select("e/")) == 0
    odd = dataset.select(lambda key: int(key[2:]) % 2)
    assert [one["__key__"] for one in odd[:2]] == ["d/001", "d/003"]
    assert list(odd.select("d/2*")[:1]) == [sample(201)]


def test_any_zips_will_do(tmp_path: Path) -> None:
    for name, method in (("b", zipfile.ZIP_DEFLATED), ("a", zipfile.ZIP_STORED)):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w", method) as archive:
            archive.comment = b"from elsewhere"
            archive.mkdir("x")
            for number in range(3):
                archive.writestr(f"x/{name}{number}.txt", f"{name}{number}" * 50)
            archive.writestr("x/both.txt", name * 20)
    dataset = driveshard.Dataset(tmp_path, decode="numpy", check=True)
    assert {one["__key__"]: one["txt"] for one in dataset} == {
        **{f"x/{name}{number}": f"{name}{number}" * 50 for name in "ab" for number in range(3)},
        "x/both": "b" * 20,
    }
    assert dataset[0]["txt"] == "a0" * 50 and dataset.read("x/both.txt") == b"b" * 20


def test_the_manifests_order_counts_and_what_it_does_not_name_is_no_part(tmp_path: Path) -> None:
    parts = [tmp_path / "z.zip", tmp_path / "a.zip"]
    for part in parts:
        write_part(part, {"k.txt": part.name.encode(), f"{part.name[0]}.txt": b""})
    write_part(tmp_path / "stray.zip", {"k.txt": b"stray"})
    write_manifest(tmp_path, parts)
    dataset = driveshard.Dataset(tmp_path)
    assert list(dataset.keys) == ["k", "z", "a"] and dataset[0]["txt"] == b"a.zip"


@pytest.mark.parametrize("count", [0, 1])
def test_hardly_any_samples(tmp_path: Path, count: int) -> None:
    write_part(tmp_path / "a.zip", {"only": b"one"} if count else {})
    for _ in range(2):  # built, then mapped
        dataset = driveshard.Dataset(tmp_path)
        assert len(dataset) == count and list(dataset) == [{"__key__": "only", "": b"one"}] * count
        assert list(dataset[:5]) == list(dataset) and len(dataset.select("*")) == count
        assert "sample" in dataset._repr_html_()
    write_manifest_without_parts(tmp_path)
    assert len(driveshard.Dataset(tmp_path)) == 0


def write_manifest_without_parts(directory: Path) -> None:
    (directory / "manifest.json").write_bytes(Manifest("set", "job", {}, 0, 0, ()).encode())


def test_names_that_are_not_text(tmp_path: Path) -> None:
    write_part(tmp_path / "a.zip", {"caf\udce9.jpg": b"latin", "\N{SNOWMAN}.a.b": b"snow"})
    dataset = driveshard.Dataset(tmp_path)
    assert list(dataset) == [{"__key__": "caf\udce9", "jpg": b"latin"}, {"__key__": "\N{SNOWMAN}", "a.b": b"snow"}]
    assert dataset.__getitems__([1, 0]) == [dataset[1], dataset[0]] and dataset.read("caf\udce9.jpg") == b"latin"


# -- values ----------------------------------------------------------------------------------------------------------


def _png(colour: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_fields_are_decoded(tmp_path: Path) -> None:
    array = io.BytesIO()
    np.save(array, np.arange(3))
    members = {"a.image.png": _png((1, 2, 3)), "a.json": b'{"x": 1}', "a.cls": b"7", "a.txt": b"hi", "a.bin": b"raw"}
    write_part(tmp_path / "a.zip", {**members, "a.npy": array.getvalue()})
    found = driveshard.Dataset(tmp_path, decode="numpy")[0]
    assert found["image.png"].shape == (3, 4, 3) and found["image.png"][2, 3].tolist() == [1, 2, 3]
    assert found["image.png"].flags.writeable
    assert (found["json"], found["cls"], found["txt"], found["bin"]) == ({"x": 1}, 7, "hi", b"raw")
    assert found["npy"].tolist() == [0, 1, 2]
    assert driveshard.Dataset(tmp_path, decode="pil")[0]["image.png"].getpixel((0, 0)) == (1, 2, 3)
    given = driveshard.Dataset(tmp_path, decode={"image.png": len, "json": "numpy", "txt": bytes.upper})
    for found in (given[0], given.__getitems__([0])[0], next(iter(given))):
        assert (found["image.png"], found["json"], found["txt"], found["cls"]) == (
            len(members["a.image.png"]),
            {"x": 1},
            b"HI",
            b"7",
        )


def test_what_cannot_be_decoded_is_said_with_its_sample(tmp_path: Path) -> None:
    write_part(tmp_path / "a.zip", {"a.jpg": b"no picture", "a.x": b""})
    with pytest.raises(Mismatch, match="field jpg cannot be decoded") as caught:
        driveshard.Dataset(tmp_path, decode="pil")[0]
    assert caught.value.__notes__ == ["in the field jpg of the sample a"]
    with pytest.raises(ZeroDivisionError):
        driveshard.Dataset(tmp_path, decode={"x": lambda data: 1 / len(data)})[0]
    for wrong in ("jpg", len):
        with pytest.raises(UsageError):
            driveshard.Dataset(tmp_path, decode=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("key", "names", "samples"),
    [
        (
            "trees",
            ["fg_bg/d/x.jpg", "fg_bg/d/y.jpg", "fg_bg_mask/d/y_mask.jpg", "fg_bg_mask/d/x_mask.jpg", "notes.txt"],
            {"d/x": {"fg_bg.jpg", "fg_bg_mask.jpg"}, "d/y": {"fg_bg.jpg", "fg_bg_mask.jpg"}},
        ),
        (
            "trees",
            ["images/1.2.jpg", "depth/1.2_depth.png", "masks/1.2.png"],
            {"1.2": {"images.jpg", "depth.png", "masks.png"}},
        ),
        (
            "yolo",
            ["data.yaml", "images/train/a.jpg", "labels/train/a.txt", "val/images/b.jpg", "val/labels/b.txt"],
            {"train/a": {"image.jpg", "label.txt"}, "val/b": {"image.jpg", "label.txt"}},
        ),
        (
            "coco",
            ["annotations/captions_val2017.json", "images/val2017/01.jpg", "annotations/val2017/01.png", "val/2.jpg"],
            {
                "annotations/captions_val2017": {"json"},
                "val2017/01": {"jpg", "annotation.png"},
                "val/2": {"jpg"},
            },
        ),
        (
            lambda path: (path[0], path[1:]) if path[0] != "q" else None,
            ["a1", "q", "b1", "a2"],
            {"a": {"1", "2"}, "b": {"1"}},
        ),
    ],
)
def test_parallel_trees_become_samples(
    tmp_path: Path, key: object, names: list[str], samples: dict[str, set[str]]
) -> None:
    write_part(tmp_path / "a.zip", {name: name.encode() for name in names})
    dataset = driveshard.Dataset(tmp_path, key=key)  # type: ignore[arg-type]
    assert {one["__key__"]: set(one) - {"__key__"} for one in dataset} == samples
    assert dataset.read(names[-1]) == names[-1].encode()
    again = pickle.loads(pickle.dumps(dataset)) if isinstance(key, str) else dataset
    assert list(again) == list(dataset)
    with pytest.raises(UsageError, match="key cannot be 'voc'"):
        driveshard.Dataset(tmp_path, key="voc")


def test_images_of_coco_have_their_own_annotations(tmp_path: Path) -> None:
    """By name, and by folder where names come twice; the same as the whole file says."""
    boxes = [{"id": n, "image_id": 7 + n % 2, "bbox": [n, 1.5, "\u00e9, ]}"]} for n in range(5)]
    train = {
        "info": {"images": [1]},
        "annotations": boxes,
        "images": [{"id": 7, "file_name": "01.jpg"}, {"id": 8, "file_name": "images/train/02.jpg"}],
        "categories": [],
    }
    other = {"images": [{"id": 7, "file_name": "01.jpg"}, {"id": 1, "file_name": "03.jpg"}], "annotations": []}
    files = {
        "annotations/instances_train.json": json.dumps(train, indent=1).encode(),
        "annotations/instances_default.json": json.dumps(other).encode(),
        **{f"images/{name}.jpg": b"jpg" for name in ("train/01", "train/02", "val/01", "03")},
    }
    for name in ("set", "broken"):
        (tmp_path / name).mkdir()
    write_part(tmp_path / "set" / "a.zip", files)
    dataset = driveshard.Dataset(tmp_path / "set", decode={"json": json.loads}, key="coco")
    assert {"jpg", "annotations.json"} <= set(dataset.fields)
    told = {one["__key__"]: one.get("annotations.json") for one in pickle.loads(pickle.dumps(dataset)) if "jpg" in one}
    assert told == {"train/01": boxes[0::2], "train/02": boxes[1::2], "val/01": None, "03": []}
    at = dataset.keys[:].index("train/02")
    assert dataset[at]["annotations.json"] == dataset.__getitems__([at])[0]["annotations.json"] == boxes[1::2]
    assert json.loads(dataset.raw()[at]["annotations.json"]) == boxes[1::2]
    write_part(tmp_path / "broken" / "a.zip", files | {"annotations/instances_x.json": b'{"images": [{"id": 1}'})
    with pytest.raises(Mismatch, match=r"annotations/instances_x\.json is no file of COCO annotations"):
        driveshard.Dataset(tmp_path / "broken", key="coco")[0]


def test_a_notebook_shows_a_sheet(tmp_path: Path) -> None:
    members = {
        f"<{number}>.{field}": _png((number, 0, 0)) for number in range(30) for field in ("image.png", "mask.png")
    }
    write_part(tmp_path / "a.zip", members)
    shown = driveshard.Dataset(tmp_path, decode="numpy")._repr_html_()
    assert "30 samples" in shown and '<img alt="samples" src="data:image/jpeg;base64,' in shown
    dataset = driveshard.Dataset(tmp_path)
    (tmp_path / "a.zip").write_bytes(b"gone")
    assert "a.zip has 4 bytes instead of" in dataset._repr_html_()


# -- the index -------------------------------------------------------------------------------------------------------


def test_the_index_is_built_once_and_again_when_parts_change(pairs: Path) -> None:
    driveshard.Dataset(pairs)
    index = pairs / "index.npz"
    first = index.stat()
    assert driveshard.Dataset(pairs)[5] == sample(5)
    assert index.stat().st_mtime_ns == first.st_mtime_ns and index.stat().st_ino == first.st_ino
    (pairs / "new").touch()
    assert index.stat().st_mode & 0o777 == (pairs / "new").stat().st_mode & 0o777  # as any new file there
    write_part(pairs / "set-00003.zip", {"d/007.bin": b"newer"})
    assert driveshard.Dataset(pairs)[7]["bin"] == b"newer"
    assert [path.name for path in pairs.iterdir() if path.name.startswith(".")] == []


def test_a_part_replaced_by_one_of_its_size_and_time_is_noticed(tmp_path: Path) -> None:
    write_part(tmp_path / "a.zip", {"1.x": b"aaaa", "2.x": b"b"})
    assert driveshard.Dataset(tmp_path)[0] == {"__key__": "1", "x": b"aaaa"}
    status = (tmp_path / "a.zip").stat()
    write_part(tmp_path / "other", {"1.x": b"c", "2.x": b"dddd"})
    os.utime(tmp_path / "other", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (tmp_path / "other").stat().st_size == status.st_size
    os.replace(tmp_path / "other", tmp_path / "a.zip")
    assert driveshard.Dataset(tmp_path)[0] == {"__key__": "1", "x": b"c"}


def test_an_index_that_is_damaged_or_not_ours_is_built_anew(pairs: Path) -> None:
    for spoilt in (b"", b"PK", b"x" * 1000):
        (pairs / "index.npz").unlink(missing_ok=True)
        (pairs / "index.npz").write_bytes(spoilt)
        assert driveshard.Dataset(pairs)[123] == sample(123)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="nothing keeps this user from writing")
def test_a_folder_that_cannot_be_written(pairs: Path, tmp_path: Path) -> None:
    pairs.chmod(0o555)
    try:
        assert driveshard.Dataset(pairs, cache=tmp_path / "cache")[5] == sample(5)
        assert len(list((tmp_path / "cache").glob("*.npz"))) == 1
    finally:
        pairs.chmod(0o755)


@pytest.mark.parametrize("kept", [True, False])
def test_an_index_that_can_be_kept_elsewhere_or_nowhere(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    from driveshard.dataset import find_index

    keep = find_index.keep

    def refuse(index: object, file: Path) -> None:
        if file.parent == pairs or not kept:
            raise PermissionError(13, "no")
        keep(index, file)  # type: ignore[arg-type]

    monkeypatch.setattr(find_index, "keep", refuse)
    dataset = driveshard.Dataset(pairs, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").glob("*.npz") if kept else []) == ([dataset._file] if kept else [])
    assert list(pickle.loads(pickle.dumps(dataset))) == [sample(number) for number in range(300)]


# -- damage ----------------------------------------------------------------------------------------------------------


def test_what_is_no_dataset(tmp_path: Path) -> None:
    for where in (tmp_path, tmp_path / "nothing", f"file:{tmp_path}"):
        with pytest.raises(SourceMissing):
            driveshard.Dataset(where)


def test_a_part_that_is_cut_short_or_gone(pairs: Path) -> None:
    dataset = driveshard.Dataset(pairs)
    part = pairs / "set-00001.zip"
    whole = part.read_bytes()
    part.write_bytes(whole[:-1000])
    with pytest.raises(Mismatch, match=r"set-00001\.zip has [\d,]+ bytes instead of"):
        dataset[150]
    with pytest.raises(Mismatch, match=r"set-00001\.zip has [\d,]+ bytes instead of"):
        dataset.__getitems__([1, 150])
    assert dataset[50] == sample(50)
    with pytest.raises(Mismatch, match=r"set-00001\.zip cannot be read"):
        driveshard.Dataset(pairs)
    part.unlink()
    with pytest.raises(Mismatch, match=r"set-00001\.zip is missing"):
        dataset[150]


def test_a_part_that_is_cut_short_while_it_is_open(pairs: Path) -> None:
    """A map would end the process here."""
    dataset = driveshard.Dataset(pairs)
    assert dataset[199] == sample(199)
    os.truncate(pairs / "set-00001.zip", 100)
    for ask in (lambda: dataset[199], lambda: dataset.__getitems__([199, 198])):
        with pytest.raises(Mismatch, match="was cut short"):
            ask()


def _flip(path: Path, content: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(content)] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_wrong_bit_is_told_when_asked_for(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        for number in range(4):
            archive.writestr(f"{number}.txt", bytes([65 + number]) * 300)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        begin = archive.infolist()[2].header_offset + 35
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[begin + 2] ^= 4
    (tmp_path / "a.zip").write_bytes(data)
    checked = driveshard.Dataset(tmp_path, check=True)
    for ask in (lambda: checked[2], lambda: checked.__getitems__([1, 2]), lambda: checked.read("2.txt")):
        with pytest.raises(Mismatch, match=r"a member of a\.zip is damaged"):
            ask()
    assert checked.__getitems__([3, 1])[1]["txt"] == b"B" * 300
    if method == zipfile.ZIP_STORED:
        assert len(driveshard.Dataset(tmp_path)[2]["txt"]) == 300


def test_any_wrong_bit_in_the_index_is_a_value_or_damage(tmp_path: Path) -> None:
    """Not a crash, not an error of another kind, nothing from outside the parts."""
    write_part(tmp_path / "a.zip", {f"{number}.{field}": b"x" * 9 for number in range(4) for field in "pq"})
    driveshard.Dataset(tmp_path)
    index, rng = tmp_path / "index.npz", random.Random(3)
    whole = index.read_bytes()
    for at in range(0, len(whole), 11):
        spoilt = bytearray(whole)
        spoilt[at] ^= 1 << rng.randrange(8)
        index.unlink()
        index.write_bytes(spoilt)
        dataset = driveshard.Dataset(tmp_path, check=True)
        asked: list[Callable[[], object]] = [
            lambda dataset=dataset: dataset.__getitems__(range(4)),  # type: ignore[misc]
            lambda dataset=dataset: dataset.read("1.p"),  # type: ignore[misc]
            *(lambda dataset=dataset, n=n: dataset[n] for n in range(len(dataset))),  # type: ignore[misc]
        ]
        for ask in asked:
            try:
                ask()
            except (Mismatch, SourceMissing):
                pass
            except IndexError:
                assert len(dataset) != 4


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"size": 5}, "instead of 5"),
        ({"name": "../set.zip"}, "manifest.json cannot be read"),
        ({"name": "/etc/passwd"}, "manifest.json cannot be read"),
        ({"size": -1}, "manifest.json cannot be read"),
        ({"size": 1 << 70}, "manifest.json cannot be read"),
        ({"number": "x"}, "manifest.json cannot be read"),
    ],
)
def test_a_manifest_that_lies(pairs: Path, changes: dict[str, object], why: str) -> None:
    write_manifest(pairs, sorted(pairs.glob("*.zip")), **changes)
    with pytest.raises(Mismatch, match=why):
        driveshard.Dataset(pairs)


def test_some_of_the_parts(pairs: Path) -> None:
    write_manifest(pairs, sorted(pairs.glob("*.zip")))
    driveshard.Dataset(pairs)
    (pairs / "set-00000.zip").unlink()
    with pytest.warns(UserWarning, match="1 of 3 parts are not in"):
        dataset = driveshard.Dataset(pairs)
    assert [one["__key__"] for one in dataset] == [f"d/{number:03d}" for number in range(100, 300)]
    for part in pairs.glob("*.zip"):
        part.unlink()
    with pytest.raises(Mismatch, match="all parts"):
        driveshard.Dataset(pairs)


# -- threads and processes -------------------------------------------------------------------------------------------


def read_some(dataset: driveshard.Dataset, seed: int) -> bool:
    """Whether many random samples are right, one by one and in batches."""
    rng = random.Random(seed)
    for _ in range(60):
        numbers = [rng.randrange(300) for _ in range(20)]
        one = rng.randrange(300)
        if dataset.__getitems__(numbers) != [sample(number) for number in numbers] or dataset[one] != sample(one):
            return False
    return True


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_processes_read_at_once(pairs: Path, method: str) -> None:
    dataset = driveshard.Dataset(pairs)
    assert read_some(dataset, 0)  # parts are open when the others begin
    with multiprocessing.get_context(method).Pool(3) as pool:
        found = pool.starmap_async(read_some, [(dataset, seed) for seed in range(6)])
        assert read_some(dataset, 7)
        assert found.get(60) == [True] * 6


def test_threads_read_at_once_while_parts_are_closed(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A descriptor that is closed under a reader may be another file's in the next moment."""
    monkeypatch.setattr(parts_module.LocalParts, "most_open", 1)
    dataset, right = driveshard.Dataset(pairs), []
    threads = [threading.Thread(target=lambda n=n: right.append(read_some(dataset, n))) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 4


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors are not listed here")
def test_few_parts_stay_open(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def held() -> int:
        gc.collect()
        links = []
        for one in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # the one that lists them
                links.append(os.readlink(f"/proc/self/fd/{one}"))
        return sum(link.startswith(str(pairs)) and link.endswith(".zip") for link in links)

    monkeypatch.setattr(parts_module.LocalParts, "most_open", 2)
    dataset = driveshard.Dataset(pairs)
    assert held() == 0
    assert read_some(dataset, 1) and held() == 2
    del dataset
    assert held() == 0


def test_a_copy_elsewhere_shares_the_file_and_not_the_memory(pairs: Path) -> None:
    dataset = driveshard.Dataset(pairs)[100:]
    packed = pickle.dumps(dataset)
    assert len(packed) < 4000
    assert list(pickle.loads(packed)[:2]) == [sample(100), sample(101)]
    (pairs / "index.npz").unlink()
    with pytest.raises(Mismatch, match="gone or damaged"):
        pickle.loads(packed)


def test_torch_is_not_imported(pairs: Path) -> None:
    code = f"import driveshard, sys; driveshard.Dataset({str(pairs)!r})[0]; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
