"""Tables and the learning curve of RESULTS.md, from run folders and from what `sojourn eval --json` wrote.

python recipes/quickstart/results.py runs/seed0 runs/seed1 runs/seed2 --evals evals/*.json --picture docs/img/learning_curve.svg
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from sojourn.store import RunFolder
from sojourn.viewer.svg import curve_svg
from sojourn.wilson import wilson

LEVELS = ("1", "2", "3")


def rate(success: float, tasks: int) -> str:
    """Success with its 95 % interval."""
    low, high = wilson(success, tasks)
    return f"{success:.0%} ({low:.0%} to {high:.0%})"


def of_runs(paths: list[str]) -> Iterator[str]:
    """Each run's own evaluation, and what it cost."""
    yield "| run | " + " | ".join(f"level {n} before | after" for n in LEVELS) + " | steps | minutes |"
    yield "|---|" + "---|" * (2 * len(LEVELS) + 2)
    for path in paths:
        run = RunFolder(path)
        rows = {(row["eval"], row["level"]): row for row in run.evals() if row["mode"] == "sampled"}
        cells = [rate(rows[when, n]["success"], rows[when, n]["tasks"]) for n in LEVELS for when in ("before", "after")]
        summary = run.summary()
        yield f"| seed {summary['seed']} | " + " | ".join(cells) + f" | {summary['steps']} | {summary['seconds'] / 60:.1f} |"


def of_evals(paths: list[str]) -> Iterator[str]:
    """Each `sojourn eval`."""
    yield "| target | decoding | tasks a level | " + " | ".join(f"level {n}" for n in LEVELS) + " |"
    yield "|---|---|---|" + "---|" * len(LEVELS)
    for path in paths:
        page = json.loads(Path(path).read_text())
        rows = {row["level"]: row for row in page["rows"]}
        cells = " | ".join(rate(rows[n]["success"], rows[n]["tasks"]) for n in LEVELS)
        yield f"| {Path(page['target']).name} | {rows['1']['mode']} | {rows['1']['tasks']} | {cells} |"


def steps(path: str) -> Iterator[str]:
    """What happened in each step of one run."""
    yield "| step | level 1 | level 2 | level 3 | zero-signal groups | tool calls | entropy | KL to the start |"
    yield "|---|" + "---|" * 7
    for row in RunFolder(path).metrics():
        cells = [
            f"{row[f'success/{n}']:.0%} of {row['episodes'] * row[f'share/{n}']:.0f}" if f"success/{n}" in row else ""
            for n in LEVELS
        ]
        rest = (
            f"{row['zero_signal']:.0%}",
            f"{row['tool_calls']:.2f}",
            *(f"{row[k]:.3f}" if k in row else "" for k in ("entropy", "kl")),
        )
        yield f"| {row['step']} | " + " | ".join((*cells, *rest)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="run folders, one a seed")
    parser.add_argument("--evals", nargs="*", default=[], help="files that `sojourn eval --json` wrote")
    parser.add_argument("--picture", help="where the learning curve goes (svg)")
    chosen = parser.parse_args()
    for lines in (of_runs(chosen.runs), of_evals(chosen.evals), *(steps(run) for run in chosen.runs)):
        print("\n".join(lines), end="\n\n")
    if chosen.picture:
        curves = {RunFolder(run).summary()["seed"]: RunFolder(run).metrics() for run in chosen.runs}
        Path(chosen.picture).write_text(curve_svg(curves))


if __name__ == "__main__":
    main()
