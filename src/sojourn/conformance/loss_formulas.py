"""The gradient of every loss at each token's log-probability, written down from the papers in plain numpy.

    d loss / d log pi_t = w_t [ c_t f'_t + beta k'_t ]

w_t the weight of the mean, c_t the off-policy weight, f'_t the slope of the trust region, k'_t that of the divergence; what a paper
holds fixed (a detached weight) is a number here.  No autograd, and nothing of `sojourn.objectives`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sojourn.conformance.plain_rows import Bools, Numbers, sigmoid, weights
from sojourn.conformance.rows import Rows
from sojourn.credit.columns import Floats
from sojourn.objectives.aggregation import Over

Slope = Callable[[Numbers], Floats]


def clip(
    low: float,
    high: float,
    dual: float = np.inf,
    two_sided: float = np.inf,
    granularity: Literal["token", "turn", "sequence"] = "token",
) -> Slope:
    """-min(r A, clip(r, 1 - low, 1 + high) A): -r A, but 0 where A > 0 and r > 1 + high, or A < 0 and r < 1 - low.  For A < 0 it stops
    at r = c (at most -c A, dual clip) or delta (r at most delta, INTELLECT-2)."""

    def slope(x: Numbers) -> Floats:
        r = np.exp({"token": x.l, "turn": x.turn_mean(x.l), "sequence": x.row_mean(x.l)}[granularity])
        held = np.where(x.a > 0, r > 1 + high, (r < 1 - low) | (r > min(dual, two_sided)))
        return np.where(held, 0.0, -r * x.a)

    return slope


def reinforce(x: Numbers) -> Floats:
    """-A log pi."""
    return -x.a


def plain_ratio(x: Numbers) -> Floats:
    """-A pi / pi_behaviour."""
    return -x.a * np.exp(x.l + x.s)


def cispo(x: Numbers) -> Floats:
    """-sg[clip(r, 0, 5)] A log pi.  [arXiv 2506.13585, eq. 4; range: ScaleRL]"""
    return -x.a * np.minimum(np.exp(x.l), 5.0)


def kimi(x: Numbers) -> Floats:
    """-A log pi + 0.1 / 2 (log pi - log pi_old)^2.  [arXiv 2501.12599]"""
    return -x.a + 0.1 * x.l


def vespo(x: Numbers) -> Floats:
    """-sg[R^k exp(lambda (1 - R))] A log pi, R of the sequence; (k, lambda) = (2, 3) for A > 0, else (3, 2).  [arXiv 2602.10693]"""
    r: Floats = np.exp(x.row_sum(x.l + x.s))
    weight: Floats = np.where(x.a > 0, r**2 * np.exp(3 * (1 - r)), r**3 * np.exp(2 * (1 - r)))
    return -x.a * weight


def topr(x: Numbers) -> Floats:
    """-A log pi, for A < 0 times sg[clip(R, 0, 1)].  [arXiv 2503.14286]"""
    r = np.exp(x.row_sum(x.l + x.s))
    return -x.a * np.where(x.a > 0, 1.0, np.minimum(r, 1.0))


def sapo(x: Numbers) -> Floats:
    """-(4 / tau) sigmoid(tau (r - 1)) A, tau 1 for A > 0, else 1.05: -4 q (1 - q) r A.  [arXiv 2511.20347]"""
    r = np.exp(x.l)
    q = sigmoid(np.where(x.a > 0, 1.0, 1.05) * (r - 1))
    return -4 * q * (1 - q) * r * x.a


def gmpo(x: Numbers) -> Floats:
    """-A exp(mean z), z = l up to 0.4 for A > 0 and l down to -0.4 for A < 0; 0 for tokens that were held.  [arXiv 2507.20673]"""
    z = np.where(x.a > 0, np.minimum(x.l, 0.4), np.maximum(x.l, -0.4))
    return np.where(z == x.l, -x.a * np.exp(x.row_mean(z)), 0.0)


def dppo(x: Numbers) -> Floats:
    """-A pi / mu, dropped where pi - mu is above 0.2 and A > 0, or below -0.2 and A < 0.  [arXiv 2602.04879]"""
    moved = x.pi - np.exp(x.old - x.s)
    return np.where(np.where(x.a > 0, moved > 0.2, moved < -0.2), 0.0, plain_ratio(x))


def m2po(x: Numbers) -> Floats:
    """-A pi / mu on the k tokens of smallest s^2 whose mean stays below 0.04.  [arXiv 2510.01161]"""
    square = np.sort(x.s[x.mask] ** 2)
    within = np.cumsum(square) / np.arange(1, len(square) + 1) < 0.04
    return np.where(x.s**2 <= square[within].max(), plain_ratio(x), 0.0)


def covariance(x: Numbers) -> Floats:
    """(A - mean A)(log pi - mean log pi) over the batch's tokens, -inf off the mask.  [arXiv 2505.22617, eq. 10]"""
    value = (x.a - x.a[x.mask].mean()) * (x.old - x.old[x.mask].mean())
    return np.where(x.mask, value, -np.inf)


