"""Curricula by score, by difficulty, in mixtures and stages: shares by hand, and a resumed one goes on as if nothing had been."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from math import e, exp
from typing import Any

import pytest

from sojourn.core import Task
from sojourn.curriculum import (
    Adaptive,
    Curriculum,
    Mixture,
    Outcome,
    Scored,
    Staged,
    Uniform,
    band,
    boltzmann,
    dealt,
    learnability,
    progress,
)


class Levels:
    """A task source of three levels; the tasks of level k have difficulties k0, k1, ..."""

    levels = ("1", "2", "3")

    def task(self, split: str, level: str, index: int) -> Task:
        return Task(f"{split}/{level}/{index}", {"difficulty": 10 * int(level) + index % 10}, level)


async def never(tasks: Sequence[Task], *, size: int, environment: Any = None, program: Any = None) -> Any:
    raise AssertionError("nobody wants to play")


def tasks(curriculum: Curriculum, count: int) -> list[Task]:
    return asyncio.run(dealt(curriculum, count, never))


def outcomes(rates: dict[str, float], advantages: dict[str, float] | None = None) -> list[Outcome]:
    return [
        Outcome(
            Levels().task("train", level, 0), rate, rate in (0, 1), {"solver": (rate, rate)}, (advantages or {}).get(level, 0.0)
        )
        for level, rate in rates.items()
    ]


def test_learnability_shares_by_hand() -> None:
    curriculum = Scored(Levels(), learnability, explore=0.1, rate=0.5)
    assert curriculum.shares() == pytest.approx(dict.fromkeys("123", 1 / 3))
    curriculum.observe(outcomes({"1": 0.5, "2": 0.9, "3": 0.0}))
    # 0.25, 0.09, 0: 0.1 in equal parts, 0.9 in proportion
    assert curriculum.shares() == pytest.approx({"1": 0.1 / 3 + 0.9 * 25 / 34, "2": 0.1 / 3 + 0.9 * 9 / 34, "3": 0.1 / 3})
    curriculum.observe(outcomes({"3": 1.0}))  # 0 and 1: a mean of 0.5
    assert curriculum.shares()["3"] == pytest.approx(0.1 / 3 + 0.9 * 25 / 59)


def test_the_band_shares_equally_what_lies_within_or_is_not_known() -> None:
    curriculum = Scored(Levels(), band(0.2, 0.8), explore=0.0)
    curriculum.observe(outcomes({"1": 1.0, "2": 0.8}))
    assert curriculum.shares() == {"1": 0.0, "2": 0.5, "3": 0.5}
    curriculum.observe(outcomes({"2": 1.0, "3": 0.1}))  # 0.8 + 0.3 * 0.2 = 0.86
    assert curriculum.shares() == pytest.approx(dict.fromkeys("123", 1 / 3)), "where none lies within, all are tried"


def test_progress_is_the_distance_of_two_means() -> None:
    """rate 0.3: fast 0.3, slow 0.1 after a step from 0 to 1; the same from 1 to 0."""
    curriculum = Scored(Levels(), progress, explore=0.0, rate=0.3)
    curriculum.observe(outcomes({"1": 0.0, "2": 1.0, "3": 0.5}))
    curriculum.observe(outcomes({"1": 1.0, "2": 0.0, "3": 0.5}))
    assert curriculum.shares() == pytest.approx({"1": 0.5, "2": 0.5, "3": 0.0})
    known = curriculum.state()["levels"]
    assert (known["1"]["success"], known["1"]["slow"]) == pytest.approx((0.3, 0.1))
    assert (known["2"]["success"], known["2"]["slow"]) == pytest.approx((0.7, 0.9))


def test_sec_is_a_softmax_of_the_mean_absolute_advantage() -> None:
    """Q <- 0.5 Q + 0.5 mean |A| from 0: levels at 0.5, 0.25, 0; tau 0.25."""
    curriculum = Scored(Levels(), boltzmann(0.25), explore=0.0, rate=0.5)
    curriculum.observe(outcomes({"1": 0.5, "2": 0.5, "3": 0.5}, {"1": 1.0, "2": 0.5, "3": 0.0}))
    whole = e**2 + e + 1
    assert curriculum.shares() == pytest.approx({"1": e**2 / whole, "2": e / whole, "3": 1 / whole})


def test_no_level_starves() -> None:
    curriculum = Scored(Levels(), learnability, explore=0.3)
    curriculum.observe(outcomes({"1": 0.5, "2": 0.0, "3": 1.0}))
    assert Counter(task.level for task in tasks(curriculum, 100)) == {"1": 80, "2": 10, "3": 10}


def test_a_share_is_a_share() -> None:
    with pytest.raises(ValueError, match=r"explore=2.*\[0, 1\]"):
        Scored(Levels(), explore=2)


def adaptive(**settings: Any) -> Adaptive:
    return Adaptive(Levels(), lambda task: task.data["difficulty"], size=10, **settings)


def test_the_target_follows_the_reward_and_the_nearest_tasks_come() -> None:
    """AdaRFT at R = 0.9: 50 tanh(0.8) = 33.2018."""
    curriculum = adaptive()
    assert [task.data["difficulty"] for task in tasks(curriculum, 3)] == [10, 11, 12]
    curriculum.observe(outcomes({"1": 0.8, "2": 1.0}))
    assert curriculum.target == pytest.approx(33.2018, abs=1e-4)
    assert [task.data["difficulty"] for task in tasks(curriculum, 4)] == [33, 34, 32, 35]
    curriculum.observe(outcomes({"3": 0.0}))  # 33.2018 - 50 tanh(1) < 0
    assert curriculum.target == 0.0


def test_the_target_can_follow_the_returns_of_a_role() -> None:
    by_rate, by_role = adaptive(), adaptive(role="solver")
    for curriculum in (by_rate, by_role):
        curriculum.observe([Outcome(Task("t"), 0.0, False, {"solver": (1.0, 0.8), "proposer": (9.0,)})])
    assert by_rate.target == 0.0
    assert by_role.target == pytest.approx(33.2018, abs=1e-4)


def test_of_equally_hard_tasks_the_one_dealt_less_often_comes() -> None:
    curriculum = Adaptive(Levels(), lambda task: 5.0, size=1)
    assert [task.level for task in tasks(curriculum, 7)] == ["1", "2", "3", "1", "2", "3", "1"]


def test_a_mixture_keeps_its_weights_its_temperature_and_its_caps() -> None:
    parts = {name: Uniform(Levels(), [level]) for name, level in (("a", "1"), ("b", "2"), ("c", "3"))}
    assert Mixture(parts, {"a": 6, "b": 3, "c": 1}).shares == pytest.approx({"a": 0.6, "b": 0.3, "c": 0.1})
    even = Mixture(parts, {"a": 9, "b": 4, "c": 1}, temperature=2.0).shares
    assert even == pytest.approx({"a": 3 / 6, "b": 2 / 6, "c": 1 / 6})
    # a is capped at 0.3; 0.7 is left for 3 : 1, so b would have 0.525, is capped at 0.5, and c has the rest
    capped = Mixture(parts, {"a": 6, "b": 3, "c": 1}, caps={"a": 0.3, "b": 0.5})
    assert capped.shares == pytest.approx({"a": 0.3, "b": 0.5, "c": 0.2})
    assert Counter(task.level for task in tasks(capped, 100)) == {"1": 30, "2": 50, "3": 20}


def test_caps_that_leave_tasks_to_nobody_are_refused() -> None:
    with pytest.raises(ValueError, match="so 0.5 of the tasks is nobody's"):
        Mixture({"a": Uniform(Levels())}, caps={"a": 0.5})
    with pytest.raises(ValueError, match="name the parts"):
        Mixture({"a": Uniform(Levels())}, {"b": 1.0})


def test_a_part_of_a_mixture_hears_of_its_own_tasks_alone() -> None:
    one, other = adaptive(), adaptive()
    mixture = Mixture({"one": one, "other": other}, {"one": 3, "other": 1})
    tasks(mixture, 4)
    mixture.observe([Outcome(Levels().task("train", "1", 2), 0.9, False)])  # one dealt tasks 0, 1, 2; other dealt task 0
    assert one.target > 0 == other.target


def test_stages_come_one_after_another() -> None:
    staged = Staged(
        {"maths": Uniform(Levels(), ["1"]), "code": Uniform(Levels(), ["2"]), "rest": Uniform(Levels(), ["3"])}, [4, 2]
    )
    levels = []
    for _ in range(5):
        levels.append("".join(task.level for task in tasks(staged, 2)))
    assert levels == ["11", "11", "22", "33", "33"]
    assert staged.describe()["stage"] == "rest"
    with pytest.raises(ValueError, match="one for each part but the last"):
        Staged({"a": Uniform(Levels())}, [3])


def mixture() -> Mixture:
    return Mixture({"a": Scored(Levels(), learnability), "b": adaptive()}, {"a": 2, "b": 1})


MAKERS: list[Callable[[], Any]] = [
    *(lambda score=score: Scored(Levels(), score) for score in (band(), learnability, progress, boltzmann())),  # type: ignore[misc]
    adaptive,
    mixture,
    lambda: Staged({"first": Scored(Levels()), "then": adaptive()}, [7]),
]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("cut", [1, 3])
def test_a_curriculum_resumed_from_its_state_goes_on_identically(make: Callable[[], Any], cut: int) -> None:
    def step(curriculum: Any, number: int) -> list[str]:
        given = tasks(curriculum, 5)
        curriculum.observe([Outcome(t, (i + number) % 4 / 3, False, {}, exp(-i)) for i, t in enumerate(given)])
        return [task.id for task in given]

    whole = make()
    expected = [step(whole, number) for number in range(6)]
    before = make()
    begun = [step(before, number) for number in range(cut)]
    after = make()
    after.load_state(json.loads(json.dumps(before.state())))
    assert begun + [step(after, number) for number in range(cut, 6)] == expected
    assert after.describe() == whole.describe()


def test_the_state_of_other_tasks_is_refused() -> None:
    with pytest.raises(ValueError, match="resume with the same tasks"):
        adaptive().load_state({"target": 0, "dealt": [0]})
    with pytest.raises(ValueError, match="resume with the same parts"):
        mixture().load_state({"parts": {}, "from": {}})
