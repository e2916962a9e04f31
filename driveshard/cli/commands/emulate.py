"""``driveshard emulate``: a Drive on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from driveshard.cli.flags import AnyPath, common, examples, option
from driveshard.core.errors import ConfigError, UsageError


class _WithFaults(click.Command):
    """Its help ends with the table of fault words, which is read from the emulator when somebody asks."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from driveshard.emulator import describe_faults

        super().format_epilog(ctx, formatter)
        formatter.write(f"\n{describe_faults()}\n")


@click.command(
    "emulate",
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
# The variable of that name is the user's own key for Google, with which this Drive has nothing to do.
@click.option("--api-key", metavar="KEY", help="The only API key that is valid (default: any).")
@option("--token", metavar="TOKEN", help="The only access token that is good, beside those that are issued.")
@option("--scan-limit", metavar="SIZE", default="100MiB", help="Bigger files ask for a confirmation on the site.")
@option("--download-quota", type=click.IntRange(0), metavar="N", help="Downloads of a file that strangers get a day.")
@option("--consent", is_flag=True, help="A login waits for a click on the consent page.")
@option("--refresh-days", type=click.FloatRange(0, min_open=True), metavar="N", help="Logins die after so many days.")
@common
def command(root: Path, bandwidth: str | None, scan_limit: str, **options: Any) -> int:
    """Serve a Drive of your own on this machine, for trying things out.

    The first line on stdout is JSON: {"url": "http://127.0.0.1:PORT"}. Give that as DRIVESHARD_DRIVE_URL to the other
    commands. What is stored stays under --root. Ctrl-C ends it.
    """
    from driveshard.core.units import parse_size
    from driveshard.emulator import run

    try:
        rate = parse_size(bandwidth) if bandwidth else None
        return run(root, bandwidth=rate, scan_limit=parse_size(scan_limit), **options)
    except ValueError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        what = f"the emulator cannot start on port {options['port']} with {root}: {error.strerror or error}"
        raise ConfigError(what, advice="Leave --port out to have a free one, or name another --root.") from error
