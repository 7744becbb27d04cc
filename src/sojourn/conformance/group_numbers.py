"""Numbers of credit that compares answers: with their group, with the batch, with another rollout, token by token.

Most checks read one batch, `BATCH`: three groups of 4, 2 and 2 answers.

    returns     3 0 1 0 | 4 0 | 1 1        tokens   3 1 2 4 | 1 3 | 2 1
    mean        1       | 2   | 1          deviation (n - 1)   sqrt 2 | sqrt 8 | 0

Over the batch the mean is 10 / 8, and the squares sum to 28 - 100 / 8 = 15.5.
"""

from __future__ import annotations

from math import log, sqrt

import numpy as np

from sojourn.conformance.adapter import Adapter, Given
from sojourn.conformance.numbers import Case, answers, following, hold, said, scaled, spread
from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.core import EpisodeGroup
from sojourn.credit.columns import Floats

RETURNS = np.array([3.0, 0.0, 1.0, 0.0, 4.0, 0.0, 1.0, 1.0])
LENGTHS = np.array([3, 1, 2, 4, 1, 3, 2, 1])
CENTRED = np.array([2.0, -1.0, 0.0, -1.0, 2.0, -2.0, 0.0, 0.0])
"""Returns less the mean of their group."""
BASELINE = np.array([1.0, -0.5, 0.25, 2.0, 3.0, 0.5, 0.0, 1.5])
"""Returns of greedy rollouts."""


def batch() -> list[EpisodeGroup]:
    cuts = {"g": slice(0, 4), "h": slice(4, 6), "k": slice(6, 8)}
    return [answers(RETURNS[cut].tolist(), LENGTHS[cut].tolist(), key=key) for key, cut in cuts.items()]


def returns_are_compared_as_the_papers_say(adapter: Adapter) -> str:
    """A for each episode of `BATCH`, in order:

    opo       b = (3*3 + 1*0 + 2*1 + 4*0) / 10 = 1.1,  4 / 4 = 1,  1
    gpg       (R - mean) 8 / 6: one group of two has no spread
    maxrl     (R - mean) / mean
    rloo      (R - mean) n / (n - 1)
    passk_best  (3 - 1) / sqrt 2,  (4 - 0) / sqrt 8,  0: the best of each group alone
    lite_ppo  (R - mean of the group) / sqrt(15.5 / 7);  marwil and the batch's baseline: R - 1.25
    """
    root, whole = sqrt(0.5), sqrt(15.5 / 7)
    each = {
        "reinforce": RETURNS,
        "reinforce_baseline": RETURNS - 1.25,
        "grpo": [sqrt(2), -root, 0, -root, root, -root, 0, 0],
        "dr_grpo": CENTRED,
        "rloo": [8 / 3, -4 / 3, 0, -4 / 3, 4, -4, 0, 0],
        "lite_ppo": CENTRED / whole,
        "marwil": (RETURNS - 1.25) / whole,
        "opo": [1.9, -1.1, -0.1, -1.1, 3, -1, 0, 0],
        "gpg": CENTRED * 4 / 3,
        "maxrl": [2, -1, 0, -1, 1, -1, 0, 0],
        "passk_best": [sqrt(2), 0, 0, 0, sqrt(2), 0, 0, 0],
        "remax": RETURNS - BASELINE,
        "positive_only": np.maximum(CENTRED, 0),
        "weighted_sum": CENTRED / 2 + 2 * RETURNS,
    }
    given = Given(baseline=BASELINE)
    names = hold(adapter, {name: Case(batch(), spread(x, LENGTHS), given) for name, x in each.items()})
    return f"{', '.join(names)}: three groups of different size, spread and length"


def bounds_hold_on_both_sides(adapter: Adapter) -> str:
    """One winner among 30: A = (29 / 30) / sqrt(1 / 30) = 29 / sqrt 30 = 5.29, bounded at 5; the others -1 / sqrt 30.  And one loser."""
    n = 30
    winner, loser = np.eye(n)[3], 1 - np.eye(n)[3]
    expected = np.where(winner, 5.0, -1 / sqrt(n))
    made = [answers(each.tolist(), [1] * n, key=key) for each, key in ((winner, "w"), (loser, "l"))]
    hold(adapter, {"overlong_masked": Case(made, np.concatenate([expected, -expected]))})
    return "advantages of 5.29 and -5.29, bounded at 5"


