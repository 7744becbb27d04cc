"""A checker for environments: what training silently relies on, tried out.  [the idea: Gymnasium's `check_env`]

It plays a few tasks of every level in both splits: with the oracle where there is one, else with legal actions, else with a plain
text.  Whatever must not matter (a second instance, a detour through a snapshot) is changed, and equality demanded.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple, NoReturn, get_args

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
    content,
    named,
    total,
)
from sojourn.environments.world import World

SEED = 7
ABILITIES = (Restorable, LegalActions, StateKey, Oracle)
SPLITS: tuple[Split, ...] = get_args(Split)


class _Step(NamedTuple):
    """What was done, what came of it, and the state before it."""

    action: Action
    transition: Transition
    key: Hashable
    snapshot: object


def check_environment(world: World, *, count: int = 3, max_steps: int = 100) -> list[str]:
    """Check `count` tasks of each level and split; returns what was checked, one line each.

    max_steps: actions of one episode at most.  Raises ValueError for the first thing that is wrong: what, where, what to do.
    Not to be called from async code.
    """
    tasks = _check_tasks(world.tasks, count)
    done = [f"tasks: {len(tasks)} are functions of (split, level, index); no task of one split is in the other"]
    return done + asyncio.run(_check_episodes(world, tasks, max_steps))


def _check_tasks(source: TaskSource, count: int) -> list[Task]:
    seen: dict[Hashable, Split] = {}
    tasks = []
    for split in SPLITS:
        for level in source.levels:
            for index in range(count):
                task, again = source.task(split, level, index), source.task(split, level, index)
                where = f"task ({split}, {level}, {index})"
                if (task.id, task.level, content(task)) != (again.id, again.level, content(again)):
                    _fail(where, "asked twice, the source gave two different tasks", "draw it from its arguments alone")
                if task.level != level:
                    _fail(where, f"it says level '{task.level}'", "set Task.level to the level that was asked for")
                owner = seen.setdefault(content(task), split)
                if owner != split:
                    _fail(where, f"its data are those of a {owner} task", "let a hash of the content decide the split")
                tasks.append(task)
    return tasks


async def _check_episodes(world: World, tasks: Sequence[Task], max_steps: int) -> list[str]:
    solved, steps, names = 0, 0, set[str]()
    for task in tasks:
        environment = world.make()
        names |= {ability.__name__ for ability in ABILITIES if isinstance(environment, ability)}
        played = await _check_episode(environment, world.make(), task, max_steps)
        await _check_nonsense(world.make(), task)
        steps += len(played)
        solved += _solved(played[-1].transition)
    by = " by the oracle" if "Oracle" in names else ""
    return [
        f"episodes: {len(tasks)} with {steps} steps, equal in a second instance; rewards are finite; nonsense is survived",
        f"abilities: {', '.join(sorted(names)) or 'none'}",
        f"solved: {solved} of {len(tasks)}{by}",
    ]


async def _check_episode(environment: Environment, twin: Environment, task: Task, max_steps: int) -> list[_Step]:
    where = f"task '{task.id}'"
    start = await environment.reset(task, seed=SEED)
    _check_start(environment, start, where)
    played = await _play(environment, where, max_steps)
    if await twin.reset(task, seed=SEED) != start:
        _fail(where, "two resets with one seed gave different observations", "draw all randomness from the seed")
    for i, step in enumerate(played):
        if _key(twin) != step.key:
            _fail(f"{where}, step {i}", "equal states have different keys", "make `state_key` a function of the visible state")
        if await twin.step(step.action) != step.transition:
            _fail(
                f"{where}, step {i}", "the same actions led elsewhere in a second instance", "draw all randomness from the seed"
            )
    await _check_restore(environment, played, where)
    await environment.close()
    await twin.close()
    return played


async def _play(environment: Environment, where: str, max_steps: int) -> list[_Step]:
    """Act until the episode ends: with the oracle, else the first legal action, else a plain text."""
    played: list[_Step] = []
    for i in range(max_steps):
        action, expert = _choose(environment)
        key = _key(environment)
        snapshot = environment.snapshot() if isinstance(environment, Restorable) else None
        transition = await environment.step(action)
        for name, value in named(transition.reward).items():
            if not math.isfinite(value):
                _fail(f"{where}, step {i}", f"reward '{name}' is {value}", "pay finite numbers")
        played.append(_Step(action, transition, key, snapshot))
        if transition.terminated or transition.truncated:
            if expert and not _solved(transition):
                _fail(
                    where,
                    f"the oracle ended unsolved after {i + 1} actions, the last: {action.text!r}",
                    "mend `oracle` or the reward",
                )
            return played
        if not transition.observation.messages:
            _fail(
                f"{where}, step {i}", "the episode goes on, but nothing is observed", "return an observation or end the episode"
            )
        if expert and i == max_steps - 1:
            _fail(where, f"the oracle came to no end in {max_steps} actions", "mend `oracle`, or raise max_steps")
    return played


async def _check_restore(environment: Environment, played: Sequence[_Step], where: str) -> None:
    """From the end, go back to each state twice and go on from there."""
    for i, step in enumerate(played):
        for _ in range(2 if isinstance(environment, Restorable) else 0):
            assert isinstance(environment, Restorable)
            environment.restore(step.snapshot)
            if _key(environment) != step.key or await environment.step(step.action) != step.transition:
                what = "a restored state went on differently"
                _fail(f"{where}, step {i}", what, "let `snapshot` copy all that `step` reads and changes")


async def _check_nonsense(environment: Environment, task: Task) -> None:
    """A policy says anything: an action that could not be parsed, an empty one.  That must not raise."""
    await environment.reset(task, seed=SEED)
    fault = Failure(FailureKind.MODEL, "action", "this is no valid action")
    for action in (Action("<", fault=fault), Action("")):
        try:
            transition = await environment.step(action)
        except Exception as error:  # whatever it is, the user wants to know
            _fail(f"task '{task.id}'", f"{action!r} raised {error!r}", "answer a bad action with an observation or an end")
        if transition.terminated or transition.truncated:
            break
    await environment.close()


def _check_start(environment: Environment, start: Observation, where: str) -> None:
    if not start.messages:
        _fail(where, "reset gave no messages", "tell the policy what to do")
    names = [tool.name for tool in environment.tools]
    if len(names) != len(set(names)):
        _fail(where, f"tools share a name: {names}", "give each its own")


def _choose(environment: Environment) -> tuple[Action, bool]:
    """An action, and whether an expert chose it.  An oracle may raise LookupError where it knows nothing."""
    if isinstance(environment, Oracle):
        try:
            return environment.oracle(), True
        except LookupError:
            pass
    text = environment.legal_actions()[0] if isinstance(environment, LegalActions) else "0"
    return Action(text, answer=text), False


def _key(environment: Environment) -> Hashable:
    if not isinstance(environment, StateKey):
        return None
    key = environment.state_key()
    try:
        hash(key)
    except TypeError:
        _fail(type(environment).__name__, f"the state key {key!r} cannot be hashed", "use tuples and texts")
    return key


def _solved(transition: Transition) -> bool:
    return bool(transition.info.get("success", total(named(transition.reward)) > 0))


def _fail(where: str, what: str, remedy: str) -> NoReturn:
    raise ValueError(f"environment check, {where}: {what} ({remedy})")
