"""Worlds, one folder per domain of tasks, and what makes a world of a function or a class.

world = find("math/tool_arithmetic")
environment, task = world.make(), world.tasks.task("train", "1", 0)
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from sojourn.environments.check import check_environment
from sojourn.environments.data import spider_world, sql_world
from sojourn.environments.function import FunctionEnvironment, from_function
from sojourn.environments.gymnasium import from_gymnasium
from sojourn.environments.math import ToolArithmetic, gsm8k
from sojourn.environments.plain_class import ClassEnvironment, from_class
from sojourn.environments.reasoning_gym import from_reasoning_gym
from sojourn.environments.search import wikipedia_world
from sojourn.environments.small import SMALL_WORLDS, SmallWorld
from sojourn.environments.tools import ToolEnvironment, answer_text
from sojourn.environments.world import TaskList, World


@dataclass(frozen=True, slots=True)
class Listing:
    """An entry of the list of worlds: what it is, and how to make it; `make` takes what stands for `<...>` in the name."""

    description: str
    make: Callable[[str], World]


def _small(description: str, made: type[SmallWorld[Any]]) -> Listing:
    return Listing(description, lambda _: World(made, made.tasks()))


ENVIRONMENTS: dict[str, Listing] = {
    "math/tool_arithmetic": Listing(
        "arithmetic in words with a calculator that does one operation a call; three levels, oracle",
        lambda _: World(ToolArithmetic, ToolArithmetic.tasks()),
    ),
    "math/gsm8k/<where>": Listing(
        "8,792 word problems of grade school, the official split; 'hub', or a folder or file of your own; sojourn[math] judges "
        "formulas, too; oracle",
        gsm8k,
    ),
    "math/gsm8k_python/<where>": Listing("the same with a Python interpreter in a sandbox", partial(gsm8k, python=True)),
    "gymnasium/<id>": Listing(
        "any Gymnasium environment with finitely many actions (CartPole-v1, FrozenLake-v1, ...); needs sojourn[envs-gymnasium]",
        from_gymnasium,
    ),
    "reasoning_gym/<family>": Listing(
        "a hundred families of puzzles with verifiers (chain_sum, sudoku, maze, ...); needs sojourn[envs-reasoning]",
        from_reasoning_gym,
    ),
    "search/wikipedia": Listing(
        "questions of one and two hops over 10,033 Wikipedia summaries, with BM25 search; oracle; needs sojourn[envs-search]",
        lambda _: wikipedia_world(),
    ),
    "data/sql": Listing(
        "questions about generated SQLite databases, answered by a query that must be right on a hidden one, too; oracle",
        lambda _: sql_world(),
    ),
    "data/spider": Listing(
        "questions about Spider's 20 development databases, the same way; oracle; needs `pip install --no-deps intercode-bench`",
        lambda _: spider_world(),
    ),
    **{f"small/{name}": _small(*entry) for name, entry in SMALL_WORLDS.items()},
}
"""All worlds that come with Sojourn, by name."""


def find(name: str) -> World:
    """The world of that name.  Raises ValueError, with the nearest name, if there is none."""
    for pattern, listing in ENVIRONMENTS.items():
        fixed, _, variable = pattern.partition("<")
        if name == pattern if not variable else name.startswith(fixed) and name != fixed:
            return listing.make(name.removeprefix(fixed))
    near = difflib.get_close_matches(name, ENVIRONMENTS, n=1, cutoff=0.4)
    known = f"did you mean '{near[0]}'?" if near else f"choose one of {', '.join(ENVIRONMENTS)}"
    raise ValueError(f"there is no environment '{name}': {known}")


__all__ = [
    "ENVIRONMENTS", "ClassEnvironment", "FunctionEnvironment", "Listing", "TaskList", "ToolArithmetic", "ToolEnvironment", "World",
    "answer_text", "check_environment", "find", "from_class", "from_function", "from_gymnasium", "from_reasoning_gym", "gsm8k",
]  # fmt: skip
