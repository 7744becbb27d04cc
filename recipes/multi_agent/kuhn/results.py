"""Train one run of the Kuhn recipe and measure its exploitability; or make the table of RESULTS.md from such runs.

python recipes/multi_agent/kuhn/results.py run --opponent league --seed 0 --out runs/kuhn
python recipes/multi_agent/kuhn/results.py table runs/kuhn/*.json --json recipes/multi_agent/kuhn/RESULTS.json

What is measured is exact: the chance of each action at each of the 12 information states is computed, and OpenSpiel finds the best responses.
Both the policy and the slow average of its weights, which the KL term holds it to, are measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from sojourn.cli.recipe import load
from sojourn.engine.local import LocalEngine
from sojourn.environments.several.exploitability import exploitability, tabular
from sojourn.training import Trainer

THRESHOLD = 0.1
"""Written before the first run; a uniform policy has 11/24 = 0.458."""


async def measured(trainer: Trainer) -> dict[str, float]:
    """Exploitability of the policy and of its slow average."""
    world, policy = trainer.experiment.environment(), trainer.lead.policy()
    found = {"policy": policy}
    if (average := trainer.learning.learner.reference) is not None:
        engine = LocalEngine(average, trainer.tokenizer, max_context=trainer.config.max_context)
        found["average"] = replace(policy, engine=engine)
    return {name: round(exploitability(world.game, await tabular(world, each)), 4) for name, each in found.items()}


async def train(opponent: str, seed: int, every: int, steps: int, path: Path) -> None:
    """One run: exploitability every so many steps, and what it cost, written each time."""
    recipe = load(str(Path(__file__).parents[1] / "kuhn.py"))
    league = {"present": 0.0} if opponent == "former" else {}
    who = "league" if opponent == "former" else opponent
    config = recipe.config(opponent=who, seed=seed, **league, **({"steps": steps} if steps else {}))
    trainer = Trainer(config, recipe.experiment(config))
    rows, tokens = [{"step": 0, **await measured(trainer)}], 0
    for step in range(1, config.steps + 1):
        _, metrics = await trainer.train_step()
        tokens += int(metrics["trained_tokens"])
        if step % every == 0:
            rows.append({"step": step, **await measured(trainer)})
            print(opponent, seed, rows[-1], file=sys.stderr, flush=True)
            found = {"opponent": opponent, "seed": seed, "steps": step, "episodes": step * config.groups * config.group_size}
            found |= {"trained_tokens": tokens, "machine": f"{platform.machine()}, {platform.system()}", "exploitability": rows}
            path.write_text(json.dumps(found))


def table(runs: list[dict[str, Any]]) -> Iterator[str]:
    """Every seed's figures; the mean of the last five measurements says more of a policy that moves than the last one."""
    yield "| opponent | seed | start | policy, end | policy, mean of last five | average, end | lowest of the policy | steps | tokens trained |"
    yield "|---|---|---|---|---|---|---|---|---|"
    ends = defaultdict(list)
    for run in sorted(runs, key=lambda run: (run["opponent"], run["seed"])):
        rows = run["exploitability"]
        policy = [row["policy"] for row in rows]
        ends[run["opponent"]].append((policy[-1], rows[-1]["average"]))
        cells = [policy[0], policy[-1], mean(policy[-5:]), rows[-1]["average"], min(policy)]
        numbers = " | ".join(f"{value:.3f}" for value in cells)
        yield f"| {run['opponent']} | {run['seed']} | {numbers} | {run['steps']} | {run['trained_tokens']:,} |"
    yield ""
    for opponent, pairs in ends.items():
        below = [sum(value < THRESHOLD for value in values) for values in zip(*pairs, strict=True)]
        yield f"{opponent}: below {THRESHOLD} at the end in {below[0]} of {len(pairs)} seeds (policy), {below[1]} (average)."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    one = kinds.add_parser("run")
    one.add_argument(
        "--opponent",
        choices=("self", "league", "former", "fixed"),
        default="league",
        help="former: a league without the present policy",
    )
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--every", type=int, default=10, help="steps between measurements")
    one.add_argument("--steps", type=int, default=0, help="0: the recipe's")
    one.add_argument("--out", type=Path, default=Path("runs/kuhn"))
    all_ = kinds.add_parser("table")
    all_.add_argument("runs", nargs="+", type=Path)
    all_.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    if chosen.kind == "run":
        chosen.out.mkdir(parents=True, exist_ok=True)
        path = chosen.out / f"{chosen.opponent}-{chosen.seed}.json"
        asyncio.run(train(chosen.opponent, chosen.seed, chosen.every, chosen.steps, path))
        return
    runs = [json.loads(path.read_text()) for path in chosen.runs]
    print("\n".join(table(runs)))
    if chosen.json:
        chosen.json.write_text(json.dumps({"threshold": THRESHOLD, "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
