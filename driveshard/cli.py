"""The command line: each command parses, calls one function, and prints what it returns.

Nothing heavy is imported before a command runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from driveshard.console import ReaderGone, tell, tell_event
from driveshard.errors import ConfigError, DriveshardError, Interrupted, TempFull, UsageError
from driveshard.flags import AnyPath, common, examples, given_flags, manner, option, push_flags
from driveshard.options import PUSH, WITH, read_values

_WIDTH = 100
_ELSEWHERE = "Free some room, or write elsewhere."
_FULL = (errno.ENOSPC, errno.EDQUOT) if hasattr(errno, "EDQUOT") else (errno.ENOSPC,)
_ORDER = ("demo", "push", "status", "share", "verify", "ls", "cat", "login", "emulate")


# -- commands --------------------------------------------------------------------------------------------------------


class _InOrder(click.Group):
    """Lists the commands as one meets them, not by their letters."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self.commands, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))


@click.group(
    cls=_InOrder,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": _WIDTH},
    epilog="Exit codes: 0 done, 64 usage, 65 some files unreadable, 66 not there, 69 unreachable, 70 defect, 71 "
    "workers died, 73 temp disk, 75 come back later, 76 not what it should be, 77 log in, 78 configuration, 79 "
    "refused, 129/130/143 interrupted.",
)
@common
def driveshard() -> None:
    """Pack datasets of very many small files into zip parts and push them to Google Drive.

    \b
    Try it without an account:      driveshard demo
    Push a folder and share it:     driveshard login
                                    driveshard push photos/ --share anyone
    """


@driveshard.command(
    short_help="Pack a folder or a generator into zip parts and upload them.",
    epilog=examples(
        """
driveshard push photos/ --share anyone
driveshard push photos/ --name cats --include '*.jpg' --exclude '.*'
driveshard push job.toml --bwlimit '08:00,512K 18:00,10M 23:00,off'
driveshard push samples.py:make --part-size 256MiB --workers 4
link=$(driveshard push photos/ -q)
"""
    ),
)
@click.argument("source")
@push_flags
@common
def push(source: str, **arguments: Any) -> int:
    """Pack SOURCE into zip parts and upload them; run it again to finish, or to add what is new.

    SOURCE is a directory, a Python source (package.module:callable or file.py:callable), or a job file (*.toml).
    Every option can also stand in the environment as DRIVESHARD_<OPTION>, in the job file, and in config.toml.
    """
    from driveshard.pushing import run_push

    return run_push(source, given_flags(arguments), manner)


class _WithFaults(click.Command):
    """Its help ends with the table of fault words, which is read from the emulator when somebody asks."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from driveshard.emulator import describe_faults

        super().format_epilog(ctx, formatter)
        formatter.write(f"\n{describe_faults()}\n")


@driveshard.command(
    cls=_WithFaults,
    short_help="Serve a Drive of your own on this machine, for trying.",
    epilog=examples(
        """
driveshard emulate --root /tmp/drive --port 8765
DRIVESHARD_DRIVE_URL=http://127.0.0.1:8765 driveshard push photos/
driveshard emulate --root /tmp/drive --faults 503@3*2,lost-final --bandwidth 2M
"""
    ),
)
@option(
    "--root",
    type=AnyPath(file_okay=False),
    required=True,
    metavar="DIR",
    help="Where the emulated Drive is kept.",
)
@option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="P",
    help="Port on 127.0.0.1 (default: a free one).",
)
@option("--faults", default="", metavar="WORDS", help="What goes wrong, such as 503@3*2,lost-final.")
@option(
    "--latency-ms",
    type=click.FloatRange(0),
    default=0,
    metavar="N",
    help="Round trip of every request.",
)
@option("--bandwidth", metavar="RATE", help="Bytes a second in each direction, such as 2M.")
@option(
    "--writes-per-second",
    type=click.FloatRange(0, min_open=True),
    metavar="R",
    help="More are answered 'slow down'.",
)
@option("--api-key", metavar="KEY", help="The only API key that is valid (default: any).")
@option("--token", metavar="TOKEN", help="The only access token that is good, beside those that are issued.")
@option("--scan-limit", metavar="SIZE", default="100MiB", help="Bigger files ask for a confirmation on the site.")
@option("--download-quota", type=click.IntRange(0), metavar="N", help="Downloads of a file that strangers get a day.")
@option("--consent", is_flag=True, help="A login waits for a click on the consent page.")
@option("--refresh-days", type=click.FloatRange(0, min_open=True), metavar="N", help="Logins die after so many days.")
@common
def emulate(root: Path, bandwidth: str | None, scan_limit: str, **options: Any) -> int:
    """Serve a Drive of your own on this machine, for trying things out.

    The first line on stdout is JSON: {"url": "http://127.0.0.1:PORT"}. Give that as DRIVESHARD_DRIVE_URL to the other
    commands. What is stored stays under --root. Ctrl-C ends it.
    """
    from driveshard.emulator import run
    from driveshard.pacing import parse_size

    try:
        rate = parse_size(bandwidth) if bandwidth else None
        return run(root, bandwidth=rate, scan_limit=parse_size(scan_limit), **options)
    except ValueError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        what = f"the emulator cannot start on port {options['port']} with {root}: {error.strerror or error}"
        raise ConfigError(what, advice="Leave --port out to have a free one, or name another --root.") from error


@driveshard.command(
    short_help="Prove that a dataset is whole.",
    epilog=examples(
        """
