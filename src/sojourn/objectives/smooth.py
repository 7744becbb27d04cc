"""Trust regions of other shapes: SAPO's soft gate, GMPO's geometric mean, DPPO's mask on probabilities.

SAPO            -(4 / tau) sigmoid(tau (r - 1)) A,  tau by the sign of A                         [arXiv 2511.20347]
GeometricMean   -A exp(mean_t z_t),  z_t = sign(A) min(sign(A) l_t, sign(A) clip(l_t, -e, e))   [GMPO, arXiv 2507.20673, eq. 4]
DPPO            -r A, dropped where pi has moved from mu by more than a bound in probability      [arXiv 2602.04879]
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from sojourn.credit.ranges import INF, checked, within
from sojourn.objectives.inputs import LossInputs, Reach
from sojourn.objectives.ratio import Granularity, capped_exp, segment_mean, widen


@checked
class Sapo:
    """A soft gate with slope 1 at r = 1 that flattens on both sides."""

    reach: ClassVar[Reach] = "token"

    tau_good: float = 1.0
    """Temperature for A > 0; raising it narrows the gate."""
    tau_bad: float = 1.05
    """Temperature for A < 0."""

    def __post_init__(self) -> None:
        within(self, tau_good=(1e-9, INF), tau_bad=(1e-9, INF))

    def __call__(self, log_ratio: Tensor, granularity: Granularity, inputs: LossInputs) -> tuple[Tensor, Tensor]:
        ratio = capped_exp(widen(log_ratio, inputs, granularity))
        tau = torch.where(inputs.advantage > 0, self.tau_good, self.tau_bad).to(ratio.dtype)
        gate = 4 / tau * torch.sigmoid(tau * (ratio - 1))
        return -gate * inputs.advantage, torch.zeros_like(gate, dtype=torch.bool)


@checked
class GeometricMean:
    """GMPO: log-ratios are clipped one-sidedly token by token, then averaged over the sequence.  Use granularity "sequence" and
    aggregation "sequences"."""

    reach: ClassVar[Reach] = "sequence"

    low: float = 0.4
    """Bound of a falling log-ratio, in nats."""
    high: float = 0.4
    """Bound of a rising log-ratio, in nats."""

    def __post_init__(self) -> None:
        within(self, low=(0, INF), high=(0, INF))

    def __call__(self, log_ratio: Tensor, granularity: Granularity, inputs: LossInputs) -> tuple[Tensor, Tensor]:
        sign, bounded = inputs.advantage.sign(), log_ratio.clamp(-self.low, self.high)
        clipped = sign * torch.minimum(sign * log_ratio, sign * bounded)
        mean = segment_mean(clipped.detach(), inputs.sequence)
        ratio = capped_exp(mean + clipped - clipped.detach())
        return -ratio * inputs.advantage, (sign * log_ratio > sign * bounded)


@checked
class Dppo:
    """The plain ratio, with the tokens dropped whose probability has already moved too far in the wanted direction."""

    reach: ClassVar[Reach] = "token"

    low: float = 0.2
    """How far a probability may have fallen, for A < 0."""
    high: float = 0.2
    """How far a probability may have risen, for A > 0."""

    def __post_init__(self) -> None:
        within(self, low=(0, 1), high=(0, 1))

    def __call__(self, log_ratio: Tensor, granularity: Granularity, inputs: LossInputs) -> tuple[Tensor, Tensor]:
        moved = inputs.logp.detach().exp() - inputs.behaviour_logp.exp()
        gone = ((inputs.advantage > 0) & (moved > self.high)) | ((inputs.advantage < 0) & (-moved > self.low))
        ratio = capped_exp(widen(log_ratio, inputs, granularity))
        return torch.where(gone, 0.0, -ratio * inputs.advantage), gone
