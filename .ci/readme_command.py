"""Print the shell command that README.md gives under the marker ``<!-- command: NAME -->``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


def command(name: str) -> str:
    """The text of the code block after the marker. Raises SystemExit when there is none."""
    block = rf"<!-- command: {re.escape(name)} -->\s*```\w*\n(.*?)\n```"
    match = re.search(block, README.read_text(encoding="utf-8"), re.S)
    if not match:
        raise SystemExit(f"README.md has no command {name!r}")
    return match[1].strip()


if __name__ == "__main__":
    sys.stdout.write(command(sys.argv[1]) + "\n")
