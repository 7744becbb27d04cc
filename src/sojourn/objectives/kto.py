"""Kahneman-Tversky optimisation: preferences from verdicts alone, no pairs.  [arXiv 2402.01306, sec. 4]

KTO   lam_D (1 - s(beta D - z0)) if good,  lam_U (1 - s(z0 - beta D)) if bad,  D = log pi(y) - log pi_ref(y)
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from sojourn.credit.ranges import INF, checked, within
from sojourn.objectives.inputs import LossInputs, Metrics
from sojourn.objectives.preference import against_reference


@checked
class Kto:
    """From verdicts alone: a sequence is good if its advantage is positive.

    z0, the point of reference, is max(0, beta mean D) over the whole batch (`prepare`), which estimates the divergence from the
    reference where the batch was sampled by the policy; the paper uses mismatched prompts and answers.
    """

    beta: float = 0.1
    """Raising it makes the reader more averse to risk."""
    good: float = 1.0
    """lam_D, weight of a good sequence; balance it so that good x (number of good) is near bad x (number of bad)."""
    bad: float = 1.0
    """lam_U, weight of a bad sequence."""

    reads: ClassVar[frozenset[str]] = frozenset({"ref_logp_T", "old_logp"})
    traits: ClassVar[frozenset[str]] = frozenset({"imitates"})

    def __post_init__(self) -> None:
        within(self, beta=(0, INF), good=(0, INF), bad=(0, INF))

    def prepare(self, inputs: LossInputs) -> LossInputs:
        """Estimate z0 on the whole batch, of the policy at the start of the update."""
        mean = against_reference(replace(inputs, logp=inputs.old_logp)).detach().sum() / inputs.counts.sequences
        return replace(inputs, estimate=(self.beta * mean).clamp(min=0), prepared=True)

    def __call__(self, inputs: LossInputs) -> tuple[Tensor, Metrics]:
        inputs = inputs if inputs.prepared else self.prepare(inputs)
        assert inputs.estimate is not None
        ids, inverse = torch.unique(inputs.sequence, return_inverse=True)
        ratio = against_reference(inputs)
        value = (
            self.beta * torch.zeros(len(ids), dtype=ratio.dtype, device=ratio.device).index_add(0, inverse, ratio)
            - inputs.estimate
        )
        verdict = torch.zeros_like(value).index_add(0, inverse, inputs.advantage.to(value.dtype)) > 0
        loss_B = torch.where(verdict, self.good * (1 - torch.sigmoid(value)), self.bad * (1 - torch.sigmoid(-value)))
        loss = loss_B.sum() / inputs.counts.sequences
        return loss, {"loss": float(loss.detach()), "value": float(value.detach().sum() / inputs.counts.sequences)}
