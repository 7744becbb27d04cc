"""Rules that look at the whole batch before any loss: which tokens are muted, or held back by a divergence.

Each has `prepare(inputs)`, to be called once on the whole batch with the log-probabilities that the ratio is taken against
(see `PolicyGradient.prepare`), so that micro-batches cannot change what is chosen.

    cov_t = (A_t - mean A) (log pi_t - mean log pi)                                      [arXiv 2505.22617, eq. 10]
    Clip-Cov     mutes a few random tokens whose covariance lies in a band               [eq. 11 and 12]
    KL-Cov       -r A, plus coefficient |l_t| on the tokens of highest covariance        [eq. 13 and 14]
    top entropy  trains only the most uncertain tokens                                   [arXiv 2506.01939, sec. 5]
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from sojourn.credit.ranges import INF, checked, within
from sojourn.objectives.inputs import LossInputs
from sojourn.objectives.ratio import Granularity, capped_exp, widen
from sojourn.objectives.trust_region import Clip


@runtime_checkable
class BatchRule(Protocol):
    """A part or an objective that wants to see the whole batch once."""

    def prepare(self, inputs: LossInputs) -> LossInputs: ...


def covariance(inputs: LossInputs) -> Tensor:
    """Each token's part of the covariance of advantage and log-probability; drives the entropy down.  Shape (T,)."""
    advantage, logp = inputs.advantage, inputs.old_logp
    return (advantage - advantage.mean()) * (logp - logp.mean())


@checked
class ClipCov:
    """Clip, and mute `share` of the batch's tokens, at random among those with low < covariance < high."""

    reach: ClassVar[None] = None

    clip: Clip = Clip()
    """The clip that applies to all tokens."""
    share: float = 2e-4
    """Share of tokens that are muted; raising it keeps the entropy higher."""
    low: float = 1.0
    """Covariance above which a token may be muted."""
    high: float = 5.0
    """Covariance below which a token may be muted."""
    seed: int = 0
    """Of the random choice."""

    def __post_init__(self) -> None:
        within(self, share=(0, 1), seed=(0, INF))
        if self.low >= self.high:
            raise ValueError(f"ClipCov(low={self.low}, high={self.high}): no covariance can lie between them; set low < high")

    def prepare(self, inputs: LossInputs) -> LossInputs:
        value = covariance(inputs)
        candidates = torch.nonzero((value > self.low) & (value < self.high)).flatten()
        draw = torch.randperm(len(candidates), generator=torch.Generator().manual_seed(self.seed))
        muted = candidates[draw[: max(1, int(self.share * len(value)))].to(candidates.device)]
        return inputs.weighted(torch.ones_like(value).index_fill(0, muted, 0.0))

    def __call__(self, log_ratio: Tensor, granularity: Granularity, inputs: LossInputs) -> tuple[Tensor, Tensor]:
        return self.clip(log_ratio, granularity, inputs)


@checked
class KlCov:
    """No clip; the tokens of highest covariance are held back by |log ratio|."""

    reach: ClassVar[None] = None

    share: float = 2e-4
    """Share of tokens held back; raising it keeps the entropy higher."""
    coefficient: float = 1.0
    """How strongly, per nat."""

    def __post_init__(self) -> None:
        within(self, share=(0, 1), coefficient=(0, INF))

    def prepare(self, inputs: LossInputs) -> LossInputs:
        value = covariance(inputs)
        top = value.topk(max(1, int(self.share * len(value)))).indices
        return replace(inputs, marked=torch.zeros_like(value, dtype=torch.bool).index_fill(0, top, True))

    def __call__(self, log_ratio: Tensor, granularity: Granularity, inputs: LossInputs) -> tuple[Tensor, Tensor]:
        assert inputs.marked is not None, "PolicyGradient prepares its rules"
        loss = -capped_exp(widen(log_ratio, inputs, granularity)) * inputs.advantage
        return loss + torch.where(inputs.marked, self.coefficient * log_ratio.abs(), 0.0), inputs.marked


@checked
class TopEntropy:
    """Train only the share of tokens where the policy was most uncertain: the forks of the reasoning."""

    share: float = 0.2
    """Share of tokens that are trained."""
    reads: ClassVar[frozenset[str]] = frozenset({"entropy_T"})

    def __post_init__(self) -> None:
        within(self, share=(0, 1))

    def prepare(self, inputs: LossInputs) -> LossInputs:
        if inputs.entropy is None:
            raise ValueError("TopEntropy needs the entropy at each token; let the learner compute it")
        kept = inputs.entropy.detach().topk(max(1, int(self.share * len(inputs.entropy)))).indices
        return inputs.weighted(torch.zeros_like(inputs.logp).index_fill(0, kept, 1.0))
