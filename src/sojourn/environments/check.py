"""A checker for environments: what training silently relies on, tried out.  [the idea: Gymnasium's `check_env`]

It plays a few tasks of every level in both splits: with the oracle where there is one, else with legal actions, else with a plain
text.  Whatever must not matter (a second instance, an episode beside it, a detour through a snapshot) is changed, and equality demanded.
What a world hands over goes through the functions that training asks, `core.handover`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from typing import NamedTuple, NoReturn, get_args

from sojourn.core import (
    Action,
    Environment,
    Failure,
    FailureKind,
    LegalActions,
    MultiAgentEnvironment,
    Observation,
    Oracle,
    Restorable,
    Split,
    StateKey,
    Task,
    TaskSource,
    Transition,
    content,
    handover,
    named,
    total,
)
from sojourn.environments.world import World

SEED = 7
WORLDS = (Environment, MultiAgentEnvironment)
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
    tasks = check_tasks(world.tasks, count)
    done = [f"tasks: {len(tasks)} are functions of (split, level, index); no task of one split is in the other"]
    return done + asyncio.run(_check_episodes(world, tasks, max_steps))


def check_tasks(source: TaskSource, count: int) -> list[Task]:
    """The first `count` tasks of each level and split, once they are found sound.  Raises ValueError as `check_environment`."""
    seen: dict[Hashable, Split] = {}
    tasks = []
    if not source.levels or isinstance(source.levels, str):
        _fail("tasks", f"the levels are {source.levels!r}", "set `levels` to a sequence of names, easiest first")
    for split in SPLITS:
        for level in source.levels:
            for index in range(count):
                task, again = (handover.task(source.task(split, level, index), source) for _ in range(2))
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
    await check_fresh(world.make)
    solved, steps, names = 0, 0, set[str]()
    for number, task in enumerate(tasks):
        environment = world.make()
        names |= {ability.__name__ for ability in ABILITIES if isinstance(environment, ability)}
        start, played = await _check_episode(environment, task, max_steps)
        await _check_twin(world.make(), world.make(), task, tasks[number - 1], start, played)
        await _check_restore(environment, played, f"task '{task.id}'")
        await environment.close()
        await _check_nonsense(world.make(), task)
        await _check_cut(world.make(), task)
        steps += len(played)
        solved += _solved(played[-1].transition)
    by = " by the oracle" if "Oracle" in names else ""
    return [
        f"episodes: {len(tasks)} with {steps} steps, equal beside another episode; rewards are finite; nonsense is survived",
        f"abilities: {', '.join(sorted(names)) or 'none'}",
        f"solved: {solved} of {len(tasks)}{by}",
    ]


async def check_fresh(make: Callable[[], Environment | MultiAgentEnvironment]) -> None:
    """Raise `ValueError` if `make` is no function, or one that gives the same environment again: episodes run side by side."""
    if isinstance(make, WORLDS):
        raise ValueError(
            f"the environment is one {type(make).__name__}: give what makes a fresh one for each episode, such as its class"
        )
    if not callable(make):
        remedy = "its `make`" if hasattr(make, "make") else "what makes a fresh one for each episode"
        raise ValueError(f"the environment is a {type(make).__name__}: give {remedy}")
    first, second = make(), make()
    if not isinstance(first, WORLDS):
        raise ValueError(f"the environment's maker gave a {type(first).__name__}: it must make an Environment (subclass it)")
    if first is second:
        raise ValueError(
            f"the environment's maker gave the same {type(first).__name__} twice: episodes run side by side and would mix, so let it "
            "make a fresh one each time"
        )
    for each in (first, second):
        with suppress(Exception):  # it has not been reset: what it says of that does not matter
            await each.close()


async def _check_episode(environment: Environment, task: Task, max_steps: int) -> tuple[Observation, list[_Step]]:
    where = f"task '{task.id}'"
    start = await _reset(environment, task)
    handover.tools(environment.tools, environment)
    return start, await _play(environment, where, max_steps)


async def _check_twin(
    twin: Environment, beside: Environment, task: Task, other: Task, start: Observation, played: Sequence[_Step]
) -> None:
    """The same actions in a second instance, while another episode goes on beside it."""
    where = f"task '{task.id}'"
    if await _reset(twin, task) != start:
        _fail(where, "two resets with one seed gave different observations", "draw all randomness from the seed")
    await _reset(beside, other)
    goes_on = True
    for i, step in enumerate(played):
        if await _key(twin) != step.key:
            _fail(
                f"{where}, step {i}",
                "equal states have different keys, beside another episode",
                "make `state_key` a function of the visible state",
            )
        if await _step(twin, step.action) != step.transition:
            _fail(
                f"{where}, step {i}",
                "the same actions led elsewhere in a second instance, beside another episode",
                "draw all randomness from the seed, and keep the state in the instance",
            )
        if goes_on:
            went = await _step(beside, (await _choose(beside))[0])
            goes_on = not (went.terminated or went.truncated)
    await twin.close()
    await beside.close()


async def _reset(environment: Environment, task: Task) -> Observation:
    return handover.observation(await handover.settled(environment.reset(task, seed=SEED)), environment)


async def _step(environment: Environment, action: Action) -> Transition:
    return handover.transition(await handover.settled(environment.step(action)), environment)


async def _play(environment: Environment, where: str, max_steps: int) -> list[_Step]:
    """Act until the episode ends: with the oracle, else the first legal action, else a plain text."""
    played: list[_Step] = []
    for i in range(max_steps):
        action, expert = await _choose(environment)
        key = await _key(environment)
        snapshot = await handover.settled(environment.snapshot()) if isinstance(environment, Restorable) else None
        transition = await _step(environment, action)
        _check_reward(transition, f"{where}, step {i}")
        played.append(_Step(action, transition, key, snapshot))
        if transition.terminated or transition.truncated:
            if expert and not _solved(transition):
                _fail(
                    where,
                    f"the oracle ended unsolved after {i + 1} actions, the last: {action.text!r}",
                    "fix `oracle` or the reward",
                )
            return played
        if not transition.observation.messages:
            what = "the episode goes on, but nothing is observed"
            _fail(f"{where}, step {i}", what, "return an observation or end the episode")
        if expert and i == max_steps - 1:
            _fail(where, f"the oracle came to no end in {max_steps} actions", "fix `oracle`, or raise max_steps")
    return played


async def _check_restore(environment: Environment, played: Sequence[_Step], where: str) -> None:
    """From the end, go back to each state twice and go on from there."""
    for i, step in enumerate(played):
        for _ in range(2 if isinstance(environment, Restorable) else 0):
            assert isinstance(environment, Restorable)
            await handover.settled(environment.restore(step.snapshot))
            if await _key(environment) != step.key or await _step(environment, step.action) != step.transition:
                what = "a restored state went on differently"
                _fail(f"{where}, step {i}", what, "let `snapshot` copy all that `step` reads and changes")


async def _check_cut(environment: Environment, task: Task) -> None:
    """An episode may be cut at any time: at a limit of turns, at a full context."""
    await _reset(environment, task)
    stands = handover.transition(await handover.settled(environment.truncate()), environment, "truncate")
    _check_reward(stands, f"task '{task.id}', cut at once")
    await environment.close()


def _check_reward(transition: Transition, where: str) -> None:
    try:
        named(transition.reward)
    except ValueError as error:
        raise ValueError(f"environment check, {where}: {error}") from None


async def _check_nonsense(environment: Environment, task: Task) -> None:
    """A policy says anything: an action that could not be parsed, an empty one.  That must not raise."""
    await _reset(environment, task)
    fault = Failure(FailureKind.MODEL, "action", "this is no valid action")
    for action in (Action("<", fault=fault), Action("")):
        try:
            transition = await _step(environment, action)
        except Exception as error:  # whatever it is, the user wants to know
            _fail(f"task '{task.id}'", f"{action!r} raised {error!r}", "answer a bad action with an observation or an end")
        if transition.terminated or transition.truncated:
            break
    await environment.close()


async def _choose(environment: Environment) -> tuple[Action, bool]:
    """An action, and whether an expert chose it.  An oracle may raise LookupError where it knows nothing."""
    if isinstance(environment, Oracle):
        try:
            return handover.action(await handover.settled(environment.oracle()), environment), True
        except LookupError:
            pass
    text = "0"
    if isinstance(environment, LegalActions):
        text = handover.legal(await handover.settled(environment.legal_actions()), environment)[0]
    return Action(text, answer=text), False


async def _key(environment: Environment) -> Hashable:
    if not isinstance(environment, StateKey):
        return None
    key: Hashable = await handover.settled(environment.state_key())
    try:
        hash(key)
    except TypeError:
        _fail(type(environment).__name__, f"the state key {key!r} cannot be hashed", "use tuples and texts")
    return key


def _solved(transition: Transition) -> bool:
    return bool(transition.info.get("success", total(named(transition.reward)) > 0))


def _fail(where: str, what: str, remedy: str) -> NoReturn:
    raise ValueError(f"environment check, {where}: {what} ({remedy})")
