"""Off-policy weights: what corrects for samples that another policy drew.  Always detached.

    rho = pi_old / pi_behaviour at a granularity: token, or over the sequence as geometric mean or product

    truncate   clip(rho, low, high)                          [TIS, Yao et al. 2025, fengyao.notion.site/off-policy-rl]
    mask       1 if low <= rho <= high, else 0               [rejection, MIS]
    both       rho if low <= rho <= high, else 0             [IcePop, arXiv 2510.18855]
    M2PO       1, but 0 on the tokens of largest (log rho)^2 until the mean of the rest is below tau    [arXiv 2510.01161]

Denominators still count what was rejected, so rejection cannot inflate the gradient of the rest.  A product over a long sequence
rejects long answers; prefer the mean.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from sojourn.credit.ranges import INF, checked, within
from sojourn.objectives.inputs import LossInputs
from sojourn.objectives.ratio import capped_exp, segment_mean, segment_sum

Over: TypeAlias = Literal["token", "sequence", "product"]


class Correction(Protocol):
    """`correction(inputs) -> weight_T`, detached.  `weighs` is True if it multiplies by rho; `granularity` is the tokens that one
    weight reads: "token" if it is that token alone; `reads` holds "old_logp" if it tells that from `behaviour_logp`."""

    @property
    def weighs(self) -> bool: ...
    @property
    def granularity(self) -> Over: ...
    @property
    def reads(self) -> frozenset[str]: ...

    def __call__(self, inputs: LossInputs) -> Tensor: ...


@checked
class Importance:
    """A weight or a mask made of rho."""

    action: Literal["truncate", "mask", "both"] = "truncate"
    """What happens to a rho outside [low, high]."""
    low: float = 0.0
    """Lower bound."""
    high: float = 2.0
    """Upper bound; raising it lowers bias and raises variance.  Of a truncated weight it may lie below 1."""
    granularity: Over = "token"
    """Over what rho is taken; "sequence" is the geometric mean."""
    reads: ClassVar[frozenset[str]] = frozenset({"old_logp"})

    def __post_init__(self) -> None:
        if not (0 <= self.low <= 1 and self.low < self.high and (self.high >= 1 or self.action == "truncate")):
            raise ValueError(
                f"Importance(low={self.low}, high={self.high}): the band must hold 1, or on-policy tokens are unreachable (only the high of "
                "action 'truncate' may lie below 1, above low)"
            )

    @property
    def weighs(self) -> bool:
        return self.action != "mask"

    def __call__(self, inputs: LossInputs) -> Tensor:
        log = (inputs.old_logp - inputs.behaviour_logp).detach()
        if self.granularity == "sequence":
            log = segment_mean(log, inputs.sequence)
        elif self.granularity == "product":
            log = segment_sum(log, inputs.sequence)
        rho = capped_exp(log)
        if self.action == "truncate":
            return rho.clamp(self.low, self.high)
        inside = (rho >= self.low) & (rho <= self.high)
        return torch.where(inside, torch.ones_like(rho) if self.action == "mask" else rho, 0.0)


@checked
class NegativeSequenceMask:
    """Drop a sequence with A < 0 that the policy has left: mean(log pi_behaviour - log pi) > delta.  [DeepSeek-V3.2,
    arXiv 2512.02556]"""

    delta: float = 0.5
    """In nats for each token."""
    weighs: ClassVar[bool] = False
    granularity: ClassVar[Over] = "sequence"
    reads: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        within(self, delta=(0, INF))

    def __call__(self, inputs: LossInputs) -> Tensor:
        left = segment_mean((inputs.behaviour_logp - inputs.logp).detach(), inputs.sequence) > self.delta
        return torch.where(left & (inputs.advantage < 0), 0.0, torch.ones_like(inputs.advantage))


@checked
class SecondMoment:
    """M2PO: drop the most off-policy tokens of the batch until the second moment of the others is small."""

    tau: float = 0.04
    """Bound on mean (log rho)^2."""
    weighs: ClassVar[bool] = False
    granularity: ClassVar[Over] = "token"
    reads: ClassVar[frozenset[str]] = frozenset({"old_logp"})
    traits: ClassVar[frozenset[str]] = frozenset({"rounding"})

    def __post_init__(self) -> None:
        within(self, tau=(1e-9, INF))

    def prepare(self, inputs: LossInputs) -> LossInputs:
        square = (inputs.old_logp - inputs.behaviour_logp).detach().square()
        order = square.argsort()
        mean = square[order].cumsum(0) / torch.arange(1, len(square) + 1, device=square.device)
        kept = order[mean < self.tau]
        return inputs.weighted(torch.zeros_like(square).index_fill(0, kept, 1.0))

    def __call__(self, inputs: LossInputs) -> Tensor:
        return torch.ones_like(inputs.advantage)
