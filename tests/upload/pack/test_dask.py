"""Parts built by workers that are not ours: any executor, and a dask cluster, which may lose some."""

from __future__ import annotations

import datetime
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

import driveshard
from driveshard.config.options import FLAGS, PUSH, in_file, read_values
from driveshard.core.clock import Clock
from driveshard.core.errors import (
    ConfigError,
    DriveshardError,
    Interrupted,
    PartTooLarge,
    TempLost,
    Unreachable,
    WorkersKilled,
)
from driveshard.core.events import ignore
from driveshard.dataset.part_samples import LentSamples
from driveshard.dataset.shelf import require_seen
from driveshard.dataset.stats.look import Place, look_abroad
from driveshard.dataset.stats.stats import stats_of
from driveshard.emulator import Emulator
from driveshard.storage.drive.credentials import StoredCredentials, write_token
from driveshard.storage.drive.destination import DriveDestination
from driveshard.upload.pack import apart
from driveshard.upload.pack.apart import Mark
from driveshard.upload.pack.engine import Engine, WorkerLost, open_engine, workers_of
from driveshard.upload.spool import Spool
from tests.rig import Rig, Shelf, environment, fill
from tests.upload.pack.test_engine import PLENTY, SPEC, Play, alive, note_pids, until

needs_dask = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="dask is not installed: pip install 'driveshard[dask]'"
)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    (tmp_path / "notes").mkdir()
    return tmp_path / "notes"


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    (tmp_path / "spool").mkdir()
    return tmp_path / "spool"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three workers, reached by their address as any cluster is: whatever needs their keys finds them in dask's own
    configuration."""
    import dask

    from driveshard.upload.pack.local_cluster import start_cluster

    made = start_cluster(3)
    keys = made.security
    tls = {"ca-file": keys.tls_ca_file, "client.cert": keys.tls_client_cert, "client.key": keys.tls_client_key}
    with dask.config.set({f"distributed.comm.tls.{name}": value for name, value in tls.items()}):
        yield made
    made.end()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as made:
        yield made
        assert made.submit(int, "7").result(timeout=5) == 7, "it was shut down, and is not ours"


def complete(rig: Rig, **options: Any) -> dict[str, str]:
    result = rig.push(**options)
    if result.error is not None:
        raise result.error
    assert rig.in_temp() == []
    return {
        one["name"]: one["sha256Checksum"] for one in Shelf(rig.url).files if one["name"].startswith(f"{rig.name}-")
    }


@pytest.fixture
def rig(tmp_path: Path, emulator: Emulator) -> Rig:
    fill(tmp_path / "source", 60, 20_000)
    return Rig(tmp_path, emulator.url, part_size=100_000)


# -- any executor ----------------------------------------------------------------------------------------------------


def test_an_executor_makes_the_same_parts_and_is_left_alone(rig: Rig, pool: ThreadPoolExecutor) -> None:
    assert complete(rig, engine=pool) == rig.expected()


def test_the_function_takes_an_executor(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    fill(tmp_path / "source", 9, 300)
    for engine in (pool, "serial"):
        to = tmp_path / str(engine)[:6]
        driveshard.push(tmp_path / "source", name="t", to=f"file:{to}", engine=engine, temp=tmp_path / "temp")
    first, second = ([path.read_bytes() for path in tmp_path.glob(f"{name}*/t/*.zip")] for name in ("<concu", "serial"))
    assert first == second != []


def test_what_an_executor_runs_is_stopped_with_the_run(pool: ThreadPoolExecutor, spool: Path, notes: Path) -> None:
    engine = open_engine(pool, 2, spool=spool)
    futures = [engine.submit(SPEC, Play(notes, "never end"), spool / ".building-0", PLENTY) for _ in range(3)]
    until(lambda: os.listdir(notes), 10)
    engine.close(cancel=True)
    assert all(isinstance(future.exception(timeout=5), Exception) for future in futures)
    assert os.listdir(spool) == []


def test_an_executor_that_takes_nothing_is_told(spool: Path, notes: Path) -> None:
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(WorkersKilled, match=r"that was given takes no more work: .*after shutdown"):
        open_engine(pool, 1, spool=spool).submit(SPEC, Play(notes, "add three"), spool / "a", PLENTY)


def test_what_nothing_is_heard_of_any_more_is_lost(spool: Path) -> None:
    class Silent(Executor):
        def submit(self, *_: Any, **__: Any) -> Future[Any]:  # type: ignore[override]
            return asked

    asked: Future[Any] = Future()
    asked.set_running_or_notify_cancel()
    executor = apart.Apart(Silent(), Mark(spool / ".building-run-0"))
    told = executor.submit(int)
    executor.shutdown(wait=False)
    with pytest.raises(WorkerLost):
        told.result(timeout=1)
    asked.set_result(1)  # too late, and no error


def test_how_many_work_there(pool: ThreadPoolExecutor) -> None:
    assert (workers_of(pool, None), workers_of(pool, 5), workers_of("serial", 3)) == (2, 5, 3)


def test_a_worker_that_does_not_see_the_temp_folder_says_so(
    spool: Path, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "_SEEN_WITHIN", 0.0)
    mark = Mark(spool / "mark")
    build = lambda mark: apart.build_apart(SPEC, Play(notes, "add three"), spool / "a", PLENTY, mark)  # noqa: E731
    with pytest.raises(ConfigError, match=f"does not see the temp folder {spool}") as caught:
        build(mark)
    assert "--temp DIR" in caught.value.advice
    assert isinstance(mark.mend(caught.value), TempLost), "nobody sees it: it was emptied"
    mark.set()
    assert mark.mend(caught.value) is caught.value
    assert build(mark).files == 3
    with pytest.raises(ConfigError, match=r"has driveshard .*, and this is 0\.0"):
        build(replace(mark, version="0.0"))


def test_what_a_lost_worker_wrote_is_swept_away(rig: Rig, spool: Path) -> None:
    held = Spool(spool, PLENTY, rig.settings().clock)
    held.reserve(3, 1)
    built, zombie = (held.building(3).with_name(f"{held.building(3).name}-{end}") for end in "ab")
    other = held.building(30)
    for path in (built, zombie, other):
        path.write_bytes(b"x")
    held.commit(3, "t-00003.zip", 1, built.name)
    assert sorted(os.listdir(spool)) == [other.name, "t-00003.zip"]


# -- dask ------------------------------------------------------------------------------------------------------------


def test_without_dask_the_option_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "cryptography" else name)
    for origin, code in ((FLAGS, 64), (in_file(tmp_path / "config.toml"), 78)):
        with pytest.raises(DriveshardError, match="dask is not installed") as caught:
            read_values({"engine": "dask:tcp://a:1"}, PUSH, origin)
        assert (caught.value.exit_code, "driveshard[dask]" in caught.value.advice) == (code, True)


@needs_dask
def test_a_cluster_makes_the_same_parts(rig: Rig, cluster: Any) -> None:
    assert complete(rig, engine=f"dask:{cluster.address}") == rig.expected()
    assert workers_of(f"dask:{cluster.address}", None) == 3


@needs_dask
def test_the_workers_send_what_they_built(rig: Rig, cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("it is sent from here")

    monkeypatch.setattr(DriveDestination, "send", refuse)
    assert complete(rig, engine=f"dask:{cluster.address}") == rig.expected()


@needs_dask
def test_a_folder_is_sent_to_from_here(tmp_path: Path, cluster: Any) -> None:
    fill(tmp_path / "source", 9, 300)
    for engine in (f"dask:{cluster.address}", "serial"):
        to = f"file:{tmp_path / engine[:4]}"
        driveshard.push(tmp_path / "source", name="t", to=to, engine=engine, temp=tmp_path / "temp")
    first, second = ([path.read_bytes() for path in tmp_path.glob(f"{name}/t/*.zip")] for name in ("dask", "seri"))
    assert first == second != []


@needs_dask
def test_a_client_of_ones_own_is_an_executor_too(rig: Rig, cluster: Any) -> None:
    from distributed import Client

    with Client(cluster.address, set_as_default=False) as client, client.get_executor() as executor:
        assert complete(rig, engine=executor, workers=3) == rig.expected()
        assert executor.submit(int, "7").result(timeout=10) == 7


@pytest.fixture
def engine(cluster: Any, spool: Path) -> Iterator[Engine]:
    with open_engine(f"dask:{cluster.address}", 3, spool=spool) as made:
        yield made


@needs_dask
def test_a_killed_worker_costs_its_part_one_more_try(engine: Engine, spool: Path, notes: Path) -> None:
    source, target = Play(notes, "die once"), spool / ".building-0"
    with pytest.raises(WorkerLost):
        engine.submit(SPEC, source, target, PLENTY).result(timeout=30)
    part = engine.submit(SPEC, source, target, PLENTY).result(timeout=30)
    assert (part.files, len(note_pids(notes))) == (3, 2)
    assert part.place in os.listdir(spool)


@needs_dask
def test_workers_killed_again_and_again_are_given_up(engine: Engine, spool: Path, notes: Path) -> None:
    for _ in range(5):
        with pytest.raises(WorkerLost):
            engine.submit(SPEC, Play(notes, "die"), spool / ".building-0", PLENTY).result(timeout=30)
    with pytest.raises(WorkersKilled, match=r"was killed 5 times while x.zip was built"):
        engine.submit(SPEC, Play(notes, "die"), spool / ".building-0", PLENTY)


@needs_dask
def test_a_stop_ends_what_the_cluster_builds_and_leaves_the_cluster(engine: Engine, spool: Path, notes: Path) -> None:
    futures = [engine.submit(SPEC, Play(notes, "never end"), spool / f".building-{at}", PLENTY) for at in range(5)]
    until(lambda: len(os.listdir(notes)) == 3, 20)
    engine.close(cancel=True)
    assert all(future.exception(timeout=5) for future in futures)
    until(lambda: not os.listdir(spool), 3)
    assert alive(note_pids(notes)) == note_pids(notes)


@needs_dask
def test_errors_come_out_of_the_cluster_whole(engine: Engine, spool: Path, notes: Path) -> None:
    with pytest.raises(PartTooLarge) as caught:
        engine.submit(SPEC, Play(notes, "add three"), spool / ".building-0", 200).result(timeout=30)
    assert (caught.value.limit, caught.value.exit_code) == (200, 73)


@needs_dask
def test_a_run_that_is_gone_keeps_no_worker_from_the_next_one(cluster: Any, notes: Path) -> None:
    from distributed import Client

    from driveshard.upload.far.bench import Errand
    from driveshard.upload.pack.dask_workers import build_far

    def begin(client: Any, run: str, count: int) -> list[Any]:
        task = (SPEC, Play(notes, "add three"), notes, PLENTY, Errand(run))
        return [client.submit(build_far, *task, pure=False) for _ in range(count)]

    with Client(cluster.address, set_as_default=False) as client:
        waiting = begin(client, "gone", 12)
        until(lambda: sum(one.done() for one in waiting) == 6, 20)  # two to a worker, and all wait for room
    with Client(cluster.address, set_as_default=False) as client:
        assert begin(client, "next", 1)[0].result(timeout=20).files == 3


@needs_dask
def test_a_cluster_without_this_driveshard_is_told() -> None:
    from driveshard.upload.pack.dask import _translated

    missing = ModuleNotFoundError("No module named 'driveshard'", name="driveshard")
    graph = RuntimeError("Error during deserialization of the task graph. This frequently\noccurs")
    for error in (missing, graph, AttributeError("Can't get attribute 'X' on <module 'driveshard'>")):
        told = _translated(error)
        assert isinstance(told, ConfigError)
        assert "Install driveshard[dask]" in told.advice
    for error in (ModuleNotFoundError("x", name="x"), RuntimeError("a model's own"), PartTooLarge("x")):
        assert _translated(error) is error


@needs_dask
def test_a_cluster_that_does_not_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driveshard.upload.pack.dask._ANSWERS_WITHIN", 0.3)
    (tmp_path / "other.json").write_text('{"x": 1}')
    with socket.create_server(("127.0.0.1", 0)) as silent:
        another = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        files = [str(tmp_path / "scheduler.json"), str(tmp_path / "other.json")]
        for address in ("tcp://127.0.0.1:1", "nonsense", another, *files):
            with pytest.raises(Unreachable, match=f"No dask scheduler answers at {address}: "):
                workers_of(f"dask:{address}", None)


@needs_dask
def test_a_worker_is_lost_when_nobody_can_be_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed.comm.core import CommClosedError

    from driveshard.upload.far.yard import Yard
    from driveshard.upload.pack import dask_workers

    class Closed:
        def subscribe_topic(self, *_: Any) -> None:
            """Nothing is heard of."""

        def run(self, *_: Any, **__: Any) -> None:
            time.sleep(1)

        def nthreads(self) -> None:
            raise CommClosedError("ConnectionPool closing.")

    monkeypatch.setattr(dask_workers, "_LOOK_EVERY", 0.0)
    workers = dask_workers.DaskWorkers(Closed(), Yard(lambda: None, Clock()))  # type: ignore[arg-type,return-value]
    with pytest.raises(TempLost, match="is gone"):
        workers.begin("tcp://127.0.0.1:1", print)(0.01)


@needs_dask
def test_a_stop_does_not_wait_for_a_cluster_that_does_not_answer() -> None:
    clock = Clock()
    clock.stop.set()
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Interrupted):
        workers_of(f"dask:tcp://127.0.0.1:{silent.getsockname()[1]}", None, clock.check)


@needs_dask
def test_a_cluster_of_ones_own_ends_with_its_run(tmp_path: Path, notes: Path) -> None:
    """And with its coordinator, though that is killed; the script that started it has no ``if __name__`` guard."""
    script = tmp_path / "coordinator.py"
    script.write_text(textwrap.dedent(COORDINATOR))
    tests = Path(__file__).parent
    coordinator = subprocess.Popen([sys.executable, script, tests, notes, tmp_path], env=environment())
    try:
        until(lambda: len(os.listdir(notes)) == 2, 30)
        family = {child.pid for child in psutil.Process(coordinator.pid).children(recursive=True)}
        assert note_pids(notes) <= family
    finally:
        coordinator.kill()
        coordinator.wait()
    until(lambda: not alive(family), 3)


COORDINATOR = """
    import sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    from test_engine import SPEC, PLENTY, Play
    from driveshard.upload.pack.engine import open_engine

    notes, temp = Path(sys.argv[2]), Path(sys.argv[3])
    with open_engine("dask", 2, spool=temp) as engine:
        engine.submit(SPEC, Play(notes, "add three"), temp / "first", PLENTY).result(timeout=60)
        (notes / next(notes.iterdir()).name).unlink()
        futures = [engine.submit(SPEC, Play(notes, "never end"), temp / str(at), PLENTY) for at in range(2)]
        futures[0].result()
