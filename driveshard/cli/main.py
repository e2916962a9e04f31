"""The command line: the group of commands, and what a command's end means to the shell.

A command's module is imported when it is called for, so that ``--help`` answers at once.
"""

from __future__ import annotations

import atexit
import errno
import gc
import importlib
import os
import sys
import warnings
from functools import partial

import click
from click.core import ParameterSource

from driveshard.cli.console import ReaderGone, manner, put_result, tell, tell_event
from driveshard.cli.flags import common, write_options
from driveshard.config.home import CONFIG_FILE, home_folder
from driveshard.core.errors import ConfigError, DriveshardError, Interrupted, TempFull, UsageError
from driveshard.core.similar import near

# Python looks through all its objects for what is of no use any more before it ends: a tenth of a second for nothing.
atexit.register(gc.freeze)

_WIDTH = 100
_ELSEWHERE = "Free some room, or write elsewhere."
_FULL = (errno.ENOSPC, errno.EDQUOT) if hasattr(errno, "EDQUOT") else (errno.ENOSPC,)
COMMANDS = {
    "demo": "Do the whole job on this machine, without an account.",
    "push": "Pack a folder or a generator into zip parts and upload them.",
    "pull": "Fetch a shared dataset, each part proved; no login needed.",
    "status": "Show what is up, what is left, and when it can go on.",
    "share": "Show or set who may read a dataset, and print its link.",
    "verify": "Prove that a dataset is whole.",
    "ls": "List the members of a dataset.",
    "cat": "Write one member of a dataset to stdout.",
    "compact": "Merge a dataset's small parts into large ones.",
    "preview": "Write a contact sheet of a dataset's images.",
    "view": "Browse a dataset's samples on a page of this machine.",
    "stats": "Counts, sizes, labels, and mean and std of images.",
    "derive": "Make a new dataset from one, by a function over its samples.",
    "forget": "Forget a dataset: its ledger and waiting parts here.",
    "clean": "Remove what runs left on this machine.",
    "login": "Allow driveshard to use your Drive.",
    "logout": "Take the login back at Google, and forget it here.",
    "whoami": "Name the account that is used, its right and its OAuth client.",
    "doctor": "Check everything that a push needs, and say what to do.",
    "config": "Show every value that counts, and where it was set.",
    "schedule": "Print a crontab line and a systemd timer for a push.",
    "completion": "Print what makes a shell complete commands, options and names.",
    "emulate": "Serve a Drive of your own on this machine, for trying.",
}
"""Each command with a line for the list, in the order in which one meets them; a module of ``commands`` each."""


# -- commands --------------------------------------------------------------------------------------------------------


class _Commands(click.Group):
    """Loads a command when it is asked for, so that ``--help`` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"driveshard.cli.commands.{cmd_name}")
        command: click.Command = module.command
        if type(command).format_options is click.Command.format_options:
            command.format_options = partial(write_options, command)  # type: ignore[method-assign]
        return command

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        write_options(self, ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        formatter.write(f"\n{_where_things_are()}\n")

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; UsageError for a word that is none offers the command it is near to."""
        wanted = args[0]
        if wanted not in COMMANDS and not wanted.startswith("-"):
            close = near(wanted, COMMANDS)
            question = f" Did you mean {close!r}?" if close else ""
            raise click.UsageError(f"No such command {wanted!r}.{question}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _where_things_are() -> str:
    try:
        home = home_folder(os.environ)
    except ConfigError as error:
        return error.message
    return f"Home (login, ledgers):  {home}\nSettings:               {home / CONFIG_FILE}"


@click.group(
    cls=_Commands,
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


# -- the entry -------------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    from driveshard.cli.console import close_stdout
    from driveshard.cli.error_messages import defect

    manner.reset()
    # What Google's libraries think of this Python's age is nothing that a user of driveshard can mend.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.")
    if "_DRIVESHARD_COMPLETE" in os.environ:
        from driveshard.cli.completion import complete

        return complete(driveshard, os.environ["_DRIVESHARD_COMPLETE"])
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
    from driveshard.cli.error_messages import error_as_json, explain, home_for_crashes

    if manner.as_json and not manner.answered:
        put_result(error_as_json(error))
    if manner.log_format == "json":
        tell_event("Failed", error_as_json(error))
        return error.exit_code
    tell(explain(error, home_for_crashes(), verbose=manner.verbose))
    return error.exit_code


def _usage(error: click.UsageError) -> DriveshardError:
    """What click found wrong; in the environment it is a matter of configuration."""
    command = error.ctx.command_path if error.ctx else "driveshard"
    if isinstance(error, click.NoSuchOption) and error.ctx:
        known = [name for one in error.ctx.command.get_params(error.ctx) for name in one.opts if name.startswith("--")]
        close = near(error.option_name, known)
        error = click.NoSuchOption(error.option_name, possibilities=[close] if close else None, ctx=error.ctx)
    message = error.format_message().rstrip(".")
    parameter = getattr(error, "param", None)
    if error.ctx and parameter and error.ctx.get_parameter_source(parameter.name) is ParameterSource.ENVIRONMENT:
        return ConfigError(f"{parameter.envvar}: {message}")
    return UsageError(message[:1].lower() + message[1:], advice=f"See `{command} --help`.")
