"""``driveshard demo``."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from driveshard.cli.console import Manner, confirmed, is_asked, leave, put_result, tell
from driveshard.cli.demo.demo import DemoResult, run_demo
from driveshard.cli.flags import AnyPath, common, examples, manner, option
from driveshard.cli.progress.report import opened_report
from driveshard.cli.progress.tally import Tally
from driveshard.cli.signals import Stopper
from driveshard.core.clock import Clock
from driveshard.core.errors import Interrupted
from driveshard.core.events import Emit, Event, Started
from driveshard.core.formatting import human_seconds, plural


@click.command(
    "demo",
    short_help="Do the whole job on this machine, without an account.",
    epilog=examples(
        """
driveshard demo
driveshard demo --samples 20000 --faults '503@5*3,lost-final'
driveshard demo --open
driveshard demo --keep /tmp/demo
"""
    ),
)
@option(
    "--samples",
    type=click.IntRange(1, 10_000_000),
    default=2000,
    show_default=True,
    metavar="N",
    help="At least this many samples.",
)
@option("--faults", default="", metavar="WORDS", help="What goes wrong on the way, such as 503@5*3,lost-final.")
@option(
    "--keep",
    type=AnyPath(file_okay=False),
    metavar="DIR",
    help="Do it in this new directory, and keep everything.",
)
@option("--open", "stay", is_flag=True, help="Keep the local Drive open afterwards, to look at the link.")
@common
def command(samples: int, faults: str, keep: Path | None, stay: bool) -> int:
    """Do the whole job on this machine, without an account: it takes some ten seconds.

    Draws images, composes samples of them, packs them into zip parts, uploads these to a Drive of its own, verifies it,
    reads samples back out of the stored zips, shares the folder, and pulls it as somebody who has only the link. On a
    terminal it asks at its end whether to keep that Drive open, so that you can look at the link in a browser.
    """
    return show_demo(samples, faults, keep, manner, stay=stay)


def show_demo(samples: int, faults: str, keep: Path | None, manner: Manner, *, stay: bool = False) -> int:
    """The whole command; returns its exit code. The story goes to stdout, or to stderr beside ``--json``."""
    clock = Clock()
    write = tell if manner.as_json else put_result

    def say(text: str) -> None:
        if not manner.quiet:
            write(text)

    screen = _Screen(manner)
    with contextlib.ExitStack() as drive:
        with Stopper(clock.stop, lambda text: screen.say(text)) as stopper, contextlib.ExitStack() as stack:
            try:
                result = run_demo(samples, faults, keep, clock, screen.watch, say, stack)
            except Interrupted:
                stack.close()
                leave(stopper.exit_code or Interrupted.exit_code)
            drive.push(stack.pop_all().__exit__)
        for line in _closing(result):
            say(line)
        if manner.as_json:
            put_result(result.as_json())
        _keep_open(result.link, manner, stay=stay)
    return 0


def _keep_open(link: str, manner: Manner, *, stay: bool) -> None:
    """Leave the local Drive open until somebody has looked at the link; asked, unless ``stay``, where there is a
    terminal."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if not stay:
            talks = is_asked() and not manner.quiet and not manner.as_json
            if not talks or not confirmed("\nKeep the local Drive open, to look at the link in a browser", yes=False):
                return
        tell(f"Open {link}\n{'Return' if is_asked() else 'Ctrl-C'} closes it.")
        if is_asked():
            sys.stdin.readline()
        else:
            threading.Event().wait()
    except KeyboardInterrupt:
        tell("")
    finally:
        signal.signal(signal.SIGTERM, before)


class _Screen:
    """What the push shows while it runs; ``say`` goes above its bars while there are any."""

    def __init__(self, manner: Manner) -> None:
        self._manner = manner
        self.say: Callable[[str], None] = tell

    @contextlib.contextmanager
    def watch(self) -> Iterator[Emit]:
        """A report for a part of the story; gives what to emit events to."""
        tally = Tally()
        manner = self._manner
        with opened_report(tally, quiet=manner.quiet, verbose=manner.verbose, log_format=manner.log_format) as report:

            def emit(event: Event) -> None:
                tally.take(event)
                if not isinstance(event, Started):  # the story has said what begins
                    report.emit(event)

            self.say = report.say
            try:
                yield emit
            finally:
                self.say = tell


def _closing(result: DemoResult) -> list[str]:
    lines = [f"All done in {human_seconds(result.seconds)}."]
    if result.faults:
        lines.append(f"{plural(result.faults, 'fault')} happened on the way, and nothing was lost or sent for nothing.")
    if result.directory is not None:
        lines += [
            "",
            "See the share page: run this, then open the link above",
            f"  driveshard emulate --root {result.directory}/drive --port {result.port}",
        ]
    return [
        *lines,
        "",
        "Next, with your own Drive:",
        "  driveshard login",
        "  driveshard push DIRECTORY --share anyone",
    ]