"""


# -- a dataset that the cluster reads --------------------------------------------------------------------------------

FIRST_TOKEN, REFRESH_TOKEN = "ya29.the-first-token-of-all", "1//a-token-that-stays-here"


@pytest.fixture
def scenes(tmp_path: Path, home: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which somebody is logged in for ten minutes more, and has pushed pictures that nobody else may read."""
    for name, value in {"HOME": home, "DRIVE_URL": emulator.url, "WRITES_PER_SECOND": 1000, "ENGINE": "serial"}.items():
        monkeypatch.setenv(f"DRIVESHARD_{name}", str(value))
    soon = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) + datetime.timedelta(minutes=10)
    login = StoredCredentials(  # type: ignore[no-untyped-call]
        FIRST_TOKEN, REFRESH_TOKEN, None, f"{emulator.url}/token", "an-id", "a-secret", expiry=soon
    )
    write_token(home / "token.json", login)
    folder = tmp_path / "scenes"
    folder.mkdir()
    for number in range(24):
        Image.effect_noise((80, 60), 10 + 4 * number).convert("RGB").save(folder / f"{number:02d}.png")
        (folder / f"{number:02d}.json").write_text(f'{{"class": {number % 3}}}')
    driveshard.push(folder, part_size=50_000)
    return home


def tokens_of(emulator: Emulator) -> set[str]:
    return {token for token, _ in emulator.drive.store.database.load("tokens")} | {FIRST_TOKEN, REFRESH_TOKEN}


