"""The checker finds each defect that it promises to find, and says which it is."""

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from sojourn.core import Action, Environment, Observation, Task, Transition
from sojourn.environments import World, check_environment


class Tasks:
    """Sound tasks: a number that differs between splits."""

    levels = ("default",)

    def task(self, split: str, level: str, index: int) -> Task:
        return Task(f"{split}/{index}", {"n": 2 * index + (split == "test")}, level)


class Counter(Environment):
    """A sound environment: say anything n + 1 times; the last pays."""

    async def reset(self, task: Task, *, seed: int) -> Observation:
        self.left = task.data["n"]
        return Observation.of("go on")

    async def step(self, action: Action) -> Transition:
        self.left -= 1
        return Transition(Observation.of("more"), 1.0, terminated=self.left < 0)

    def snapshot(self) -> object:
        return self.left

    def restore(self, snapshot: object) -> None:
        self.left = snapshot

    def state_key(self) -> object:
        return self.left

    def oracle(self) -> Action:
        return Action("x")


class ForgetfulRestore(Counter):
    def restore(self, snapshot: object) -> None:
        pass


class LuckyReset(Counter):
    async def reset(self, task: Task, *, seed: int) -> Observation:
        await super().reset(task, seed=seed)
        return Observation.of(str(random.random()))


class LuckyStep(Counter):
    async def step(self, action: Action) -> Transition:
        return replace(await super().step(action), reward=random.random())


class InfiniteReward(Counter):
    async def step(self, action: Action) -> Transition:
        return replace(await super().step(action), reward={"bonus": float("nan")})


class WrongOracle(Counter):
    async def step(self, action: Action) -> Transition:
        return replace(await super().step(action), reward=0.0)


class EndlessOracle(Counter):
    async def step(self, action: Action) -> Transition:
        return Transition(Observation.of("more"))


class ListKey(Counter):
    def state_key(self) -> object:
        return [self.left]


class InstanceKey(Counter):
    def state_key(self) -> object:
        return id(self)


class Fragile(Counter):
    async def step(self, action: Action) -> Transition:
        return {"x": await super().step(action)}[action.text]


class Silent(Counter):
    async def step(self, action: Action) -> Transition:
        return replace(await super().step(action), observation=Observation())


class SharedState(Counter):
    """Each instance is its own, but they all count in the class."""

    async def reset(self, task: Task, *, seed: int) -> Observation:
        SharedState.left = task.data["n"]
        return Observation.of("go on")

    async def step(self, action: Action) -> Transition:
        SharedState.left -= 1
        return Transition(Observation.of("more"), 1.0, terminated=SharedState.left < 0)

    def restore(self, snapshot: object) -> None:
        SharedState.left = snapshot


class ForgetfulReward(Counter):
    """Like a function with `if right: return 1.0` and nothing else."""

    async def step(self, action: Action) -> Transition:
        return replace(await super().step(action), reward=None)


class InfiniteAtTheCut(Counter):
    async def truncate(self) -> Transition:
        return Transition(reward=float("inf"), truncated=True)


DEFECTS = {
    ForgetfulReward: "reward 'reward' is None.*on every path",
    InfiniteAtTheCut: "cut at once: reward 'reward' is inf",
    ForgetfulRestore: "restored state went on differently",
    LuckyReset: "two resets",
    LuckyStep: "second instance",
    InfiniteReward: "reward 'bonus' is nan",
    WrongOracle: "oracle ended unsolved",
    EndlessOracle: "came to no end",
    ListKey: "cannot be hashed",
    InstanceKey: "different keys",
    Fragile: "raised KeyError",
    Silent: "nothing is observed",
    SharedState: "beside another episode",
}


def test_a_sound_environment_passes() -> None:
    assert "solved: 6 of 6 by the oracle" in check_environment(World(Counter, Tasks()))


@pytest.mark.parametrize("make", DEFECTS, ids=lambda make: make.__name__)
def test_a_defect_of_an_environment_is_named(make: Callable[[], Environment]) -> None:
    with pytest.raises(ValueError, match=DEFECTS[make]):
        check_environment(World(make, Tasks()))


def test_one_environment_for_all_episodes_is_found() -> None:
    one = Counter()
    with pytest.raises(ValueError, match="same Counter twice"):
        check_environment(World(lambda: one, Tasks()))
    with pytest.raises(ValueError, match="give what makes a fresh one"):
        check_environment(World(one, Tasks()))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the environment is a World: give its `make`"):
        check_environment(World(World(Counter, Tasks()), Tasks()))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="gave a dict"):
        check_environment(World(dict, Tasks()))


def test_splits_that_share_a_task_are_found() -> None:
    class Shared(Tasks):
        def task(self, split: str, level: str, index: int) -> Task:
            return Task(f"{split}/{index}", {"n": index + (split == "test")}, level)

    with pytest.raises(ValueError, match="are those of a train task"):
        check_environment(World(Counter, Shared()))


def test_a_source_that_forgets_its_arguments_is_found() -> None:
    class Lucky(Tasks):
        def task(self, split: str, level: str, index: int) -> Task:
            return Task("x", {"n": random.random()}, level)

    class Mislabelled(Tasks):
        def task(self, split: str, level: str, index: int) -> Task:
            return replace(super().task(split, level, index), level="other")

    with pytest.raises(ValueError, match="two different tasks"):
        check_environment(World(Counter, Lucky()))
    with pytest.raises(ValueError, match="says level 'other'"):
        check_environment(World(Counter, Mislabelled()))


class Boards(Tasks):
    """Large arrays that differ between the splits in their middle alone, where their text does not show it."""

    def task(self, split: str, level: str, index: int) -> Task:
        board = np.zeros((100, 100))
        board[50, 50] = split == "test"
        return Task(f"{split}/{index}", {"n": index, "board": board}, level)


def test_tasks_are_compared_by_all_that_they_hold() -> None:
    assert check_environment(World(Counter, Boards()))
