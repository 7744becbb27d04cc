"""Returns on a tree, and credit for single actions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.credit import GiGPO, GroupRelative, Normaliser, StepRelative, TokenReturns, columns
from sojourn.credit.recursion import after_actions, backward_actions, backward_tokens
from sojourn.credit.steps import action_returns, buckets

PLAIN = Normaliser(deviation="none")
FORK = Script([Turn(1, reward=1.0)], branches=[Script([Turn(2, reward=2.0)]), Script([Turn(1), Turn(1, reward=6.0)])])


def test_returns_average_over_children_and_stop_at_leaves() -> None:
    c = columns([group([FORK])])
    # rows: root, left leaf, right inner, right leaf
    assert action_returns(c, 1.0).tolist() == [1 + (2 + 6) / 2, 2, 6, 6]
    assert action_returns(c, 0.5).tolist() == [1 + 0.5 * (2 + 3) / 2, 2, 3, 6]


def test_a_branch_does_not_feel_its_sibling() -> None:
    other = Script([Turn(1, reward=1.0)], branches=[Script([Turn(2, reward=-9.0)]), FORK.branches[1]])
    left, right = columns([group([FORK])]), columns([group([other])])
    assert action_returns(left, 0.9)[2:].tolist() == action_returns(right, 0.9)[2:].tolist()


def test_the_final_reward_is_not_multiplied_by_the_number_of_leaves() -> None:
    c = columns([group([Script([Turn()], final=3.0, branches=[Script([Turn()])] * 4)])])
    assert action_returns(c, 1.0).tolist() == [3.0] * 5


def test_the_mean_of_equal_branches_is_exactly_their_value() -> None:
    c = columns([group([Script([Turn()], final=0.1, branches=[Script([Turn()])] * 3)])])
    assert action_returns(c, 1.0).tolist() == [0.1] * 4


def test_every_turn_gets_the_return_that_follows_it() -> None:
    """Not the last turn alone (a known defect of REINFORCE++ elsewhere), and across rewritten contexts."""
    c = columns([group([Script([Turn(2, reward=1.0), Turn(1, rewrite=True), Turn(2)], final=4.0)])])
    assert TokenReturns()(c).tolist() == [5, 5, 4, 4, 4]
    assert TokenReturns(gamma=0.5)(c) == pytest.approx([0.5 * (1 + 0.5 * 0.5 * 0.5 * 4), 1 + 0.5, 1, 2, 4])


def test_unlinked_contexts_are_parallel() -> None:
    c = columns([group([Script([Turn(1, reward=1.0), Turn(1, reward=5.0, rewrite=True, linked=False)])])])
    assert action_returns(c, 1.0).tolist() == [1, 5]


def test_a_broken_branch_leaves_the_mean_of_its_parent() -> None:
    c = columns([group([Script([Turn(1)]), Script([Turn(1, reward=8.0)], failed=True), Script([Turn(1, reward=2.0)])])])
    c.parent_S[1:] = 0
    assert backward_actions(c, c.reward_S, 1.0).tolist() == [2, 8, 2]
    assert after_actions(c, np.array([0.0, 5.0, 7.0])).tolist() == [7, 0, 0]


@settings(max_examples=30)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.floats(0, 1), st.integers(0, 99))
def test_tokens_and_actions_agree_where_every_action_has_one_token(lengths: list[int], decay: float, seed: int) -> None:
    delta = np.random.default_rng(seed).normal(size=len(lengths))
    c = columns([group([Script([Turn(1) for _ in lengths])])])
    over_tokens = backward_tokens(c, delta, np.full(len(lengths), decay))
    assert over_tokens == pytest.approx(backward_actions(c, delta, decay))
    assert over_tokens[0] == pytest.approx(sum(d * decay**k for k, d in enumerate(delta)))


def test_buckets_by_turn_state_and_siblings() -> None:
    first = Script([Turn(anchor="s"), Turn(anchor="t")])
    c = columns([group([first, Script([Turn(anchor="s"), Turn()])]), group([first], key="h")])
    assert buckets(c, "batch").tolist() == [0] * 6
    assert buckets(c, "group").tolist() == [0, 0, 0, 0, 1, 1]
    assert buckets(c, "turn").tolist() == [0, 1, 0, 1, 2, 3]
    state = buckets(c, "state").tolist()
    assert state[0] == state[2] and len(set(state)) == 5
    siblings = buckets(c, "siblings").tolist()
    assert siblings[0] == siblings[2] and len(set(siblings)) == 5


def test_gigpo_numbers_by_hand() -> None:
    """Planning digest, section 7: same state, returns (.9, .3, .0), mean only: (.5, -.1, -.4)."""
    c = columns([group([Script([Turn(anchor="s", reward=r)]) for r in (0.9, 0.3, 0.0)])])
    assert GiGPO(gamma=1.0, omega=2.0)(c) == pytest.approx([0.5 * 3, -0.1 * 3, -0.4 * 3])
    alone = columns([group([Script([Turn(anchor=s, reward=r)]) for s, r in (("s", 0.9), ("t", 0.3), ("u", 0.0))])])
    assert StepRelative(bucket="state", normaliser=PLAIN)(alone).tolist() == [0, 0, 0]


def test_gigpo_compares_equal_states_at_different_turns() -> None:
    looped = Script([Turn(anchor="s"), Turn(anchor="s")], final=1.0)
    lost = Script([Turn(anchor="s")])
    c = columns([group([looped, lost])])
    mean = (0.5 + 1.0 + 0.0) / 3
    assert GiGPO(gamma=0.5)(c) == pytest.approx([0.5 + 0.5 - mean, 0.5 + 1.0 - mean, -0.5 + 0.0 - mean])


def test_gigpo_with_unique_states_is_grpo_bit_for_bit() -> None:
    unique = [Script([Turn(2, anchor=(i, 0)), Turn(1, anchor=(i, 1))], final=f) for i, f in enumerate((0.1, 0.7, 0.3))]
    unknown = [Script([Turn(2), Turn(1)], final=f) for f in (0.1, 0.7, 0.3)]
    for scripts in (unique, unknown):
        c = columns([group(scripts)])
        assert GiGPO(normaliser=Normaliser())(c).tolist() == GroupRelative()(c).tolist()


def test_step_relative_over_turns_is_the_joint_return_minus_its_mean_at_that_turn() -> None:
    c = columns([group([Script([Turn(reward=1.0), Turn(reward=2.0)]), Script([Turn(), Turn(reward=1.0)])])])
    assert StepRelative(bucket="turn", normaliser=PLAIN)(c).tolist() == [1.0, 0.5, -1.0, -0.5]


def test_step_relative_leaves_out_broken_episodes() -> None:
    scripts = [Script([Turn(reward=r)]) for r in (3.0, 1.0)]
    c = columns([group([*scripts, Script([Turn(reward=90.0)], failed=True)])])
    assert StepRelative(normaliser=PLAIN)(c).tolist() == [1.0, -1.0, 0.0]