def leaks(emulator: Emulator, *folders: Path) -> list[Path]:
    """Files with a token in them, but for the login's own."""
    files = [one for folder in folders for one in folder.rglob("*") if one.is_file() and one.name != "token.json"]
    return [one for one in files if any(token.encode() in one.read_bytes() for token in tokens_of(emulator))]


def looked(home: Path, engine: str) -> driveshard.Stats:
    """With nothing that an earlier run left."""
    shutil.rmtree(home / "cache", ignore_errors=True)
    return driveshard.stats("scenes", workers=3, engine=engine)


@needs_dask
def test_a_cluster_counts_the_same_by_what_it_is_lent(scenes: Path, emulator: Emulator, cluster: Any) -> None:
    from distributed import Client

    found = [looked(scenes, engine) for engine in ("serial", "threads", "processes")]
    emulator.set_faults("401-expired:download@3")
    before = len(emulator.log())
    found.append(looked(scenes, f"dask:{cluster.address}"))
    assert found[0].fields["png"]["images"]["count"] == 24 and found[0].parts >= 5
    assert found.count(found[0]) == 4
    log = emulator.log()[before:]
    assert 401 in [one["status"] for one in log if "alt=media" in one["path"]]
    assert [one["path"] for one in log].count("/token") >= 2, "one that lasts, and another when that was refused"
    scratch = Path(tempfile.gettempdir()).glob("driveshard-*")
    assert leaks(emulator, scenes, *scratch) == []
    with Client(cluster.address, set_as_default=False) as client:
        said = f"{client.get_worker_logs()} {client.get_scheduler_logs()}"
    assert not any(token in said for token in tokens_of(emulator))


