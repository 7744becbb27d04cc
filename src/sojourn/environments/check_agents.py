"""A checker for worlds with several agents: what training silently relies on, tried out.  [the idea: PettingZoo's `api_test`, `seed_test`]

It plays a few tasks with legal actions, drawn from a seed, or a plain text where none are listed.  What must not matter is changed (a second
instance; what an agent cannot know) and equality demanded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NoReturn, Protocol, runtime_checkable

import numpy as np

from sojourn.core import (
    Action,
    Failure,
    FailureKind,
    JointTransition,
    MultiAgentEnvironment,
    Observation,
    Task,
    handover,
    named,
    total,
)
from sojourn.environments.check import check_tasks
from sojourn.environments.world import World

SEED = 7


@runtime_checkable
class Hides(Protocol):
    """Can draw anew what an agent cannot know; then what the agent sees must stay as it is."""

    def look(self, agent: str) -> str:
        """What the agent sees now."""
        ...

    def vary(self, agent: str, seed: int) -> bool:
        """Draw anew, in place, all that the agent cannot know; False where that cannot be done."""
        ...


def check_multi_agent(world: World[MultiAgentEnvironment], *, count: int = 3, max_steps: int = 100) -> list[str]:
    """Check `count` tasks of each level and split; returns what was checked, one line each.

    max_steps: joint actions of one episode at most.  Raises ValueError for the first thing that is wrong: what, where, what to do.
    Not to be called from async code.
    """
    return asyncio.run(_check(world, check_tasks(world.tasks, count), max_steps))


async def _check(world: World[MultiAgentEnvironment], tasks: list[Task], max_steps: int) -> list[str]:
    steps = varied = 0
    for task in tasks:
        played = await _check_episode(world.make(), world.make(), task, max_steps)
        await _check_nonsense(world.make(), task)
        varied += await _check_hidden(world.make(), task, played)
        steps += len(played)
    agents, zero_sum = world.make().agents, world.make().zero_sum
    return [
        f"tasks: {len(tasks)} are functions of (split, level, index); no task of one split is in the other",
        f"episodes: {len(tasks)} with {steps} steps of {len(agents)} agents, equal in a second instance; rewards are finite"
        f"{' and add up to 0' if zero_sum else ''}; nonsense is survived",
        f"hidden: what an agent cannot know was drawn anew {varied} times, and it saw no difference"
        if varied
        else "hidden: not tried, for the world cannot draw anew what an agent does not know (`Hides` in environments/check_agents.py)",
    ]


Joint = dict[str, Action]


async def _check_episode(
    environment: MultiAgentEnvironment, twin: MultiAgentEnvironment, task: Task, max_steps: int
) -> list[Joint]:
    """Play to the end, and the same in a second instance; returns what was done."""
    where, draw, played = f"task '{task.id}'", np.random.default_rng(SEED), list[Joint]()
    first = handover.observations(await handover.settled(environment.reset(task, seed=SEED)), environment, "reset returned")
    if await twin.reset(task, seed=SEED) != first:
        _fail(where, "two resets with one seed gave different observations", "draw all randomness from the task and the seed")
    contexts = _known(environment, first, where)
    for step in range(max_steps):
        here = f"{where}, step {step}"
        actions = _choose(environment, contexts, draw, here)
        if (list(twin.acting()), *map(twin.legal, actions)) != (list(environment.acting()), *map(environment.legal, actions)):
            _fail(here, "a second instance lets others act, or otherwise", "draw all randomness from the task and the seed")
        transition = handover.joint(await handover.settled(environment.step(actions)), environment)
        if await twin.step(actions) != transition:
            _fail(here, "the same actions led elsewhere in a second instance", "draw all randomness from the task and the seed")
        _check_paid(environment, transition, here)
        contexts |= _known(environment, transition.observations, here)
        played.append(actions)
        if transition.terminated or transition.truncated:
            break
    await environment.close()
    await twin.close()
    return played


def _choose(environment: MultiAgentEnvironment, contexts: set[str], draw: np.random.Generator, here: str) -> Joint:
    """An action for each who acts: a legal one, or a plain text."""
    acting = list(environment.acting())
    if not acting or len(set(acting)) != len(acting) or not set(acting) <= set(environment.agents):
        _fail(here, f"acting() is {acting}", f"name at least one of {list(environment.agents)}, none twice, until the end")
    chosen = {}
    for agent in acting:
        if agent not in contexts:
            _fail(here, f"'{agent}' acts and has seen nothing yet", "let it observe something before, or when, it comes to act")
        legal = environment.legal(agent)
        if len(set(legal)) != len(legal):
            _fail(here, f"'{agent}' has legal actions that read alike: {list(legal)}", "give each a text of its own")
        text = legal[int(draw.integers(len(legal)))] if legal else "0"
        chosen[agent] = Action(text, answer=text)
    return chosen


def _known(environment: MultiAgentEnvironment, seen: Mapping[str, Observation], where: str) -> set[str]:
    """Who has seen something."""
    for agent, observation in seen.items():
        if agent not in environment.agents:
            _fail(where, f"'{agent}' observes, and is none of {list(environment.agents)}", "name all in `agents`")
        if not observation.messages:
            _fail(where, f"'{agent}' is named and observes nothing", "leave out who has seen nothing new")
    return set(seen)


def _check_paid(environment: MultiAgentEnvironment, transition: JointTransition, here: str) -> None:
    sums = 0.0
    for agent, reward in transition.rewards.items():
        if agent not in environment.agents:
            _fail(here, f"'{agent}' is paid, and is none of {list(environment.agents)}", "name all in `agents`")
        try:
            sums += total(named(reward))
        except ValueError as error:
            _fail(here, f"of '{agent}' {error}", "see what `step` pays")
    if environment.zero_sum and abs(sums) > 1e-6:
        _fail(
            here, f"the world says that it is zero-sum, and paid {sums:g} in all", "set zero_sum to False, or correct the rewards"
        )


async def _check_nonsense(environment: MultiAgentEnvironment, task: Task) -> None:
    """A policy says anything.  That must not raise."""
    await environment.reset(task, seed=SEED)
    fault = Failure(FailureKind.MODEL, "action", "this is no valid action")
    for action in (Action("<", fault=fault), Action("")):
        actions = dict.fromkeys(environment.acting(), action)
        try:
            transition = await environment.step(actions)
        except Exception as error:  # whatever it is, the user wants to know
            _fail(f"task '{task.id}'", f"{action!r} raised {error!r}", "answer a bad action with an observation or an end")
        if transition.terminated or transition.truncated:
            break
    await environment.close()


async def _check_hidden(environment: MultiAgentEnvironment, task: Task, played: list[Joint]) -> int:
    """At every state of an episode, for every agent: what it cannot know is drawn anew; what it sees, and may do, must stay."""
    varied = 0
    for step in range(len(played) if isinstance(environment, Hides) else 0):
        await environment.reset(task, seed=SEED)
        for actions in played[:step]:
            await environment.step(actions)
        assert isinstance(environment, Hides)
        for agent in environment.agents:
            before = environment.look(agent), list(environment.acting()), _legal(environment, agent)
            for seed in range(3):
                if not environment.vary(agent, seed):
                    return varied
                varied += 1
                if (environment.look(agent), list(environment.acting()), _legal(environment, agent)) != before:
                    what = f"what only others can know was drawn anew, and '{agent}' saw it: {environment.look(agent)!r}, not {before[0]!r}"
                    _fail(f"task '{task.id}', step {step}", what, "show an agent its own information alone")
    await environment.close()
    return varied


def _legal(environment: MultiAgentEnvironment, agent: str) -> list[str]:
    return list(environment.legal(agent)) if agent in environment.acting() else []


def _fail(where: str, what: str, remedy: str) -> NoReturn:
    raise ValueError(f"environment check, {where}: {what} ({remedy})")
