"""Trust regions that weigh instead of clip: the ratio is a detached factor of the gradient of log pi, and no token is dropped.

CISPO    -sg[clip(r, 1 - low, 1 + high)] A log pi                         [MiniMax-M1, arXiv 2506.13585, eq. 4 and 5]
TOPR     A > 0: -A log pi;   A < 0: -sg[clip(r, 0, 1)] A log pi           [arXiv 2503.14286, eq. 7 and 8]
Kimi     -A log pi + tau / 2 (log pi - log pi_old)^2                      [Kimi k1.5, arXiv 2501.12599, sec. 2.3.2]
VESPO    -sg[r^k exp(lambda (1 - r))] A log pi, k and lambda by the sign of A      [arXiv 2602.10693, sec. 3.4]
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from sojourn.credit.ranges import INF, checked, within
from sojourn.objectives.inputs import LossInputs, Reach
from sojourn.objectives.ratio import Granularity, capped_exp, widen


@checked
class Cispo:
    """-sg[clip(r, 1 - low, 1 + high)] A log pi.  With low 1 and high 0 it is the policy gradient with weights in [0, 1]."""

    reach: ClassVar[Reach] = "token"

    low: float = 1.0
    """Ratios below 1 - low weigh as much as that; 1 is no lower bound."""
    high: float = 4.0
    """Ratios above 1 + high weigh as much as that; raising it lets rare tokens count more.  Below 0 it holds on-policy tokens back, too."""

    def __post_init__(self) -> None:
        within(self, low=(0, 1), high=(-1, INF))
        if self.low + self.high < 0:
            raise ValueError(
                f"Cispo(low={self.low:g}, high={self.high:g}): 1 + high must lie at or above 1 - low, or no weight can"
            )

    def __call__(self, log_ratio: Tensor, granularity: Granularity, inputs: LossInputs) -> tuple[Tensor, Tensor]:
        ratio = capped_exp(widen(log_ratio.detach(), inputs, granularity))
        weight = ratio.clamp(1 - self.low, 1 + self.high)
        return -weight * inputs.advantage * inputs.logp, weight != ratio


@checked
class Topr:
    """Tapered: full weight for what went well, at most weight 1 and falling with the ratio for what went badly."""

    reach: ClassVar[Reach] = "token"

    def __call__(self, log_ratio: Tensor, granularity: Granularity, inputs: LossInputs) -> tuple[Tensor, Tensor]:
        ratio = capped_exp(widen(log_ratio.detach(), inputs, granularity))
        weight = torch.where(inputs.advantage < 0, ratio.clamp(max=1.0), torch.ones_like(ratio))
        return -weight * inputs.advantage * inputs.logp, (inputs.advantage < 0) & (ratio > 1)


@checked
class Kimi:
    """Mirror descent: REINFORCE, pulled back to the old policy by a square."""

    reach: ClassVar[None] = None

    tau: float = 0.1
    """Raising it keeps the policy nearer to the old one."""

    def __post_init__(self) -> None:
        within(self, tau=(0, INF))

    def __call__(self, log_ratio: Tensor, granularity: Granularity, inputs: LossInputs) -> tuple[Tensor, Tensor]:
        pull = self.tau / 2 * widen(log_ratio, inputs, granularity).square()
        return -inputs.advantage * inputs.logp + pull, torch.zeros_like(pull, dtype=torch.bool)


@checked
class Vespo:
    """A smooth weight that is 1 at r = 1 and falls on both sides."""

    reach: ClassVar[Reach] = "token"

    good: tuple[float, float] = (2.0, 3.0)
    """(k, lambda) for A > 0."""
    bad: tuple[float, float] = (3.0, 2.0)
    """(k, lambda) for A < 0."""

    def __post_init__(self) -> None:
        if min(*self.good, *self.bad) < 0:
            raise ValueError(f"Vespo(good={self.good}, bad={self.bad}): k and lambda must lie at or above 0")

    def __call__(self, log_ratio: Tensor, granularity: Granularity, inputs: LossInputs) -> tuple[Tensor, Tensor]:
        log = widen(log_ratio.detach(), inputs, granularity)
        (k_good, lam_good), (k_bad, lam_bad) = self.good, self.bad
        good = inputs.advantage > 0
        weight = (torch.where(good, k_good, k_bad) * log + torch.where(good, lam_good, lam_bad) * (1 - capped_exp(log))).exp()
        return -weight * inputs.advantage * inputs.logp, torch.zeros_like(good)
