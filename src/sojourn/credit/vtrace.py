"""V-trace: off-policy corrected values and advantages.  [IMPALA, arXiv 1802.01561, eq. 1 and sec. 4.2]

    rho_t = min(rho_max, pi / mu)      c_t = lambda min(c_max, pi / mu)
    v_t - V_t = rho_t (r_t + gamma V_{t+1} - V_t) + gamma c_t (v_{t+1} - V_{t+1})
    A_t = rho_t (r_t + gamma v_{t+1} - V_t)

The advantage already carries the importance weight rho: pair it with an objective that has none.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sojourn.credit.columns import Columns, Floats
from sojourn.credit.dense import capped_exp
from sojourn.credit.gae import next_values, required_values
from sojourn.credit.ranges import INF, checked, within
from sojourn.credit.recursion import backward_tokens


@checked
class VTrace:
    """V-trace over action tokens."""

    gamma: float = 1.0
    """Discount for each token."""
    lam: float = 1.0
    """lambda; below 1 trades variance for bias."""
    rho_max: float = 1.0
    """Cap of the weight of a temporal difference; decides whose value is learnt (infinity: the policy's)."""
    c_max: float = 1.0
    """Cap of the traces; decides the variance only."""

    reads: ClassVar[frozenset[str]] = frozenset({"value_T", "policy_logp_T"})
    traits: ClassVar[frozenset[str]] = frozenset({"weighs"})
    formula: ClassVar[str] = (
        "A_t = rho_t (r_t + gamma v_{t+1} - V_t),  rho_t = min(rho_max, pi / mu),  c_t = lambda min(c_max, pi / mu)\n"
        "v_t - V_t = rho_t (r_t + gamma V_{t+1} - V_t) + gamma c_t (v_{t+1} - V_{t+1})"
    )

    def __post_init__(self) -> None:
        within(self, gamma=(0, 1), lam=(0, 1), rho_max=(0, INF), c_max=(0, INF))

    def targets(self, columns: Columns) -> Floats:
        """v_t, what the critic should predict, shape (T,)."""
        value = required_values(columns)
        ratio = _ratio(columns)
        delta = columns.reward_T + self.gamma * next_values(columns, value) - value
        decay = self.gamma * self.lam * np.minimum(self.c_max, ratio)
        return value + backward_tokens(columns, np.minimum(self.rho_max, ratio) * delta, decay)

    def __call__(self, columns: Columns) -> Floats:
        value, rho = required_values(columns), np.minimum(self.rho_max, _ratio(columns))
        advantage = rho * (columns.reward_T + self.gamma * next_values(columns, self.targets(columns)) - value)
        return np.where(columns.valid_E[columns.episode_S[columns.row_T]], advantage, 0.0)


def _ratio(columns: Columns) -> Floats:
    if columns.policy_logp_T is None or columns.logp_T is None:
        raise ValueError("V-trace needs columns.policy_logp_T (the learner's log-probabilities) next to columns.logp_T")
    return capped_exp(columns.policy_logp_T - columns.logp_T)
