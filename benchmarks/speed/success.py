"""Success over wall-clock on level 1 of the quickstart, paid for the answer alone: ours and TRL's, one run after the other.

    python benchmarks/speed/success.py [--seeds 0 1 2] [--json benchmarks/speed/success.json]

Both have 8 tasks of 8 episodes a step, a learning rate of 2e-5 and the same tasks in the same order; `sojourn.bench.trl` says what
differs.  A side is done when `GOAL` of a step's 64 episodes are solved, which was written down before any run.  TRL runs in bfloat16, in
which its steps are faster (step.json), and gets `PATIENCE` times the seconds that we needed with that seed.  Seconds count from the
first step: loading is not in them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from sojourn.bench.measure import Result
from sojourn.bench.ours import smollm2
from sojourn.store import RunFolder, write_json

GOAL, PATIENCE, STEPS = 0.9, 6.0, 8
LOADING_S = 45.0
Row = dict[str, Any]
"""`seconds` and `success` of one step."""


def ours(seed: int) -> list[Row]:
    """The recipe, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "levels": "1",
            "progress": 0,
            "steps": STEPS,
            "eval-tasks": 0,
            "keep-episodes-every": 0,
            "checkpoint-every": 1000,
        }
        words = [str(word) for name, value in settings.items() for word in (f"--{name}", value)]
        command = [sys.executable, "-c", "from sojourn.cli import main; main()", "train", "quickstart", *words]
        subprocess.run([*command, "--seed", str(seed), "--run", folder], check=True, stdout=subprocess.DEVNULL)
        return list(RunFolder(folder).metrics())


def theirs(seed: int, limit_s: float) -> list[Row]:
    """TRL's trainer in a process of its own, until the goal or the limit."""
    rows: list[Row] = []
    worker = subprocess.Popen([sys.executable, __file__, "--worker", str(seed)], stdout=subprocess.PIPE, text=True)
    alarm = threading.Timer(limit_s + LOADING_S, worker.kill)
    alarm.start()
    assert worker.stdout is not None
    for line in worker.stdout:
        if line.startswith("{"):
            rows.append(json.loads(line))
            if rows[-1]["success"] >= GOAL or rows[-1]["seconds"] >= limit_s:
                break
    alarm.cancel()
    worker.kill()
    worker.wait()
    return [row for row in rows if row["seconds"] <= limit_s]


def work(seed: int) -> None:
    """TRL's steps, a JSON line each."""
    from sojourn.bench.trl import quickstart_trainer

    loaded = smollm2("bfloat16")
    quickstart_trainer(
        loaded.model,
        loaded.tokenizer,
        seed=seed,
        groups=8,
        group_size=8,
        micro_batch=8,
        max_steps=64,
        log=lambda row: print(json.dumps(row), flush=True),
    ).train()


def needed(rows: list[Row]) -> float | None:
    """Seconds until the goal; None if it was not reached."""
    return next((row["seconds"] for row in rows if row["success"] >= GOAL), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", type=int, metavar="SEED", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker is not None:
        work(chosen.worker)
        return
    result, ratios = Result("success"), []
    result.notes.append(f"TRL is stopped after {PATIENCE:g} times our seconds, and counted with that")
    for seed in chosen.seeds:
        mine = ours(seed)
        seconds = needed(mine)
        if seconds is None:
            raise SystemExit(f"seed {seed}: {GOAL:.0%} was not reached in {STEPS} steps: nothing to compare with")
        rows = theirs(seed, PATIENCE * seconds)
        told = needed(rows) or f"over {PATIENCE * seconds:.0f}"
        result.rows.append({"seed": seed, "side": "sojourn", "seconds": seconds, "success @ seconds": curve(mine)})
        result.rows.append({"seed": seed, "side": "trl", "seconds": told, "success @ seconds": curve(rows)})
        ratios.append((needed(rows) or PATIENCE * seconds) / seconds)
        result.ratios["success_vs_trl_at_least"] = median(ratios)
        if chosen.json:
            write_json(chosen.json, result.page())
    result.show(Console())


def curve(rows: list[Row]) -> str:
    return ", ".join(f"{row['success']:.2f} @ {row['seconds']:.0f}" for row in rows)


if __name__ == "__main__":
    main()
