"""The rows that the base of `two_halves.py` learns from: halves that are well written and agree on nothing.

    python recipes/multi_agent/two_halves/base.py two_halves.jsonl
    sojourn train sft --data two_halves.jsonl --model tiny --run runs/two_halves_base --groups 48 --steps 800 --optimizer.learning-rate 3e-3

Either term with equal chances, in one of ten a wrong one; a `main` in five does without the helper.  None of the held-out sums.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1]))
import halves


def rows(count: int, seed: int = 0) -> Iterator[dict[str, object]]:
    """Conversations: a prompt of the recipe, and a half."""
    draw, tasks = Random(seed), halves.sums()
    for number in range(count):
        wanted = tasks.task("train", "default", number).data["sum"]
        term = draw.choice(halves.TERMS if draw.random() < 0.1 else wanted.split(" + "))
        whole = draw.random() < 0.2
        for agent, text in (
            ("helper", f"def aux(x): return {term}"),
            ("main", f"def main(x): return {wanted if whole else f'aux(x) + {term}'}"),
        ):
            prompt = halves.prompt(wanted, agent)
            yield {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": text}]}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text("".join(json.dumps(row) + "\n" for row in rows(10_000)), encoding="utf-8")
