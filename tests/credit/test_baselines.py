"""Other baselines, pass@k and trees: numbers of the papers, then properties."""

from dataclasses import replace
from itertools import product
from math import comb

import numpy as np
import pytest

from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.credit import (
    GPG,
    Columns,
    GivenBaseline,
    GroupRelative,
    LeafRelative,
    MaxRL,
    Normaliser,
    OptimalTokenBaseline,
    PassK,
    PassKBest,
    TreePO,
    TreeRPO,
    columns,
    dr_grpo,
    opo,
)
from sojourn.credit.passk import pass_k_advantages


def scored(returns: list[float], lengths: list[int] | None = None, *, broken: tuple[int, ...] = (), key: str = "g") -> Columns:
    lengths = lengths or [1] * len(returns)
    scripts = [Script([Turn(n)], final=r, failed=i in broken) for i, (r, n) in enumerate(zip(returns, lengths, strict=True))]
    return columns([group(scripts, key=key)])


def first_tokens(c: Columns, advantage: np.ndarray) -> list[float]:
    return advantage[c.start_S[:-1]].tolist()


def test_opo_baseline_is_weighted_by_length() -> None:
    c = scored([1, 0, 1, 0], [10, 20, 30, 40])
    assert first_tokens(c, opo(c)) == pytest.approx([0.6, -0.4, 0.6, -0.4])


def test_opo_gives_exactly_zero_where_nothing_can_be_compared() -> None:
    assert opo(scored([0.3, 0.3, 0.3], [7, 3, 9])).tolist() == [0.0] * 19
    assert opo(scored([0.3], [2])).tolist() == [0.0, 0.0]
    assert not any(opo(scored([r / 7] * 3, [7, 3, 9])).any() for r in range(1, 30))


def test_opo_weighs_an_episode_that_said_nothing_by_nothing() -> None:
    c = columns([group([Script([Turn(1)], final=1.0), Script([])])])
    assert opo(c).tolist() == [0.0]


def test_opo_leaves_broken_episodes_out() -> None:
    c = scored([1, 0, 50], [1, 3, 9], broken=(2,))
    assert first_tokens(c, opo(c)) == pytest.approx([0.75, -0.25, 0.0])


def test_a_given_baseline_is_subtracted() -> None:
    c = replace(scored([1.0, 0.25]), baseline_E=np.array([0.5, 0.5]))
    assert GivenBaseline()(c).tolist() == [0.5, -0.25]
    with pytest.raises(ValueError, match="baseline_E"):
        GivenBaseline()(scored([1.0]))


def test_gpg_scales_by_the_share_of_samples_in_groups_with_spread() -> None:
    c = columns([group([Script([Turn()], final=r) for r in (1.0, 0.0)]), group([Script([Turn()], final=1.0)] * 3, key="h")])
    assert GPG(scale=2.0)(c) == pytest.approx([0.5 * 5 / 2 / 2, -0.5 * 5 / 2 / 2, 0, 0, 0])
    assert GPG()(scored([1.0, 1.0])).tolist() == [0, 0]


def test_gpg_counts_no_broken_episode() -> None:
    c = scored([1, 0, 9], broken=(2,))
    assert GPG()(c) == pytest.approx([0.5, -0.5, 0])


def test_maxrl_number_of_the_digest() -> None:
    assert MaxRL()(scored([1, 0, 0, 1, 0, 0, 0, 0])) == pytest.approx([2.99999, -1, -1, 2.99999, -1, -1, -1, -1], abs=5e-6)
    assert MaxRL()(scored([1, 0, 50], broken=(2,))) == pytest.approx([1, -1, 0], abs=1e-4)
    assert MaxRL(epsilon=0.5)(scored([1, 0])) == pytest.approx([0.5, -0.5])


def test_optimal_token_baseline_by_hand() -> None:
    """W_t cumulates 1 - 2 pi + sum pi^2 along an episode; the baseline at t is the W-weighted mean of returns at t."""
    c = scored([1.0, 0.0], [2, 1])
    c = replace(c, logp_T=np.log([0.5, 0.25, 0.8]), square_T=np.array([0.5, 0.4, 0.7]))
    w = [1 - 1 + 0.5, 1 - 0.5 + 0.4, 1 - 1.6 + 0.7]
    baseline = (w[0] * 1 + w[2] * 0) / (w[0] + w[2])
    assert OptimalTokenBaseline()(c) == pytest.approx([1 - baseline, 0.0, -baseline])
    with pytest.raises(ValueError, match="square_T"):
        OptimalTokenBaseline()(scored([1.0]))


