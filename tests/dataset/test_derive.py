"""A function over a dataset: the same keys in the same parts, each batch computed once, whatever ends a run between."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import driveshard
from driveshard.archive.zip_writer import ZipWriter
from driveshard.config.settings import PushOptions, settings_from
from driveshard.core.errors import ComeBackLater, Mismatch, SourceMissing, UsageError
from driveshard.core.events import Event, Notice, ignore
from driveshard.core.model import SampleRange
from driveshard.dataset import part_samples, part_stream
from driveshard.dataset.derive import derived_source
from driveshard.dataset.part_samples import PartSamples
from driveshard.dataset.part_stream import PartStream
from driveshard.emulator import Emulator
from driveshard.upload.compact import Sizes, compact
from tests.rig import environment

Batch = list[dict[str, Any]]
COUNT, A_PART = 60, 20


class Pictures:
    """Samples with a small picture and a label."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, number: int) -> driveshard.Sample:
        picture = np.full((4, 6, 3), number, np.uint8)
        return driveshard.Sample(f"d{number % 3}/{number:03d}", {"image.png": picture, "json": {"n": number}})


@pytest.fixture
def place(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that datasets go to, by options in the environment."""
    for name, value in {"HOME": home, "TO": f"file:{tmp_path}", "ENGINE": "serial"}.items():
        monkeypatch.setenv(f"DRIVESHARD_{name}", str(value))
    return tmp_path


@pytest.fixture
def pictures(place: Path) -> Path:
    driveshard.push(Pictures(), name="pictures", part_samples=A_PART)
    return place / "pictures"


def keys_of(directory: Path) -> dict[int, list[str]]:
    """The samples' keys of each part, by its number, in their order."""
    found = {}
    for path in sorted(directory.glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            keys = [name.partition(".")[0] for name in archive.namelist()]
        found[int(path.stem.rpartition("-")[2])] = list(dict.fromkeys(keys))
    return found


def digests(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.glob("*.zip"))}


def label(samples: Batch) -> Batch:
    """The label again, in another field."""
    return [{"label.json": json.loads(sample["json"])} for sample in samples]


def test_keys_and_parts_are_those_of_the_source(pictures: Path, place: Path) -> None:
    batches: list[list[str]] = []

    def noting(samples: Batch) -> Batch:
        batches.append([sample["__key__"] for sample in samples])
        return label(samples)

    result = driveshard.derive(pictures, noting, name="labels", batch=10)
    assert (result.state, result.parts, result.samples, result.failed) == ("complete", 3, COUNT, [])
    assert keys_of(place / "labels") == keys_of(pictures)
    assert [one["label.json"] for one in driveshard.Dataset(place / "labels", decode="numpy")] == [
        {"n": number} for number in range(COUNT)
    ]
    part = keys_of(pictures)
    measured, computed = batches[:2], batches[2:]
    assert [len(one) for one in measured] == [8, 8]
    assert sorted(computed) == sorted(part[n][at : at + 10] for n in (0, 1, 2) for at in range(0, len(part[n]), 10))
    batches.clear()
    assert driveshard.derive(pictures, noting, name="labels", batch=10).sent_bytes == 0
    assert batches == []


def test_depths_of_16_bits_come_back_as_they_were(pictures: Path, place: Path) -> None:
    def depth(samples: Batch) -> Batch:
        return [{"depth.png": sample["image.png"][:, :, 0].astype(np.uint16) * 1000 + 7} for sample in samples]

    driveshard.derive(pictures, depth, name="depth", decode="numpy")
    found = driveshard.Dataset(place / "depth", decode="numpy")[59]["depth.png"]
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, np.full((4, 6), 59 * 1000 + 7))


