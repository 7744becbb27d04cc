"""The rows that the base of `r_zero.py` learns from: it asks easy sums, and has seen a few of the harder ones.

    python recipes/self_improvement/r_zero/base.py r_zero.jsonl
    sojourn train sft --data r_zero.jsonl --model tiny --run runs/r_zero_base --groups 128 --steps 1000 --optimizer.learning-rate 3e-3

None of the held-out sums.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1]))
import sums

DIGITS = {(1, 1): 0.8, (2, 1): 0.1, (2, 2): 0.1}
"""Of the two numbers, with their share among the questions that it learns to ask."""


def question(draw: Random, digits: tuple[int, int]) -> str:
    return "+".join(str(draw.randrange(10 ** (n - 1), 10**n)) for n in digits)


def rows(count: int, seed: int = 0) -> Iterator[dict[str, object]]:
    """Conversations: a question and its answer, and, for every fourth, the question asked."""
    draw = Random(seed)
    for number in range(count):
        asks = number % 4 == 0
        shares = DIGITS.values() if asks else (0.2, 0.2, 0.6)
        while (text := question(draw, draw.choices(list(DIGITS), list(shares))[0])) in sums.NEVER:
            pass
        prompt, answer = (sums.ASK, text) if asks else (text, sums.truth(text))
        yield {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text("".join(json.dumps(row) + "\n" for row in rows(50_000)), encoding="utf-8")
