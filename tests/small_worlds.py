"""What the tests of the small worlds share: play one episode by a rule, and the guessers that stand for a policy which knows nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from sojourn.core import Action, Environment, LegalActions, Observation, Task, ToolCall, Transition

Rule = Callable[[Any, Observation], Action]
"""What to do: from the environment and what was observed last."""


def say(text: str) -> Action:
    return Action(text, answer=text)


def call(tool: str, /, **arguments: object) -> Action:
    return Action("", (ToolCall(tool, arguments),))


def play(environment: Environment, task: Task, rule: Rule, *, seed: int = 0, most: int = 200) -> list[Transition]:
    """One episode; `rule` acts until it ends."""

    async def run() -> list[Transition]:
        observation = await environment.reset(task, seed=seed)
        transitions: list[Transition] = []
        while len(transitions) < most:
            transitions.append(await environment.step(rule(environment, observation)))
            observation = transitions[-1].observation
            if transitions[-1].terminated or transitions[-1].truncated:
                break
        await environment.close()
        return transitions

    return asyncio.run(run())


def play_out(environment: Environment, task: Task, *actions: Action, seed: int = 0) -> list[Transition]:
    """These actions, one after the other, until the episode ends."""
    rest = iter(actions)
    return play(environment, task, lambda _, __: next(rest), seed=seed, most=len(actions))


def solved(transitions: list[Transition]) -> bool:
    return bool(transitions[-1].info["success"])


def oracle(environment: Any, _: Observation) -> Action:
    action: Action = environment.oracle()
    return action


def random_legal(rng: Random) -> Rule:
    def rule(environment: Any, _: Observation) -> Action:
        assert isinstance(environment, LegalActions)
        return say(rng.choice(environment.legal_actions()))

    return rule