KILLED = """
import os, signal, time
from pathlib import Path

HERE = Path(__file__).parent
calls = 0

def depth(samples):
    global calls
    calls += 1
    with (HERE / "log").open("a") as log:
        log.writelines(sample["__key__"] + "\\n" for sample in samples)
    if calls == 12 and (HERE / "fatal").exists():
        while len(list((HERE / "depth-of-pictures").glob("*.zip"))) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    return [{"bin": sample["json"]} for sample in samples]
"""
"""It kills its process in the second batch of the third part, once two parts are where they go."""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_after_a_kill_only_what_was_not_finished_is_computed(pictures: Path, place: Path) -> None:
    (place / "code.py").write_text(KILLED)
    part = keys_of(pictures)
    (place / "fatal").touch()
    command = [sys.executable, "-m", "driveshard", "derive", "pictures", "code.py:depth", "--batch", "5", "--json"]

    def run() -> tuple[int, list[str]]:
        (place / "log").write_text("")
        settings = {name: value for name, value in os.environ.items() if name.startswith("DRIVESHARD_")}
        done = subprocess.run(command, cwd=place, env=environment(**settings), capture_output=True, text=True)
        return done.returncode, (place / "log").read_text().split()

    measured = part[0][:5] + part[1][:5]
    code, computed = run()
    assert code == -signal.SIGKILL
    finished = keys_of(place / "depth-of-pictures")
    ((third, keys),) = ((number, keys) for number, keys in part.items() if number not in finished)
    assert finished.items() < part.items()
    assert sorted(computed) == sorted(measured + [key for keys in finished.values() for key in keys] + part[third][:10])
    (place / "fatal").unlink()
    assert run() == (0, keys)
    driveshard.derive(pictures, "code.py:depth".replace("code", str(place / "code")), name="undisturbed", batch=64)
    undisturbed = {
        name.replace("undisturbed", "depth-of-pictures"): sha for name, sha in digests(place / "undisturbed").items()
    }
    assert digests(place / "depth-of-pictures") == undisturbed


