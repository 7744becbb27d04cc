"""Learning curves of published algorithms: the same recipe, the same budget, three seeds; only `--algorithm`, or `--credit`, differs.

    python benchmarks/algorithms/curves.py one_call frozen_lake turns_paid turns_unpaid cartpole [--jobs 2]

Runs what is not there yet (`runs/algorithms/<set>/<algorithm>-<seed>`, each with a log beside it), prints the tables of RESULTS.md and
draws a picture for each set.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from sojourn.store import RunFolder
from sojourn.viewer.svg import Point, Series, line_chart, mean_of, points_of, standalone

HERE, RUNS, SEEDS = Path(__file__).parent, Path("runs/algorithms"), (0, 1, 2)
OWN = "own"
"""Stands for what the recipe has."""
ALL = ("--dtype", "float32", "--eval-tasks", "0", "--keep-episodes-every", "0", "--checkpoint-every", "1000")


@dataclass(frozen=True, kw_only=True)
class Set:
    """One comparison.  `key`: the metric that is drawn, `goal`: the value that counts as learned, written down before any run."""

    recipe: str
    settings: tuple[str, ...]
    algorithms: tuple[str, ...]
    key: str
    goal: float
    last: int
    """Rollouts at the end that are averaged for the table."""
    differs: str = "algorithm"
    """The setting that the compared names are values of."""


SETS = {
    "one_call": Set(
        recipe="quickstart",
        settings=(
            *("--levels", "1", "--progress", "0", "--max-minutes", "0"),
            *("--steps", "5", "--groups", "6", "--minibatches", "2"),
        ),
        algorithms=("grpo", "dr_grpo", "rloo", "reinforce_pp", "dapo", "gspo", "cispo", "ppo"),
        key="success",
        goal=0.8,
        last=1,
    ),
    "frozen_lake": Set(
        recipe="frozen_lake",
        settings=(),
        algorithms=("grpo", "reinforce_pp", "mt_grpo", "gigpo", "turn_ppo"),
        key="success",
        goal=0.8,
        last=5,
    ),
    "turns_paid": Set(
        recipe=str(HERE / "turn_credit.py"),
        settings=("--progress", "0.1"),
        algorithms=("trajectory", "mt_grpo", "gigpo", "turn_gae"),
        key="success",
        goal=0.8,
        last=5,
        differs="credit",
    ),
    "turns_unpaid": Set(
        recipe=str(HERE / "turn_credit.py"),
        settings=(),
        algorithms=("trajectory", "gigpo", "turn_gae"),
        key="success",
        goal=0.8,
        last=5,
        differs="credit",
    ),
    "cartpole": Set(recipe="cartpole", settings=(), algorithms=(OWN,), key="reward", goal=195.0, last=5),
}


def folder(name: str, algorithm: str, seed: int) -> Path:
    return RUNS / name / f"{algorithm}-{seed}"


def run(name: str, algorithm: str, seed: int, threads: int) -> None:
    """One run in a process of its own, unless it is done."""
    chosen, path = SETS[name], folder(name, algorithm, seed)
    if (path / "summary.json").exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", "from sojourn.cli import main; main()", "train", chosen.recipe, *chosen.settings, *ALL]
    command += ["--seed", str(seed), "--run", str(path), *([] if algorithm == OWN else [f"--{chosen.differs}", algorithm])]
    with path.with_suffix(".log").open("w") as log:
        subprocess.run(command, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": str(threads)}, check=True)
    shutil.rmtree(path / "checkpoints")  # gigabytes each, and nobody goes on from them
    print(f"{path} done", file=sys.stderr, flush=True)


def curve(name: str, algorithm: str, seed: int) -> list[Point]:
    return points_of(RunFolder(folder(name, algorithm, seed)).metrics(), SETS[name].key)


def table(name: str) -> Iterator[str]:
    chosen = SETS[name]
    yield f"| {chosen.differs} | {chosen.key} at the end | each seed | rollouts to {chosen.goal:g} | minutes |"
    yield "|---|---|---|---|---|"
    for algorithm in chosen.algorithms:
        curves = [curve(name, algorithm, seed) for seed in SEEDS]
        ends = [mean(value for _, value in each[-chosen.last :]) for each in curves]
        reached = [next((f"{step:.0f}" for step, value in each if value >= chosen.goal), "never") for each in curves]
        minutes = [RunFolder(folder(name, algorithm, seed)).summary()["seconds"] / 60 for seed in SEEDS]
        cells = (f"{mean(ends):.2f}", " / ".join(f"{end:.2f}" for end in ends), " / ".join(reached), f"{mean(minutes):.1f}")
        yield f"| `{algorithm}` | " + " | ".join(cells) + " |"


def picture(name: str) -> str:
    """Means over seeds."""
    chosen = SETS[name]
    series = [
        Series(name=algorithm, points=mean_of([curve(name, algorithm, seed) for seed in SEEDS]), color=color)
        for color, algorithm in enumerate(chosen.algorithms)
    ]
    if len(series) == 1:
        series += [Series(name="", points=curve(name, chosen.algorithms[0], seed), style="faint") for seed in SEEDS]
    percent = chosen.key == "success"
    top = 1.0 if percent else max(value for one in series for _, value in one.points)
    return line_chart(series, percent=percent, y=(0.0, top), width=760, height=340, style=standalone())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", choices=SETS)
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, which share the cores")
    chosen = parser.parse_args()
    threads = max(1, (os.cpu_count() or 1) // chosen.jobs)
    work = [(name, algorithm, seed) for name in chosen.sets for seed in SEEDS for algorithm in SETS[name].algorithms]
    with ThreadPoolExecutor(chosen.jobs) as pool:
        list(pool.map(lambda each: run(*each, threads), work))
    for name in chosen.sets:
        print("\n".join(table(name)), end="\n\n")
        (HERE / f"{name}.svg").write_text(picture(name))


if __name__ == "__main__":
    main()
