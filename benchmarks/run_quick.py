"""All benchmarks at sizes for a busy machine, in about two minutes. Fails only when a ratio is below half of its bar.

At these sizes what every run takes, and other people's load, weighs much more than in `run_all.py`: bars may be missed.
A script that ends below half of a bar is run once more, since one moment of load is not a regression.
The figures are in results/quick.json.
"""

from __future__ import annotations

import argparse
import json
import sys

import harness
from suite import RESULTS, SCRIPTS, Figures, run_script, table

WORST = 0.5  # of a bar
ARGUMENTS = {"composite": ["--repeat", "1"], "nothing_to_do": ["--repeat", "2"]}
if harness.memory_backed():  # making files on a disk takes longer than packing them
    ARGUMENTS["pack_tree"] = ["--temp", str(harness.memory_backed())]


def run(name: str) -> Figures:
    return run_script(name, ["--quick", *ARGUMENTS.get(name, [])], RESULTS / "quick" / f"{name}.json")


def is_broken(figures: Figures) -> bool:
    return any(ratio["margin"] < WORST for ratio in figures["ratios"])


def main() -> int:
    """Run all, small; returns 1 when a ratio is below half of its bar twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scripts", nargs="*", metavar="SCRIPT", help=f"only these of {', '.join(SCRIPTS)}")
    chosen = parser.parse_args().scripts or SCRIPTS
    results = {name: run(name) for name in chosen}
    for name, figures in results.items():
        if is_broken(figures):
            results[name] = run(name)
    (RESULTS / "quick.json").write_text(json.dumps(results, indent=2) + "\n")
    print("\n".join(table(results)))
    broken = [
        f"{name}: {ratio['what']} is {ratio['ratio']:.2f}, the bar {ratio['bar']:g}"
        for name, figures in results.items()
        for ratio in figures["ratios"]
        if ratio["margin"] < WORST
    ]
    for line in broken:
        print(f"below half of its bar: {line}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