def test_a_sample_that_fails_costs_itself_alone(pictures: Path, place: Path) -> None:
    def picky(samples: Batch) -> Iterator[dict[str, Any]]:
        for sample in samples:
            if sample["json"]["n"] == 31:
                raise ArithmeticError("no depth here")
            sample.clear()
            yield {"png": np.zeros((2, 2), np.uint8)}

    result = driveshard.derive(pictures, picky, name="picky", decode="numpy")
    assert [one.path for one in result.failed] == ["d1/031"]
    assert result.failed[0].why.startswith("ArithmeticError: no depth here (")
    assert "test_derive.py, line" in result.failed[0].why
    expected = {number: [key for key in keys if key != "d1/031"] for number, keys in keys_of(pictures).items()}
    assert keys_of(place / "picky") == expected


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda samples: samples[1:], r"returned 7 items for 8 samples, the batch from d0/000 to d1/007"),
        (lambda samples: None, r"returned a value of type NoneType for the batch from d0/000"),
        (lambda samples: ["x"] * len(samples), r"returned a value of type str for the sample d0/000"),
        (lambda samples: samples[::-1], r"the sample d0/000 in another order: at its place is 'd1/007'"),
        (lambda samples: [{"__key__": "a"}] * 8, r"the sample d0/000 under another key: at its place is 'a'"),
    ],
)
def test_what_a_function_must_not_return_is_told(pictures: Path, function: Callable[..., Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        driveshard.derive(pictures, function, name="wrong")


def test_samples_that_turn_out_larger_are_not_computed_twice(pictures: Path) -> None:
    keys: list[str] = []

    def growing(samples: Batch) -> Batch:
        keys.extend(sample["__key__"] for sample in samples)
        measured = len(keys) <= 10
        return [{"bin": bytes(10 if measured else 50_000)} for _ in samples]

    result = driveshard.derive(pictures, growing, name="growing", batch=5, temp_limit="8MiB")
    assert (result.state, len(keys)) == ("complete", COUNT + 10)


def test_what_cannot_be_encoded_is_told_with_its_key(pictures: Path) -> None:
    with pytest.raises(SourceMissing, match=r"can be made: d\d/\d+: ValueError: field 'png': .* uint8, not float64"):
        driveshard.derive(pictures, lambda samples: [{"png": np.zeros((2, 2))} for _ in samples], name="floats")
    for options in ({"part_size": "1M"}, {"include": "*.png"}):
        with pytest.raises(UsageError, match="is not an option"):
            driveshard.derive(pictures, label, **options)  # type: ignore[arg-type]


def test_a_source_that_grew_adds_its_new_parts_and_a_changed_one_is_told(place: Path) -> None:
    tree, calls, events = place / "tree", list[str](), list[Event]()
    for number in range(40):
        (tree / "d").mkdir(parents=True, exist_ok=True)
        (tree / "d" / f"{number:02d}.txt").write_text(f"{number}" * 100)

    def double(samples: Batch) -> Batch:
        calls.extend(sample["__key__"] for sample in samples)
        return [{"txt": sample["txt"] * 2} for sample in samples]

    def derive() -> driveshard.PushResult:
        return driveshard.derive(place / "t", double, name="twice", on_event=events.append)

    driveshard.push(tree, name="t", part_size=4096)
    first = derive()
    before = digests(place / "twice")
    assert (first.parts, first.samples) == (len(before), 40)
    (tree / "d" / "40.txt").write_text("new")
    (tree / "d" / "03.txt").write_text("changed")
    driveshard.push(tree, name="t", part_size=4096)
    calls.clear()
    second = derive()
    assert (second.samples, second.failed, calls) == (41, [], ["d/03", "d/40"])
    assert before.items() < digests(place / "twice").items()
    found = {one["__key__"]: one["txt"] for one in driveshard.Dataset(place / "twice")}
    assert (found["d/03"], found["d/40"], found["d/04"]) == (b"changed" * 2, b"new" * 2, b"4" * 200)
    fresh = driveshard.derive(place / "t", double, name="fresh")
    assert fresh.samples == 41
    assert "d/03" not in keys_of(place / "fresh")[0]  # where it is replaced

    (place / "t").rename(place / "old")
    (tree / "d" / "00.txt").write_text("other")
    driveshard.push(tree, name="u", part_size=4096)
    manifest = json.loads((place / "u" / "manifest.json").read_text())
    (place / "u" / "manifest.json").write_text(json.dumps(manifest | {"name": "t"}))
    with pytest.raises(UsageError, match=r"twice was made as .*double of t when part 0.* had another content"):
        driveshard.derive(place / "u", double, name="twice")


def test_a_source_that_was_compacted_while_it_was_derived(pictures: Path, place: Path) -> None:
    """Parts that were planned and are no more of the source are not waited for."""
    with pytest.raises(ComeBackLater):
        driveshard.derive(pictures, label, name="labels", max_transfer=1, uploads=1, workers=1)
    assert len(keys_of(place / "labels")) == 1
    compact("pictures", Sizes(), PushOptions("pictures", writes_per_second=1000), settings_from(), ignore)
    result = driveshard.derive(pictures, label, name="labels")
    assert (result.state, list(keys_of(place / "labels"))[-1]) == ("complete", 3)
    found = driveshard.Dataset(place / "labels", decode="numpy")
    assert {one["__key__"]: one["label.json"]["n"] for one in found} == {
        f"d{number % 3}/{number:03d}": number for number in range(COUNT)
    }


def _slowly(value: int) -> int:
    time.sleep(0.05)
    return value


class _Slow:
    def __reduce__(self) -> tuple[Callable[[int], int], tuple[int]]:
        return _slowly, (7,)


def test_threads_of_a_worker_share_one_dataset_and_none_sees_half_of_it() -> None:
    pickled = pickle.dumps({"numbers": _Slow()})
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: part_samples._restored("a token", pickled), range(4)))
    assert [one.numbers for one in found] == [7] * 4 and len(set(map(id, found))) == 1


