"""Every error a user can meet, as one tree. A class owns its exit code and what to do next.

    DriveshardError
    ├── UsageError              64  wrong usage
    ├── SourceMissing           66  the source, or a thing named, is not there
    │   └── SourceChanged           a source file changed while it was read
    ├── Unreachable             69  Drive cannot be reached, or kept failing
    │   ├── Unavailable             one 5xx, 408 or broken connection: worth another try
    │   └── Throttled               "slow down": worth another try, later
    ├── Defect                  70  a bug in driveshard
    ├── WorkersKilled           71  worker processes died again and again, or cannot be started
    ├── TempFull                73  the temp disk: no room, or not writable
    │   └── PartTooLarge            a part would outgrow what was set aside for it
    ├── ComeBackLater           75  a state that passes by itself; says when
    │   ├── DailyCap                Drive's cap for today is used up
    │   ├── Blocked                 Drive takes us for a robot: not one request more
    │   └── Busy                    another run holds the dataset
    ├── Mismatch                76  what was stored or fetched is not what it should be
    ├── AuthError               77  log in again
    │   └── LoanOver                what was lent to a worker has ended: lend it anew
    ├── ConfigError             78  configuration
    │   └── BrokenPicture           an input image of the generator that cannot be decoded
    ├── Refused                 79  Drive said no, for good
    │   ├── StorageFull
    │   ├── ShareRefused            sharing only; never fails an upload
    │   ├── BadRequest              a refusal of this one request, for a reason that is not known here
    │   ├── NotFound                an id that Drive does not know, or does not show to us
    │   └── IdRefused               a new file under the id it was given; another id may do
    ├── SessionGone             69  the upload session is no more: begin again under the same id
    ├── IdInUse                 69  a file with that id exists: get it and compare
    ├── TempLost                73  a part left the temp folder before its upload: build it again
    └── Interrupted            130  a signal (143 for SIGTERM, 129 for SIGHUP)

The Drive edge turns a reply into one of these (``drive/errors.py``); nothing behind it looks at a status code.
"""

from __future__ import annotations

from typing import Any

from driveshard.core.formatting import error_text, shortened


class DriveshardError(Exception):
    """Base of all. ``message`` is one sentence for the user, ``advice`` what to do next; ``str(error)``, which is what
    a traceback shows, has both, and in an f-string the error stands for its message alone. Values in them are
    shortened here, and nowhere else.

    Instances survive pickling with all their attributes, so that one raised in a worker process reaches the
    coordinator whole.
    """

    exit_code = 70
    advice = ""

    def __init__(self, message: str, *, advice: str | None = None, **details: Any) -> None:
        super().__init__(shortened(message))
        if advice is not None:
            self.advice = shortened(advice)
        for name, value in details.items():
            setattr(self, name, value)

    @property
    def message(self) -> str:
        """The sentence alone."""
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        return f"{self.message}\n{self.advice}" if self.advice else self.message

    def __format__(self, form: str) -> str:
        return format(self.message, form)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))


def _rebuild(kind: type[DriveshardError], args: tuple[Any, ...], state: dict[str, Any]) -> DriveshardError:
    error = kind(*args)
    error.__dict__.update(state)
    return error


class UsageError(DriveshardError):
    exit_code = 64


class SourceMissing(DriveshardError):
    exit_code = 66


class SourceChanged(SourceMissing):
    """A source file did not read the same twice. Concerns that one file; the part goes on without it."""


class Unreachable(DriveshardError):
    exit_code = 69
    advice = "Nothing is lost: run the same command again to go on."


class Unavailable(Unreachable):
    """One request failed in a way that may pass. Retried; after too many in a row it ends the run.

    ``answered_before`` says that the request before it, of the same step, was answered: a row of failures begins anew.
    """

    answered_before = False


class Throttled(Unreachable):
    """Drive asks to slow down.

    ``retry_after`` is in seconds, or None when Drive named none. ``perhaps_daily`` marks the reply that Drive gives
    both for a short burst and for the cap of the day.
    """

    retry_after: float | None = None
    perhaps_daily = False


