"""The level curriculum climbs where there is signal, does not get stuck, and resumes exactly."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.core import Task
from sojourn.curriculum import Curriculum, Outcome, Staircase, Uniform

LEVELS = ("1", "2", "3")
GROUP = 8


class Levels:
    """A task source of three levels."""

    levels = LEVELS

    def task(self, split: str, level: str, index: int) -> Task:
        return Task(f"{split}/{level}/{index}", {"index": index}, level)


class Learner:
    """Solves level k only if it can do all steps up to k; a group that teaches improves those steps, and the next a little."""

    def __init__(self, seed: int, skill: tuple[float, float, float] = (-2.4, -6.0, -6.0)) -> None:
        self.skill = np.array(skill)
        self.random = np.random.default_rng(seed)

    @property
    def success(self) -> np.ndarray:
        return np.cumprod(1 / (1 + np.exp(-self.skill)))

    def train(self, tasks: list[Task]) -> list[Outcome]:
        success, outcomes = self.success, []
        for task in tasks:
            level = LEVELS.index(task.level)
            solved = self.random.binomial(GROUP, success[level])
            outcomes.append(Outcome(task, solved / GROUP, zero_signal=solved in (0, GROUP)))
            if solved not in (0, GROUP):
                self.skill[: level + 1] += 0.18
                self.skill[level + 1 : level + 2] += 0.06
        return outcomes


def run(curriculum: Curriculum, learner: Learner, steps: int) -> list[list[str]]:
    """Levels of the tasks of each step."""
    given_levels = []
    for _ in range(steps):
        tasks = curriculum.next(8)
        given_levels.append([task.level for task in tasks])
        curriculum.observe(learner.train(tasks))
    return given_levels


def outcomes(level: str, success: float, count: int = 8, *, signal: bool = True) -> list[Outcome]:
    return [Outcome(Task(str(i), level=level), success, zero_signal=not signal) for i in range(count)]


@pytest.mark.parametrize("seed", range(5))
def test_a_learner_that_needs_signal_climbs_all_levels(seed: int) -> None:
    learner = Learner(seed)
    run(Staircase(Levels(), seed=seed), learner, steps=40)
    assert (learner.success > 0.9).all()


def test_direct_training_on_level_two_gets_no_signal() -> None:
    learner = Learner(0)
    before = learner.success.copy()
    run(Uniform(Levels(), ["2"]), learner, steps=40)
    assert learner.success[1] < 0.01 and learner.success[0] < before[0] + 0.1


def test_the_staircase_beats_equal_shares_with_one_budget() -> None:
    climber, control = Learner(1), Learner(1)
    run(Staircase(Levels()), climber, steps=25)
    run(Uniform(Levels()), control, steps=25)
    assert climber.success[2] > 2 * control.success[2]


def test_a_level_is_left_one_step_after_it_is_mastered_for_nearly_all_tasks() -> None:
    curriculum = Staircase(Levels())
    curriculum.observe(outcomes("1", 0.2))
    assert curriculum.shares()["1"] > 0.9
    curriculum.observe(outcomes("1", 0.8))
    assert curriculum.current == "2" and curriculum.shares()["2"] > 0.8 and 0.05 < curriculum.shares()["1"] < 0.2


def test_a_strong_learner_is_past_a_level_after_its_first_step() -> None:
    curriculum = Staircase(Levels())
    for level in LEVELS:
        assert curriculum.current == level
        curriculum.observe(outcomes(level, 1.0, signal=False))


def test_a_new_level_gets_some_steps_without_signal_then_the_level_below_is_trained_again() -> None:
    curriculum = Staircase(Levels())
    curriculum.observe(outcomes("1", 0.75))
    curriculum.observe(outcomes("2", 0.0, 7, signal=False))
    assert curriculum.shares()["2"] > 0.8
    for _ in range(5):
        curriculum.observe(outcomes("2", 0.0, 7, signal=False))
    assert curriculum.shares()["1"] > curriculum.shares()["2"] > 0.05


def test_a_dead_level_gets_the_tasks_when_the_level_below_teaches_nothing_either() -> None:
    curriculum = Staircase(Levels())
    for _ in range(10):
        curriculum.observe([*outcomes("1", 1.0, signal=False), *outcomes("2", 0.0, signal=False)])
    assert curriculum.shares()["2"] > 0.7


def test_a_level_that_is_forgotten_is_trained_again() -> None:
    curriculum = Staircase(Levels())
    curriculum.observe(outcomes("1", 0.9))
    curriculum.observe(outcomes("1", 0.6))
    assert curriculum.current == "2"
    curriculum.observe(outcomes("1", 0.2))
    assert curriculum.current == "1"


def test_a_next_level_that_already_teaches_gets_more_than_the_probe() -> None:
    quiet, telling = Staircase(Levels()), Staircase(Levels())
    for curriculum in (quiet, telling):
        curriculum.observe(outcomes("1", 0.4))
    telling.observe(outcomes("2", 0.3))
    assert telling.shares()["2"] > 2 * quiet.shares()["2"]


def test_shares_are_kept_exactly_over_time() -> None:
    curriculum = Staircase(Levels())
    curriculum.observe(outcomes("1", 0.9))
    shares = curriculum.shares()
    dealt = [task.level for task in curriculum.next(1000)]
    assert all(abs(dealt.count(level) - 1000 * shares[level]) <= 2 for level in LEVELS)


def test_no_task_is_dealt_twice_and_all_are_training_tasks() -> None:
    curriculum = Staircase(Levels())
    dealt = [task.id for _ in range(20) for task in curriculum.next(8)]
    assert len(set(dealt)) == 160 and all(name.startswith("train/") for name in dealt)


def test_another_seed_deals_other_tasks() -> None:
    ids = [{task.id for task in Staircase(Levels(), seed=seed).next(50)} for seed in (0, 1)]
    assert not ids[0] & ids[1]


def test_the_order_of_outcomes_does_not_matter() -> None:
    mixed = [*outcomes("1", 0.5, 3), *outcomes("2", 0.25, 3, signal=False), *outcomes("1", 0.75, 3)]
    one, other = Staircase(Levels()), Staircase(Levels())
    one.observe(mixed)
    other.observe(mixed[::-1])
    assert one.describe() == other.describe() and one.shares() == pytest.approx(other.shares())


def test_no_outcome_changes_nothing() -> None:
    curriculum = Staircase(Levels())
    before = curriculum.state()
    curriculum.observe([])
    assert curriculum.state() == before


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 12), st.integers(0, 5), st.sampled_from(["staircase", "uniform"]))
def test_a_curriculum_resumed_from_its_state_goes_on_identically(steps: int, seed: int, kind: str) -> None:
    def make() -> Curriculum:
        return Staircase(Levels(), seed=seed) if kind == "staircase" else Uniform(Levels(), seed=seed)

    curriculum, learner = make(), Learner(seed)
    run(curriculum, learner, steps)
    resumed = make()
    resumed.load_state(json.loads(json.dumps(curriculum.state())))
    twins = [Learner(seed, tuple(learner.skill)) for _ in range(2)]
    for _ in range(6):
        tasks, again = curriculum.next(8), resumed.next(8)
        assert tasks == again
        curriculum.observe(twins[0].train(tasks))
        resumed.observe(twins[1].train(again))
    assert curriculum.describe() == resumed.describe()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(LEVELS), st.floats(0, 1), st.booleans()), max_size=30))
def test_shares_add_up_and_the_current_level_is_never_starved(history: list[tuple[str, float, bool]]) -> None:
    curriculum = Staircase(Levels())
    for level, success, signal in history:
        curriculum.observe(outcomes(level, success, 4, signal=signal))
    shares = curriculum.shares()
    assert sum(shares.values()) == pytest.approx(1) and min(shares.values()) >= 0
    assert shares[curriculum.current] > 0.05


def test_a_state_of_other_levels_is_refused() -> None:
    class Two(Levels):
        levels = ("1", "2")

    with pytest.raises(ValueError, match=r"levels \['1', '2'\].*\['1', '2', '3'\]"):
        Staircase(Levels()).load_state(Staircase(Two()).state())


def test_unknown_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="9.*the task source has 1, 2, 3"):
        Uniform(Levels(), ["9"])


def test_equal_shares_are_equal() -> None:
    dealt = [task.level for task in Uniform(Levels(), ["1", "3"]).next(10)]
    assert dealt.count("1") == dealt.count("3") == 5
