"""The command line: each command parses, calls one function, and prints what it returns.

Nothing heavy is imported before a command runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from driveshard import __version__
from driveshard.console import Manner, tell
from driveshard.errors import ConfigError, DriveshardError, UsageError
from driveshard.options import FLAGS, PUSH, Option, read_values

_WIDTH = 100


manner = Manner()
"""Of the command that runs; set while its options are read."""


# -- options that are the same everywhere ----------------------------------------------------------------------------


def _note(field: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def note(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value is not None and value is not False:
            setattr(manner, field, value)

    return note


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that every command has."""
    switches = {
        "--json": ("as_json", "JSON", "Print one JSON object with the result as the last line of stdout."),
        "-q/--quiet": ("quiet", "QUIET", "Say only what went wrong."),
        "-v/--verbose": ("verbose", "VERBOSE", "Show every request, and the causes of errors."),
    }
    add = click.version_option(__version__, "--version", message="driveshard %(version)s")
    command = add(command)
    for names, (field, variable, text) in reversed(switches.items()):
        command = click.option(
            *names.split("/"),
            field,
            is_flag=True,
            expose_value=False,
            callback=_note(field),
            envvar=f"DRIVESHARD_{variable}",
            help=text,
        )(command)
    return click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        expose_value=False,
        callback=_note("log_format"),
        envvar="DRIVESHARD_LOG_FORMAT",
        help="Form of what is said on stderr; json is one event a line.",
    )(command)


def push_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of the table; their values come as they were typed, None when they were not."""
    for option in reversed(PUSH):
        command = click.option(f"--{option.name}", option.field, **_form(option), help=_sentence(option.help))(command)
    return command


def _form(option: Option) -> dict[str, Any]:
    if option.switch:
        return {"is_flag": True, "default": None}
    return {"metavar": option.metavar, "multiple": option.many}


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def given_flags(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The push options that were typed, parsed. Raises UsageError."""
    typed = {option.name: arguments[option.field] for option in PUSH if arguments[option.field] not in (None, ())}
    return read_values(typed, PUSH, FLAGS)


def _variable(name: str) -> dict[str, Any]:
    return {"envvar": f"DRIVESHARD_{name}", "show_envvar": False}


# -- commands --------------------------------------------------------------------------------------------------------


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": _WIDTH},
    epilog="Exit codes: 0 done, 64 usage, 65 some files unreadable, 66 not there, 69 unreachable, 70 defect, 73 temp "
    "disk, 75 come back later, 76 not what it should be, 77 log in, 78 configuration, 79 refused, 130/143 interrupted.",
)
@common
def driveshard() -> None:
    """Pack datasets of very many small files into zip parts and push them to Google Drive.

    \b
    Try it without an account:      driveshard demo
    Push a folder and share it:     driveshard login
                                    driveshard push photos/ --share anyone
    """


def examples(text: str) -> str:
    """An epilog that keeps its lines."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in text.strip().splitlines())


@driveshard.command(
    epilog=examples(
        """
driveshard push photos/ --share anyone
driveshard push photos/ --name cats --include '*.jpg' --exclude '.*'
driveshard push job.toml --bwlimit '08:00,512K 18:00,10M 23:00,off'
driveshard push samples.py:make --part-size 256MiB --workers 4
link=$(driveshard push photos/ -q)
"""
    )
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


@driveshard.command(
    epilog=examples(
        """
driveshard emulate --root /tmp/drive --port 8765
DRIVESHARD_DRIVE_URL=http://127.0.0.1:8765 driveshard push photos/
driveshard emulate --root /tmp/drive --faults 503@3*2,lost-final --bandwidth 2M
"""
    )
)
@click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    metavar="DIR",
    help="Where the emulated Drive is kept.",
    **_variable("ROOT"),
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="P",
    help="Port on 127.0.0.1 (default: a free one).",
    **_variable("PORT"),
)
@click.option(
    "--faults", default="", metavar="WORDS", help="What goes wrong, such as 503@3*2,lost-final.", **_variable("FAULTS")
)
@click.option(
    "--latency-ms",
    type=click.FloatRange(0),
    default=0,
    metavar="N",
    help="Delay of every request.",
    **_variable("LATENCY_MS"),
)
@click.option("--bandwidth", metavar="RATE", help="Upload bytes a second, such as 2M.", **_variable("BANDWIDTH"))
@click.option(
    "--writes-per-second",
    type=click.FloatRange(0, min_open=True),
    metavar="R",
    help="More are answered 'slow down'.",
    **_variable("WRITES_PER_SECOND"),
)
@common
def emulate(root: Path, bandwidth: str | None, **options: Any) -> int:
    """Serve a Drive of your own on this machine, for trying things out.

    The first line on stdout is JSON: {"url": "http://127.0.0.1:PORT"}. Give that as DRIVESHARD_DRIVE_URL to the other
    commands. What is stored stays under --root. Ctrl-C ends it.
    """
    from driveshard.emulator import run
    from driveshard.pacing import parse_size

    try:
        return run(root, bandwidth=parse_size(bandwidth) if bandwidth else None, **options)
    except ValueError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise ConfigError(f"the emulator cannot start: {error.strerror or error}") from error


# -- the entry -------------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    from driveshard.edge import defect, quiet_pipe

    code = 0
    with quiet_pipe():
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
            code = 130
        except BrokenPipeError:
            raise
        except DriveshardError as error:
            code = fail(error)
        except Exception as error:  # the outermost edge: a bug becomes one sentence and a file
            code = fail(defect(error))
    return code


def fail(error: DriveshardError) -> int:
    """Print an error; returns its exit code."""
    from driveshard.edge import explain, home_for_crashes

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
