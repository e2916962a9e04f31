"""The flags that commands share, made from the one table of options; and how the command at hand talks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from driveshard import __version__
from driveshard.cli.console import manner
from driveshard.config.options import FLAGS, GROUPS, PUSH, RUN, SETTINGS, Option, read_values
from driveshard.core.paths import path_of

__all__ = ["AnyPath", "Grouped", "common", "examples", "given_flags", "manner", "option", "push_flags"]
__all__ += ["table_flags", "write_options"]
_PROFILE = "DRIVESHARD_PROFILE"
_EVERYWHERE = "Everywhere"


class Grouped(click.Option):
    """An option with a heading that it stands under in the help."""

    def __init__(self, *arguments: Any, group: str = "", **form: Any) -> None:
        super().__init__(*arguments, **form)
        self.group = group


def write_options(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """The options by their headings: the table's groups, the command's own, and last those that every command has."""
    sections: dict[str, list[tuple[str, str]]] = {name: [] for name in ("", *GROUPS, _EVERYWHERE)}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
        if record is not None:
            always = not {"--version", "--help"}.isdisjoint(parameter.opts)
            sections[_EVERYWHERE if always else getattr(parameter, "group", "")].append(record)
    for name, records in sections.items():
        if records:
            with formatter.section(name or "Options"):
                formatter.write_dl(records)


def _note(field: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def note(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value is not None and value is not False:
            setattr(manner, field, value)

    return note


def _profile(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """For the length of this command the login of that name is used, as if the environment said so: there everything
    that needs a login looks for it."""
    if value is None:
        return
    before = os.environ.get(_PROFILE)
    os.environ[_PROFILE] = read_values({"profile": value}, SETTINGS, FLAGS)["profile"]

    def restore() -> None:
        os.environ.pop(_PROFILE, None)
        os.environ.update({_PROFILE: before} if before is not None else {})

    context.call_on_close(restore)


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
            cls=Grouped,
            group=_EVERYWHERE,
            is_flag=True,
            expose_value=False,
            callback=_note(field),
            envvar=f"DRIVESHARD_{variable}",
            help=text,
        )(command)
    command = click.option(
        "--profile",
        cls=Grouped,
        group=_EVERYWHERE,
        metavar="NAME",
        expose_value=False,
        callback=_profile,
        help="The login to use, of several accounts.",
    )(command)
    return click.option(
        "--log-format",
        cls=Grouped,
        group=_EVERYWHERE,
        type=click.Choice(["text", "json"]),
        expose_value=False,
        callback=_note("log_format"),
        envvar="DRIVESHARD_LOG_FORMAT",
        help="Form of what is said on stderr; json is one event a line.",
    )(command)


def push_flags(command: Callable[..., Any], table: Iterable[Option] = PUSH) -> Callable[..., Any]:
    """Adds the options of the table, and those of how a run is watched; their values come as they were typed, None when
    they were not."""
    return table_flags(command, (*table, *RUN))


def table_flags(command: Callable[..., Any], table: Iterable[Option]) -> Callable[..., Any]:
    """As ``push_flags``, of the table alone."""
    for option in reversed(tuple(table)):
        command = click.option(f"--{option.name}", option.field, **_form(option))(command)
    return command


def _form(option: Option) -> dict[str, Any]:
    form: dict[str, Any] = {"cls": Grouped, "group": option.group, "help": f"{option.help}."}
    if option.switch:
        return form | {"is_flag": True, "default": None}
    return form | {"metavar": option.metavar, "multiple": option.many}


def given_flags(arguments: Mapping[str, Any], table: Iterable[Option] = PUSH) -> dict[str, Any]:
    """The options of a table that were typed, parsed. Raises UsageError."""
    typed = {option.name: arguments[option.field] for option in table if arguments[option.field] not in (None, ())}
    return read_values(typed, table, FLAGS)


def option(*names: str, **form: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A flag of one command, which can stand in the environment, too."""
    long = next(name for name in names if name.startswith("--"))
    return click.option(*names, envvar="DRIVESHARD_" + long[2:].replace("-", "_").upper(), **form)


class AnyPath(click.Path):
    """A path by the rule that all of them follow; it need not be there."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return path_of(os.fsdecode(super().convert(value, param, ctx)))


def examples(text: str) -> str:
    """An epilog that keeps its lines."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in text.strip().splitlines())
