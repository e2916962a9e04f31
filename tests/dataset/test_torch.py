"""The sampler gives every sample once, whoever asks and however often it is stopped."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import driveshard
from driveshard.archive.zip_writer import ZipWriter
from driveshard.core.errors import UsageError
from driveshard.dataset.shuffle import epoch_order

pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'driveshard[torch]'")

from torch.utils.data import DataLoader, IterableDataset

from driveshard.torch import Sampler

COUNT = 203


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> driveshard.Dataset:
    directory = tmp_path_factory.mktemp("set")
    for part in range(10):
        with ZipWriter(directory / f"set-{part:05d}.zip") as writer:
            for number in range(part * 21, min(COUNT, part * 21 + 21)):
                writer.add(b"%03d.txt" % number, b"%d" % number)
            writer.close()
    return driveshard.Dataset(directory, decode={"txt": int})


def keep(samples: list[dict[str, Any]]) -> list[int]:
    return [sample["txt"] for sample in samples]


def load(dataset: driveshard.Dataset, sampler: Sampler, workers: int = 0, **options: Any) -> DataLoader[Any]:
    batches = {"batch_sampler": sampler} if sampler.batch_size else {"sampler": sampler, "batch_size": 7}
    return DataLoader(dataset, num_workers=workers, collate_fn=keep, **batches, **options)  # type: ignore[arg-type]


def flat(batches: Any) -> list[int]:
    return [number for batch in batches for number in batch]


def reference(dataset: driveshard.Dataset, epoch: int, seed: int = 5, window: int = 2) -> list[int]:
    return epoch_order(dataset.part_numbers(), seed, epoch, window).tolist()  # type: ignore[no-any-return]


# -- the order -------------------------------------------------------------------------------------------------------


def test_an_order_stays_what_it_is() -> None:
    """A run that goes on with another version of numpy, or of driveshard, must not see samples twice."""
    parts = np.repeat(np.arange(4), 3)
    assert epoch_order(parts, 1, 0, 2).tolist() == epoch_order(parts, 1, 0, 2).tolist()
    assert epoch_order(parts, 1, 0, 2).tolist() == ORDER
    assert epoch_order(parts[:0], 1, 0).tolist() == []


ORDER = [0, 8, 1, 7, 6, 2, 5, 10, 3, 11, 4, 9]


@pytest.mark.parametrize("window", [1, 2, 3, 100])
def test_samples_of_few_parts_are_mixed_at_a_time(dataset: driveshard.Dataset, window: int) -> None:
    order = epoch_order(dataset.part_numbers(), 5, 0, window)
    assert sorted(order.tolist()) == list(range(COUNT))
    parts = dataset.part_numbers()[order]
    spans = [np.flatnonzero(parts == part) for part in range(10)]
    active = [sum(int(span[0] <= at <= span[-1]) for span in spans) for at in range(COUNT)]
    assert max(active) == min(window, 10)
    others = [epoch_order(dataset.part_numbers(), *which, window).tolist() for which in ((5, 1), (6, 0))]
    assert order.tolist() not in others and others[0] != others[1]


def test_each_pass_is_the_next_epoch(dataset: driveshard.Dataset) -> None:
    sampler = Sampler(dataset, seed=5, window=2)
    assert [list(sampler) for _ in range(3)] == [reference(dataset, epoch) for epoch in range(3)]
    sampler.set_epoch(1)
    assert len(sampler) == COUNT and list(sampler) == reference(dataset, 1)
    assert list(Sampler(dataset, shuffle=False)) == list(range(COUNT))


@pytest.mark.parametrize("world", [1, 2, 3, 5, 300])
@pytest.mark.parametrize("batch_size", [None, 8])
def test_ranks_share_an_epoch(dataset: driveshard.Dataset, world: int, batch_size: int | None) -> None:
    samplers = [
        Sampler(dataset, seed=5, window=2, batch_size=batch_size, rank=rank, world=world) for rank in range(world)
    ]
    shares = [list(sampler) for sampler in samplers]
    assert [len(share) for share in shares] == [
        len(Sampler(dataset, batch_size=batch_size, rank=rank, world=world)) for rank in range(world)
    ]
    numbers = [flat(share) if batch_size else share for share in shares]
    assert sorted(number for share in numbers for number in share) == list(range(COUNT))
    assert [share[0] for share in numbers if share] == reference(dataset, 0)[: min(world, COUNT)]


def test_with_drop_last_all_ranks_take_as_many_steps(dataset: driveshard.Dataset) -> None:
    shares = [list(Sampler(dataset, seed=5, batch_size=8, drop_last=True, rank=rank, world=3)) for rank in range(3)]
    assert [len(share) for share in shares] == [8, 8, 8]
    assert all(len(batch) == 8 for share in shares for batch in share)
    assert len({number for share in shares for number in flat(share)}) == 3 * 64
    assert len(Sampler(dataset, batch_size=8, drop_last=True, rank=2, world=3)) == 8


def test_wrong_use_is_said(dataset: driveshard.Dataset) -> None:
    for options in ({"rank": 2, "world": 2}, {"batch_size": 0}):
        with pytest.raises(UsageError):
            Sampler(dataset, **options)  # type: ignore[arg-type]
    state = Sampler(dataset).state_dict()
    with pytest.raises(UsageError, match="the state is of 203 samples, and here are 3"):
        Sampler(dataset[:3]).load_state_dict(state)


# -- with torch's loader ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch_size", "workers", "method"),
    [(None, 0, None), (7, 0, None), (None, 2, "fork"), (7, 2, "fork"), (7, 2, "spawn")],
)
def test_a_loader_gives_the_reference_order(
    dataset: driveshard.Dataset, batch_size: int | None, workers: int, method: str | None
) -> None:
    if method == "fork" and sys.platform == "win32":
        pytest.skip("Windows does not fork")
    sampler = Sampler(dataset, seed=5, window=2, batch_size=batch_size)
    loader = load(dataset, sampler, workers, multiprocessing_context=method)
    for epoch in range(1 if method == "spawn" else 2):  # where each pass imports torch anew
        assert flat(loader) == reference(dataset, epoch)


@pytest.mark.parametrize("batch_size", [None, 7])
def test_workers_that_stay_go_on_to_the_next_epoch(dataset: driveshard.Dataset, batch_size: int | None) -> None:
    loader = load(dataset, Sampler(dataset, seed=5, window=2, batch_size=batch_size), 2, persistent_workers=True)
    assert [flat(loader) for _ in range(3)] == [reference(dataset, epoch) for epoch in range(3)]


@pytest.mark.parametrize("batch_size", [None, 7])
@pytest.mark.parametrize("stops", [[(2, 5), (0, 3), (1, 11)], [(0, 1), (2, 28)], [(2, 29)], [(1, 1), (2, 1), (2, 1)]])
def test_a_run_that_is_stopped_goes_on_where_it_was(
    dataset: driveshard.Dataset, batch_size: int | None, stops: list[tuple[int, int]]
) -> None:
    """Whatever workers had fetched ahead when it was stopped is given again, and nothing else is."""
    seen: list[int] = []
    state: dict[str, int] | None = None
    for workers, steps in [*stops, (1, 1000)]:
        sampler = Sampler(dataset, seed=5 if state is None else 0, window=2, batch_size=batch_size)
        if state is not None:
            sampler.load_state_dict(state)
        for step, batch in enumerate(load(dataset, sampler, workers), 1):
            seen += batch
            if step == steps:
                break
        state = sampler.state_dict()
    expected = reference(dataset, 0) + reference(dataset, 1)
    assert seen == expected[: len(seen)] and len(seen) >= COUNT
    assert state is not None and state["position"] == 0


def test_naming_the_epoch_that_a_state_is_in_goes_on_in_it(dataset: driveshard.Dataset) -> None:
    """As in a loop over epochs that calls set_epoch at the head of each."""
    first = Sampler(dataset, seed=5, window=2)
    loader = iter(load(dataset, first))
    seen = next(loader) + next(loader)
    again = Sampler(dataset, seed=0, window=5, shuffle=False)  # the order is the state's
    again.load_state_dict(first.state_dict())
    for epoch in (0, 1):
        again.set_epoch(epoch)
        assert len(again) == COUNT - (14 if epoch == 0 else 0)
        seen += flat(load(dataset, again))
    assert seen == reference(dataset, 0) + reference(dataset, 1)
    again.set_epoch(0)
    assert flat(load(dataset, again)) == reference(dataset, 0)


def test_ranks_go_on_as_other_ranks(dataset: driveshard.Dataset) -> None:
    seen: list[int] = []
    state: dict[str, int] = {}
    for world, steps, workers in ((2, 6, 2), (3, 4, 0), (1, 2, 1), (4, 1000, 0)):
        states = []
        for rank in range(world):
            sampler = Sampler(dataset, seed=5, window=2, batch_size=4, rank=rank, world=world)
            if state:
                sampler.load_state_dict(state)
            for step, batch in enumerate(load(dataset, sampler, workers), 1):
                seen += batch
                if step == steps:
                    break
            states.append(sampler.state_dict())
        assert all(one == states[0] for one in states)
        state = states[0]
    assert sorted(seen) == list(range(COUNT))
    first = 2 * 6 * 4
    assert set(seen[:first]) == set(reference(dataset, 0)[:first])
    assert (state["epoch"], state["position"]) == (1, 0)


def test_a_last_batch_that_torch_drops_ends_the_epoch_all_the_same(dataset: driveshard.Dataset) -> None:
    sampler = Sampler(dataset, seed=5, window=2)
    loader = load(dataset, sampler, 2, drop_last=True)
    assert flat(loader) == reference(dataset, 0)[:203]
    assert sampler.state_dict()["epoch"] == 1


def test_a_pass_that_was_broken_off_begins_again(dataset: driveshard.Dataset) -> None:
    sampler = Sampler(dataset, seed=5, window=2)
    loader = load(dataset, sampler, 2)
    assert next(iter(loader)) == reference(dataset, 0)[:7]
    assert flat(loader) == reference(dataset, 0)


class Stream(IterableDataset):  # type: ignore[type-arg]
    """Asks the sampler inside of each worker."""

    def __init__(self, dataset: driveshard.Dataset, sampler: Sampler) -> None:
        self.dataset, self.sampler = dataset, sampler

    def __iter__(self) -> Iterator[int]:
        for number in self.sampler:
            yield self.dataset[number]["txt"]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_that_ask_themselves_share_an_epoch(dataset: driveshard.Dataset, workers: int) -> None:
    seen = [
        number
        for rank in range(2)
        for number in flat(
            DataLoader(
                Stream(dataset, Sampler(dataset, seed=5, rank=rank, world=2)),
                num_workers=workers,
                batch_size=5,
                collate_fn=list,
            )
        )
    ]
    assert sorted(seen) == list(range(COUNT))


def test_tensors_come_out_of_a_plain_loader(tmp_path: Path) -> None:
    import io

    from PIL import Image

    with ZipWriter(tmp_path / "a.zip") as writer:
        for number in range(4):
            buffer = io.BytesIO()
            Image.new("RGB", (5, 6), (number, 0, 0)).save(buffer, "PNG")
            writer.add(b"%d.png" % number, buffer.getvalue())
            writer.add(b"%d.cls" % number, b"%d" % number)
        writer.close()
    loader = DataLoader(driveshard.Dataset(tmp_path, decode="numpy"), batch_size=4)  # type: ignore[arg-type]
    (batch,) = loader
    assert batch["png"].shape == (4, 6, 5, 3) and batch["png"][:, 0, 0, 0].tolist() == batch["cls"].tolist() == [
        0,
        1,
        2,
        3,
    ]
    assert batch["__key__"] == ["0", "1", "2", "3"]


def test_without_torch_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import driveshard; driveshard.torch"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'driveshard[torch]'" in done.stderr.splitlines()[-1]
