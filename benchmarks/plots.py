"""Draws the figures of the benchmarks: python benchmarks/plots.py RESULTS DOCS prints the names of the files it made.

RESULTS holds the scripts' JSON files; a plot whose figures are not there is left out. Needs the extra ``plots``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

INK, GREY, OURS, THEIRS, MISSED = "#1f2328", "#8c959f", "#0969da", "#6e7781", "#cf222e"
ALL_FILES = 800_000
MOST_SHOWN = 10  # times its bar
STYLE = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "driveshard",
}

UNDATED = {"svg": {"Date": None}, "png": None}  # the same figures make the same file

Results = dict[str, dict[str, Any]]


def main() -> int:
    """Draw the plots of the figures in one folder into another, and print the names of the files made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, metavar="RESULTS")
    parser.add_argument("docs", type=Path, metavar="DOCS")
    parser.add_argument("--format", choices=["svg", "png"], default="svg")
    options = parser.parse_args()
    results = {path.stem: json.loads(path.read_text()) for path in options.results.glob("*.json")}
    plots: dict[str, tuple[Callable[[Results], Figure], set[str]]] = {
        "benchmarks": (plot_job, {"full_job", "composite", "loose_files"}),
        "benchmarks-ratios": (plot_ratios, set()),
        "benchmarks-growth": (plot_growth, {"growth"}),
        "scaling": (plot_scaling, {"scale"}),
    }
    with plt.rc_context(STYLE):
        for name, (draw, needed) in plots.items():
            if needed <= results.keys() and (draw is not plot_job or is_whole(results)):
                file = options.docs / f"{name}.{options.format}"
                draw(results).savefig(
                    file, dpi=110, bbox_inches="tight", metadata={"Date": None} if file.suffix == ".svg" else None
                )
                print(file.name)
    return 0


def is_whole(results: Results) -> bool:
    """Whether the job was run at full size: a small one's time is mostly what a push of any size takes."""
    return bool(2 * results["full_job"]["details"]["samples"] == ALL_FILES)


def median(results: Results, script: str, what: str) -> float:
    """The median seconds of a row whose name begins with ``what``."""
    rows = results[script]["rows"]
    return float(next(row["median"] for row in rows if row["what"].startswith(what)))


def plot_job(results: Results) -> Figure:
    """The whole job by what one would do instead, on a logarithmic scale of time."""
    loop = median(results, "composite", "the script's loop, at final size") / 1000 * ALL_FILES / 2
    loose = results["loose_files"]["details"]["sample_seconds_a_file"] * ALL_FILES
    ours = median(results, "full_job", "driveshard")
    ways = [
        ("driveshard: generate, pack, upload", ours, OURS),
        ("the script's loop: generate only *", loop, THEIRS),
        ("its author's machine: generate only", 17 * 60.0, THEIRS),
        ("loose files at 3 a second: upload only *", loose, THEIRS),
    ]
    figure, axes = plt.subplots(figsize=(8.2, 2.7))
    for row, (_, seconds, colour) in enumerate(reversed(ways)):
        axes.axhline(row, color="#eaeef2", linewidth=1, zorder=0)
        axes.plot(seconds, row, "o", color=colour, markersize=11)
        axes.annotate(
            in_words(seconds),
            (seconds, row),
            xytext=(11, 0),
            textcoords="offset points",
            va="center",
            backgroundcolor="white",
            fontweight="bold" if colour == OURS else None,
        )
    axes.set_yticks(range(len(ways)), [name for name, _, _ in reversed(ways)])
    axes.set_xscale("log")
    ticks = {60: "1 min", 600: "10 min", 3600: "1 h", 36_000: "10 h", 360_000: "100 h"}
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    axes.set_xlim(30, loose * 4)
    axes.set_ylim(-0.6, len(ways) - 0.4)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_title("800,000 images and masks to Drive", loc="left", fontsize=13, fontweight="bold")
    axes.set_xlabel(
        "time, logarithmic; Drive is an emulator: 3 writes a second, 300 ms a request    * computed from a sample",
        fontsize=9,
        color="#57606a",
        x=0.99,
        ha="right",
    )
    return figure