def test_optimal_token_baseline_cumulates_and_leaves_broken_episodes_out() -> None:
    c = scored([1.0, 0.0, 7.0], [2, 2, 2], broken=(2,))
    c = replace(c, logp_T=np.log([0.5, 0.25, 0.8, 0.5, 0.1, 0.1]), square_T=np.array([0.5, 0.4, 0.7, 0.6, 0.9, 0.9]))
    w = [0.5, 0.5 + 0.9, 0.1, 0.1 + 0.6]
    first, second = w[0] / (w[0] + w[2]), w[1] / (w[1] + w[3])
    assert OptimalTokenBaseline()(c) == pytest.approx([1 - first, 1 - second, -first, -second, 0, 0])


def test_optimal_token_baseline_of_equal_returns_is_exactly_zero() -> None:
    """A weighted mean of equal numbers is not always that number."""
    logp, square = np.log([0.5, 0.25, 0.8, 0.5, 0.1, 0.1, 0.3]), np.array([0.5, 0.4, 0.7, 0.6, 0.9, 0.9, 0.2])
    for r in range(1, 30):
        c = replace(scored([r / 7] * 3, [2, 3, 2]), logp_T=logp, square_T=square)
        assert OptimalTokenBaseline()(c).tolist() == [0.0] * 7


def test_pass_k_numbers_of_the_digest() -> None:
    positive, negative = pass_k_advantages(8, 6, 4)
    assert (positive, negative) == pytest.approx((0.5222330, -0.1740777), abs=1e-6)
    assert 2 * positive + 6 * negative == pytest.approx(0)
    failing = pass_k_advantages(8, 6, 4, scaled=False)[0]  # 1 - Rbar
    assert 1 - failing == pytest.approx(0.7857143, abs=1e-7)
    assert failing / positive == pytest.approx(0.4103259, abs=1e-7)  # sigma
    assert PassKBest()(scored([0.2, 0.9, 0.5, 0.1])) == pytest.approx([0, 1.112970, 0, 0], abs=1e-5)


def test_pass_one_is_the_centred_success() -> None:
    assert pass_k_advantages(4, 1, 1, scaled=False) == pytest.approx((0.25, -0.75))


@pytest.mark.parametrize(("tries", "k"), [(8, 4), (8, 1), (5, 2)])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_unscaled_pass_k_gradient_is_that_of_pass_k(tries: int, k: int, p: float) -> None:
    """Summed over the group, the expected gradient is (N / k - 1) times the gradient of pass@k = 1 - (1 - p)^k, p = sigmoid(theta)."""
    expected = 0.0
    for wins in range(tries + 1):
        chance = comb(tries, wins) * p**wins * (1 - p) ** (tries - wins)
        positive, negative = pass_k_advantages(tries, tries - wins, k, scaled=False)
        expected += chance * (wins * positive * (1 - p) + (tries - wins) * negative * -p)
    gradient = k * (1 - p) ** (k - 1) * p * (1 - p)
    assert expected == pytest.approx((tries / k - 1) * gradient)


def test_pass_k_reads_success_and_skips_what_broke() -> None:
    scripts = [
        Script([Turn(2)], success=True),
        Script([Turn()], success=False),
        Script([Turn()], success=False),
        Script([Turn()], failed=True),
    ]
    c = columns([group(scripts)])
    positive, negative = pass_k_advantages(3, 2, 2)
    assert PassK(k=2)(c) == pytest.approx([positive, positive, negative, negative, 0])
    assert not PassK(k=4)(c).any(), "three are left of a group: there is no pass@4"
    with pytest.raises(ValueError, match="pass@4 needs at least 4 episodes in a group, found 3"):
        pass_k_advantages(3, 1, 4)


def test_pass_k_without_a_signal_is_exactly_zero() -> None:
    for returns in ([1.0, 1.0], [0.0, 0.0]):
        assert PassK(k=2)(scored(returns)).tolist() == [0, 0]
    assert PassKBest()(scored([0.5])).tolist() == [0]


TREE = Script(
    [Turn(1)], branches=[Script([Turn(2)], branches=[Script([Turn(1, reward=r)]) for r in (1.0, 0.0)]), Script([Turn(1)])]
)


def test_tree_rpo_compares_siblings() -> None:
    c = columns([group([TREE])])
    a = TreeRPO()(c)[c.start_S[:-1]]
    mu = (0.5 + 0.0) / 2
    scale = np.sqrt(mu * (1 - mu))
    assert a == pytest.approx([0, (0.5 - mu) / scale, 1, -1, (0 - mu) / scale])


