"""For runs that nobody looks at: a log file, commands to run at the end, an end to what hangs, and a memory of runs."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import logging.handlers
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from driveshard.cli.console import leave, tell
from driveshard.cli.error_messages import error_as_json, moment, redacted, sentence
from driveshard.cli.progress.json_lines import JsonLines
from driveshard.cli.progress.report import logs_said
from driveshard.config.settings import RunOptions
from driveshard.core.errors import ConfigError, Unavailable
from driveshard.core.events import BytesSent, Event, PackStarted, Planned, Scanned, Waiting
from driveshard.core.files import write_whole
from driveshard.core.formatting import human_seconds, human_size, iso_time, plural, shown
from driveshard.upload.result import PushResult

_LOG_BYTES, _LOGS = 5 << 20, 5
_FREQUENT = (BytesSent, Planned, Scanned, PackStarted)  # too many for a file that is to be read
_HOOK_SECONDS = 600.0
_LOOK_EVERY = 1.0  # seconds
_LAST_SECONDS = 5.0  # from the end of patience to the end of the process
_RUNS_KEPT, _RUNS_BYTES = 1000, 1 << 19
_NICE = 10


class LogFile:
    """JSON lines in a file of at most 5 MiB, with five old ones beside it, readable by the owner only. A disk that is
    full loses lines, and fails no run."""

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600))
            self._handler = _Private(path, maxBytes=_LOG_BYTES, backupCount=_LOGS, encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"the log file {path} cannot be written: {error.strerror or error}", advice="Name another --log-file."
            ) from error

    def line(self, text: str) -> None:
        """Write one line, from any thread; as ``Stream`` does."""
        record = logging.LogRecord("driveshard", logging.INFO, "", 0, redacted(text).replace("\n", " "), None, None)
        self._handler.handle(record)

    def put(self, kind: str, document: Mapping[str, Any]) -> None:
        """Write one event."""
        self.line(json.dumps({"time": iso_time(), "event": kind, **document}))

    def close(self) -> None:
        self._handler.close()


class _Private(logging.handlers.RotatingFileHandler):
    def _open(self) -> Any:
        handle = os.open(self.baseFilename, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        return os.fdopen(handle, "a", encoding=self.encoding)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Nothing: there is nowhere to say it."""


class Watch:
    """Watches one run."""

    def __init__(self, options: RunOptions, home: Path, *, verbose: bool = False) -> None:
        self._options = options
        self._home = home
        self._verbose = verbose
        self._stop = threading.Event()
        self._log = LogFile(options.log_file) if options.log_file else None
        self._lines = JsonLines(self._log) if self._log else None
        self._until = time.monotonic() + (options.stall_after or 0.0)
        self._open_end = False
        self._ended = threading.Event()
        self.stalled = False

    def take(self, event: Event) -> None:
        """One event of the run, from any thread."""
        if self._options.stall_after:
            # A wait without a known end, as for another run, lasts until something else is heard.
            self._open_end = isinstance(event, Waiting) and not event.seconds and not event.calm
            expected = event.seconds if isinstance(event, Waiting) else 0.0
            self._until = max(self._until, time.monotonic() + expected + self._options.stall_after)
        if self._lines and not isinstance(event, _FREQUENT):
            self._lines.emit(event)

    @contextlib.contextmanager
    def on(self, stop: threading.Event) -> Iterator[None]:
        """While a run goes on. ``stop`` ends it at the next safe point."""
        self._stop = stop
        self._until = time.monotonic() + (self._options.stall_after or 0.0)
        if self._options.nice:
            be_nice()
        if self._options.stall_after:
            threading.Thread(target=self._guard, name="stall watch", daemon=True).start()
        said = logs_said(self._lines.say, verbose=self._verbose) if self._lines else contextlib.nullcontext()
        with said:
            try:
                yield
            finally:
                self._ended.set()

    def _guard(self) -> None:
        while (left := self._until - time.monotonic()) > 0 or self._open_end:
            if self._ended.wait(max(left, _LOOK_EVERY)):
                return
        self.stalled = True
        with contextlib.suppress(OSError):
            path = self._home / f"stalled-{time.strftime('%Y%m%d-%H%M%S')}.txt"
            with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "w") as stream:
                faulthandler.dump_traceback(stream)
        self._stop.set()
        if not self._ended.wait(_LAST_SECONDS):
            tell(f"driveshard: {self.why_stalled()}. {self.why_stalled().advice}")
            leave(Unavailable.exit_code)

    def why_stalled(self) -> Unavailable:
        """The error of a run in which nothing happened any more."""
        return Unavailable(f"nothing has happened for {human_seconds(self._options.stall_after or 0.0)}")

    def over(self, result: PushResult, code: int, stopped: int | None) -> None:
        """Write down how the run ended, and run the command for that. Never raises."""
        document = ended(result, code)
        if self._log:
            self._log.put("Ended", document)
            self._log.close()
        remember(self._home, document)
        command = self._options.on_failure if code else self._options.on_success
        if command and stopped is None:
            run_hook(command, document)


