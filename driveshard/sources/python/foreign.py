"""Running the user's own code: whatever it raises, and however it tries to leave, becomes one kind of error.

``except Exception`` would not do: ``sys.exit`` in a sample would end the run as if it were done, a test library's or an
event loop's own BaseException would pass every guard, and ``os._exit`` would end the whole push without a word.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sysconfig
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

from driveshard.core.errors import UsageError
from driveshard.core.formatting import error_text

T = TypeVar("T")

_OURS = str(Path(__file__).parents[2]) + os.sep
_LIBRARIES = tuple({sysconfig.get_path(kind) + os.sep for kind in ("stdlib", "platstdlib", "purelib", "platlib")})
_here = threading.local()
_true_exit = os._exit


class CodeFailed(Exception):
    """The user's code did not return. ``str()`` is what it raised, in words; the error itself is the cause."""


class _Leaves(BaseException):
    """The user's code called ``os._exit``."""


def run_foreign(call: Callable[[], T]) -> T:
    """What ``call`` returns. Raises CodeFailed for anything it raises, but lets a real Ctrl-C through."""
    before = getattr(_here, "running", 0)
    _here.running = before + 1
    try:
        return call()
    except BaseException as error:  # the user's own code may raise anything
        if is_ctrl_c(error):
            raise
        said = str(error) if isinstance(error, _Leaves) else error_text(error)
        raise CodeFailed(said + _place(error)) from error
    finally:
        _here.running = before


def _place(error: BaseException) -> str:
    """`` (make.py, line 12)``: the last line of the user's own code on the way to the error; empty when there is none,
    or when the error says it itself."""
    if isinstance(error, SyntaxError):
        return ""
    steps = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    foreign = [step for step in steps if not step[0].startswith((_OURS, "<frozen"))]
    own = [step for step in foreign if not step[0].startswith(_LIBRARIES)] or foreign
    return f" ({_short(own[-1][0])}, line {own[-1][1]})" if own else ""


def _short(path: str) -> str:
    """Relative, for a file below the current folder."""
    try:
        near = os.path.relpath(path) if os.path.isabs(path) else path  # noqa: PTH117
    except (OSError, ValueError):  # no current folder, or another drive
        return path
    return path if near.startswith(os.pardir) else near


def guarded(call: Callable[[], T], what: str) -> T:
    """As ``run_foreign``, but what goes wrong ends the run: UsageError, in one sentence that begins with ``what``."""
    try:
        return run_foreign(call)
    except CodeFailed as failed:
        raise UsageError(f"{what} raised {failed}") from failed.__cause__


def is_ctrl_c(error: BaseException) -> bool:
    """Whether it may be a true Ctrl-C: those come to the main thread alone, and only with Python's own handler."""
    return (
        isinstance(error, KeyboardInterrupt)
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )


def keep_process() -> None:
    """From now on ``os._exit`` in the user's code fails that code, and no longer ends this process, without a result
    and with an exit code of its own. Worker processes are left as they are: a death there is seen and told."""
    if multiprocessing.parent_process() is None and os._exit is _true_exit:
        os._exit = _exit


def _exit(status: int) -> NoReturn:
    if getattr(_here, "running", 0) and os.getpid() == _owner:
        raise _Leaves(f"os._exit({status})")
    _true_exit(status)


_owner = os.getpid()
