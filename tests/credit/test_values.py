"""GAE, bi-level GAE and V-trace."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.core import StopReason
from sojourn.credit import BiLevelGae, Columns, Gae, TokenReturns, VTrace, columns, value_targets


def with_values(c: Columns, value: list[float] | None = None, **extra: object) -> Columns:
    random = np.random.default_rng(0).normal(size=int(c.length_S.sum()))
    return replace(c, value_T=random if value is None else np.array(value), **extra)  # type: ignore[arg-type]


def plain_gae(reward: np.ndarray, value: np.ndarray, last: float, gamma: float, lam: float) -> np.ndarray:
    """The textbook double sum, not the recursion: A_t = sum_k (gamma lam)^k delta_{t+k}."""
    following = np.append(value[1:], last)
    delta = reward + gamma * following - value
    n = len(delta)
    return np.array([sum((gamma * lam) ** (k - t) * delta[k] for k in range(t, n)) for t in range(n)])


def test_number_of_the_digest_with_skipped_observations() -> None:
    """Rewards [0,0,0,0,1], V [.1,.2,9,9,.5], mask [1,1,0,0,1], lambda .95: [.83625, .775, -, -, .5]."""
    c = with_values(columns([group([Script([Turn(2), Turn(1, reward=1.0)])])]), [0.1, 0.2, 0.5])
    assert Gae(lam=0.95)(c) == pytest.approx([0.83625, 0.775, 0.5])


@settings(max_examples=30)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.floats(0.5, 1), st.floats(0, 1), st.integers(0, 20))
def test_token_gae_is_plain_gae_on_the_action_tokens_alone(lengths: list[int], gamma: float, lam: float, seed: int) -> None:
    c = columns([group([Script([Turn(n, reward=float(n - 2), observation=n) for n in lengths])], seed=seed)])
    value = np.random.default_rng(seed).normal(size=sum(lengths))
    expected = plain_gae(c.reward_T, value, 0.0, gamma, lam)
    assert Gae(gamma=gamma, lam=lam)(replace(c, value_T=value)) == pytest.approx(expected)


def test_what_was_cut_bootstraps_and_what_ended_does_not() -> None:
    ended, cut = Script([Turn(1, reward=1.0)]), Script([Turn(1, reward=1.0)], stop=StopReason.TRUNCATED)
    c = with_values(columns([group([ended, cut])]), [0.25, 0.25], after_S=np.array([7.0, 7.0]))
    for gae in (Gae(gamma=0.5), Gae(granularity="turn", gamma=0.5), BiLevelGae(gamma_turn=0.5)):
        assert gae(c) == pytest.approx([1 - 0.25, 1 + 0.5 * 7 - 0.25])
    with pytest.raises(ValueError, match="1 actions end episodes that were cut, and columns.after_S is None"):
        Gae()(replace(c, after_S=None))


def test_only_the_leaves_of_a_cut_episode_read_the_value_after() -> None:
    c = columns([group([Script([Turn(), Turn()], stop=StopReason.TOKEN_LIMIT)])])
    c = with_values(c, [1.0, 2.0], after_S=np.array([100.0, 3.0]))
    assert Gae(lam=0.0)(c).tolist() == [2 - 1, 3 - 2]


def test_at_a_fork_the_next_value_is_the_mean_of_the_branches() -> None:
    c = columns([group([Script([Turn(1)], branches=[Script([Turn(1, reward=1.0)]), Script([Turn(1)])])])])
    c = with_values(c, [0.0, 0.2, 0.6])
    assert Gae(lam=0.0)(c) == pytest.approx([0.4, 0.8, -0.6])
    assert Gae(lam=1.0)(c) == pytest.approx([0.5, 0.8, -0.6])


def test_lambda_one_is_the_return_minus_the_value_and_targets_are_returns() -> None:
    c = with_values(columns([group([Script([Turn(2, reward=0.5), Turn(3)], final=2.0)])]))
    assert Gae(lam=1.0)(c) == pytest.approx(TokenReturns()(c) - c.value_T)
    assert value_targets(c) == pytest.approx(TokenReturns()(c))
    assert value_targets(c, lam=0.0, gamma=0.5)[-1] == pytest.approx(2.0)


def test_lambda_adapts_to_the_length() -> None:
    c = with_values(columns([group([Script([Turn(30, reward=1.0)]), Script([Turn(3, reward=1.0)])])]))
    lam = 1 - 1 / (0.05 * 30)
    expected = np.concatenate(
        [plain_gae(c.reward_T[:30], c.value_T[:30], 0, 1, lam), plain_gae(c.reward_T[30:], c.value_T[30:], 0, 1, 0)]
    )
    assert Gae(alpha=0.05)(c) == pytest.approx(expected)


def test_turn_gae_with_one_token_a_turn_is_token_gae() -> None:
    c = with_values(columns([group([Script([Turn(1, reward=float(k)) for k in range(4)], final=1.0)])]))
    assert Gae(granularity="turn", gamma=0.9, lam=0.8)(c) == pytest.approx(Gae(gamma=0.9, lam=0.8)(c))


def test_turn_gae_reads_the_value_before_each_action() -> None:
    c = columns([group([Script([Turn(2, reward=1.0), Turn(3, reward=2.0)])])])
    c = with_values(c, [0.5, 99, 0.25, 99, 99])
    assert Gae(granularity="turn", gamma=0.5, lam=0.0)(c) == pytest.approx([1 + 0.125 - 0.5] * 2 + [1.75] * 3)


def test_vine_values_come_from_rollouts() -> None:
    c = columns([group([Script([Turn(2), Turn(1)], final=1.0)])])
    vine = Gae(granularity="turn", lam=0.0, monte_carlo=True)
    assert vine(replace(c, value_S=np.array([0.5, 0.75]))) == pytest.approx([0.25, 0.25, 0.25])
    with pytest.raises(ValueError, match="value_S"):
        vine(with_values(c))


def test_splitting_a_turn_in_two_changes_nothing_without_discount() -> None:
    value = [0.3, -0.2, 0.9, 0.4, 0.1]
    whole = with_values(columns([group([Script([Turn(5)], final=1.0)])]), value)
    split = with_values(columns([group([Script([Turn(2), Turn(3)], final=1.0)])]), value)
    for estimator in (Gae(lam=1.0), Gae(lam=0.5), TokenReturns(), BiLevelGae(gamma_turn=1.0, lam_turn=1.0, lam=1.0)):
        assert estimator(split) == pytest.approx(estimator(whole))


def test_bi_level_gae_by_hand() -> None:
    """Turn level first; the turn's return replaces the reward at its last token; then tokens within the turn."""
    c = columns([group([Script([Turn(2, reward=0.0), Turn(1, reward=1.0)])])])
    c = with_values(c, [0.1, 0.3, 0.4])
    last = 1 - 0.4
    first = (0 + 0.9 * 0.4 - 0.1) + 0.9 * 0.8 * last
    turn_return = first + 0.1
    token_1 = turn_return - 0.3
    token_0 = (0.3 - 0.1) + 0.5 * token_1
    estimator = BiLevelGae(gamma_turn=0.9, lam_turn=0.8, gamma=1.0, lam=0.5)
    assert estimator(c) == pytest.approx([token_0, token_1, last])