class Defect(DriveshardError):
    exit_code = 70
    advice = "This is a bug in driveshard; please report it with the lines above. The upload can be run again."


class WorkersKilled(DriveshardError):
    """The system, or the source's own code, ended worker processes more often than a part is tried."""

    exit_code = 71
    advice = (
        "Nothing is lost: run the same command again with fewer workers (--workers 1), or with more memory free;"
        " if the source's own code ends its process, mend it there."
    )


class TempFull(DriveshardError):
    """``vanished`` says that the folder itself was gone, which passes: it is made again."""

    exit_code = 73
    vanished = False
    advice = "Free some room, or name another folder with --temp, then run the same command again."


class PartTooLarge(TempFull):
    """``needed`` is the size in bytes the part would have had, ``limit`` what it was allowed."""

    advice = "Make parts smaller with --part-size or give more room with --temp-limit, then run the command again."
    needed = 0
    limit = 0


class ComeBackLater(DriveshardError):
    """``resume_after`` is a POSIX time in seconds, or None when unknown."""

    exit_code = 75
    resume_after: float | None = None


class DailyCap(ComeBackLater):
    advice = "Run the same command again after that time; it goes on where it stopped."


class Blocked(ComeBackLater):
    """Drive takes this machine's requests for automated traffic. Each further request makes the block last longer."""

    advice = "Run the same command again after that time; it goes on where it stopped."


class Busy(ComeBackLater):
    advice = "Wait for it to end, or give --wait."


class Mismatch(DriveshardError):
    exit_code = 76


class AuthError(DriveshardError):
    exit_code = 77
    advice = "Run `driveshard login`."


class LoanOver(AuthError):
    """The access token that a worker elsewhere was lent has ended, or is not taken any more: it gets another one."""

    advice = "Let a part take less than half an hour, or run `driveshard login`; then run the same command again."


class ConfigError(DriveshardError):
    exit_code = 78


class BrokenPicture(ConfigError):
    """``path`` is the image file, ``why`` the decoder's reason alone."""

    advice = "Repair the file, or take it out of the folder."
    path: str
    why: str


class Refused(DriveshardError):
    exit_code = 79


class StorageFull(Refused):
    advice = "Free some space (empty the trash too) or get more storage, then run the same command again."


class ShareRefused(Refused):
    """``by_policy`` says that an administrator's rule is why, and not the address."""

    by_policy = False
    advice = "The upload itself is complete. Ask the administrator, or try `--with user:EMAIL` or `--with domain:D`."


class BadRequest(Refused):
    """A 4xx that the table of refusals does not know: it is about this one request, and it is Drive's refusal.

    ``status`` is the reply's, ``reason`` Drive's word for it and ``parameter`` what it found wanting in the request
    (``fileId``), both empty when it did not say.
    """

    status = 400
    reason = ""
    parameter = ""


class NotFound(Refused):
    """``trashed`` says that it is in the trash, from where its owner can restore it."""

    exit_code = 66
    trashed = False


class IdRefused(Refused):
    """Drive makes no file under that id, as it does once a file of that id was deleted for good. It may also be
    something else that it does not like, so another id is tried once."""


class SessionGone(Unreachable):
    """The upload session answered 404 or 410, or is older than a week."""


class IdInUse(Unreachable):
    """Drive says that a file with the reserved id exists. Not proof: get the file and compare checksums."""


class TempLost(DriveshardError):
    """The spool file is missing or is not what was packed. Mended inside by building the part again. ``usual`` says
    that nobody need be told: an earlier run's workers keep nothing."""

    exit_code = 73
    usual = False
    advice = "Something else cleans the temp folder; name another with --temp, then run the same command again."


class Interrupted(DriveshardError):
    exit_code = 130
    advice = "Run the same command again to go on."


def defect_of(error: BaseException) -> DriveshardError:
    """What an error means to the user: itself, or a bug of ours with the error inside."""
    if isinstance(error, DriveshardError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("interrupted")
    return Defect(error_text(error))