def kl_cov(x: Numbers) -> Floats:
    """-r A, and |l| on the one token of highest covariance (a share of 2e-4).  [arXiv 2505.22617, eq. 13 and 14]"""
    most = covariance(x)
    return -x.a * np.exp(x.l) + np.where(most == most.max(), np.sign(x.l), 0.0)


def focused(inner: Slope, share: float) -> Slope:
    """Only the tokens of highest entropy.  [arXiv 2506.01939]"""

    def slope(x: Numbers) -> Floats:
        least = np.sort(x.entropy[x.mask])[-max(1, int(share * x.tokens))]
        return np.where(x.entropy >= least, inner(x), 0.0)

    return slope


def truncated(x: Numbers, cap: float) -> Floats:
    return np.minimum(np.exp(x.s), cap)


def icepop(x: Numbers) -> Floats:
    rho = np.exp(x.s)
    return np.where((rho >= 0.5) & (rho <= 5), rho, 0.0)


def sequence_mask(x: Numbers) -> Floats:
    """rho of the token, where the geometric mean over the sequence lies in [0.5, 5]."""
    mean = np.exp(x.row_mean(x.s))
    return np.where((mean >= 0.5) & (mean <= 5), np.exp(x.s), 0.0)


def negative_mask(x: Numbers) -> Floats:
    """0 for a sequence with A < 0 whose tokens lost more than 0.5 nats on the mean since they were sampled.  [arXiv 2512.02556]"""
    return np.where((x.a < 0) & (x.row_mean(-x.l - x.s) > 0.5), 0.0, 1.0)


def k2(x: Numbers) -> Floats:
    """Of l^2 / 2."""
    return x.d


def k3(x: Numbers) -> Floats:
    """Of exp(-l) - 1 + l."""
    return 1 - np.exp(-x.d)


def unbiased_k3(x: Numbers) -> Floats:
    """Of r (exp(-l) - 1 + l), r against what sampled: r times its value and its slope.  [arXiv 2512.02556]"""
    return np.exp(x.l + x.s) * (np.exp(-x.d) - 1 + x.d + k3(x))


@dataclass(frozen=True)
class Formula:
    """A policy gradient: slope, mean, off-policy weight, divergence; entropy: the bonus for each nat."""

    slope: Slope
    over: Over = "tokens"
    weight: Slope | None = None
    beta: float = 0.0
    divergence: Slope = k3
    entropy: float = 0.0

    def gradient(self, x: Numbers, over: Over | None = None) -> Floats:
        """At each token's log-probability, (B, L)."""
        inner = self.slope(x) * (1.0 if self.weight is None else self.weight(x)) + self.beta * self.divergence(x)
        return weights(x.mask, over or self.over, x.prompt) * inner


