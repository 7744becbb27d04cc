"""A checker for environments: what training silently relies on, tried out.  [the idea: Gymnasium's `check_env`]

It plays a few tasks of every level in both splits: with the oracle where there is one, else with legal actions, else with a plain
text.  Whatever must not matter (a second instance, a detour through a snapshot) is changed, and equality demanded.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Hashable, Sequence
from typing import Any, NoReturn, get_args

from sojourn.core import (
    Action,
    Environment,
    Failure,
    FailureKind,
    LegalActions,
    Observation,
    Oracle,
    Restorable,
    Split,
    StateKey,
    Task,
    TaskSource,
    Transition,
    named,
)
from sojourn.environments.world import World

SEED = 7
SPLITS: tuple[Split, ...] = get_args(Split)


def check_environment(world: World, *, count: int = 3, max_steps: int = 100) -> list[str]:
    """Check `count` tasks of each level and split; returns what was checked, one line each.

    max_steps: actions of one episode at most.  Raises ValueError for the first thing that is wrong: what, where, what to do.
    Not to be called from async code.
    """
    tasks = _check_tasks(world.tasks, count)
    done = [f"tasks: {len(tasks)} are functions of (split, level, index); no task of one split is in the other"]
    return done + asyncio.run(_check_episodes(world, tasks, max_steps))


def _check_tasks(source: TaskSource, count: int) -> list[Task]:
    seen: dict[str, Split] = {}
    tasks = []
    for split in SPLITS:
        for level in source.levels:
            for index in range(count):
                task, again = source.task(split, level, index), source.task(split, level, index)
                where = f"task ({split}, {level}, {index})"
                if task != again:
                    _fail(where, "asked twice, the source gave two different tasks", "draw it from its arguments alone")
                if task.level != level:
                    _fail(where, f"it says level '{task.level}'", "set Task.level to the level that was asked for")
                if seen.setdefault(repr(task.data), split) != split:
                    _fail(where, f"its data are those of a {seen[repr(task.data)]} task", "let a hash of the content decide the split")
                tasks.append(task)
    return tasks


async def _check_episodes(world: World, tasks: Sequence[Task], max_steps: int) -> list[str]:
    solved, transitions, abilities = 0, 0, set[str]()
    for task in tasks:
        first, second, third = world.make(), world.make(), world.make()
        try:
            await _check_reset(first, second, task)
            played = await _play(first, task, max_steps)
            await _check_replay(second, task, played)
            await _check_nonsense(third, task)
        finally:
            for environment in (first, second, third):
                await environment.close()
        transitions += len(played)
        solved += _solved(played)
        if isinstance(first, Oracle) and not _solved(played) and played[0][0].text:
            _fail(f"task '{task.id}'", f"the oracle did not solve it in {len(played)} actions", "mend `oracle` or the reward")
        abilities |= {ability.__name__ for ability in (Restorable, LegalActions, StateKey, Oracle) if isinstance(first, ability)}
    return [
        f"episodes: {len(tasks)} with {transitions} transitions, equal in a second instance; rewards are finite",
        f"abilities: {', '.join(sorted(abilities)) or 'none'}",
        f"solved: {solved} of {len(tasks)}" + (" by the oracle" if "Oracle" in abilities else ""),
    ]
