"""Dense rewards from log-probabilities: KL in the reward, and on-policy distillation.

r_t <- r_t - beta k_t,   l = log pi - log pi_ref,   k1 = l,  k2 = l^2 / 2,  k3 = exp(-l) - 1 + l,  abs = |l|   [arXiv 2203.02155, eq. 2]
A_t = log pi_teacher - log pi                                                    [on-policy distillation, arXiv 2306.13649]
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal, TypeAlias

import numpy as np

from sojourn.credit.columns import Columns, Credit, Floats
from sojourn.credit.formula import formula
from sojourn.credit.gae import critic_targets
from sojourn.credit.needs import Composite, coefficients, reads
from sojourn.credit.ranges import INF, checked, within

Estimator: TypeAlias = Literal["k1", "k2", "k3", "abs"]

LIMIT = 40.0
"""Exponents beyond it count as it: advantages become float32, in which a square of exp(40) still fits."""


def capped_exp(log: Floats) -> Floats:
    """exp(min(log, LIMIT)), any shape."""
    return np.exp(np.minimum(log, LIMIT))


def log_ratio(columns: Columns) -> Floats:
    """log pi - log pi_ref of each token, pi the learner's policy where known, else the one that sampled.  Shape (T,)."""
    own = columns.logp_T if columns.policy_logp_T is None else columns.policy_logp_T
    if columns.ref_logp_T is None or own is None:
        raise ValueError("KL in the reward and distillation need columns.ref_logp_T; configure a reference or a teacher")
    return own - columns.ref_logp_T


@checked
class KlInReward(Composite):
    """A credit whose rewards are lowered by the divergence from the reference.  The right gradient of a KL penalty."""

    credit: Credit
    """What turns the rewards into advantages."""
    coefficient: float = 0.001
    """beta, per nat; raising it keeps the policy nearer to the reference."""
    estimator: Estimator = "k1"
    """k1 is unbiased; k2, k3 and abs are never negative."""

    @property
    def formula(self) -> str:
        divergence = {"k1": "l_t", "k2": "l_t^2 / 2", "k3": "(exp(-l_t) - 1 + l_t)", "abs": "|l_t|"}[self.estimator]
        return f"r_t <- r_t - beta {divergence},  l_t = log pi - log pi_ref\n{formula(self.credit)}"

    def __post_init__(self) -> None:
        within(self, coefficient=(0, INF))

    @property
    def made_of(self) -> tuple[object, ...]:
        return (self.credit,)

    @property
    def reads(self) -> frozenset[str]:
        return reads(self.credit) | {"ref_logp_T", "policy_logp_T"}

    @property
    def coefficients(self) -> dict[str, float]:
        return coefficients(self.credit) | {"kl_coefficient": self.coefficient}

    def targets(self, columns: Columns) -> Floats:
        """What the critic should predict, shape (T,): what is left after the penalties."""
        return critic_targets(self.credit, self.paid(columns))

    def __call__(self, columns: Columns) -> Floats:
        return self.credit(self.paid(columns))

    def paid(self, columns: Columns) -> Columns:
        """`columns` with the rewards that the credit within reads."""
        log = log_ratio(columns)
        divergence = {"k1": log, "k2": log**2 / 2, "k3": capped_exp(-log) - 1 + log, "abs": np.abs(log)}[self.estimator]
        before = 0.0 if columns.penalty_T is None else columns.penalty_T
        coefficient = columns.coefficients.get("kl_coefficient", self.coefficient)
        return replace(columns, penalty_T=before - coefficient * divergence)


@checked
class Distillation:
    """Advantage of a token: how much likelier the teacher (in `ref_logp_T`) thinks it than the student."""

    formula: ClassVar[str] = "A_t = log pi_teacher - log pi"
    reads: ClassVar[frozenset[str]] = frozenset({"ref_logp_T", "policy_logp_T"})
    traits: ClassVar[frozenset[str]] = frozenset({"teacher"})

    def __call__(self, columns: Columns) -> Floats:
        return np.where(columns.valid_E[columns.episode_S[columns.row_T]], -log_ratio(columns), 0.0)
