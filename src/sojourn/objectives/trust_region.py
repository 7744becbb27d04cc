"""Trust regions of the clipping kind: how far one update may move a ratio.

Each is called with the tokens' log-ratios and returns the loss to minimise and where it was cut, both of shape (T,).
"""

from __future__ import annotations

from typing import ClassVar, Protocol

import torch
from torch import Tensor

from sojourn.credit.ranges import INF, checked, within
from sojourn.objectives.inputs import LossInputs, Reach
from sojourn.objectives.ratio import Granularity, capped_exp, widen


class TrustRegion(Protocol):
    """`(log_ratio of tokens, granularity, inputs) -> (loss_T, cut_T)`.

    reach: with ratios of single tokens, how far an advantage works; None if the loss is there without any advantage.
    """

    @property
    def reach(self) -> Reach | None: ...

    def __call__(self, log_ratio: Tensor, granularity: Granularity, inputs: LossInputs) -> tuple[Tensor, Tensor]: ...


@checked
class Clip:
    """-min(r A, clip(r, 1 - low, 1 + high) A).  [PPO, arXiv 1707.06347, eq. 7; clip-higher: DAPO, arXiv 2503.14476, eq. 10]"""

    reach: ClassVar[Reach] = "token"

    low: float = 0.2
    """How far a ratio may fall before a bad action stops being pushed down."""
    high: float = 0.2
    """How far a ratio may rise before a good action stops being pushed up; above `low` it keeps rare tokens alive."""
    dual: float | None = None
    """c > 1: for A < 0 the loss is at most -c A.  [Ye et al., arXiv 1912.09729]"""
    two_sided: float | None = None
    """delta > 1 + high: for A < 0 the ratio is at most delta.  [INTELLECT-2, arXiv 2505.07291]"""

    def __post_init__(self) -> None:
        within(self, low=(0, INF), high=(0, INF))
        if self.dual is not None and self.dual <= 1 + self.high:
            raise ValueError(f"Clip(dual={self.dual}): must lie above 1 + high = {1 + self.high:g}, or the band is unreachable")
        if self.two_sided is not None and self.two_sided <= 1 + self.high:
            raise ValueError(f"Clip(two_sided={self.two_sided}): must lie above 1 + high = {1 + self.high:g}")

    def __call__(self, log_ratio: Tensor, granularity: Granularity, inputs: LossInputs) -> tuple[Tensor, Tensor]:
        ratio, advantage = capped_exp(widen(log_ratio, inputs, granularity)), inputs.advantage
        if self.two_sided is not None:
            ratio = torch.where(advantage < 0, ratio.clamp(max=self.two_sided), ratio)
        loss = -torch.minimum(ratio * advantage, ratio.clamp(1 - self.low, 1 + self.high) * advantage)
        cut = ((advantage > 0) & (ratio > 1 + self.high)) | ((advantage < 0) & (ratio < 1 - self.low))
        if self.dual is not None:
            bound = -self.dual * advantage
            cut = cut | ((advantage < 0) & (loss > bound))
            loss = torch.where(advantage < 0, torch.minimum(loss, bound), loss)
        return loss, cut


@checked
class Unclipped:
    """-r A: no trust region.  With granularity "none" it is REINFORCE, -A log pi."""

    reach: ClassVar[Reach] = "token"

    def __call__(self, log_ratio: Tensor, granularity: Granularity, inputs: LossInputs) -> tuple[Tensor, Tensor]:
        factor = inputs.logp if granularity == "none" else capped_exp(widen(log_ratio, inputs, granularity))
        return -factor * inputs.advantage, torch.zeros_like(factor, dtype=torch.bool)
