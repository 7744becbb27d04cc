"""The checker for worlds with several agents finds each defect that it is for, and passes a world without any."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

import pytest
from pennies import Pennies

from sojourn.core import Action, JointTransition, MultiAgentEnvironment, Observation, Task
from sojourn.environments import TaskList, World, check_multi_agent


def world(make: Callable[[], MultiAgentEnvironment]) -> World[MultiAgentEnvironment]:
    return World(make, TaskList([Task(str(i), {"number": i}) for i in range(2)], [Task("test", {"number": 9})]))


class Told(Pennies):
    """A turn each: `odd` is told what `even` chose where it leaks; with `look` and `vary`."""

    leaks = False

    async def reset(self, task: Task, *, seed: int) -> Mapping[str, Observation]:
        self.secret = {"even": "red", "odd": "blue"}
        return await super().reset(task, seed=seed)

    def look(self, agent: str) -> str:
        return self.secret["even"] if self.leaks else self.secret[agent]

    def vary(self, agent: str, seed: int) -> bool:
        other = {"even": "odd", "odd": "even"}[agent]
        self.secret[other] = f"shade {seed}"
        return True


class Leaks(Told):
    leaks = True


class Random(Pennies):
    async def reset(self, task: Task, *, seed: int) -> Mapping[str, Observation]:
        await super().reset(task, seed=seed)
        return {agent: Observation.of(str(random.random())) for agent in self.agents}


class RandomPay(Pennies):
    async def step(self, actions: Mapping[str, Action]) -> JointTransition:
        await super().step(actions)
        return JointTransition(rewards={"even": random.random()}, terminated=True)


class Generous(Pennies):
    zero_sum = True

    async def step(self, actions: Mapping[str, Action]) -> JointTransition:
        return JointTransition(rewards={"even": 1.0, "odd": 1.0}, terminated=True)


class Infinite(Pennies):
    async def step(self, actions: Mapping[str, Action]) -> JointTransition:
        return JointTransition(rewards={"even": float("inf")}, terminated=True)


class Nobody(Pennies):
    def acting(self) -> Sequence[str]:
        return ()


class Unseeing(Pennies):
    async def reset(self, task: Task, *, seed: int) -> Mapping[str, Observation]:
        return {"even": (await super().reset(task, seed=seed))["even"]}


class Alike(Pennies):
    def legal(self, agent: str) -> Sequence[str]:
        return ("l", "l")


class Strict(Pennies):
    async def step(self, actions: Mapping[str, Action]) -> JointTransition:
        if any(action.text not in ("l", "r") for action in actions.values()):
            raise KeyError("text")
        return await super().step(actions)


class Stranger(Pennies):
    async def step(self, actions: Mapping[str, Action]) -> JointTransition:
        return JointTransition(rewards={"third": 0.0}, terminated=True)


def test_a_sound_world_passes() -> None:
    assert "not tried" in check_multi_agent(world(Pennies))[-1]
    assert "saw no difference" in check_multi_agent(world(Told))[-1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Leaks, "'odd' saw it"),
        (Random, "two resets with one seed"),
        (RandomPay, "led elsewhere"),
        (Generous, "zero-sum, and paid 2 in all"),
        (Infinite, "of 'even' reward 'reward' is inf"),
        (Nobody, r"acting\(\) is \[\]"),
        (Unseeing, "'odd' acts and has seen nothing"),
        (Alike, "read alike"),
        (Strict, "raised KeyError"),
        (Stranger, "'third' is paid"),
    ],
)
def test_a_defect_is_named(make: Callable[[], MultiAgentEnvironment], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_multi_agent(world(make))