def test_tree_rpo_refuses_returns_outside_the_unit_interval() -> None:
    with pytest.raises(ValueError, match=r"returns must lie in \[0, 1\]"):
        TreeRPO()(scored([2.0, -2.0]))


def test_leaves_compared_in_the_group_and_handed_up() -> None:
    c = columns([group([TREE])])
    plain = Normaliser(deviation="none")
    leaf = np.array([1.0, 0.0, 0.0]) - 1 / 3
    hard = LeafRelative(shared="hard", normaliser=plain)(c)[c.start_S[:-1]]
    soft = LeafRelative(shared="soft", normaliser=plain)(c)[c.start_S[:-1]]
    assert hard == pytest.approx([0, (leaf[0] + leaf[1]) / 2, *leaf])
    assert soft == pytest.approx([0, leaf[0] + leaf[1], *leaf])


def test_a_path_earns_all_its_rewards() -> None:
    paths = Script([Turn(1, reward=5.0)], branches=[Script([Turn(1, reward=1.0)]), Script([Turn(1, reward=3.0)])])
    c = columns([group([paths, Script([Turn(1)])])])
    a = LeafRelative(normaliser=Normaliser(mean="none", deviation="none"))(c)
    assert a.tolist() == [14, 6, 8, 0]


def test_without_forks_leaf_credit_is_group_credit() -> None:
    for failed in (False, True):
        scripts = [
            Script([Turn(2, reward=0.25), Turn(1, rewrite=True)], final=1.0),
            Script([Turn(3)]),
            Script([Turn(1)], final=9.0, failed=failed),
        ]
        c = columns([group(scripts)])
        assert LeafRelative()(c) == pytest.approx(GroupRelative()(c))


def test_tree_po_averages_the_gaps_to_all_prefixes() -> None:
    c = columns([group([TREE, Script([Turn(1)], final=1.0)])])
    whole, root, inner = 2 / 4, 1 / 3, 1 / 2
    expected = [
        root - whole,
        inner - (whole + root) / 2,
        1 - (whole + root + inner) / 3,
        0 - (whole + root + inner) / 3,
        0 - (whole + root) / 2,
        1 - whole,
    ]
    assert TreePO()(c)[c.start_S[:-1]] == pytest.approx(expected)


def test_expected_gradient_of_rloo_is_exact_on_a_bandit() -> None:
    """Enumerate all groups of 3 over 3 arms; dr_grpo's is (n - 1) / n of it."""
    logits, reward = np.array([0.3, -0.2, 0.5]), np.array([1.0, 0.25, -0.5])
    p = np.exp(logits) / np.exp(logits).sum()
    exact = p * (reward - p @ reward)
    for leave_one_out, factor in ((True, 1.0), (False, 2 / 3)):
        normaliser = Normaliser(deviation="none", leave_one_out=leave_one_out)
        total = np.zeros(3)
        for arms in product(range(3), repeat=3):
            advantage = normaliser(reward[list(arms)], np.zeros(3, int))
            for arm, a in zip(arms, advantage, strict=True):
                total += np.prod(p[list(arms)]) * a * (np.eye(3)[arm] - p) / 3
        assert total == pytest.approx(factor * exact)


def test_dr_grpo_uses_one_value_for_each_rollout_not_for_each_conversation() -> None:
    """Planning digest, section 7: rollouts a (3 conversations) and b (2), R = (1, 0)."""
    conversations = [[Turn(1), *[Turn(1, rewrite=True, linked=False)] * n] for n in (2, 1)]
    c = columns([group([Script(conversations[0], final=1.0), Script(conversations[1])])])
    assert dr_grpo()(c).tolist() == [0.5, 0.5, 0.5, -0.5, -0.5]


def test_the_best_of_a_group_is_credited_with_its_lead() -> None:
    """Returns 1, 3, 7: the lead is 4, the deviation sqrt(28 / 3)."""
    assert PassKBest(epsilon=0.0)(scored([1.0, 7.0, 3.0])) == pytest.approx([0, 4 / np.sqrt(28 / 3), 0])
    assert PassKBest(epsilon=1.0)(scored([1.0, 3.0])) == pytest.approx([0, 2 / (np.sqrt(2) + 1)])


def test_trees_with_equal_returns_are_exactly_zero() -> None:
    fork = Script([Turn(2)], final=0.1, branches=[Script([Turn(1)])] * 3)
    c = columns([group([fork, Script([Turn(1)], final=0.1), fork])])
    assert TreePO()(c).tolist() == TreeRPO()(c).tolist() == [0.0] * 11
