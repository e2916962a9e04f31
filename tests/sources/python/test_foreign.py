"""Sources that raise anything, end their process or take its streams away: a failed sample or a clear end, with a
documented code and the result object, on every engine."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable
from multiprocessing import spawn
from pathlib import Path

import pytest

from driveshard.core.decoding import strict
from driveshard.upload.pack.workers import bare_start, process_pool

REPOSITORY = Path(__file__).resolve().parents[3]

CODE = """
import os, signal, sys, threading, time
from driveshard import Sample

class Own(BaseException):
    pass

class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no words")

class Unpicklable(Exception):
    def __init__(self, one, two):
        super().__init__()
        self.lock = threading.Lock()

def recurse():
    recurse()

def throw(error):
    raise error

ACTS = {
    "exit": lambda: sys.exit(0),
    "os._exit": lambda: os._exit(0),
    "ctrl-c": lambda: throw(KeyboardInterrupt()),
    "generator-exit": lambda: throw(GeneratorExit()),
    "own": lambda: throw(Own("mine")),
    "mute": lambda: throw(Mute()),
    "unpicklable": lambda: throw(Unpicklable(1, 2)),
    "recursion": recurse,
    "memory": lambda: throw(MemoryError()),
}
act = ACTS.get(os.environ.get("ACT"), lambda: None)
where = os.environ.get("WHERE")

class Value:
    def tolist(self):
        act()

class Rows:
    def __init__(self):
        if where == "constructor":
            act()

    def __len__(self):
        if where == "len":
            act()
        return 40

    def __getitem__(self, index):
        if index == 7 and where == "item":
            act()
        if where == "items" and 7 <= index < 7 + len(ACTS):
            list(ACTS.values())[index - 7]()
        if index == 7 and where == "field":
            return Sample("k/7", {"json": {"a": Value()}})
        return Sample(f"k/{index}", {"txt": "x" * 100})

def stream():
    rows = Rows()
    for index in range(40):
        if index == 7 and where == "next":
            act()
        yield rows[index]

def unclosable():
    try:
        yield from stream()
    finally:
        act()

if where == "import":
    act()
