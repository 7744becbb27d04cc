"""Stub worlds for workers: they count, and do on demand what foreign code does: hang, die, raise, print."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from typing import Any

from sojourn.core import Action, Environment, InfrastructureError, Observation, Task, ToolSpec, Transition
from sojourn.core.multi_agent import JointTransition, MultiAgentEnvironment
from sojourn.environments.world import TaskList, World


@dataclass(frozen=True)
class StubKey:
    """A key that is no plain value."""

    at: int


class StubCounter(Environment):
    """Counts to the task's goal by "more"; each pays 1 when it is reached."""

    async def reset(self, task: Task, *, seed: int) -> Observation:
        self.goal, self.at = task.data["goal"], 0
        self.tools = (ToolSpec(f"more{self.goal}", "count", {}),)
        return Observation.of(f"0 of {self.goal}")

    async def step(self, action: Action) -> Transition:
        match action.text:
            case "hang":
                time.sleep(1000)
            case "die":
                print("these are my last words", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            case "bug":
                raise ZeroDivisionError("my own")
            case "refused":
                raise ConnectionRefusedError("nobody there")
            case "modules":
                return Transition(info={"modules": sorted(sys.modules)})
            case "print":
                print("noise", "\n" * 100, flush=True)
            case "big":
                return Transition(Observation.of("x" * 1_000_000))
        self.at += 1
        done = self.at >= self.goal
        return Transition(Observation.of(f"{self.at} of {self.goal}"), {"goal": float(done)}, terminated=done)

    async def truncate(self) -> Transition:
        return Transition(reward={"so far": self.at / self.goal}, truncated=True)

    async def close(self) -> None:
        if getattr(self, "goal", 0) == 99:
            time.sleep(1000)

    def oracle(self) -> Action:
        if self.at == 2:
            raise LookupError("I have forgotten")
        return Action("more")


class StubAble(StubCounter):
    """Can go back, and has a key; one of its abilities is asynchronous of itself."""

    def snapshot(self) -> object:
        return self.goal, self.at

    async def restore(self, snapshot: Any) -> None:
        self.goal, self.at = snapshot

    def state_key(self) -> StubKey:
        return StubKey(self.at)


class StubTwo(MultiAgentEnvironment):
    agents = ("a", "b")

    async def reset(self, task: Task, *, seed: int) -> dict[str, Observation]:
        return {}

    def acting(self) -> tuple[str, ...]:
        return ("a",)

    async def step(self, actions: Any) -> JointTransition:
        return JointTransition(terminated=True)


def counter() -> World:
    return World(StubCounter, _tasks())


def able() -> World:
    return World(StubAble, _tasks())


def two() -> World:
    return World(StubTwo, _tasks())  # type: ignore[arg-type]


def unwritable() -> World:
    return World(StubCounter, TaskList([Task("odd", {"goal": StubKey(1)})]))


def wants_a_package() -> World:
    __import__("no_such_package")
    return counter()


def broken() -> World:
    raise InfrastructureError("no display")


def _tasks() -> TaskList:
    tasks = [Task(f"to {goal}", {"goal": goal, "pair": (goal, 1.5)}) for goal in range(2, 22)]
    return TaskList(tasks[::2], tasks[1::2])