driveshard verify https://drive.google.com/drive/folders/ID
driveshard verify photos --deep
driveshard verify data/photos --json
"""
    ),
)
@click.argument("what")
@option("--deep", is_flag=True, help="Fetch every part and check each byte, not only what Drive says of it.")
@common
def verify(what: str, deep: bool) -> int:
    """Prove that a dataset is whole: every part of its manifest once, with the right size, md5 and sha256.

    WHAT is a folder's link or id, the name of a dataset pushed from here, or a directory with its parts (of which
    every byte is always read). Exit code 76 when something is not as it should be.
    """
    from driveshard.viewing import show_proof

    return show_proof(what, _settings(), manner, deep=deep)


@driveshard.command(
    short_help="List the members of a dataset.",
    epilog=examples(
        """
driveshard ls photos | head
driveshard ls --long https://drive.google.com/drive/folders/ID
"""
    ),
)
@click.argument("what")
@option("-l", "--long", is_flag=True, help="Show size, CRC-32 and part, too.")
@common
def ls(what: str, long: bool) -> int:
    """List the members of a dataset, part by part; nothing but the parts' directories is fetched.

    WHAT is a folder's link or id, the name of a dataset pushed from here, or a directory with its parts. Paths go out
    as the bytes they were packed from.
    """
    from driveshard.viewing import show_members

    return show_members(what, _settings(), manner, long=long)


@driveshard.command(
    short_help="Write one member of a dataset to stdout.",
    epilog=examples(
        """
driveshard cat photos a/0007.jpg > 0007.jpg
driveshard cat https://drive.google.com/drive/folders/ID bg_000/fg_000_o_00.json
"""
    ),
)
@click.argument("what")
@click.argument("member")
@common
def cat(what: str, member: str) -> int:
    """Write one MEMBER of a dataset to stdout; little more than its own bytes is fetched.

    WHAT is a folder's link or id, the name of a dataset pushed from here, or a directory with its parts.
    """
    from driveshard.viewing import show_member

    return show_member(what, member, _settings(), manner)


@driveshard.command(
    short_help="Show what is up, what is left, and when it can go on.",
    epilog=examples(
        """
driveshard status
driveshard status photos --json
"""
    ),
)
@click.argument("name", required=False)
@common
def status(name: str | None) -> int:
    """Show what each dataset's parts are doing, what is left, and when it can go on; also while a push runs.

    NAME is a dataset pushed from here; without it, all are shown.
    """
    from driveshard.status import show_status

    return show_status(name, _settings(), manner)


@driveshard.command(
    short_help="Set who may read a dataset, and print its link.",
    epilog=examples(
        """
driveshard share photos --with anyone
driveshard share photos --with user:ada@example.org
driveshard share photos --with nobody
"""
    ),
)
@click.argument("name")
@option("--with", "who", metavar="WHO", required=True, help="anyone, domain:D, user:EMAIL or nobody.")
@option("--wait", is_flag=True, help="If a run has this dataset, wait for it.")
@common
def share(name: str, who: str, wait: bool) -> int:
    """Set who may read a dataset's folder, and print its link.

    NAME is a dataset pushed from here. `nobody` takes back what was granted before.
    """
    from driveshard.sharing import run_share

    return run_share(name, read_values({"share": who}, PUSH, WITH)["share"], _settings(), manner, wait=wait)


@driveshard.command(
    short_help="Do the whole job on this machine, without an account.",
    epilog=examples(
        """
