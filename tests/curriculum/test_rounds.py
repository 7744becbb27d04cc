"""Rounds: what a rule lets come again, hints that grow, and a state that goes on where it stopped."""

from __future__ import annotations

import json

import pytest

from sojourn.core import Task
from sojourn.curriculum import Outcome, Rounds, hinted, lively, unsolved


class Numbers:
    """A stub source of numbered tasks on two levels."""

    levels = ("easy", "hard")

    def task(self, split: str, level: str, index: int) -> Task:
        return Task(f"{split}/{level}/{index}", {"n": index}, level)


def names(tasks: list[Task]) -> list[str]:
    return [task.id.removeprefix("train/") for task in tasks]


def judged(tasks: list[Task], *rates: float) -> list[Outcome]:
    return [Outcome(task, rate, rate in (0.0, 1.0)) for task, rate in zip(tasks, rates, strict=True)]


def test_what_was_all_right_stays_away_and_what_was_all_wrong_comes_again() -> None:
    rounds = Rounds(Numbers(), size=2)
    first = rounds.next(4)
    assert names(first) == ["easy/0", "hard/0", "easy/1", "hard/1"]
    rounds.observe(judged(first, 1.0, 0.5, 0.0, 1.0))
    assert names(rounds.next(2)) == ["hard/0", "easy/1"] and rounds.round == 2
    assert rounds.describe() == {"round": 2.0, "solved": 0.5}
    assert names(rounds.next(1)) == ["hard/0"], "a third round"


def test_where_all_is_solved_everything_comes_again() -> None:
    rounds = Rounds(Numbers(), size=1)
    rounds.observe(judged(rounds.next(2), 1.0, 1.0))
    assert names(rounds.next(2)) == ["easy/0", "hard/0"]


def test_a_task_without_signal_comes_every_second_then_every_fourth_round() -> None:
    """GRESO with p = 1/2: the hard task never tells anything, the easy one always does."""
    rounds, dealt = Rounds(Numbers(), size=1, again=lively(0.5)), []
    for _ in range(12):
        (task,) = rounds.next(1)
        dealt.append(task.level)
        rounds.observe(judged([task], 0.5 if task.level == "easy" else 0.0))
    assert dealt[:2] == ["easy", "hard"]
    gaps = "".join("h" if level == "hard" else "e" for level in dealt[2:])
    assert gaps == "eeheeeehee"


def test_an_unsolved_task_shows_more_of_its_solution_each_time() -> None:
    rounds, shown = Rounds(Numbers(), size=1, again=lambda seen: 1.0, hints=hinted()), []
    for rate in (0.0, 0.0, 0.0, 0.0, 0.25, 0.0):
        easy, hard = rounds.next(2)
        shown.append(easy.data.get("hint", 0.0))
        assert hard.data == {"n": 0}
        rounds.observe(judged([easy, hard], rate, 0.5))
    assert shown == [0.0, 0.25, 0.5, 0.75, 0.75, 0.0]


@pytest.mark.parametrize("after", range(7))
def test_it_goes_on_where_it_stopped(after: int) -> None:
    def play(rounds: Rounds, steps: range) -> list[str]:
        seen = []
        for step in steps:
            tasks = rounds.next(3)
            seen += [f"{task.id} {task.data}" for task in tasks]
            rounds.observe(judged(tasks, *[(0.0, 0.5, 1.0)[(step + k) % 3] for k in range(3)]))
        return seen

    def new() -> Rounds:
        return Rounds(Numbers(), size=4, again=lively(0.5), hints=hinted())

    whole, first, second = new(), new(), new()
    expected = play(whole, range(8))
    before = play(first, range(after))
    second.load_state(json.loads(json.dumps(first.state())))
    assert before + play(second, range(after, 8)) == expected
    assert json.dumps(second.state()) == json.dumps(whole.state())
    with pytest.raises(ValueError, match="resume with the same tasks"):
        Rounds(Numbers(), size=3).load_state(whole.state())


def test_a_round_needs_a_task() -> None:
    with pytest.raises(ValueError, match=r"Rounds\(size=0\)"):
        Rounds(Numbers(), size=0)
    assert unsolved([]) == 1.0 == lively()([])
