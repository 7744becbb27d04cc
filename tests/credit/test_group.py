"""Group-relative advantages: invariances first, then the numbers of the papers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.credit import Normaliser, columns, dr_grpo, grpo, rloo

HITS = np.array([1.0, 0, 0, 1, 0, 0, 0, 0])
ONE = np.zeros(8, int)
RETURNS = st.lists(st.integers(-8, 8).map(lambda n: n / 4), min_size=2, max_size=7)
LEVELS = st.sampled_from(["group", "batch", "none"])


def test_numbers_of_the_papers() -> None:
    assert Normaliser()(HITS, ONE) == pytest.approx([1.62018, -0.54006, -0.54006, 1.62018, *[-0.54006] * 4], abs=1e-5)
    assert Normaliser(deviation="none")(HITS, ONE)[:2] == pytest.approx([0.75, -0.25])
    assert Normaliser(mean="none", epsilon=0)(HITS, ONE)[0] == pytest.approx(1 / 0.4629100, abs=1e-6)
    assert Normaliser(deviation="none")(np.array([1.0, 0, 0, 1]), ONE[:4]).tolist() == [0.5, -0.5, -0.5, 0.5]
    assert Normaliser(deviation="none", leave_one_out=True)(HITS, ONE)[:2] == pytest.approx([0.857143, -0.285714], abs=1e-6)
    assert Normaliser()(np.array([1.0, 0, 0, 1]), ONE[:4]) == pytest.approx([0.8660, -0.8660, -0.8660, 0.8660], abs=1e-4)
    assert Normaliser(unbiased=False, epsilon=0)(np.array([1.0, 0, 0, 1]), ONE[:4]) == pytest.approx([1, -1, -1, 1])


def test_leave_one_out_subtracts_the_mean_of_the_others() -> None:
    value = np.array([3.0, 1.0, 5.0])
    expected = [3 - (1 + 5) / 2, 1 - (3 + 5) / 2, 5 - (3 + 1) / 2]
    assert Normaliser(deviation="none", leave_one_out=True)(value, np.zeros(3, int)) == pytest.approx(expected)


def test_leave_one_out_of_two_is_the_difference() -> None:
    assert Normaliser(deviation="none", leave_one_out=True)(np.array([1.0, 0.25]), np.zeros(2, int)).tolist() == [0.75, -0.75]


def test_equal_rewards_that_float_arithmetic_would_round_give_exactly_zero() -> None:
    for normaliser in (Normaliser(), Normaliser(deviation="none"), Normaliser(deviation="none", leave_one_out=True)):
        assert not any(normaliser(np.full(count, 0.1 * k), np.zeros(count, int)).any() for count in range(2, 8) for k in range(9))


def test_levels_mix() -> None:
    value, groups = np.array([1.0, 3.0, 10.0, 20.0]), np.array([7, 7, 2, 2])
    batch = np.std(value, ddof=1)
    assert Normaliser(deviation="batch", epsilon=0)(value, groups) == pytest.approx(np.array([-1, 1, -5, 5]) / batch)
    assert Normaliser(mean="batch", deviation="none")(value, groups) == pytest.approx(value - 8.5)
    assert Normaliser(mean="none", deviation="none")(value, groups) == pytest.approx(value)
    assert Normaliser(mean="none", deviation="batch", epsilon=1.0)(value, groups) == pytest.approx(value / (batch + 1))


@given(LEVELS, LEVELS, st.booleans(), st.floats(-3, 3), st.integers(2, 6))
def test_equal_rewards_give_exactly_zero(mean: str, deviation: str, out: bool, reward: float, count: int) -> None:
    normaliser = Normaliser(mean=mean, deviation=deviation, leave_one_out=out)  # type: ignore[arg-type]
    if (mean, deviation) != ("none", "none"):
        assert normaliser(np.full(count, reward), np.zeros(count, int)).tolist() == [0.0] * count


@pytest.mark.parametrize(
    "normaliser", [Normaliser(), Normaliser(deviation="batch"), Normaliser(deviation="none", leave_one_out=True)]
)
def test_a_group_of_one_gives_zero(normaliser: Normaliser) -> None:
    assert normaliser(np.array([5.0, 1.0, 0.0]), np.array([0, 1, 1]))[0] == 0.0


@given(RETURNS, st.randoms())
def test_the_order_within_a_group_does_not_matter(returns: list[float], random: object) -> None:
    order = list(range(len(returns)))
    random.shuffle(order)  # type: ignore[attr-defined]
    value, zeros = np.array(returns), np.zeros(len(returns), int)
    assert Normaliser()(value[order], zeros) == pytest.approx(Normaliser()(value, zeros)[order])


@given(RETURNS, st.floats(-5, 5), st.floats(0.1, 10))
def test_a_shift_changes_nothing_and_a_scale_only_what_has_no_deviation(returns: list[float], shift: float, scale: float) -> None:
    value, zeros = np.array(returns), np.zeros(len(returns), int)
    plain, scaled = Normaliser(deviation="none"), Normaliser(epsilon=0)
    assert plain(value + shift, zeros) == pytest.approx(plain(value, zeros))
    assert plain(value * scale, zeros) == pytest.approx(plain(value, zeros) * scale)
    assert scaled(value * scale + shift, zeros) == pytest.approx(scaled(value, zeros), abs=1e-6)


@given(RETURNS, st.integers(0, 6), st.floats(-9, 9))
def test_an_infrastructure_failure_equals_a_group_without_it(returns: list[float], place: int, junk: float) -> None:
    place = min(place, len(returns))
    value, valid = np.insert(np.array(returns), place, junk), np.insert(np.ones(len(returns), bool), place, False)
    with_failure = Normaliser()(value, np.zeros(len(value), int), valid)
    assert with_failure[place] == 0
    assert np.delete(with_failure, place).tolist() == Normaliser()(np.array(returns), np.zeros(len(returns), int)).tolist()


def test_three_contexts_of_one_episode_count_once() -> None:
    chunked = Script([Turn(2), Turn(1, rewrite=True), Turn(3, rewrite=True)], final=1.0)
    short = Script([Turn(2), Turn(2, rewrite=True)])
    assert dr_grpo()(columns([group([chunked, short])])).tolist() == [0.5] * 6 + [-0.5] * 4


def test_presets_spread_the_episode_advantage_over_all_tokens() -> None:
    c = columns([group([Script([Turn(1), Turn(2)], final=2.0), Script([Turn(1)]), Script([Turn(1)], final=1.0)])])
    assert grpo()(c) == pytest.approx([1, 1, 1, -1, 0], abs=1e-5)
    assert rloo()(c) == pytest.approx([1.5, 1.5, 1.5, -1.5, 0])