@needs_dask
def test_a_cluster_derives_the_same_by_what_it_is_lent(
    scenes: Path, emulator: Emulator, cluster: Any, tmp_path: Path
) -> None:
    def label(samples: list[dict[str, bytes]]) -> list[dict[str, bytes]]:
        return [{"label.json": sample["json"]} for sample in samples]

    made = []
    for number, engine in enumerate(("serial", f"dask:{cluster.address}")):
        to = tmp_path / str(number)
        emulator.set_faults("401-expired:download@9" if number else "")
        driveshard.derive("scenes", label, name="labels", to=f"file:{to}", engine=engine, workers=3)
        made.append([path.read_bytes() for path in sorted((to / "labels").glob("*.zip"))])
    assert made[0] == made[1] and len(made[0]) >= 5
    assert leaks(emulator, scenes, to) == []


@needs_dask
def test_what_a_killed_worker_was_looking_at_is_counted_once(
    tmp_path: Path, home: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import Client

    monkeypatch.setenv("DRIVESHARD_HOME", str(home))
    (tmp_path / "set").mkdir()
    Image.effect_noise((1600, 1200), 90).save(tmp_path / "large.jpg")
    for number in range(10):
        with zipfile.ZipFile(tmp_path / "set" / f"{number}.zip", "w") as archive:
            for name in "ab":
                archive.write(tmp_path / "large.jpg", f"{number}{name}.jpg")
    killed: list[str] = []

    def kill(*_: int) -> None:
        told.append(1)
        if len(told) < 3 or killed:
            return
        until(busy, 10)  # seven parts are still to be looked at
        killed.append(busy()[0])
        os.kill(pids[killed[0]], signal.SIGKILL)

    def busy() -> list[str]:
        return [address for address, tasks in client.processing().items() if tasks]

    told: list[int] = []
    with Client(cluster.address, set_as_default=False) as client:
        pids = client.run(os.getpid)
        engine = f"dask:{cluster.address}"
        found = stats_of(str(tmp_path / "set"), None, 0, 3, None, ignore, kill, engine=engine)
    assert killed and found.fields["jpg"]["images"]["count"] == 20
    assert len(told) == 1 + 10 and found.broken == []


def test_a_dataset_that_a_worker_does_not_see_is_told(tmp_path: Path) -> None:
    (tmp_path / "0.zip").write_bytes(b"0123")
    require_seen(tmp_path / "0.zip", 4)
    for path, size, said in ((tmp_path / "1.zip", 4, "does not see"), (tmp_path / "0.zip", 5, "sees another file as")):
        with pytest.raises(ConfigError, match=rf"The worker on .* {said} .*zip") as caught:
            look_abroad([], Place(path), size, driveshard.__version__)
        assert "or give its link" in caught.value.advice
    with pytest.raises(ConfigError, match="has driveshard"):
        look_abroad([], Place(tmp_path / "0.zip"), 4, "0.0")
    with pytest.raises(ConfigError, match="does not see"):
        LentSamples("set", "unseen", tmp_path / "set", "").counts()