def batches_are_whitened_over_tokens(adapter: Adapter) -> str:
    """REINFORCE++ with a group baseline, on `BATCH`: the 17 tokens of the centred returns sum to 6 - 1 - 4 + 2 - 6 = -3, and their
    squares to 12 + 1 + 4 + 4 + 12 = 33, so A = (R - mean + 3 / 17) / sqrt((33 - 9 / 17) / 16).

    REINFORCE++: what follows each token, with 0.001 (log pi - log pi_ref) taken off each token, whitened.
    """
    baseline = (spread(CENTRED, LENGTHS) + 3 / 17) / sqrt((33 - 9 / 17) / 16)
    groups, logp, ref = two_turns()
    paid = [np.array(each) for each in TOKEN_REWARDS]
    divergence = np.split(np.subtract(logp, ref), np.cumsum([len(each) for each in paid])[:-1])
    returns = np.concatenate([following(r - 0.001 * k) for r, k in zip(paid, divergence, strict=True)])
    names = hold(
        adapter,
        {
            "reinforce_pp_baseline": Case(batch(), baseline),
            "reinforce_pp": Case(groups, scaled(returns), Given(ref_logp=np.array(ref))),
        },
    )
    return " and ".join(names)


TOKEN_REWARDS = [[0.0, 0.5, 2.0], [0.0, 0.0, 0.25, 1.0], [0.0, -1.0]]
"""Of each token of `two_turns`: the reward of a turn lies on its last token."""


def two_turns() -> tuple[list[EpisodeGroup], list[float], list[float]]:
    """Episodes of 2 + 1, 3 + 1 and 2 tokens, with what the policy and the reference say of each token."""
    made = group(
        [
            Script([Turn(2, reward=0.5), Turn(1)], final=2.0),
            Script([Turn(3, reward=0.25), Turn(1)], final=1.0),
            Script([Turn(2)], final=-1.0),
        ]
    )
    logp = [-0.5, -1.0, -0.25, -2.0, -0.75, -1.5, -0.5, -1.0, -0.125]
    ref = [-1.0, -0.5, -0.5, -3.5, -0.25, -1.5, -1.5, -0.5, -0.25]
    said([made], logp)
    return [made], logp, ref


def divergences_are_taken_off_the_reward(adapter: Adapter) -> str:
    """The return that follows each token of `two_turns`, less 0.5 k for each token from there on; l = log pi - log pi_ref is

        0.5 -0.5 0.25 | 1.5 -0.5 0 1 | -0.5 0.125,   k1 = l,  k2 = l^2 / 2,  k3 = exp(-l) - 1 + l,  or |l|.

    RLOO: R_i = reward - 0.03 sum l over the episode (sums 0.25, 2, -0.375), so R = 2.4925, 1.19, -0.98875, each less the mean of
    the other two: 2.391875, 0.438125, -2.83.  Distillation: A = -l.  pi is the learner's policy, which has moved since it sampled.
    """
    groups, logp, ref = two_turns()
    gap = np.subtract(logp, ref)
    estimates = {"returns_k1": gap, "returns_k2": gap**2 / 2, "returns_k3": np.exp(-gap) - 1 + gap, "returns_abs": np.abs(gap)}
    now = np.array(logp) - 0.125
    given, cuts, lengths = Given(policy_logp=now, ref_logp=now - gap), [3, 7], [3, 4, 2]
    cases = {
        name: Case(groups, np.concatenate([following(r) for r in np.split(np.concatenate(TOKEN_REWARDS) - 0.5 * k, cuts)]), given)
        for name, k in estimates.items()
    }
    cases["discounted_returns"] = Case(groups, np.concatenate([following(r, 0.9) for r in TOKEN_REWARDS]))
    cases["rloo"] = Case(groups, spread([2.391875, 0.438125, -2.83], lengths), given)
    cases["distillation"] = Case(groups, -gap, given)
    return f"{', '.join(hold(adapter, cases))}: a reference that is not the policy"


def terms_are_compared_one_by_one(adapter: Adapter) -> str:
    """GDPO: each term over its deviation in the group, added, and all episodes of the batch scaled again.

    Group one: right 1, 0, 0 and style 10, 40, 10; group two: right 1, 0 and style 0, 5.  With s = sqrt 3, scaled in the group
    right is (2, -1, -1) / s and style (-1, 2, -1) / s, the sum (1, 1, -2) / s; in group two the terms cancel to 0.
    """
    paid = [[(1.0, 10.0), (0.0, 40.0), (0.0, 10.0)], [(1.0, 0.0), (0.0, 5.0)]]
    made = [
        group([Script([Turn(n + 1, reward={"right": a, "style": b})]) for n, (a, b) in enumerate(each)], key=str(k))
        for k, each in enumerate(paid)
    ]
    total: Floats = np.array([1.0, 1.0, -2.0, 0.0, 0.0]) / sqrt(3)
    hold(adapter, {"gdpo": Case(made, spread(scaled(total), [1, 2, 3, 1, 2]))})
    return "gdpo, two terms of different size in two groups"


