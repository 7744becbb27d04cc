"""The report on a world finds what it is for: hacks that pay, judges that break, leaks between splits; and nothing in a sound world."""

from __future__ import annotations

from typing import Any

import pytest
from pennies import Pennies

from sojourn.core import Action, Environment, Observation, Split, Task, Transition
from sojourn.environments import TaskList, World
from sojourn.environments.learnability import Learnability, learnability


class Guess(Environment):
    """Say the number of the task: it is told, plus one."""

    def judge(self, text: str) -> float:
        return float(text == str(self.number))

    async def reset(self, task: Task, *, seed: int) -> Observation:
        self.number = task.data["number"]
        return Observation.of(f"One less than {self.number + 1}?")

    async def step(self, action: Action) -> Transition:
        return Transition(reward=self.judge(action.answer or ""), terminated=True)

    def oracle(self) -> Action:
        return Action(str(self.number), answer=str(self.number))


class Gullible(Guess):
    def judge(self, text: str) -> float:
        return float("success" in text or text == str(self.number))


class Fragile(Guess):
    def judge(self, text: str) -> float:
        return float(eval(text, {"__builtins__": {}}) == self.number) if text.startswith("(") else 0.0


class Coin(Guess):
    """Heads or tails: half is solved by chance, and by saying the same always."""

    def legal_actions(self) -> list[str]:
        return ["0", "1"]

    async def reset(self, task: Task, *, seed: int) -> Observation:
        await super().reset(task, seed=seed)
        self.number %= 2
        return Observation.of("0 or 1?")


class Generous(Guess):
    """Pays long texts nearly as much as a right answer; nothing is solved so."""

    async def step(self, action: Action) -> Transition:
        right = self.judge(action.answer or "")
        paid = right + 0.9 * (not right and len(action.text) > 2000)
        return Transition(reward=paid, terminated=True, info={"success": bool(right)})


class Deaf(Guess):
    async def step(self, action: Action) -> Transition:
        return Transition(Observation.of("?"))


def report(kind: type[Environment], train: int = 8, test: int = 4) -> Learnability:
    tasks = TaskList(
        [Task(f"{i}", {"number": 20 + i}) for i in range(train)], [Task(f"t{i}", {"number": 50 + i}) for i in range(test)]
    )
    return learnability(World(kind, tasks), count=8, max_steps=6)


def test_a_sound_world_has_no_findings() -> None:
    found = report(Guess)
    assert list(found.findings) == []
    assert found.agents["oracle"].solved == found.agents["oracle"].episodes == 12
    assert (found.compared, found.shared, found.alike) == (4, 0, 0)
    assert found.longest == len("One less than 21?")


def test_a_hack_that_is_paid_is_named_and_a_lucky_constant_is_not() -> None:
    assert any("hack 'claims success' solves 12 of 12" in line for line in report(Gullible).findings)
    coin = report(Coin)
    assert coin.hacks["constant 1"].solved == 6 and list(coin.findings) == []


def test_a_judge_that_breaks_is_named_with_what_it_raised() -> None:
    found = report(Fragile)
    assert found.hacks["deep nesting"].episodes == 0
    assert any(line.startswith("deep nesting: 12 episodes broke, first 0: ") for line in found.findings)


def test_what_is_paid_without_solving_is_named() -> None:
    assert any("hack 'all numbers' earns 0.9 without solving" in line for line in report(Generous).findings)


def test_groups_that_all_earn_the_same_are_counted() -> None:
    assert report(Deaf).flat == 1.0
    assert report(Coin).flat < 0.3  # each group is flat with probability 2 / 2**8


def test_an_episode_without_an_end_is_cut_where_a_run_would() -> None:
    silent = report(Deaf).agents["silent"]
    assert (silent.steps, silent.solved) == (6, 0)


class Slow(Deaf):
    """Pays a little for every action, and says that nothing is solved yet."""

    async def step(self, action: Action) -> Transition:
        return Transition(Observation.of("?"), 0.1, info={"success": False})


def test_an_episode_that_is_cut_is_solved_only_if_the_world_says_so() -> None:
    random = report(Slow).agents["random"]
    assert random.solved == 0 and random.mean == pytest.approx(0.6)


class Leaking:
    levels = ("one",)

    def task(self, split: Split, level: str, index: int) -> Task:
        return Task(f"{split}/{index}", {"number": index % 10 + 5 * (split == "test")}, level)


def test_held_out_tasks_that_are_training_tasks_are_counted() -> None:
    found = learnability(World(Guess, Leaking()), count=1, max_steps=2)
    assert (found.compared, found.shared) == (10, 5)  # 5 to 14 held out, 0 to 9 trained
    assert found.findings[-1].startswith("5 of 10 held-out tasks are training tasks")


def test_the_first_of_several_agents_is_tried_against_agents_that_play_at_random() -> None:
    made: Any = Pennies
    tasks = TaskList([Task(str(i), {"number": i}) for i in range(4)], [Task("test", {"number": 9})])
    found = learnability(World(made, tasks), count=4)
    assert found.agents["random"].steps == pytest.approx(2.0)
    assert 1 < found.agents["random"].solved < 25  # of 40: both rounds won, a quarter of the time
    assert "oracle" not in found.agents
