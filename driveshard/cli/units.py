"""The lines that have a push run by cron or by systemd. Pure: from words to text."""

from __future__ import annotations

import re
import shlex
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from driveshard.core.errors import UsageError

_DAY, _HOUR, _MINUTE = 86_400, 3600, 60


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When: every ``every`` seconds, or once a day at ``at`` (hour, minute)."""

    every: int | None = None
    at: tuple[int, int] | None = None


def rhythm(every: float | None, at: str | None) -> Rhythm:
    """From what was typed. Raises UsageError for what cron cannot say."""
    if at is not None:
        match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", at)
        if match is None or every is not None:
            raise UsageError(
                "--at wants a time of day, and no --every beside it" if every else f"--at: {at!r} is not a time of day",
                advice="Write it like --at 02:30.",
            )
        return Rhythm(at=(int(match[1]), int(match[2])))
    seconds = _DAY if every is None else int(every)
    minutes = seconds // _MINUTE
    even = (minutes <= 30 and 60 % minutes == 0) if 0 < seconds < _HOUR else seconds in (_HOUR * n for n in _HOURS)
    if seconds % _MINUTE or not even:
        raise UsageError(
            "--every is a time that cron cannot say evenly",
            advice="Give minutes that divide an hour (5m, 10m, 15m, 20m, 30m), hours that divide a day (1h, 2h, 3h, 4h,"
            " 6h, 8h, 12h), or 1d.",
        )
    return Rhythm(every=seconds)


_HOURS = (1, 2, 3, 4, 6, 8, 12, 24)


def _minute_of(name: str) -> int:
    """A minute of the hour by the name, so that not all jobs of a machine begin at once."""
    return zlib.crc32(name.encode()) % 60


def cron_times(when: Rhythm, name: str) -> str:
    """The five fields."""
    minute = _minute_of(name)
    if when.at is not None:
        return f"{when.at[1]} {when.at[0]} * * *"
    assert when.every is not None
    if when.every < _HOUR:
        return f"*/{when.every // _MINUTE} * * * *"
    if when.every == _HOUR:
        return f"{minute} * * * *"
    return f"{minute} 2 * * *" if when.every == _DAY else f"{minute} */{when.every // _HOUR} * * *"


def calendar(when: Rhythm, name: str) -> str:
    """The same for systemd's OnCalendar."""
    minute = _minute_of(name)
    if when.at is not None:
        return f"*-*-* {when.at[0]:02}:{when.at[1]:02}:00"
    assert when.every is not None
    if when.every < _HOUR:
        return f"*-*-* *:00/{when.every // _MINUTE}:00"
    if when.every == _HOUR:
        return f"*-*-* *:{minute:02}:00"
    return f"*-*-* 02:{minute:02}:00" if when.every == _DAY else f"*-*-* 00/{when.every // _HOUR}:{minute:02}:00"


def crontab_line(
    when: Rhythm, name: str, command: Sequence[str], directory: str, environment: Mapping[str, str]
) -> str:
    """One line of a crontab; a percent sign would be a line end to cron."""
    return f"{cron_times(when, name)} {_cron_command(command, directory, environment)}"


def crontab_at_boot(command: Sequence[str], directory: str, environment: Mapping[str, str]) -> str:
    """One line of a crontab, for what stays."""
    return f"@reboot {_cron_command(command, directory, environment)}"


def _cron_command(command: Sequence[str], directory: str, environment: Mapping[str, str]) -> str:
    variables = [f"{key}={shlex.quote(value)}" for key, value in environment.items()]
    line = f"cd {shlex.quote(directory)} && {' '.join([*variables, shlex.join(command)])}"
    return _one_line(line).replace("%", r"\%")


def service(name: str, command: Sequence[str], directory: str, environment: Mapping[str, str]) -> str:
    """The unit that pushes once. 75 (come back later) and 65 (some files unreadable) are no failures of the unit."""
    variables = "".join(f"Environment={_quoted(f'{key}={value}')}\n" for key, value in environment.items())
    return f"""[Unit]
Description=driveshard push {_one_line(name).replace("%", "%%")}
Documentation=man:systemd.timer(5)
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
WorkingDirectory={_one_line(directory).replace("%", "%%")}
{variables}ExecStart={" ".join(map(_command_word, command))}
SuccessExitStatus=65 75
TimeoutStartSec=infinity
TimeoutStopSec=10
Nice=10
IOSchedulingClass=idle
UMask=0077
NoNewPrivileges=true
"""


def staying_service(
    name: str, command: Sequence[str], directory: str, environment: Mapping[str, str], to_be_mended: Iterable[int]
) -> str:
    """The unit of a push that stays (``--every``). It says itself when it is ready, and that it is alive: one that says
    nothing for two minutes is started anew. ``to_be_mended`` are the exit codes with which it stays ended; 130 and 143
    are how it ends when it was told to in the midst of a push."""
    variables = "".join(f"Environment={_quoted(f'{key}={value}')}\n" for key, value in environment.items())
    return f"""[Unit]
Description=driveshard push {_one_line(name).replace("%", "%%")}, again and again
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
NotifyAccess=main
WatchdogSec=2min
WorkingDirectory={_one_line(directory).replace("%", "%%")}
{variables}ExecStart={" ".join(map(_command_word, command))}
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=1min
SuccessExitStatus=130 143
RestartPreventExitStatus={" ".join(map(str, sorted(to_be_mended)))}
TimeoutStartSec=2min
TimeoutStopSec=10
Nice=10
IOSchedulingClass=idle
UMask=0077
NoNewPrivileges=true

[Install]
WantedBy=default.target
"""


def timer(name: str, when: Rhythm) -> str:
    """The unit that starts it; what was missed while the machine was off is made up for."""
    return f"""[Unit]
Description=Runs driveshard push {_one_line(name).replace("%", "%%")}

[Timer]
OnCalendar={calendar(when, name)}
Persistent=true
AccuracySec=1min

[Install]
WantedBy=timers.target
"""


def unit_name(name: str) -> str:
    """``driveshard-photos``: what systemd allows in a file name."""
    return "driveshard-" + (re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.") or "push")[:100]


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise UsageError("a path or name with line ends or control characters cannot stand in a crontab or a unit")
    return text


def _quoted(text: str) -> str:
    """A word of a unit's setting: quoted, with nothing in it that systemd would expand."""
    return '"' + _one_line(text).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def _command_word(text: str) -> str:
    """A word of a command line, where a dollar sign would be a variable, too."""
    word = text.replace("$", "$$")
    return word.replace("%", "%%") if re.fullmatch(r"[\w@+=:,./%-]+", word) else _quoted(word)
