"""Coefficients that follow a target, and references that follow the policy.  Plain functions: the trainer keeps the number.

KL       beta <- beta (1 + clip(KL / target - 1, +-0.2) n / horizon)       [arXiv 1909.08593, sec. 2.2]
entropy  coefficient <- coefficient +- step towards the target; applied only while H <= target    [Skywork-OR1, 2505.22312, sec. 3.3]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


def next_kl_coefficient(beta: float, kl: float, *, target: float, samples: int, horizon: int) -> float:
    """The coefficient after a batch of `samples` whose divergence was `kl` nats.

    >>> next_kl_coefficient(0.1, 12.0, target=6.0, samples=100, horizon=1000)
    0.10200000000000001
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return beta * (1 + error * samples / horizon)


def next_entropy_coefficient(coefficient: float, entropy: float, *, target: float, step: float = 0.005) -> float:
    """The coefficient after a batch whose entropy was `entropy` nats; never negative."""
    return max(coefficient + (step if entropy < target else -step), 0.0)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What the reference policy is."""

    kind: Literal["none", "frozen", "reset", "average"] = "none"
    """none; the first policy; a copy of the policy, renewed; or a moving average of the policy."""
    every: int = 0
    """Updates between renewals of "reset" and "average"."""
    rate: float = 1.0
    """Share of the policy that a renewal takes over; 1 copies it.  [TR-DPO, arXiv 2404.09656: 0.6]"""

    def due(self, update: int) -> bool:
        """Whether the reference is renewed after this update, counted from 1."""
        return self.kind in ("reset", "average") and self.every > 0 and update % self.every == 0

    @torch.no_grad()
    def renew(self, reference: Iterable[Tensor], policy: Iterable[Tensor]) -> None:
        """Move the reference's parameters towards the policy's, in place."""
        for old, new in zip(reference, policy, strict=True):
            old.lerp_(new.to(old.dtype), self.rate)
