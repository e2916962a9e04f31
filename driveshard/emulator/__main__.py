"""`python -m driveshard.emulator`: serve a local Drive."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from driveshard.emulator.faults import describe_faults
from driveshard.emulator.server import run

SCAN_HELP = "files above this ask for a confirmation on the site (100M)"
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def parse_rate(text: str) -> int:
    """`20M`, `20MiB`, `512k`, `1000` to bytes a second. Raises ValueError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)(?:i?B)?(?:/s)?", text.strip(), re.IGNORECASE)
    if not match or float(match[1]) <= 0:
        raise ValueError(f"not a rate in bytes a second: {text!r} (try 20M)")
    return max(1, int(float(match[1]) * _UNITS[match[2].upper()]))


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m driveshard.emulator",
        description="Serve Google Drive v3 on loopback. The first line on stdout is JSON with the url.",
        epilog=describe_faults(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="where the emulated Drive is kept")
    parser.add_argument("--port", type=int, default=0, metavar="P", help="default: a free one")
    parser.add_argument("--faults", default="", metavar="WORDS", help="what goes wrong, e.g. 503@3*2,lost-final")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="for %%P faults")
    parser.add_argument("--latency-ms", type=float, default=0, metavar="N", help="round trip of every request")
    parser.add_argument("--bandwidth", type=parse_rate, metavar="RATE", help="bytes a second each way, e.g. 20M")
    parser.add_argument("--writes-per-second", type=float, metavar="R", help="more are answered 403 rateLimitExceeded")
    parser.add_argument("--api-key", metavar="KEY", help="the only API key that is valid (default: any)")
    parser.add_argument("--token", metavar="TOKEN", help="the only access token that is good beside issued ones")
    parser.add_argument("--scan-limit", type=parse_rate, default=100 << 20, metavar="SIZE", help=SCAN_HELP)
    parser.add_argument("--download-quota", type=int, metavar="N", help="downloads of a file that strangers get a day")
    parser.add_argument("--consent", action="store_true", help="a login waits for a click on the consent page")
    parser.add_argument("--refresh-days", type=float, metavar="N", help="refresh tokens die after so many days")
    parser.add_argument("--strict", action="store_true", help="remember protocol slips (see /_emulator/stats)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        return run(**vars(options))
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