def ended(result: PushResult, code: int) -> dict[str, Any]:
    """How a run ended: the result, its exit code, and the error or None."""
    error = error_as_json(result.error) if result.error is not None else None
    return {**result.as_json(), "exit_code": code, "error": error}


def run_hook(command: str, document: Mapping[str, Any]) -> None:
    """Run the user's command with the document on its stdin. Its stdout goes to stderr, as ours is data; how it ends
    changes nothing of the run."""
    environment = {**os.environ, "DRIVESHARD_EXIT_CODE": str(document["exit_code"])}
    try:
        done = subprocess.run(  # noqa: S602 - it is the user's own command line
            command,
            shell=True,
            input=json.dumps(document).encode(),
            stdout=_stderr(),
            env=environment,
            timeout=_HOOK_SECONDS,
            check=False,
        )
        why = f"ended with {done.returncode}" if done.returncode else ""
    except subprocess.TimeoutExpired:
        why = f"did not end within {human_seconds(_HOOK_SECONDS)}"
    except (OSError, ValueError) as error:
        why = str(getattr(error, "strerror", None) or error)
    if why:
        tell(f"driveshard: the command {command!r} {why}")


def _stderr() -> int:
    try:
        os.fstat(2)
    except OSError:
        return subprocess.DEVNULL
    return 2


def be_nice() -> None:
    """Low priority for this process and those that it starts: CPU, and the disk where the system has such a thing."""
    with contextlib.suppress(OSError, AttributeError):
        os.nice(_NICE)
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["ionice", "-c", "3", "-p", str(os.getpid())]
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=5, check=False)  # noqa: S603


# -- the memory of runs ----------------------------------------------------------------------------------------------


def runs_file(home: Path) -> Path:
    """A line for each run that ended, the newest last."""
    return home / "runs.jsonl"


def remember(home: Path, document: Mapping[str, Any]) -> None:
    """Note a run. A home that cannot be written is no reason to fail."""
    error = document.get("error")
    kept = {key: document.get(key) for key in ("name", "state", "exit_code", "parts", "sent_bytes", "seconds")}
    line = {"time": round(time.time()), **kept, "error": error["message"][:300] if error else None}
    path = runs_file(home)
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        with os.fdopen(handle, "ab") as stream:
            stream.write(json.dumps(line).encode() + b"\n")
        if path.stat().st_size > _RUNS_BYTES:
            write_whole(path, b"".join(path.read_bytes().splitlines(keepends=True)[-_RUNS_KEPT:]))


def forget_runs(home: Path, name: str) -> None:
    """Drop what is remembered of a dataset's runs."""
    path = runs_file(home)
    with contextlib.suppress(OSError):
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if not _is_of(line, name)]
        if not kept:
            path.unlink()
        elif len(kept) < len(lines):
            write_whole(path, b"".join(kept))


def _is_of(line: bytes, name: str) -> bool:
    with contextlib.suppress(ValueError):
        one = json.loads(line)
        return isinstance(one, dict) and one.get("name") == name
    return False


def last_runs(home: Path, name: str, count: int = 10) -> list[dict[str, Any]]:
    """The last runs of a dataset, the newest first."""
    try:
        lines = runs_file(home).read_bytes().splitlines()
    except OSError:
        return []
    found: list[dict[str, Any]] = []
    for line in reversed(lines):
        with contextlib.suppress(ValueError):
            one = json.loads(line)
            if isinstance(one, dict) and one.get("name") == name:
                found.append(one)
        if len(found) == count:
            break
    return found


def run_line(run: Mapping[str, Any]) -> str:
    """``2026-11-25 02:30  ok  sent 4.0 MiB in 12 s``"""
    code = run.get("exit_code")
    how = "ok" if code == 0 else f"exit {code}"
    sent, seconds = run.get("sent_bytes") or 0, run.get("seconds") or 0.0
    what = f"sent {human_size(sent)} in {human_seconds(seconds)}" if sent else f"nothing sent, {human_seconds(seconds)}"
    why = f": {shown(str(run['error']))}" if run.get("error") else ""
    return f"{moment(float(run.get('time') or 0))}  {how:<8} {what}{why}"


def summary_line(result: PushResult, code: int) -> str:
    """One line for a mail: what it is, how it ended, what to do."""
    name = result.name or "push"
    size = f"{plural(result.parts, 'part')}, {human_size(result.bytes)}"
    sent = f"sent {human_size(result.sent_bytes)} in {human_seconds(result.seconds)}"
    if result.error is None:
        bad = f", {plural(len(result.failed), 'file')} could not be read" if result.failed else ""
        return f"driveshard {name}: complete, {size}, {sent}{bad} {result.link or ''}".rstrip()
    when = result.resume_after or getattr(result.error, "resume_after", None)
    again = f" It can go on from {moment(when)}." if when else ""
    said = f"{sentence(redacted(result.error.message))}{again} {result.error.advice}".replace("\n", " ").rstrip()
    return f"driveshard {name}: exit {code}, {sent}: {shown(said)}"
