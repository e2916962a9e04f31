"""All benchmarks at full size, three turns each, and from their figures the tables and plots in docs/.

Takes about an hour on two cores that have nothing else to do. Figures go to results/full/, one JSON file a script; the
text of docs/benchmarks.md between its two markers is written anew. With --from DIR nothing is measured: tables and
plots are made from the figures that lie there.

    python benchmarks/run_all.py [--temp DIR] [SCRIPT ...]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from PIL import __version__ as pillow_version
from suite import HERE, RESULTS, SCRIPTS, Figures, run_script, table

DOCS = HERE.parent / "docs"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
WITH_TEMP = {"pack_tree", "overlap", "nothing_to_do", "loose_files", "growth", "full_job"}


def main() -> int:
    """Measure what was asked for, then write tables and plots; returns 1 when any bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scripts", nargs="*", metavar="SCRIPT", help=f"only these of {', '.join(SCRIPTS)}")
    parser.add_argument("--temp", metavar="DIR", help="where data is made (default: the system's)")
    parser.add_argument("--from", type=Path, dest="given", metavar="DIR", help="measure nothing, use these figures")
    parser.add_argument("--docs", type=Path, default=DOCS, metavar="DIR", help="where benchmarks.md and the plots are")
    options = parser.parse_args()
    if importlib.util.find_spec("matplotlib") is None:
        parser.error("the plots need matplotlib: pip install -e '.[dev,plots]'")
    folder = options.given or RESULTS / "full"
    if options.given is None:
        for name in options.scripts or SCRIPTS:
            temp = ["--temp", options.temp] if options.temp and name in WITH_TEMP else []
            run_script(name, temp, folder / f"{name}.json")
        (folder / "machine.json").write_text(json.dumps(machine()) + "\n")
    results = {
        name: json.loads((folder / f"{name}.json").read_text())
        for name in SCRIPTS
        if (folder / f"{name}.json").exists()
    }
    where = json.loads((folder / "machine.json").read_text()) if (folder / "machine.json").exists() else machine()
    plots = subprocess.run(
        [sys.executable, str(HERE / "plots.py"), str(folder), str(options.docs)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.splitlines()
    write_page(options.docs / "benchmarks.md", "\n".join(section(where, results, plots)))
    print("\n".join(table(results)))
    return 0 if all(ratio["ok"] for figures in results.values() for ratio in figures["ratios"]) else 1


def machine() -> str:
    """One sentence on what the figures were measured with."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        named = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        cpu = named[1] if named else cpu
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{cores} cores of {cpu}, {platform.system()} {platform.release()}, Python {platform.python_version()},"
        f" Pillow {pillow_version}"
    )


def section(where: str, results: dict[str, Figures], plots: list[str]) -> list[str]:
    """What stands between the markers."""
    lines = [f"Machine: {where}.", "", *table(results), ""]
    for figures in results.values():
        details = figures.get("details", {})
        sizes = ", ".join(
            f"{key.replace('_', ' ')} {value}" for key, value in details.items() if not isinstance(value, list | dict)
        )
        lines += [
            f"### {figures['name']}",
            "",
            *([sizes, ""] if sizes else []),
            "| | seconds, median | turns |",
            "|---|---|---|",
        ]
        for row in figures["rows"]:
            turns = ", ".join(f"{one:,.3f}" for one in row["seconds"])
            lines.append(f"| {row['what']} | {row['median']:,.3f} | {turns} |")
        lines += ["", *growth_table(details.get("growth", []))]
    return lines + [line for plot in plots for line in (f"![{Path(plot).stem}]({plot})", "")]


def growth_table(sizes: list[dict[str, float]]) -> list[str]:
    """The figures of each size; empty for a benchmark without sizes."""
    if not sizes:
        return []
    names = list(sizes[-1])
    lines = [f"| {' | '.join(name.replace('_', ' ') for name in names)} |", "|---" * len(names) + "|"]
    for size in sizes:
        cells = [f"{size[name]:,}" if name in size else "" for name in names]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def write_page(page: Path, figures: str) -> None:
    """Put ``figures`` between the page's markers. Raises ValueError when it has none."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no markers {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n{figures}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