"""


class Runner:
    def __init__(self, work: Path) -> None:
        self.work = work
        (work / "rows.py").write_text(CODE)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DRIVESHARD_")}
        self.environment = {**kept, "PYTHONPATH": str(REPOSITORY), "DRIVESHARD_HOME": str(work / "home")}

    def push(self, source: str, *arguments: str, **variables: str) -> tuple[int, dict[str, object], str]:
        """Exit code, result object and stderr."""
        command = [sys.executable, "-m", "driveshard", "push", source, "--json", "--name", "t"]
        command += ["--to", f"file:{self.work / 'shelf'}", "--part-size", "1500", "--workers", "2", *arguments]
        told = subprocess.run(
            command, cwd=self.work, env={**self.environment, **variables}, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert "Traceback" not in told.stderr, told.stderr
        assert told.stdout.strip(), told.stderr
        return told.returncode, json.loads(told.stdout.splitlines()[-1]), told.stderr

    def push_code(self, code: str, *arguments: str) -> tuple[int, dict[str, object], str]:
        (self.work / "own.py").write_text(textwrap.dedent(code))
        return self.push("own.py:make", *arguments)


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


def test_a_sample_that_raises_anything_fails_alone(runner: Runner) -> None:
    """Nine of them in one run, in the order of ACTS from sample 7 on."""
    code, result, err = runner.push("rows.py:Rows", "--engine", "threads", WHERE="items")
    assert (code, result["state"], result["samples"]) == (65, "complete", 31), err
    failed = [one["path"] for one in result["failed"]]  # type: ignore[attr-defined]
    assert sorted(failed) == sorted(f"sample {number}" for number in range(7, 16)), err


@pytest.mark.parametrize(("engine", "act"), [("processes", "exit"), ("processes", "unpicklable"), ("serial", "own")])
@pytest.mark.parametrize("where", ["item", "field"])
def test_it_does_on_every_engine(runner: Runner, engine: str, act: str, where: str) -> None:
    code, result, err = runner.push("rows.py:Rows", "--engine", engine, ACT=act, WHERE=where)
    assert (code, result["state"], result["samples"]) == (65, "complete", 39), err


@pytest.mark.parametrize(
    ("where", "act"),
    [
        *(("import", act) for act in ("exit", "os._exit", "own")),
        *(("constructor", act) for act in ("exit", "mute")),
        *(("len", act) for act in ("ctrl-c", "own")),
        *(("next", act) for act in ("exit", "os._exit", "ctrl-c", "own", "mute")),
    ],
)
def test_anywhere_else_it_ends_the_run_in_a_sentence(runner: Runner, act: str, where: str) -> None:
    source = "rows.py:stream" if where == "next" else "rows.py:Rows"
    code, result, err = runner.push(source, ACT=act, WHERE=where)
    assert (code, result["state"]) == (64, "incomplete"), err
    assert "rows.py" in err
    assert "raised" in err


def test_a_generator_that_raises_when_it_is_closed_is_told_of(runner: Runner) -> None:
    (runner.work / "shelf").write_text("in the way of the destination")
    code, result, err = runner.push("rows.py:unclosable", ACT="os._exit", WHERE="close")
    assert code not in (0, 70), err
    assert result["state"] == "incomplete"


def test_a_worker_that_dies_at_one_sample_is_told_of(runner: Runner) -> None:
    code, result, err = runner.push_code(
        """
        import os, signal
        from driveshard import Sample
        class make:
            def __len__(self): return 40
            def __getitem__(self, index):
                if index == 7: os.kill(os.getpid(), signal.SIGSEGV)
                return Sample(f"k/{index}", {"txt": "x" * 100})
        """
    )
    assert (code, result["state"]) == (71, "incomplete"), err
    assert "A worker process crashed (SIGSEGV) 5 times" in err
    assert "--workers 1" in err


def test_workers_that_die_at_every_sample_do_not_take_the_coordinator_along(runner: Runner) -> None:
    code, _, err = runner.push_code(
        """
        import os
        class make:
            def __len__(self): return 40
            def __getitem__(self, index): os._exit(3)
        """
    )
    assert code == 71
    assert "ended itself with exit code 3" in err


@pytest.mark.parametrize("kind", ["list", "generator"])
def test_a_thread_that_never_ends_does_not_keep_the_push(runner: Runner, kind: str) -> None:
    code, result, err = runner.push_code(
        f"""
        import threading
        from driveshard import Sample
        def make():
            threading.Thread(target=threading.Event().wait).start()
            samples = (Sample(str(index), {{"txt": "x" * 100}}) for index in range(40))
            return list(samples) if {kind!r} == "list" else samples
        """
    )
    assert (code, result["state"], result["samples"]) == (0, "complete", 40), err


TAKERS = {
    "closed": "sys.stdout.close(); sys.stderr.close()",
    "files closed": "os.close(1); os.close(2)",
    "replaced": "sys.stdout = sys.stderr = open(os.devnull, 'w')",
    "gone": "sys.stdout = sys.stderr = None",
}


@pytest.mark.parametrize("taker", TAKERS)
def test_a_source_may_take_the_streams_away(runner: Runner, taker: str) -> None:
    code, result, err = runner.push_code(
        f"""
        import os, sys
        from driveshard import Sample
        def make():
            {TAKERS[taker]}
            return [Sample(str(index), {{"txt": "x"}}) for index in range(3)]
        """
    )
    assert (code, result["state"]) == (0, "complete"), err
    assert "t is complete: 3 samples" in err


def test_a_source_may_go_to_another_folder(runner: Runner) -> None:
    code, result, err = runner.push_code(
        """
        import os
        from driveshard import Sample
        os.chdir("/")
        def make():
            return [Sample(str(index), {"txt": "x" * 500}) for index in range(9)]
        """,
        "--temp",
        "temp",
    )
    assert (code, result["state"], result["parts"]) == (0, "complete", 5), err
    assert not Path("/temp").exists()


@pytest.mark.parametrize("more", [(), ("--dry-run",), ("--part-samples", "1000000000")])
def test_a_length_that_was_made_up_is_refused(runner: Runner, more: tuple[str, ...]) -> None:
    code, _, err = runner.push_code(
        """
        import sys
        from driveshard import Sample
        class make:
            def __len__(self): return sys.maxsize
            def __getitem__(self, index): return Sample(str(index), {"txt": "x"})
        """,
        *more,
    )
    assert code == 64
    assert "9,223,372,036,854,775,807 new samples" in err


TRAPS = ["random", "queue", "socket", "signal", "pickle", "struct", "selectors", "threading", "driveshard_trap"]


def _set_traps(folder: Path, sprung: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in TRAPS:
        (folder / f"{name}.py").write_text(f"open({str(sprung)!r}, 'a').write({name!r})\nraise SystemExit(9)\n")


@pytest.mark.parametrize(
    ("current", "python_path"),
    [("data", None), ("data", ":/nowhere"), ("data", "."), (".", None), (".", "/nowhere:data")],
)
def test_code_lying_in_a_folder_of_data_is_not_run(
    runner: Runner, current: str, python_path: str | None, tmp_path: Path
) -> None:
    sprung = tmp_path / "sprung"
    _set_traps(tmp_path / "data", sprung)
    script = tmp_path / "elsewhere" / "push.py"  # as the command installed by pip: its own folder comes first
    script.parent.mkdir()
    script.write_text(f"""
