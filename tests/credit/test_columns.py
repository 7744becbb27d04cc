"""What credit reads from a trajectory tree."""

from dataclasses import replace

import numpy as np
import pytest

from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.core import Kind, StopReason
from sojourn.credit import columns


def test_the_action_before_is_found_over_observations_and_rewritten_contexts() -> None:
    c = columns([group([Script([Turn(), Turn(rewrite=True), Turn()]), Script([Turn(), Turn(rewrite=True, linked=False)])])])
    assert c.parent_S.tolist() == [-1, 0, 1, -1, -1]
    assert c.context_S.tolist() == [0, 1, 1, 0, 2]


def test_branches_of_a_search_share_the_action_before() -> None:
    c = columns([group([Script([Turn()], branches=[Script([Turn()]), Script([Turn(), Turn()])])])])
    assert c.parent_S.tolist() == [-1, 0, 0, 2]
    assert c.leaf_S.tolist() == [False, True, False, True]


def test_a_reward_on_an_observation_goes_to_the_action_that_caused_it() -> None:
    on_action = columns([group([Script([Turn(reward=0.5), Turn(reward={"a": 1.0})])])])
    on_world = columns([group([Script([Turn(reward=0.5, on_observation=True), Turn(reward={"a": 1.0}, on_observation=True)])])])
    assert on_world.reward_S.tolist() == on_action.reward_S.tolist() == [0.5, 1.0]
    assert on_world.terms_E["a"].tolist() == on_action.terms_E["a"].tolist() == [1.0]
    np.testing.assert_array_equal(on_world.terms_S["a"], [np.nan, 1.0])


def test_a_reward_that_no_action_caused_is_refused() -> None:
    bad = group([Script([Turn()])])
    bad.tree[0].reward = {"gift": 1.0}
    with pytest.raises(ValueError, match="group g: span 0 is no action and carries reward"):
        columns([bad])


def test_a_reward_that_is_no_number_is_refused_wherever_it_lies() -> None:
    for bad in (group([Script([Turn(reward=float("nan"))])]), group([Script([Turn()], final=float("inf"))])):
        with pytest.raises(ValueError, match="episode .*: reward '.*' is (nan|inf); pay finite numbers"):
            columns([bad])


def test_the_final_reward_lies_on_the_last_token_of_every_leaf() -> None:
    c = columns([group([Script([Turn(2, reward=0.25)], final=3.0, branches=[Script([Turn(2)]), Script([Turn(1)])])])])
    assert c.reward_T.tolist() == [0, 0.25, 0, 3.0, 3.0]
    assert c.return_E.tolist() == [3.25]


def test_a_dense_penalty_is_added_to_the_rewards_of_tokens() -> None:
    c = columns([group([Script([Turn(2, reward=1.0)])])])
    penalty = np.array([-0.5, -0.25])
    assert replace(c, penalty_T=penalty).reward_T.tolist() == [-0.5, 0.75]
    assert penalty.tolist() == [-0.5, -0.25]


def test_groups_with_one_key_and_anchors_of_two_groups_stay_apart() -> None:
    one = group([Script([Turn(anchor="s")]), Script([Turn(anchor="s"), Turn(anchor="t")])])
    c = columns([one, one])
    assert c.group_E.tolist() == [0, 0, 1, 1]
    assert c.anchor_S.tolist() == [0, 0, 1, 2, 2, 3]
    assert len(set(c.context_S.tolist())) == 2


def test_episodes_carry_how_they_ended() -> None:
    c = columns(
        [
            group(
                [
                    Script([Turn(3)], stop=StopReason.TURN_LIMIT, success=True),
                    Script([Turn(2)], failed=True),
                    Script([], final=1.0),
                ]
            )
        ]
    )
    assert c.bootstraps_E.tolist() == [True, False, False]
    assert c.valid_E.tolist() == [True, False, True]
    assert c.success_E.tolist() == [True, False, True]
    assert c.length_E.tolist() == [3, 2, 0]
    assert c.return_E.tolist() == [0, 0, 1]


def test_spread_gives_a_span_value_to_its_tokens_and_nothing_to_invalid_episodes() -> None:
    c = columns([group([Script([Turn(2), Turn(1)]), Script([Turn(2)], failed=True)])])
    assert c.spread(np.array([1.0, 2.0, 3.0])).tolist() == [1, 1, 2, 0, 0]
    assert c.spread_episodes(np.array([4.0, 5.0])).tolist() == [4, 4, 4, 0, 0]


def test_only_named_policies_are_trained() -> None:
    c = columns([group([Script([Turn(policy="actor", calls=2), Turn(policy="partner")])])], trained=["actor"])
    assert c.trained_S.tolist() == [True, False]
    assert c.calls_S.tolist() == [2, 0]


def test_a_return_counts_dense_rewards_of_tokens() -> None:
    c = columns([group([Script([Turn(2, reward=1.0), Turn(1)], final=0.5), Script([Turn(1)])])])
    assert replace(c, penalty_T=np.array([-0.5, -0.25, 2.0, -1.0])).return_E.tolist() == [2.75, -1.0]


def test_an_action_counts_its_calls() -> None:
    c = columns([group([Script([Turn(calls=2), Turn(calls=1)]), Script([Turn()])])])
    assert c.calls_S.tolist() == [2, 1, 0]
    silent = group([Script([Turn()])])
    silent.tree[silent.episodes[0].actions[0]].message = None
    assert columns([silent]).calls_S.tolist() == [0]


def test_a_demonstration_has_log_probability_zero_and_keeps_its_reward() -> None:
    """What an oracle said is forced, not sampled, and is an action of the episode all the same."""
    shown = group([Script([Turn(2, reward=0.5), Turn(1)], final=1.0)])
    for span in shown.episodes[0].actions:
        shown.tree[span].kind, shown.tree[span].logprobs = Kind.FORCED, None
    c = columns([shown])
    assert c.logp_T is not None
    assert c.logp_T.tolist() == [0, 0, 0]
    assert c.reward_S.tolist() == [0.5, 0.0]


def test_an_episode_has_0_of_a_term_that_it_was_not_paid_and_values_are_there_if_every_action_has_one() -> None:
    valued = group([Script([Turn(reward={"a": 2.0})]), Script([Turn()])])
    c = columns([valued])
    assert c.terms_E["a"].tolist() == [2.0, 0.0]
    np.testing.assert_array_equal(c.terms_S["a"], [2.0, np.nan])
    assert c.value_S is None
    first, second = (episode.actions[0] for episode in valued.episodes)
    valued.tree[first].value = 0.5
    assert columns([valued]).value_S is None
    valued.tree[second].value = -1.0
    values = columns([valued]).value_S
    assert values is not None
    assert values.tolist() == [0.5, -1.0]


def test_an_action_without_tokens_is_refused_with_its_group_and_span() -> None:
    """An exception that `python -O` keeps: without it the reward would lie on a token of the action before."""
    with pytest.raises(ValueError, match="group g/0: action span 3 has no tokens"):
        columns([group([Script([Turn(2), Turn(0, reward=1.0)])])])
