"""Coefficients that follow a target, and references that follow the policy.  The trainer keeps the numbers.

KL       beta <- beta (1 + clip(KL / target - 1, +-0.2) n / horizon)       [arXiv 1909.08593, sec. 2.2]
entropy  coefficient <- coefficient +- step towards the target; applied only while H <= target    [Skywork-OR1, 2505.22312, sec. 3.3]
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

from sojourn.credit.ranges import INF, checked, within


@checked
class KlTarget:
    """A KL coefficient, in the loss or in the reward, that follows the divergence.  [arXiv 1909.08593, sec. 2.2]"""

    nats: float
    """Divergence from the reference that is aimed at, per token, as the metric `kl` counts it."""
    horizon: int = 10_000
    """Episodes over which the coefficient adapts; raising it makes it slower."""

    def __post_init__(self) -> None:
        within(self, nats=(1e-9, INF), horizon=(1, INF))

    def next(self, beta: float, kl: float, *, samples: int) -> float:
        """The coefficient after a batch of `samples` episodes whose divergence was `kl`.

        >>> KlTarget(nats=6.0, horizon=1000).next(0.1, 12.0, samples=100)
        0.10200000000000001
        """
        error = min(max(kl / self.nats - 1, -0.2), 0.2)
        return beta * (1 + error * samples / self.horizon)


@checked
class EntropyTarget:
    """An entropy bonus that follows the entropy.  [Skywork-OR1, arXiv 2505.22312]"""

    nats: float
    """Entropy that is aimed at, per token; raising it keeps the policy more random."""
    step: float = 0.005
    """How far the coefficient moves after each batch."""

    def __post_init__(self) -> None:
        within(self, nats=(0, INF), step=(0, INF))

    def applied(self, coefficient: float, entropy: float) -> float:
        """The bonus of a batch: none while there is more entropy than is aimed at."""
        return coefficient if entropy <= self.nats else 0.0

    def next(self, coefficient: float, entropy: float) -> float:
        """The coefficient after a batch of this entropy; never negative."""
        return max(coefficient + (self.step if entropy < self.nats else -self.step), 0.0)


@checked
class Reference:
    """What the reference policy is."""

    kind: Literal["none", "frozen", "reset", "average"] = "none"
    """none; the first policy; a copy of the policy, renewed; or a moving average of the policy."""
    every: int = 0
    """Rollouts (optimizer steps, where each rollout makes one) between renewals of "reset" and "average"; raising it holds the policy
    longer to where it was."""
    rate: float = 1.0
    """Share of the policy that a renewal takes over; 1 copies it.  Of adapters, each factor by itself.  [TR-DPO, arXiv 2404.09656: 0.6]"""
    new_optimizer: bool = False
    """Whether the optimizer forgets its moments at a renewal.  [ProRL, arXiv 2505.24864]"""

    def __post_init__(self) -> None:
        within(self, rate=(0, 1), every=(0, INF))
        if self.kind in ("reset", "average") and self.every < 1:
            raise ValueError(
                f"Reference(kind='{self.kind}', every={self.every}): say how many rollouts lie between renewals, 1 or more"
            )

    def due(self, rollout: int) -> bool:
        """Whether the reference is renewed after all updates of this rollout, counted from 1."""
        return self.kind in ("reset", "average") and self.every > 0 and rollout % self.every == 0

    @torch.no_grad()
    def renew(self, reference: Iterable[Tensor], policy: Iterable[Tensor]) -> None:
        """Move the reference's parameters towards the policy's, in place."""
        for old, new in zip(reference, policy, strict=True):
            old.lerp_(new.to(old.dtype), self.rate)