def test_a_turn_that_earned_nothing_is_a_turn() -> None:
    """RAGEN's code finds turn ends by nonzero rewards and loses this one."""
    two = with_values(columns([group([Script([Turn(1), Turn(1, reward=1.0)])])]), [0.0, 0.0])
    assert BiLevelGae(gamma_turn=0.5, lam_turn=1.0)(two) == pytest.approx([0.5, 1.0])


def test_dense_rewards_count_once_at_both_levels() -> None:
    c = replace(with_values(columns([group([Script([Turn(2, reward=1.0)])])]), [0.0, 0.0]), penalty_T=np.array([-0.25, -0.5]))
    assert Gae(granularity="turn", lam=1.0)(c) == pytest.approx([0.25, 0.25])
    assert Gae(lam=1.0)(c) == pytest.approx([0.25, 0.5])
    assert BiLevelGae(gamma_turn=1.0, lam_turn=1.0, lam=1.0)(c)[0] == pytest.approx(0.25)


def test_invalid_episodes_get_nothing() -> None:
    c = with_values(columns([group([Script([Turn(2, reward=1.0)], failed=True, stop=StopReason.TRUNCATED)])]))
    for estimator in (Gae(), Gae(granularity="turn"), BiLevelGae(), VTrace(), TokenReturns()):
        assert estimator(replace(c, policy_logp_T=c.logp_T)).tolist() == [0, 0]


def test_vtrace_on_policy_is_gae_and_off_policy_follows_the_sum_of_the_paper() -> None:
    c = with_values(columns([group([Script([Turn(2, reward=0.5), Turn(2)], final=1.0)])]))
    on = replace(c, policy_logp_T=c.logp_T)
    assert VTrace().targets(on) == pytest.approx(value_targets(on))
    assert VTrace()(on) == pytest.approx(Gae(lam=1.0)(on))
    shift = np.array([0.3, -0.4, 0.8, -0.1])
    off = replace(c, policy_logp_T=c.logp_T + shift)
    ratio, gamma = np.exp(shift), 0.9
    rho, trace = np.minimum(1.5, ratio), 0.7 * np.minimum(1.2, ratio)
    value, following = c.value_T, np.append(c.value_T[1:], 0.0)
    delta = rho * (c.reward_T + gamma * following - value)
    targets = [
        value[s] + sum(gamma ** (t - s) * np.prod(trace[s:t]) * delta[t] for t in range(s, 4)) for s in range(4)
    ]  # IMPALA, eq. 1
    estimator = VTrace(gamma=gamma, lam=0.7, rho_max=1.5, c_max=1.2)
    assert estimator.targets(off) == pytest.approx(targets)
    assert estimator(off) == pytest.approx(rho * (c.reward_T + gamma * np.append(targets[1:], 0.0) - value))


def test_missing_columns_are_named() -> None:
    c = columns([group([Script([Turn()])])])
    with pytest.raises(ValueError, match="needs a critic, but columns.value_T is None"):
        Gae()(c)
    with pytest.raises(ValueError, match="policy_logp_T"):
        VTrace()(with_values(c))
    with pytest.raises(ValueError, match="granularity='token'"):
        Gae(granularity="turn", alpha=0.05)
    with pytest.raises(ValueError, match="granularity='turn'"):
        Gae(monte_carlo=True)


def test_targets_discount_turns_apart_from_tokens() -> None:
    """Two actions of two tokens, paid 1 at the end: half after the turn, nine tenths after each token within one."""
    c = replace(columns([group([Script([Turn(2), Turn(2, reward=1.0)])])]), value_T=np.array([0.3, -0.2, 0.7, 0.1]))
    assert value_targets(c, gamma_turn=0.5) == pytest.approx([0.5, 0.5, 1.0, 1.0])
    assert value_targets(c, gamma=0.9, gamma_turn=0.5) == pytest.approx([0.9 * 0.5 * 0.9, 0.5 * 0.9, 0.9, 1.0])
