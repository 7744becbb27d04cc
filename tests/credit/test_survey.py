"""Numbers by hand for the credit, filters and pairs of the rest of the survey's table."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest

from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.credit import (
    ByEntropy,
    Columns,
    EarlyCalls,
    Extremes,
    Gae,
    GatedTurns,
    HardGroups,
    Normaliser,
    ProcessRewards,
    Then,
    columns,
    dr_grpo,
    grpo,
    length_pairs,
)
from sojourn.credit.shaping import key_steps
from sojourn.credit.transforms import first_calls


def answers(*finals: float, key: str = "g", tokens: int = 1) -> Columns:
    return columns([group([Script([Turn(tokens)], final=f, success=f > 0) for f in finals], key=key)])


def test_pf_ppo_keeps_the_best_with_the_worst() -> None:
    c = columns([group([Script([Turn()], final=f) for f in (0.25, 1.0, 0.5, 0.0, 1.0)]), group([Script([Turn()])] * 2, key="h")])
    assert Extremes()(c).tolist() == [False, True, False, True, True, True, True]
    assert Extremes(beside="none")(c).tolist() == [False, True, False, False, True, True, True]
    drawn = {tuple(np.flatnonzero(Extremes(beside="random", seed=seed)(c)[:5]).tolist()) for seed in range(30)}
    assert drawn == {(0, 1, 4), (1, 2, 4), (1, 3, 4)}
    broken = replace(c, valid_E=np.array([True, True, True, False, True, True, True]))
    assert Extremes()(broken).tolist() == [True, True, False, False, True, True, True]


def test_psgpo_credits_every_line_with_what_follows() -> None:
    """Lines of 1 and 2 tokens paid 0.5 and -1, an answer paid 1; values 0.2, 0.4, 0.1; lambda 1/2.  From the back: 0 - 0.1, then
    0.1 - 0.4 + half of it, then 0.5 + 0.4 - 0.2 + half of that."""
    c = columns([group([Script([Turn(1, reward=0.5), Turn(2, reward=-1.0)], final=1.0)])])
    c = replace(c, value_T=np.array([0.2, 0.4, 0.1]))
    last = -1.0 + 1.0 - 0.1
    middle = 0.1 - 0.4 + 0.5 * last
    assert Gae(lam=0.5)(c) == pytest.approx([0.5 + 0.4 - 0.2 + 0.5 * middle, middle, last])


def test_posterior_grpo_pays_thinking_where_the_answer_is_right() -> None:
    """Outcomes 1, 0, 1 and thinking 0.5, 1, 0.25: returns 1.5, 0 and 1.25, whose mean is 11/12."""
    paid = ((1.0, 0.5), (0.0, 1.0), (1.0, 0.25))
    c = columns([group([Script([Turn(1, reward={"thinking": t})], final=f, success=f > 0) for f, t in paid])])
    credit = GatedTurns(credit=dr_grpo(), turn_terms=("thinking",))
    assert credit(c) == pytest.approx([1.5 - 11 / 12, -11 / 12, 1.25 - 11 / 12])
    assert credit.paid(c).terms_S["thinking"].tolist() == [0.5, 0.0, 0.25]
    by_place = columns([group([Script([Turn(1, reward=t), Turn(1)], final=f, success=f > 0) for f, t in paid])])
    assert GatedTurns(credit=dr_grpo())(by_place)[::2] == pytest.approx(credit(c))
    inner = ProcessRewards(turn_terms=("thinking",), normaliser=Normaliser(deviation="none"))
    assert GatedTurns(credit=inner, turn_terms=("thinking",))(c) == pytest.approx([0.25 + 1 / 3, -0.25 - 2 / 3, 1 / 3])


def test_step_grpo_pays_key_steps_on_top() -> None:
    """Half and all of the key steps, right and wrong: 1.05 and 0.1, a deviation of 0.95 / sqrt 2."""
    assert key_steps(np.array([0.5, 1.0]), np.array([True, False])).tolist() == pytest.approx([1.05, 0.1])
    assert grpo()(answers(1.05, 0.1)) == pytest.approx([sqrt(0.5), -sqrt(0.5)], abs=1e-5)


def calling() -> Columns:
    """Right answers that call after 2 of 4 and after 6 of 8 tokens, a right one without a call, a wrong one with one."""
    scripts = [
        Script([Turn(2, calls=1), Turn(2)], final=1.0, success=True),
        Script([Turn(4), Turn(2, calls=2), Turn(2, calls=1)], final=1.0, success=True),
        Script([Turn(3)], final=1.0, success=True),
        Script([Turn(1, calls=1)], success=False),
    ]
    return columns([group(scripts)])


def test_aspo_moves_advantages_to_early_calls() -> None:
    """Places 2 and 6, mean 4; lengths 4 and 8, mean 6: shifts -2 (+-2) / 6 = +-2/3, at most 0.7 x 1/4 of what was there."""
    c = calling()
    assert first_calls(c).tolist() == [2, 6, -1, 1]
    small = Then(credit=dr_grpo(), transforms=(EarlyCalls(),))(c)
    assert small == pytest.approx([0.25 * 1.7] * 4 + [0.25 * 0.3] * 8 + [0.25] * 3 + [-0.75])
    free = Then(credit=dr_grpo(), transforms=(EarlyCalls(delta=-0.1, k=1.0),))(c)
    assert free == pytest.approx([0.25 + 0.1 / 3] * 4 + [0.25 - 0.1 / 3] * 8 + [0.25] * 3 + [-0.75])


def test_edge_grpo_divides_by_relative_entropy() -> None:
    """Mean entropies 0.3 and 0.9, mean 0.6: divisors 1/2 and 3/2; advantages +-1/2."""
    c = answers(1.0, 0.0, tokens=2)
    c = replace(c, entropy_T=np.array([0.2, 0.4, 0.9, 0.9]))
    edge = Then(credit=dr_grpo(), transforms=(ByEntropy(),))
    assert edge(c) == pytest.approx([1.0, 1.0, -1 / 3, -1 / 3])
    certain = replace(c, entropy_T=np.array([0.0, 0.0, 0.9, 0.9]))
    assert edge(certain) == pytest.approx([5.0, 5.0, -0.25, -0.25])
    assert edge(replace(c, entropy_T=np.zeros(4))).tolist() == [0.5, 0.5, -0.5, -0.5]
    with pytest.raises(ValueError, match="entropy_T"):
        edge(replace(c, entropy_T=None))


@pytest.mark.parametrize(
    ("finals", "equal", "hardness"),
    [
        ((1.0, 0, 0, 0), 0.5 / sqrt(3 / 16), 1.5 * 0.5 / sqrt(3 / 16)),
        ((1.0, 1, 0, 0), 1.0, 1.0),
        ((1.0, 1, 1, 0), 1.0, 1.0),
        ((0.0, 0, 0, 0), 1.0, 1.0),
        ((1.0, *[0.0] * 99), 4.0, 4.0),
    ],
)
def test_dars_lets_hard_groups_weigh_as_much_as_middling_ones(finals: tuple[float, ...], equal: float, hardness: float) -> None:
    """A quarter right: 0.5 / sqrt(3/16), which makes 2 n sqrt(u (1 - u)) equal n."""
    c, ones = answers(*finals), np.ones(len(finals))
    assert HardGroups()(c, ones) == pytest.approx(equal * ones)
    assert HardGroups(by="hardness")(c, ones) == pytest.approx(hardness * ones)


def test_lcpo_compares_the_shortest_with_the_longest_right_answer() -> None:
    scripts = [Script([Turn(n)], success=right) for n, right in ((5, True), (2, True), (9, True), (1, False), (20, False))]
    same = [Script([Turn(3)], success=True)] * 2
    alone = [Script([Turn(3)], success=True), Script([Turn(1)], success=False)]
    c = columns([group(scripts), group(same, key="h"), group(alone, key="i")])
    assert length_pairs(c).tolist() == [[1, 2]]
    assert length_pairs(replace(c, valid_E=np.arange(len(c.final_E)) != 2)).tolist() == [[1, 0]]