PPO, DAPO = clip(0.2, 0.2), clip(0.2, 0.28)
POLICY_GRADIENTS: dict[str, Formula] = {
    "lite_ppo": Formula(PPO), "dapo": Formula(DAPO), "cispo": Formula(cispo), "kimi": Formula(kimi), "vespo": Formula(vespo),
    "tis": Formula(DAPO, weight=lambda x: truncated(x, 2)), "icepop": Formula(DAPO, weight=icepop),
    "seq_mask_tis": Formula(DAPO, weight=sequence_mask), "decoupled_ppo": Formula(PPO, weight=lambda x: truncated(x, 5)),
    "product_tis": Formula(PPO, weight=lambda x: np.minimum(np.exp(x.row_sum(x.s)), 2)),
    "m2po": Formula(m2po), "dppo": Formula(dppo), "intellect2": Formula(clip(0.2, 0.2, two_sided=4), beta=0.001),
    "memagent": Formula(clip(0.2, 0.2, dual=3), beta=0.001), "prorl": Formula(clip(0.2, 0.4), beta=0.001),
    "skywork_or1": Formula(PPO, entropy=0.01), "reinforce_pp_baseline": Formula(PPO, beta=0.001, divergence=k2),
    "ragen": Formula(DAPO, entropy=0.001), "vine_ppo": Formula(PPO, beta=1e-4), "mt_grpo": Formula(PPO, beta=0.01),
    "impala": Formula(reinforce, entropy=0.001), "opo": Formula(reinforce), "clip_cov": Formula(PPO), "kl_cov": Formula(kl_cov),
    "top_entropy": Formula(focused(DAPO, 0.2)),
    "grpo": Formula(PPO, "sequences", beta=0.04), "r1": Formula(clip(10, 10), "sequences", beta=0.001),
    "ghpo": Formula(PPO, "sequences"),
    "gspo": Formula(clip(3e-4, 4e-4, granularity="sequence"), "sequences"),
    "turn_gspo": Formula(clip(3e-4, 4e-4, granularity="turn"), "sequences"), "gmpo": Formula(gmpo, "sequences"),
    "sapo": Formula(sapo, "sequences"), "gigpo": Formula(PPO, "sequences", beta=0.01),
    "tree_rpo": Formula(PPO, "sequences", beta=0.001),
    "deepseek_v32": Formula(PPO, "sequences", weight=negative_mask, beta=0.001, divergence=unbiased_k3),
    "reinforce": Formula(reinforce, "sequence_sums"), "topr": Formula(topr, "sequence_sums"),
    "luspo": Formula(clip(2e-3, 2.5e-3, granularity="sequence"), "sequence_sums"), "dr_grpo": Formula(PPO, "constant"),
}  # fmt: skip
"""Where nothing is said, the mean runs over tokens.  Of clip_cov one token more is muted, at random."""


def _kto(x: Numbers) -> Floats:
    """1 - s(v) for A > 0, 1 - s(-v) for A < 0; v = 0.1 D - z0, z0 = max(0, mean of 0.1 D at the start).  [arXiv 2402.01306]"""
    z0 = max(0.0, 0.1 * float(x.old_d.sum()) / x.rows)
    s = sigmoid(0.1 * x.row_sum(x.d) - z0)
    return np.where(x.a > 0, -1.0, 1.0) * 0.1 * s * (1 - s) / x.rows


LIKELIHOODS: dict[str, Slope] = {
    "sft": lambda x: np.full_like(x.a, -1 / x.tokens),
    "rft": lambda x: (x.a > 0) / -x.tokens,
    "awr": lambda x: -np.minimum(np.exp(x.a), 20) / x.tokens,
    "awr_half": lambda x: -np.minimum(np.exp(2 * x.a), 20) / x.tokens,
    "dft": lambda x: -x.pi / x.tokens,
    "chord": lambda x: (0.9 * PPO(x) - 0.1 * (x.a > 0) * x.pi * (1 - x.pi)) / x.tokens,
    "vapo": lambda x: (DAPO(x) - 0.1 * (x.a > 0)) / x.tokens,
    "kto": _kto,
}
"""-log pi: of all tokens, of those with A > 0, times min(exp(A / beta), 20) [arXiv 1910.00177], times pi [arXiv 2508.05629]; 0.9 PPO and
0.1 pi (1 - pi) of the good [arXiv 2508.11408]; PPO and 0.1 of the good [arXiv 2504.05118]."""


def of_pairs(name: str, x: Numbers) -> Floats:
    """Gradient of a preference loss: -g on each token of the chosen, +g on each of the rejected, over the pairs."""
    total = np.zeros_like(x.a)
    for good, bad in x.pairs:
        chosen, rejected = _side(name, x, good), _side(name, x, bad)
        for row, place, slope in ((good, chosen, 0), (bad, rejected, 1)):
            total[row] += np.where(place, SLOPES[name](x, good, bad, chosen, rejected)[slope], 0.0) / len(x.pairs)
    return total


def _side(name: str, x: Numbers, row: int) -> Bools:
    """The tokens that are compared: the row's, for Step-DPO those of its first turn."""
    side: Bools = x.mask[row] & ((name != "step_dpo") | (x.turn[row] == x.turn[row, 0]))
    return side


Pair = Callable[[Numbers, int, int, Bools, Bools], tuple[Floats | float, Floats | float]]


