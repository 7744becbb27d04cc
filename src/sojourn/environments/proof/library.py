"""Theorems of Coq's standard library, proved again where they stand: Coq has been told the file up to there, and no more.

Those are taken whose own proof is between `Proof.` and `Qed.` and consists of tactics; it is the oracle's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache

from sojourn.core import Task
from sojourn.environments.proof.coq import library, sentences
from sojourn.environments.proof.prover import refused
from sojourn.environments.small.common import split_of
from sojourn.environments.world import TaskList

FILES = (
    "Bool/Bool", "Logic/Decidable", "Sets/Constructive_sets", "Sets/Powerset", "Arith/Between", "Relations/Operators_Properties",
    "Lists/ListSet", "NArith/Nnat", "ZArith/Zorder", "Lists/List", "Sorting/Permutation",
)  # fmt: skip
"""In this order: those that Coq has read in a second first."""
STATEMENT = re.compile(r"(?:Lemma|Theorem|Corollary|Fact|Remark|Proposition)\s+([\w']+)(.*)", re.DOTALL)
LEVELS = ("1 to 3 steps", "4 to 8 steps", "9 steps and more")
LONGEST = 30


@cache
def library_tasks() -> TaskList:
    """Easiest first; a hash of file and name decides the split."""
    tasks = [task for file in FILES for task in _tasks(file)]
    tasks.sort(key=lambda task: LEVELS.index(task.level))
    return TaskList(*([task for task in tasks if split_of(task.id) == split] for split in ("train", "test")))


def _tasks(file: str) -> Iterator[Task]:
    said = sentences((library() / f"{file}.v").read_text(encoding="utf-8", errors="replace"))
    for place, sentence in enumerate(said):
        match = STATEMENT.match(sentence)
        if match is None or place + 1 >= len(said) or said[place + 1] != "Proof.":
            continue
        end = next((i for i in range(place + 2, len(said)) if re.match(r"(Qed|Defined|Admitted|Abort|Save)\b", said[i])), None)
        if end is None or said[end] != "Qed." or any(refused([each], by_hand=False) for each in said[place + 2 : end]):
            continue
        proof = list(_actions(said[place + 2 : end]))
        if 0 < len(proof) <= LONGEST:
            data = {
                "statement": f"Theorem goal{match[2]}",
                "file": file,
                "before": said[:place],
                "by_hand": False,
                "proof": proof,
                "limit": 2 * len(proof) + 8,
            }
            yield Task(f"coq/{file}/{match[1]}", data, LEVELS[0 if len(proof) <= 3 else 1 if len(proof) <= 8 else 2])


def _actions(said: Sequence[str]) -> Iterator[str]:
    """A bullet or a brace goes with the tactic after it."""
    waiting = ""
    for sentence in said:
        waiting = f"{waiting} {sentence}".strip()
        if not set(sentence) <= set("-+*{}"):
            yield waiting
            waiting = ""
    if waiting:
        yield waiting