def in_words(seconds: float) -> str:
    """``2.6 min``, ``74 h``"""
    for unit, length in (("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= 1.5 * length or unit == "s":
            count = seconds / length
            return f"{count:.0f} {unit}" if count >= 10 else f"{count:.1f} {unit}"
    raise AssertionError


def plot_ratios(results: Results) -> Figure:
    """How far each ratio is on the good side of its bar, the bar being 1; an arrow is further right than is shown."""
    rows = [(name, ratio) for name, figures in results.items() if "ratios" in figures for ratio in figures["ratios"]]
    rows = sorted(((name, ratio) for name, ratio in rows if ratio["bar"] is not None), key=lambda row: row[1]["margin"])
    figure, axes = plt.subplots(figsize=(8.2, 0.42 * len(rows) + 1.1))
    for at, (_, ratio) in enumerate(rows):
        colour = OURS if ratio["ok"] else MISSED
        margin = min(ratio["margin"], MOST_SHOWN)
        axes.plot([1, margin], [at, at], color=colour, linewidth=2)
        axes.plot(margin, at, "o" if margin < MOST_SHOWN else ">", color=colour, markersize=7)
        sign = "≤" if ratio["at_most"] else "≥"
        axes.annotate(
            f"{ratio['ratio']:.2f}  (bar {sign} {ratio['bar']:g})",
            (max(1, margin), at),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            fontsize=9.5,
        )
    axes.axvline(1, color=GREY, linewidth=1)
    axes.set_yticks(range(len(rows)), [f"{name}: {ratio['what']}" for name, ratio in rows], fontsize=9.5)
    axes.set_xscale("log")
    axes.set_xlim(min(0.5, 0.9 * rows[0][1]["margin"]), 4 * MOST_SHOWN)
    ticks = (0.5, 1, 2, 5, 10)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("times the bar: 1 just meets it, further right is better")
    return figure


def plot_growth(results: Results) -> Figure:
    """Time a file and peak memory against the number of files."""
    sizes = results["growth"]["details"]["growth"]
    files = [size["files"] for size in sizes]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.2, 2.9), layout="constrained")
    left.plot(files, [size["microseconds_a_file_with_start"] for size in sizes], "o--", color=GREY, label="all of it")
    without = [size["microseconds_a_file"] for size in sizes[1:]]
    left.plot(files[1:], without, "o-", color=OURS, label="without the start")
    left.set_title("microseconds a file", loc="left", fontsize=11)
    right.plot(files, [size["main_mib"] for size in sizes], "o-", color=OURS, label="the command")
    right.plot(files, [size["worker_mib"] for size in sizes], "o-", color=GREY, label="its largest worker")
    right.axhline(200, color=MISSED, linewidth=1)
    right.text(files[0], 204, "bar: 200 MiB", color=MISSED, fontsize=9.5, va="bottom")
    right.set_title("peak memory, MiB", loc="left", fontsize=11)
    right.set_ylim(0, max(240, 1.1 * max(size["main_mib"] for size in sizes)))
    left.set_ylim(bottom=0)
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xticks(files, [f"{count:,}" for count in files])
        axes.minorticks_off()
        axes.set_xlabel("files")
        axes.legend(frameon=False, fontsize=9.5)
    return figure


LIMITS = {
    "cores": ("#0969da", "the workers' cores"),
    "writes": ("#bf8700", "the pace of writes, 2.5 a second"),
    "line": ("#1a7f37", "the line, 1 Gbit/s"),
    "trips": ("#8250df", "round trips, 3 uploads"),
    "day": ("#cf222e", "750 GB a day"),
}
LONG = {60: "1 min", 3600: "1 h", 86_400: "1 day", 604_800: "1 week", 2_592_000: "1 month", 31_536_000: "1 year"}


def plot_scaling(results: Results) -> Figure:
    """Time against workers, for each kind of job a panel; and against the part size. Colours are what holds it back."""
    details = results["scale"]["details"]
    figure, axes = plt.subplots(1, 4, figsize=(13.5, 3.9), layout="constrained", sharey=True)
    names = {
        "generator": "images composed, 0.34 ms each",
        "model": "a model runs, 25 ms each",
        "photos": "photos of 100 KB",
    }
    for one, (kind, name) in zip(axes, names.items(), strict=False):
        rows = [row for row in details["by_workers"] if row["kind"] == kind]
        _scaling_lines(one, rows, "workers")
        one.set_title(name, loc="left", fontsize=11)
        one.set_xlabel("workers")
        one.set_xticks([1, 4, 16, 64, 256], ["1", "4", "16", "64", "256"])
    _scaling_lines(axes[3], details["by_part_size"], "part_size")
    axes[3].set_title("images composed, 64 workers", loc="left", fontsize=11)
    axes[3].set_xlabel("size of a part")
    sizes = {1 << 20: "1", 1 << 23: "8", 1 << 26: "64", 1 << 29: "512 MiB"}
    axes[3].set_xticks(list(sizes), list(sizes.values()))
    axes[0].set_yticks(list(LONG), list(LONG.values()))
    for one in axes:
        one.minorticks_off()
        one.grid(axis="y", color="#eaeef2")
        one.set_axisbelow(True)
    seen = {row["held_back_by"] for row in [*details["by_workers"], *details["by_part_size"]]}
    handles = [
        plt.Line2D([], [], marker="o", linestyle="", color=colour, label=said)
        for limit, (colour, said) in LIMITS.items()
        if limit in seen
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, title="held back by")
    return figure


def _scaling_lines(axes: Any, rows: list[dict[str, Any]], along: str) -> None:
    """A line for each number of files, its points coloured."""
    for files in sorted({row["files"] for row in rows}):
        line = [row for row in rows if row["files"] == files]
        across, up = [row[along] for row in line], [row["seconds"] for row in line]
        axes.plot(across, up, color="#d0d7de", linewidth=1.5, zorder=1)
        axes.scatter(across, up, c=[LIMITS[row["held_back_by"]][0] for row in line], s=26, zorder=2)
        said = f"{files // 10**6:,} M files" if files < 10**9 else "1 B files"
        falling = up[-1] < up[-2] * 0.9  # then there is room above the end of the line, and none beside it
        place = {"xytext": (8, 8), "ha": "right"} if not falling else {"xytext": (8, -15), "ha": "right"}
        axes.annotate(said, (across[-1], up[-1]), textcoords="offset points", fontsize=9, **place)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")


if __name__ == "__main__":
    sys.exit(main())
