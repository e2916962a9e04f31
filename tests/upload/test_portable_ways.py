"""What a system lacks that is not like Linux: the same work is done by the ways that every system has."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

# Taken away from what is loaded later, so from our modules: Python's own and others' libraries go by the platform's
# name, and keep all there is.
POOR = """
import multiprocessing, os, random, signal, socket, sqlite3, ssl, subprocess, sys, tempfile, threading
import http.server, concurrent.futures, multiprocessing.connection, multiprocessing.resource_tracker, uuid, shutil
import click, filelock, google.auth, googleapiclient.discovery, httplib2, numpy, PIL.Image, platformdirs, rich.live
import types

for module in (os, signal):
    whole = types.ModuleType(module.__name__)
    vars(whole).update(vars(module))
    for other in list(sys.modules.values()):
        if other is not sys.modules["__main__"] and vars(other).get(module.__name__) is module:
            setattr(other, module.__name__, whole)
for name in ("fork", "forkpty", "register_at_fork", "getuid", "geteuid", "getgid", "getegid", "getgroups", "setsid",
             "getpgid", "killpg", "getpriority", "nice", "sched_getaffinity", "getloadavg", "statvfs", "fstatvfs",
             "sendfile", "pwrite", "pread", "pwritev", "preadv", "writev", "readv", "posix_fadvise", "posix_fallocate",
             "copy_file_range", "splice", "mkfifo", "fchmod", "fchown", "chown", "lchown", "fdatasync", "sync",
             "O_NOFOLLOW", "O_DIRECTORY", "O_NONBLOCK", "O_CLOEXEC", "O_NOATIME", "O_PATH", "O_DSYNC", "O_NOCTTY"):
    if hasattr(os, name):
        delattr(os, name)
os.process_cpu_count = os.cpu_count  # what it is there
os.supports_dir_fd = set()
os.supports_fd = set()
def refuse(*_, **__):
    raise OSError(95, "Operation not supported")
os.link = os.symlink = refuse
for name in ("SIGHUP", "SIGKILL", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGPIPE", "pthread_sigmask", "sigwait",
             "setitimer", "alarm"):
    if hasattr(signal, name):
        delattr(signal, name)
for name in ("pwd", "grp", "resource", "termios", "tty", "pty"):
    sys.modules[name] = None
multiprocessing.get_all_start_methods = lambda: ["spawn"]
"""

WORK = """
if __name__ == "__main__":
    import contextlib, io, json, pathlib
    from driveshard.cli import main as cli
    from driveshard.emulator import Emulator

    work = pathlib.Path(sys.argv[1])

    def run(*arguments):
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        with contextlib.redirect_stdout(out):
            code = cli.main(list(arguments))
        return code, out.buffer.getvalue()

    with Emulator(work / "drive", strict=True) as emulator:
        os.environ["DRIVESHARD_DRIVE_URL"] = emulator.url
        drive = ("--part-size", "50000", "--writes-per-second", "1000")
        codes = [run(*line)[0] for line in (
            ("push", str(work / "photos"), *drive),
            ("push", str(work / "photos"), *drive),
            ("push", f"{work / 'samples.py'}:samples", "--name", "samples", "--workers", "1", *drive),
            ("push", str(work / "photos"), "--name", "nas", "--to", f"file:{work / 'nas'}", "--part-size", "50000"),
            ("verify", "photos"), ("verify", "samples"), ("verify", "nas"),
        )]
        found = {name: run("cat", name, member) for name, member in
                 (("photos", "7.bin"), ("nas", "7.bin"), ("samples", "k00003.txt"))}
        slips = emulator.stats()["violations"]
    heads = {name: (code, len(data), data[:8].hex()) for name, (code, data) in found.items()}
    print(json.dumps({"codes": codes, "heads": heads, "slips": slips}))
"""

SOURCE = """
from driveshard import Sample


def samples():
    for number in range(20):
        yield Sample(f"k{number:05d}", {"txt": f"text {number}"})
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there it is so anyway")
def test_everything_goes_without_what_only_posix_has(tmp_path: Path) -> None:
    """Pushing from a folder and from Python, to an emulated Drive and to a folder, and reading it back."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(12):
        (photos / f"{number}.bin").write_bytes(bytes([number]) * 20_000)
    (tmp_path / "samples.py").write_text(SOURCE)
    (tmp_path / "script.py").write_text(POOR + WORK)
    environment = {"PYTHONPATH": str(REPOSITORY), "DRIVESHARD_HOME": str(tmp_path / "home"), "PATH": ""}

    done = subprocess.run(
        [sys.executable, "script.py", str(tmp_path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["codes"] == [0] * 7, done.stderr
    assert told["heads"]["photos"] == told["heads"]["nas"] == [0, 20_000, "07" * 8]
    assert told["heads"]["samples"] == [0, 6, b"text 3".hex()]
    assert not told["slips"]