import os, sys
{"" if python_path is None else f"os.environ['PYTHONPATH'] = {python_path!r}"}
sys.path.append({str(REPOSITORY)!r})
from driveshard.cli.main import main
sys.exit(main(["push", {str(tmp_path / "data")!r}, "--to", "file:{tmp_path / "shelf"}", "--part-size", "500"]))
""")
    told = subprocess.run(
        [sys.executable, script], cwd=tmp_path / current, env={**runner.environment, "PYTHONPATH": ""},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert not sprung.exists(), sprung.read_text()
    assert "cannot be started" not in told.stderr


def test_dash_m_runs_no_code_from_the_current_folder(runner: Runner, tmp_path: Path) -> None:
    _set_traps(tmp_path / "data", tmp_path / "sprung")
    (tmp_path / "data" / "click.py").write_text("raise SystemExit(9)")
    told = subprocess.run(
        [sys.executable, "-m", "driveshard", "push", ".", "--to", f"file:{tmp_path / 'shelf'}"],
        cwd=tmp_path / "data", env=runner.environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert not (tmp_path / "sprung").exists()


def test_a_module_beside_the_source_comes_last(runner: Runner) -> None:
    (runner.work / "beside.py").write_text("WORD = 'beside'\n")
    (runner.work / "queue.py").write_text("raise SystemExit(9)\n")
    code, result, err = runner.push_code(
        """
        import beside, queue
        from driveshard import Sample
        def make():
            return [Sample(f"{index}", {"txt": beside.WORD * 100}) for index in range(9)]
        """
    )
    assert (code, result["samples"]) == (0, 9), err


def _no_shared_memory(environment: dict[str, str], work: Path) -> None:
    """Every process of Python's finds that there is no semaphore to be had, as without /dev/shm."""
    (work / "site").mkdir()
    (work / "site" / "sitecustomize.py").write_text(
        "def none(*_, **__): raise OSError(38, 'Function not implemented')\n"
        "import multiprocessing.synchronize as s\n"
        "s.SemLock.__init__ = none\n"
    )
    environment["PYTHONPATH"] = f"{work / 'site'}:{environment['PYTHONPATH']}"


def _long_temp(environment: dict[str, str], work: Path) -> None:
    long = work / ("d" * 120)
    long.mkdir()
    environment["TMPDIR"] = str(long)


@pytest.mark.parametrize(("trouble", "word"), [(_no_shared_memory, "not implemented"), (_long_temp, "TMPDIR")])
def test_without_worker_processes_threads_build(
    runner: Runner, trouble: Callable[[dict[str, str], Path], None], word: str
) -> None:
    trouble(runner.environment, runner.work)
    code, result, err = runner.push("rows.py:Rows")
    assert (code, result["state"], result["samples"]) == (0, "complete", 40), err
    assert word in err
    assert "built in threads" in err


INTERRUPTED = """
import os, signal, sys, threading
import driveshard
from driveshard.core.events import PartPacked
sent = threading.Event()

def hear(event):
    if isinstance(event, PartPacked) and not sent.is_set():
        sent.set()
        os.kill(os.getpid(), signal.SIGINT)

if __name__ == "__main__":
    try:
        driveshard.push("rows.py:Rows", name="t", to="file:shelf", part_size=1500, workers=2, engine=sys.argv[1],
                        on_event=hear)
    except KeyboardInterrupt:
        names = [thread.name for thread in threading.enumerate()]
        print(sorted(name for name in names if name.startswith(("pack", "upload", "planner"))))
"""


@pytest.mark.parametrize("engine", ["processes", "threads"])
def test_ctrl_c_in_a_script_stops_everything_before_it_comes_back(runner: Runner, engine: str) -> None:
    (runner.work / "script.py").write_text(INTERRUPTED)
    told = subprocess.run(
        [sys.executable, "script.py", engine], cwd=runner.work, env=runner.environment, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert (told.returncode, told.stdout) == (0, "[]\n"), told.stderr


def test_two_threads_may_start_workers_at_once_and_nobody_sees_a_bare_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "script.py", raising=False)  # as when one is running
    main, inside, seen = sys.modules["__main__"].__dict__, threading.Event(), threading.Event()
    before = main.get("__file__"), main.get("__spec__")

    def start() -> None:
        with bare_start():
            inside.set()
            seen.wait(10)
            found.append(spawn.get_preparation_data("x"))

    found: list[dict[str, object]] = []
    thread = threading.Thread(target=start)
    thread.start()
    inside.wait(10)
    assert (main.get("__file__"), main.get("__spec__")) == before
    theirs = spawn.get_preparation_data("y")
    seen.set()
    thread.join()
    assert (main.get("__file__"), main.get("__spec__")) == before
    assert not {"init_main_from_name", "init_main_from_path"} & found[0].keys()
    assert {"init_main_from_name", "init_main_from_path"} & theirs.keys()


def test_windows_is_given_no_more_workers_than_it_can_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("concurrent.futures.process.sys.platform", "win32")
    pool = process_pool(64, multiprocessing.get_context("spawn"), int)
    monkeypatch.undo()
    assert pool._max_workers == 61
    pool.shutdown()


def test_threads_that_decode_side_by_side_leave_the_warnings_as_they_were() -> None:
    before, first, second, left = list(warnings.filters), threading.Event(), threading.Event(), threading.Event()

    def one() -> None:
        with strict:
            first.set()
            second.wait(10)
        left.set()

    thread = threading.Thread(target=one)
    thread.start()
    first.wait(10)
    with strict:
        second.set()
        left.wait(10)
        assert list(warnings.filters) != before
    thread.join()
    assert list(warnings.filters) == before