def test_zips_of_other_tools_are_a_source(place: Path) -> None:
    (place / "zips").mkdir()
    with zipfile.ZipFile(place / "zips" / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("b/2.txt", "b/1.txt", "b/2.cls", "b/1.cls"):
            archive.writestr(name, name * 50)
    with ZipWriter(place / "zips" / "b.zip") as writer:
        writer.add(b"c/\xff.txt", b"x")
        writer.close()
    result = driveshard.derive(place / "zips", lambda batch: [{"n.json": len(one)} for one in batch], name="counts")
    assert (result.samples, result.failed) == (3, [])
    dataset = driveshard.Dataset(place / "counts", decode="numpy")
    assert {one["__key__"]: one["n.json"] for one in dataset} == {"b/2": 3, "b/1": 3, "c/\udcff": 2}
    assert keys_of(place / "counts")[0] == ["b/2", "b/1"]  # as they lie
    with zipfile.ZipFile(place / "zips" / "b.zip", "w") as archive:
        archive.writestr("c/other.txt", "y")
    with pytest.raises(UsageError, match="when part 1 of that had another content"):
        driveshard.derive(place / "zips", lambda batch: [{"n.json": len(one)} for one in batch], name="counts")


class Adder:
    """Made once in each process."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1

    def __call__(self, samples: Batch) -> Batch:
        return [{"json": {"n": int(sample["json"]["n"]) + self.made}} for sample in samples]


def test_a_link_is_read_by_ranges_and_nothing_of_it_is_kept(
    place: Path, home: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRIVESHARD_DRIVE_URL", emulator.url)
    link = driveshard.push(Pictures(), name="p", part_samples=A_PART, to="drive:", share="anyone").link
    events: list[Event] = []
    result = driveshard.derive(
        link or "", Adder, name="plus", decode="numpy", engine="processes", workers=2, on_event=events.append
    )
    assert (result.samples, result.failed) == (COUNT, [])
    assert [one.text for one in events if isinstance(one, Notice)] == []
    assert [one["json"]["n"] for one in driveshard.Dataset(place / "plus", decode="numpy")] == list(range(1, 61))
    assert list(home.rglob("*.zip")) == []
    samples = PartSamples(link or "")
    read = [list(samples.batches(1, 4))]
    monkeypatch.setattr(part_samples, "_FAR", -1)  # as of a part whose samples are scattered
    read.append(list(samples.batches(1, 4)))
    assert read[0] == read[1]
    monkeypatch.setattr(tempfile, "tempdir", str(place / "nowhere"))  # its copy goes where parts are built
    assert list(samples.batches(1, 4, place)) == read[0]
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert [one["__key__"] for batch in read[0] for one in batch] == keys_of(place / "plus")[1]
    samples._parts.parts[1] = replace(samples._parts.parts[1], sha256="0" * 64)
    with pytest.raises(Mismatch, match=r"p-00001\.zip came with another sha256"):
        list(samples.batches(1, 4))


class Copying(PartSamples):
    """Says where a part would be copied to."""

    def batches(self, at: int, size: int, folder: Path | None = None) -> Iterator[Batch]:
        yield [{"__key__": str(folder)}]


def test_what_has_to_be_copied_goes_where_parts_are_built(pictures: Path, place: Path) -> None:
    source = replace(
        derived_source(pictures, lambda batch: [{"txt": ""} for _ in batch]), samples=Copying(str(pictures))
    )
    (place / "temp").mkdir()
    with ZipWriter(place / "temp" / "built.zip") as writer:
        source.pack(SampleRange(0, 1), writer, 0)
        assert writer.last == os.fsencode(place / "temp") + b".txt"


@pytest.mark.parametrize("ahead", [True, False])
def test_a_stream_gives_any_bytes_from_long_reads(ahead: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_stream, "_WINDOW", 100)
    data, reads = os.urandom(1050), list[tuple[int, int]]()

    def read(begin: int, length: int) -> bytes:
        reads.append((begin, length))
        return data[begin : begin + length]

    with ThreadPoolExecutor(1) as pool, PartStream("p", read, len(data), pool if ahead else None) as stream:
        for begin, length in ((0, 10), (90, 20), (95, 240), (700, 0), (650, 300)):
            stream.let_go(min(begin, 650))
            assert stream.take(begin, length) == data[begin : begin + length]
        assert stream.take(5, 5) == data[5:10]  # let go already
        with pytest.raises(Mismatch, match="no bytes 1,000 to 1,051"):
            stream.take(1000, 51)
        stream.prove(hashlib.sha256(data).hexdigest().upper())
    again = [(5, 5)]
    windows = [(begin, min(100, 1050 - begin)) for begin in range(0, 1050 if ahead else 1000, 100)]
    assert sorted(reads) == sorted(windows + again)


def test_a_plan_counts_samples_and_sends_nothing(pictures: Path, place: Path) -> None:
    planned = driveshard.derive(pictures, label, name="plan", dry_run=True)
    assert (planned.state, planned.parts, planned.samples) == ("planned", 3, COUNT)
    assert not (place / "plan").exists()


def test_what_is_wrong_before_anything_is_read(pictures: Path) -> None:
    with pytest.raises(UsageError, match="a batch cannot have 0 samples"):
        derived_source(pictures, label, batch=0)
    with pytest.raises(UsageError, match="not a value of type int"):
        derived_source(pictures, 7)
    with pytest.raises(UsageError, match="Not a Python source: 'depth'"):
        derived_source(pictures, "depth")
    with pytest.raises(SourceMissing, match="no dataset, directory or Drive folder nothing"):
        derived_source("nothing", label)