def passing_once_in_k_is_credited(adapter: Adapter) -> str:
    """Pass@4 of 8 tries of which 2 pass: Rbar = 1 - C(6,4) / C(8,4) = 55 / 70, sigma = 0.4103259, A = 0.5222330 and -0.1740777.
    Of 5 tries of which 1 passes: Rbar = 1 - 1 / 5, sigma = 0.4, A = 0.2 / 0.4 and (0.2 - C(3,3) / C(4,3)) / 0.4 = -0.125.
    Of 6 tries of which 3 pass any four hold one that does: 0.  Returns are other numbers: what counts is whether a try passed.
    """
    tries = {"a": (8, 2), "b": (5, 1), "c": (6, 3)}
    made = [
        answers([float(i % 3) for i in range(n)], [1] * n, key=key, wins=[i < wins for i in range(n)])
        for key, (n, wins) in tries.items()
    ]
    expected = [0.522233] * 2 + [-0.1740777] * 6 + [0.5] + [-0.125] * 4 + [0.0] * 6
    hold(adapter, {"passk": Case(made, expected)})
    return "pass@4 of 8, 5 and 6 tries"


def tokens_have_the_baseline_of_least_variance(adapter: Adapter) -> str:
    """OTB.  Two episodes of 2 and 3 tokens; what follows: 1, 1 and 0.75, 0.25, 0.25.  With probabilities .5 .25 | .5 .8 .4 and sums
    of squares .5 .6 | .5 .7 .4, 1 - 2 pi + sum pi^2 is .5 1.1 | .5 .1 .6 and summed up .5 1.6 | .5 .6 1.2.

    b = (.5 * 1 + .5 * .75) / 1 = 0.875, then (1.6 * 1 + .6 * .25) / 2.2 = 0.7954545; a token without another at its place gets 0.
    """
    made = group([Script([Turn(2)], final=1.0), Script([Turn(1, reward=0.5), Turn(2)], final=0.25)])
    said([made], [log(p) for p in (0.5, 0.25, 0.5, 0.8, 0.4)])
    given = Given(square=np.array([0.5, 0.6, 0.5, 0.7, 0.4]))
    hold(adapter, {"otb": Case([made], [0.125, 0.2045455, -0.125, -0.5454545, 0.0], given)})
    return "otb, weights that are not alike"


def uncertain_tokens_weigh_more(adapter: Adapter) -> str:
    """A + min(0.4 H, |A| / 2) on GRPO's advantages sqrt .5 and -sqrt .5 = +-0.7071, which bound the bonus at 0.35355.

    H = 0.5, 2 | 0.25, 1: bonuses 0.2, 0.35355 | 0.1, 0.35355.
    """
    a = sqrt(0.5)
    given = Given(entropy=np.array([0.5, 2.0, 0.25, 1.0]))
    hold(adapter, {"entropy_advantage": Case([answers([1.0, 0.0], [2, 2])], [a + 0.2, a * 1.5, -a + 0.1, -a / 2], given)})
    return f"a bonus below and at its bound, for both signs; {_shaped(adapter)}"


def _shaped(adapter: Adapter) -> str:
    """What else is done to GRPO's advantages, or to the rewards before.

    edge_grpo        mean entropies 0.3 and 0.9 of 0.6: divisors 1/2 and 3/2
    dars             1 of 4 right: 0.5 / sqrt(3/16)
    aspo             right answers of 4 and 8 tokens call after 2 and 6: -2 (2 - 4) / 6 = 2/3, at most 0.7 of A = 1/2
    posterior_grpo   outcomes 1 0 1 and thinking 0.5 1 0.25: returns 1.5 0 1.25 of mean 11/12 and squares 1.2916667 / 2
    """
    a = sqrt(0.5)
    called = [(Turn(2, calls=1), Turn(2)), (Turn(4), Turn(2, calls=1), Turn(2)), (Turn(3),)]
    calling = [Script(list(turns), final=1.0, success=True) for turns in called]
    thought = ((1.0, 0.5), (0.0, 1.0), (1.0, 0.25))
    gated = group([Script([Turn(1, reward=t), Turn(1)], final=f, success=f > 0) for f, t in thought])
    given = Given(entropy=np.array([0.2, 0.4, 0.9, 0.9]))
    cases = {
        "edge_grpo": Case([answers([1.0, 0.0], [2, 2])], [2 * a, 2 * a, -a / 1.5, -a / 1.5], given),
        "dars": Case(
            [answers([1.0, 0, 0, 0], [1] * 4, wins=[True, False, False, False])], np.array([3, -1, -1, -1]) / 4 / sqrt(3 / 16)
        ),
        "aspo": Case(
            [group([*calling, Script([Turn(1, calls=1)], success=False)])], [0.85] * 4 + [0.15] * 8 + [0.5] * 3 + [-1.5]
        ),
        "posterior_grpo": Case([gated], np.repeat(np.array([7, -11, 4]) / 12 / sqrt(1.2916667 / 2), 2)),
    }
    return ", ".join(hold(adapter, cases))
