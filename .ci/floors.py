"""Print pyproject.toml's own lower bounds as exact versions, for ``pip install --constraint``.

So what is promised to work is what is tried; what nobody promised, the dependencies' dependencies, is pip's to choose.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def floors(requirements: list[str]) -> Iterator[str]:
    """``name==1.2`` of each ``name>=1.2``. Raises SystemExit for one that has no lower bound."""
    for requirement in requirements:
        match = re.match(r"([\w.-]+)\s*>=\s*([\w.]+)", requirement)
        if not match:
            raise SystemExit(f"{requirement!r} in pyproject.toml has no lower bound")
        yield f"{match[1]}=={match[2]}"


if __name__ == "__main__":
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    sys.stdout.write("".join(f"{line}\n" for line in floors(wanted)))