def _dpo(beta: float, smoothing: float = 0.0, nll: float = 0.0, by_length: bool = False) -> Pair:
    """-(1 - e) log s(m) - e log s(-m), m = beta (D_w - D_l), and a times the chosen's mean -log pi.  [arXiv 2305.18290, eq. 7]"""

    def slopes(x: Numbers, good: int, bad: int, chosen: Bools, rejected: Bools) -> tuple[Floats, Floats]:
        w, r = (chosen.sum(), rejected.sum()) if by_length else (1, 1)
        s = sigmoid(beta * (x.d[good][chosen].sum() / w - x.d[bad][rejected].sum() / r))
        g = beta * (-(1 - smoothing) * (1 - s) + smoothing * s)
        return g / w - nll / chosen.sum(), -g / r

    return slopes


def _ipo(x: Numbers, good: int, bad: int, chosen: Bools, rejected: Bools) -> tuple[float, float]:
    """(D_w - D_l - 1 / (2 * 0.1))^2.  [arXiv 2310.12036, eq. 17]"""
    g = 2 * (float(x.d[good][chosen].sum()) - float(x.d[bad][rejected].sum()) - 5)
    return g, -g


def _simpo(x: Numbers, good: int, bad: int, chosen: Bools, rejected: Bools) -> tuple[Floats, Floats]:
    """-log s(2.5 (mean log pi_w - mean log pi_l) - 1.375).  [arXiv 2405.14734, eq. 6]"""
    w, r = x.logp[good][chosen], x.logp[bad][rejected]
    g = -2.5 * (1 - sigmoid(2.5 * (w.mean() - r.mean()) - 1.375))
    return g / len(w), -g / len(r)


def _orpo(lam: float) -> Pair:
    """-m_w - lambda log s(log odds_w - log odds_l), odds = p / (1 - p), p = exp(m), m mean log pi; d log odds / dm = 1 / (1 - p).
    [arXiv 2403.07691, eq. 6 and 7]"""

    def slopes(x: Numbers, good: int, bad: int, chosen: Bools, rejected: Bools) -> tuple[Floats, Floats]:
        w, r = x.logp[good][chosen], x.logp[bad][rejected]
        p, q = np.exp(w.mean()), np.exp(r.mean())
        g = lam * (1 - sigmoid(np.log(p / (1 - p)) - np.log(q / (1 - q))))
        return (-1 - g / (1 - p)) / len(w), g / (1 - q) / len(r)

    return slopes


def _beta_dpo(x: Numbers, good: int, bad: int, chosen: Bools, rejected: Bools) -> tuple[Floats | float, Floats | float]:
    """DPO with beta = 0.1 (1 + 0.6 M), M the mean margin at the start; of two pairs 80 %, rounded up, are both.  [arXiv 2407.08639]"""
    start = x.old_d.sum(1)
    beta = 0.1 * (1 + 0.6 * float(np.mean([start[w] - start[r] for w, r in x.pairs])))
    return _dpo(max(beta, 1e-3))(x, good, bad, chosen, rejected)


def _mpo(x: Numbers, good: int, bad: int, chosen: Bools, rejected: Bools) -> tuple[Floats, Floats]:
    """0.8 (-log s(m)) + 0.2 (-log s(0.1 D_w) - log s(-0.1 D_l)) + the chosen's mean -log pi.  [arXiv 2411.10442]"""
    w, r = 0.1 * x.d[good][chosen].sum(), 0.1 * x.d[bad][rejected].sum()
    g = -0.08 * (1 - sigmoid(w - r))
    return g - 0.02 * sigmoid(-w) - 1 / chosen.sum(), -g + 0.02 * sigmoid(r)


SLOPES: dict[str, Pair] = {
    "dpo": _dpo(0.1), "cdpo": _dpo(0.1, smoothing=0.1), "rpo": _dpo(0.1, nll=1.0), "ln_dpo": _dpo(2.0, by_length=True),
    "step_dpo": _dpo(0.4), "ipo": _ipo, "simpo": _simpo, "orpo": _orpo(0.1), "lcpo": _orpo(1.0),
    "beta_dpo": _beta_dpo, "skywork_r1v2": _mpo,
}  # fmt: skip
"""Of preferences: the gradient at each token of the chosen and of the rejected, for one pair."""


def expected(name: str, rows: Rows) -> Floats:
    """Gradient at `rows.logp`, (B, L)."""
    x = Numbers(rows)
    if name in SLOPES:
        beside = POLICY_GRADIENTS["grpo"].gradient(x) if name == "skywork_r1v2" else 0.0
        return x.on(of_pairs(name, x) + beside)
    return x.on(LIKELIHOODS[name](x)) if name in LIKELIHOODS else POLICY_GRADIENTS[name].gradient(x)
