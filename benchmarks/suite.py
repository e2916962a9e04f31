"""The benchmarks in their order, and how all of them are run one after another with their figures kept as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
SCRIPTS = (
    "composite",
    "zip_writer",
    "pack_tree",
    "upload",
    "line",
    "overlap",
    "nothing_to_do",
    "reading",
    "stats",
    "loose_files",
    "pull",
    "derive",
    "growth",
    "many_parts",
    "scale",
    "full_job",
)

Figures = dict[str, Any]
"""What harness.report writes: name, rows, ratios, details."""


def run_script(name: str, arguments: Sequence[str], json_file: Path) -> Figures:
    """Run one benchmark and return its figures; a missed bar is no error. Raises CalledProcessError when it breaks."""
    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.unlink(missing_ok=True)
    command = [sys.executable, str(HERE / f"{name}.py"), *arguments, "--json", str(json_file)]
    print(f"== {name} {' '.join(arguments)}", file=sys.stderr, flush=True)
    start = time.monotonic()
    done = subprocess.run(command, stdout=sys.stderr)
    print(f"   {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    if not json_file.exists():
        raise subprocess.CalledProcessError(done.returncode, command)
    figures: Figures = json.loads(json_file.read_text())
    return figures


def table(results: Mapping[str, Figures]) -> list[str]:
    """One line of Markdown a ratio, those with a bar first."""
    lines = ["| benchmark | what | ratio | bar | |", "|---|---|---|---|---|"]
    rows = [(name, ratio) for name, figures in results.items() for ratio in figures["ratios"]]
    for name, ratio in sorted(rows, key=lambda row: row[1]["bar"] is None):
        bar = "" if ratio["bar"] is None else f"{'<=' if ratio['at_most'] else '>='} {ratio['bar']:g}"
        verdict = "" if ratio["bar"] is None else "met" if ratio["ok"] else "missed"
        lines.append(f"| `{name}.py` | {ratio['what']} | {ratio['ratio']:.2f} | {bar} | {verdict} |")
    return lines