driveshard demo
driveshard demo --samples 20000 --faults '503@5*3,lost-final'
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
@common
def demo(samples: int, faults: str, keep: Path | None) -> int:
    """Do the whole job on this machine, without an account: it takes some ten seconds.

    Draws images, composes samples of them, packs them into zip parts, uploads these to a Drive of its own, shares the
    folder, verifies it, and reads samples back out of the stored zips.
    """
    from driveshard.demo import show_demo

    return show_demo(samples, faults, keep, manner)


@driveshard.command(
    short_help="Allow driveshard to use your Drive.",
    epilog=examples(
        """
driveshard login
driveshard login --credentials ~/Downloads/client_secret.json
driveshard login --no-browser --port 8085
"""
    ),
)
@click.option(
    "--credentials",
    type=AnyPath(),
    metavar="FILE",
    help="The OAuth client's file (default: credentials.json in the home folder).",
)
@option(
    "--scope",
    type=click.Choice(["drive.file", "drive", "drive.readonly"]),
    default="drive.file",
    show_default=True,
    help="drive.file sees only what driveshard made; drive is needed to push into a folder you made.",
)
@option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="P",
    help="Port on this machine for Google's answer (default: a free one).",
)
@option("--no-browser", is_flag=True, help="Print the address instead of opening it.")
@common
def login(credentials: Path | None, scope: str, port: int, no_browser: bool) -> int:
    """Allow driveshard to use your Drive, in the browser; needed once.

    On a machine without a browser: give --no-browser and --port P, run `ssh -L P:localhost:P THAT-MACHINE` where your
    browser is, and open the address there. The token is kept in the home folder, readable by you only.
    """
    from driveshard.signing_in import run_login

    return run_login(_settings(), manner, client=credentials, scope=scope, port=port, browser=not no_browser)


def _settings() -> Any:
    from driveshard.config import settings_from

    return settings_from()


# -- the entry -------------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    from driveshard.edge import close_stdout, defect

    manner.reset()
    try:
        code = driveshard.main(arguments, prog_name="driveshard", standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = UsageError.exit_code
    except click.UsageError as error:
        code = fail(_usage(error))
    except click.ClickException as error:
        code = fail(UsageError(error.format_message()))
    except (click.Abort, KeyboardInterrupt):
        tell("driveshard: stopped.")
        code = Interrupted.exit_code
    except ReaderGone:
        code = 0
    except SystemExit as error:  # click's, when nobody reads its help: it puts a wrapper of its own around stdout
        code = 0 if "PacifyFlushWrapper" in type(sys.stdout).__name__ else fail(defect(error))
    except DriveshardError as error:
        code = fail(error)
    except OSError as error:
        full = error.errno in _FULL and error.filename is None
        code = fail(TempFull(f"the output cannot be written: {error}", advice=_ELSEWHERE) if full else defect(error))
    except Exception as error:  # the outermost edge: a bug becomes one sentence and a file
        code = fail(defect(error))
    close_stdout()
    return code


def fail(error: DriveshardError) -> int:
    """Print an error; returns its exit code."""
    from driveshard.edge import error_as_json, explain, home_for_crashes

    if manner.log_format == "json":
        tell_event("Failed", error_as_json(error))
        return error.exit_code
    tell(explain(error, home_for_crashes(), verbose=manner.verbose))
    return error.exit_code


def _usage(error: click.UsageError) -> DriveshardError:
    """What click found wrong; in the environment it is a matter of configuration."""
    command = error.ctx.command_path if error.ctx else "driveshard"
    message = error.format_message().rstrip(".")
    parameter = getattr(error, "param", None)
    if error.ctx and parameter and error.ctx.get_parameter_source(parameter.name) is ParameterSource.ENVIRONMENT:
        return ConfigError(f"{parameter.envvar}: {message}")
    return UsageError(message[:1].lower() + message[1:], advice=f"See `{command} --help`.")
