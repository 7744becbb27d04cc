"""What each algorithm follows: its expected gradient on a world small enough to write out, against the exact one.

Every group that two episodes can make is enumerated with its chance, so no number depends on luck.  `CLAIMS` says for each algorithm
what its expected gradient is: the policy gradient from dynamic programming, or, where an estimator is biased by construction, the
known form of what it follows instead.  `NO_REWARD_OF_ITS_OWN` says of the others why there is nothing to compare.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from itertools import product
from math import sqrt
from typing import Any

import numpy as np
import pytest
from expected_gradients import (
    EVEN,
    ONE_TURN,
    POLICY,
    TRUE,
    UNEVEN,
    WINS,
    WINS_BY_SEQUENCE,
    WRONG,
    Part,
    alike,
    by_entropy,
    by_turn,
    by_variance,
    centred,
    each_term,
    exact,
    first_choice,
    from_reference,
    gae,
    gated,
    groups,
    in_band,
    informed,
    most_uncertain,
    of_subsets,
    over_mean,
    prefixes,
    returns,
    rewards_to_go,
    same_state,
    scored,
    tempered,
    to_reference,
    two_levels,
    uncertain,
    uncertain_with_signal,
    uncut,
    white,
    wins,
    with_imitation,
    with_likelihood,
    with_signal,
)
from tabular import Batch, Fed, Floats, World, ascent, softmax, table, written

from sojourn.credit import Gae, TokenReturns, columns
from sojourn.objectives import ValueLoss
from sojourn.objectives.presets import PRESETS, Preset, preset


@dataclass(frozen=True)
class Claim:
    """What an algorithm follows, as a sum of parts, and in words."""

    words: str
    parts: tuple[Part, ...]
    world: World = EVEN
    size: int = 2
    fed: Fed = WRONG
    states: tuple[int, ...] = (0, 1)
    """Where the claim is made."""
    tolerance: float = 1e-4
    """Relative: what is added to deviations is not written down."""


def unbiased(*parts: Part, fed: Fed = WRONG) -> Claim:
    return Claim("the policy gradient", parts, fed=fed, tolerance=1e-9)


def winning(*parts: Part, words: str = "the chance to win against itself") -> Claim:
    return Claim(words, parts)


def known(words: str, *parts: Part) -> Claim:
    return Claim(words, parts)


CLAIMS: dict[str, Claim] = {
    # A mean that holds the sample itself costs (n - 1) / n = 1/2; a mean over tokens 1/4.
    "reinforce": unbiased(exact(1)),
    "reinforce_baseline": unbiased(exact(1 / 2)),
    "rloo": unbiased(exact(1, in_reward=0.03)),
    "remax": unbiased(exact(1 / 4)),
    "opo": unbiased(exact(1 / 8)),
    "gpg": unbiased(exact(1 / 8)),
    "dr_grpo": unbiased(exact(1 / 2 / 3000)),
    "topr": unbiased(exact(1 / 2)),
    "kimi": unbiased(exact(1 / 8)),
    "magrpo": unbiased(exact(1 / 8)),
    "deepseek_v32": unbiased(exact(1 / 8), from_reference(0.001)),
    "impala": unbiased(exact(1 / 4, bootstrapped=True), uncertain(0.001)),
    "vine_ppo": unbiased(exact(1 / 4, bootstrapped=True), to_reference(1e-4), fed=TRUE),
    "grpo": winning(WINS_BY_SEQUENCE, to_reference(0.04)),
    "r1": winning(WINS_BY_SEQUENCE, to_reference(0.001)),
    "dapo": winning(WINS),
    "gspo": winning(WINS_BY_SEQUENCE),
    "luspo": winning(groups(wins, "sums")),
    "turn_gspo": winning(WINS_BY_SEQUENCE),
    "gmpo": winning(WINS_BY_SEQUENCE),
    "cispo": winning(WINS),
    "sapo": winning(WINS_BY_SEQUENCE),
    "vespo": winning(WINS),
    "lite_ppo": winning(WINS),
    "clip_cov": winning(WINS, words="the chance to win: no covariance reaches the band"),
    "kl_cov": winning(WINS, words="the chance to win: |log ratio| is flat where the policy has not moved"),
    "prorl": winning(with_signal(wins)),
    "skywork_or1": winning(WINS, uncertain_with_signal),
    "intellect2": winning(with_signal(wins)),
    "grpo_roc": winning(WINS, words="the chance to win: groups of up to 16 are kept whole"),
    "tis": winning(WINS),
    "icepop": winning(WINS),
    "seq_mask_tis": winning(WINS),
    "decoupled_ppo": winning(WINS),
    "m2po": winning(WINS),
    "dppo": winning(WINS),
    "starpo_grpo": winning(WINS, uncertain(0.001)),
    "arpo": winning(WINS, words="without forks, the chance to win"),
    "arpo_hard": winning(WINS, words="without forks, the chance to win"),
    "reinforce_pp_baseline": known(
        "the chance to win; +-d/2 on 4 tokens each has the deviation |d| sqrt(8 / 7) / 2",
        groups(lambda own, others: wins(own, others) * sqrt(2 * 7 / 8)),
        from_reference(0.001),
    ),
    "memagent": known("half the policy gradient; held to the reference where returns differ", with_signal(centred)),
    "gdpo": known("the chance to win a vote of the terms", groups(each_term)),
    "passk_best": known("sqrt 2 for the winner alone", groups(lambda own, others: 2 * np.maximum(wins(own, others), 0.0))),
    "passk": Claim("scored subsets of four", (groups(of_subsets, size=5),), world=ONE_TURN, size=5),
    "maxrl": known("(R - mean) / mean", groups(over_mean)),
    "otb": known("returns against the other's, the more the larger its W", groups(by_variance)),
    "top_entropy": Claim("the chance to win, at one token of eight", (groups(most_uncertain),), states=(1,)),
    "r_zero": known("the chance to win where one of two succeeds", groups(in_band, "sequences")),
    "overlong_masked": known("the chance to win, learnt where nothing was cut", groups(uncut)),
    "entropy_advantage": known("the chance to win, uncertain choices up", groups(tempered)),
    "reinforce_pp": known("whitened returns", groups(white(rewards_to_go))),
    "ppo": known("whitened GAE, KL in the reward", groups(white(lambda path: gae(path, lam=0.95, beta=0.05)))),
    "ppo_plain": known("whitened GAE", groups(white(lambda path: gae(path, lam=0.95)))),
    "vc_ppo": known("whitened GAE", groups(white(lambda path: gae(path, lam=0.95)))),
    "vapo": known(
        "whitened GAE with lambda max(1 - 1 / (0.05 x 4), 0) = 0, good choices imitated",
        groups(with_likelihood(white(lambda path: gae(path, lam=0.0)), 0.1)),
    ),
    "turn_ppo": known("whitened GAE of turns", groups(white(lambda path: gae(path, gamma=0.99, lam=0.95, granularity="turn")))),
    "ragen": known("whitened GAE on two levels", groups(white(two_levels)), uncertain(0.001)),
    "starpo_s": known("whitened returns less values", groups(white(gae)), uncertain(0.001)),
    "gigpo": known("returns, and returns in the same state", groups(same_state, "sequences"), to_reference(0.01)),
    "mt_grpo": known("wins of the turn and of the outcome", groups(by_turn), to_reference(0.01)),
    "grpo_process": known("wins of the turn and of the outcome", groups(by_turn, "sequences"), to_reference(0.04)),
    "igpo": known("wins of what was learnt and of the outcome", groups(informed)),
    "step_reinforce": known(
        "scored returns of all turns", groups(lambda own, others: scored(returns(own, 0.95), returns(others[0], 0.95)))
    ),
    "tree_rpo": known("without forks, the first choice alone", groups(first_choice, "sequences"), to_reference(0.001)),
    "tree_po": known("without forks, half at the second choice", groups(prefixes)),
    "distillation": known("down the divergence from the teacher, state by state", from_reference(1.0)),
    "rft": known("imitation of what was paid", groups(lambda own, others: alike(own.total > 0, own))),
    "filtered_bc": known("imitation of the winner", groups(lambda own, others: alike(own.total > others[0].total, own))),
    "awr": known("imitation by exp(R - mean)", groups(lambda own, others: alike(np.exp((own.total - others[0].total) / 2), own))),
    "marwil": known("imitation by exp(+-1 / sqrt 2)", groups(lambda own, others: np.exp(wins(own, others)))),
    "pf_ppo": known("whitened GAE, of two the best and the worst", groups(white(lambda path: gae(path, lam=0.95, beta=0.05)))),
    "psgpo": known("whitened GAE, KL in the reward", groups(white(lambda path: gae(path, lam=0.95, beta=0.05)))),
    "posterior_grpo": winning(
        groups(gated, "sequences"), to_reference(0.04), words="the chance to win with what a success has earned"
    ),
    "step_grpo": winning(WINS_BY_SEQUENCE, to_reference(0.04)),
    "srpo": winning(WINS),
    "greso": winning(WINS),
    "ghpo": winning(WINS_BY_SEQUENCE),
    "aspo": winning(WINS, words="without calls, the chance to win"),
    "edge_grpo": known("the chance to win, the surer episode more", groups(by_entropy, "sequences")),
    "dars": winning(WINS, words="the chance to win: of two, half or more are right"),
    "chord": known("the chance to win, and imitation of the winner", groups(with_imitation)),
}
SHOWN = "imitates what it is shown and reads no reward"
PAIRS = "learns which of two stored or sampled answers is preferred; its loss is checked by the papers' numbers"
NO_REWARD_OF_ITS_OWN = {
    "sft": SHOWN, "dft": SHOWN, "dpo": PAIRS, "cdpo": PAIRS, "rpo": PAIRS, "step_dpo": PAIRS, "ln_dpo": PAIRS, "tr_dpo": PAIRS,
    "ipo": PAIRS, "simpo": PAIRS, "orpo": PAIRS, "kto": "learns from verdicts on stored answers; its loss is checked by hand",
    "beta_dpo": PAIRS, "lcpo": PAIRS, "skywork_r1v2": "half of it learns from pairs; its loss is checked by hand",
    "papo": "reads a second look at the world; its loss is checked by hand",
}  # fmt: skip


@cache
def batches(world: World, size: int) -> list[Batch]:
    """Every group of so many episodes as a batch of its own, weighted by its chance."""
    return [
        Batch(table([paths]), paths, float(np.prod([path.chance(POLICY) for path in paths])))
        for paths in product(world.paths, repeat=size)
    ]


def test_the_columns_are_those_of_the_episodes() -> None:
    groups_of = [UNEVEN.paths[:20], UNEVEN.paths[20:], EVEN.paths]
    read, short = columns(written(groups_of)), table(groups_of)
    for field in fields(read):
        one, other = getattr(read, field.name), getattr(short, field.name)
        if field.name != "logp_T":
            np.testing.assert_equal(one, other, field.name)


def test_every_algorithm_has_a_claim_or_a_reason() -> None:
    assert CLAIMS.keys() | NO_REWARD_OF_ITS_OWN.keys() == PRESETS.keys()
    assert not CLAIMS.keys() & NO_REWARD_OF_ITS_OWN.keys()


@pytest.mark.parametrize("name", CLAIMS)
def test_the_expected_gradient_is_what_is_claimed(name: str) -> None:
    claim = CLAIMS[name]
    expected = np.sum([part(claim.world) for part in claim.parts], axis=0)
    seen = ascent(preset(name), batches(claim.world, claim.size), claim.fed)
    chosen = list(claim.states)
    assert np.abs(expected[chosen]).max() > 1e-6
    assert seen[chosen] == pytest.approx(expected[chosen], rel=claim.tolerance, abs=claim.tolerance * np.abs(expected).max())


def reinforced(credit: Gae | TokenReturns) -> Preset:
    """The credit by itself, without whitening, under the loss of REINFORCE."""
    critic = ValueLoss() if isinstance(credit, Gae) else None
    return Preset(title="by itself", paper="none", credit=credit, objective=preset("reinforce").objective, critic=critic)


@pytest.mark.parametrize("granularity", ["token", "turn"])
@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
def test_gae_is_unbiased_with_the_true_values_whatever_lambda(lam: float, granularity: Any) -> None:
    seen = ascent(reinforced(Gae(granularity=granularity, lam=lam)), batches(EVEN, 1), TRUE)
    assert seen == pytest.approx(exact(1, bootstrapped=True)(EVEN))


@pytest.mark.parametrize("granularity", ["token", "turn"])
def test_gae_is_unbiased_with_wrong_values_where_lambda_is_1_only(granularity: Any) -> None:
    """With lambda 0 it follows r + V' - V of the critic it has."""
    true = exact(1, bootstrapped=True)(EVEN)
    assert ascent(reinforced(Gae(granularity=granularity, lam=1.0)), batches(EVEN, 1), WRONG) == pytest.approx(true)
    one_step = ascent(reinforced(Gae(granularity=granularity, lam=0.0)), batches(EVEN, 1), WRONG)
    written = groups(lambda own, _: gae(own, lam=0.0, granularity=granularity)[::2], "sums", 1)(EVEN)
    assert one_step == pytest.approx(written)
    assert np.abs(one_step - true).max() > 0.01


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("reinforce", exact(1)),
        ("rloo", exact(1, in_reward=0.03)),
        ("dr_grpo", exact(1 / 2 / 3000)),
        ("topr", exact(1 / 2)),
        ("luspo", groups(wins, "sums")),
        ("gspo", WINS_BY_SEQUENCE),
        ("dapo", WINS),
    ],
)
def test_where_lengths_differ_only_sums_and_constants_keep_the_gradient(name: str, part: Part) -> None:
    """A mean over sequences weighs an episode by 1 / its length, a mean over tokens by 1 / the tokens of its group."""
    expected = part(UNEVEN)
    assert ascent(preset(name), batches(UNEVEN, 2), WRONG) == pytest.approx(expected, rel=1e-4, abs=1e-4 * np.abs(expected).max())


def test_the_exact_gradient_is_the_slope_of_the_expected_return() -> None:
    """Dynamic programming against the sum over all paths, moved a little."""
    logits, step = np.log(POLICY), 1e-6

    def worth(moved: Floats) -> float:
        return sum(path.chance(softmax(moved)) * path.total for path in UNEVEN.paths)

    slope = np.zeros((2, 2))
    for place in np.ndindex(2, 2):
        nudge = np.zeros((2, 2))
        nudge[place] = step
        slope[place] = (worth(logits + nudge) - worth(logits - nudge)) / (2 * step)
    assert sum(path.chance(POLICY) for path in UNEVEN.paths) == pytest.approx(1)
    assert UNEVEN.worth(POLICY) == pytest.approx(worth(logits))
    assert UNEVEN.gradient(POLICY) == pytest.approx(slope, abs=1e-8)
