"""Divergence from a reference policy, as a term of the loss.

    k1 = l,   k2 = l^2 / 2,   k3 = exp(-l) - 1 + l,   abs = |l|,   l = log pi - log pi_ref    [Schulman, "Approximating KL divergence"]

k1, k2 and k3 estimate KL(pi || pi_ref) on samples of pi; abs is a distance that pulls every token alike.  As a loss, k2 has the gradient
of KL(pi || pi_ref), k3 that of the other direction KL(pi_ref || pi), and k1 none in expectation; to penalise with k1, put it in the
reward (`sojourn.credit.KlInReward`).
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from sojourn.credit.dense import Estimator
from sojourn.credit.ranges import INF, checked, within
from sojourn.objectives.inputs import LossInputs
from sojourn.objectives.ratio import capped_exp


def estimate(logp: Tensor, ref_logp: Tensor, estimator: Estimator) -> Tensor:
    """The divergence at each token, shape (T,)."""
    log = logp - ref_logp
    if estimator == "k1":
        return log
    if estimator == "abs":
        return log.abs()
    return log.square() / 2 if estimator == "k2" else capped_exp(-log) - 1 + log


@checked
class Kl:
    """coefficient x divergence, added to the loss of each token.  [GRPO: k3, arXiv 2402.03300, eq. 4]"""

    coefficient: float = 0.001
    """Raising it keeps the policy nearer to the reference."""
    estimator: Estimator = "k3"
    """Whose gradient is followed; see above."""
    unbiased: bool = False
    """Multiply by the ratio pi / pi_behaviour, gradient and all: with k3 the exact gradient of KL(pi || pi_ref) on samples of any
    policy.  [DeepSeek-V3.2, arXiv 2512.02556]"""
    reads: ClassVar[frozenset[str]] = frozenset({"ref_logp"})

    @property
    def coefficients(self) -> dict[str, float]:
        return {"kl_coefficient": self.coefficient}

    def __post_init__(self) -> None:
        within(self, coefficient=(0, INF))
        if self.estimator == "k1":
            raise ValueError(
                "Kl(estimator='k1'): in the loss k1 has no gradient in expectation; use 'k2', 'k3' or 'abs', or put k1 in the reward"
            )

    def __call__(self, inputs: LossInputs) -> Tensor:
        """Divergence at each token without the coefficient, shape (T,)."""
        if inputs.ref_logp is None:
            raise ValueError(
                f"kl.coefficient is {self.coefficient:g} but there is no reference policy (ref_logp); configure one, or drop kl"
            )
        divergence = estimate(inputs.logp, inputs.ref_logp, self.estimator)
        if self.unbiased:
            divergence = divergence * capped_exp(inputs.logp - inputs.behaviour_logp)
        return divergence
