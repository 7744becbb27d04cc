"""Preferences beyond one margin: a temperature that follows the batch, and a mixture of preference, quality and likelihood.

D = log pi(y) - log pi_ref(y), w chosen, l rejected, m = D_w - D_l; a bar divides by length.

    BetaDpo   -log s(beta m),  beta = beta0 (1 + a (mean(m) - m0)) over the pairs that are kept          [beta-DPO, arXiv 2407.08639]
    Mpo       p (-log s(beta m)) + q (-log s(beta D_w - d) - log s(d - beta D_l)) + g (-lp-bar_w)        [MPO, arXiv 2411.10442]
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import logsigmoid

from sojourn.credit.ranges import INF, checked, within
from sojourn.objectives.inputs import Compares, LossInputs, Metrics
from sojourn.objectives.preference import against_reference, finish, no_pair, sides


@checked
class BetaDpo:
    """DPO whose temperature rises where pairs are far apart, and that leaves the strangest pairs of a batch out.

    Both are decided on the whole batch (`prepare`), by the policy at the start of the update: of P pairs the `share` whose margins lie nearest
    to their mean are kept.  The paper draws them with the chances of a normal distribution, and lets m0 follow the means of earlier batches.
    """

    beta: float = 0.1
    """beta0."""
    a: float = 0.6
    """How much beta follows the margin, per nat; 0 is DPO."""
    m0: float = 0.0
    """Margin at which beta is beta0, in nats."""
    share: float = 0.8
    """Share of the pairs that is kept, rounded up."""
    compares: Compares = "episodes"
    """What pairs are made of."""
    reads: ClassVar[frozenset[str]] = frozenset({"ref_logp_T", "old_logp"})
    traits: ClassVar[frozenset[str]] = frozenset({"imitates"})

    def __post_init__(self) -> None:
        within(self, beta=(0, INF), a=(0, INF), share=(0, 1))

    def refuses(self, size: int) -> str:
        return "" if self.compares == "actions" else no_pair(size)

    def prepare(self, inputs: LossInputs) -> LossInputs:
        """Choose the pairs and the temperature, of the policy at the start of the update."""
        good, bad = sides(against_reference(replace(inputs, logp=inputs.old_logp)).detach(), inputs, by_length=False)
        margin = good - bad
        if inputs.pairs is None or not len(margin):
            return replace(inputs, estimate=margin.new_tensor(self.beta), prepared=True)
        number = max(1, math.ceil(self.share * len(margin)))
        kept = (margin - margin.mean()).abs().argsort(stable=True)[:number].sort().values
        beta = self.beta * (1 + self.a * (margin[kept].mean() - self.m0))
        counts = replace(inputs.counts, pairs=number)
        return replace(inputs, pairs=inputs.pairs[kept], counts=counts, estimate=beta.clamp(min=1e-3), prepared=True)

    def __call__(self, inputs: LossInputs) -> tuple[Tensor, Metrics]:
        inputs = inputs if inputs.prepared else self.prepare(inputs)
        assert inputs.estimate is not None
        good, bad = sides(against_reference(inputs), inputs, by_length=False)
        margin = inputs.estimate * (good - bad)
        return finish(-logsigmoid(margin), margin, inputs)


@checked
class Mpo:
    """Which answer is better, whether each is good by itself, and how to say the better one: three losses of one pair."""

    beta: float = 0.1
    """Raising it keeps the policy nearer to the reference."""
    preference: float = 0.8
    """p, weight of the preference (DPO)."""
    quality: float = 0.2
    """q, weight of each answer's own verdict (BCO)."""
    likelihood: float = 1.0
    """g, weight of the chosen answer's mean negative log-likelihood."""
    shift: float = 0.0
    """d, the reward at which an answer is neither good nor bad; the paper lets it follow the mean reward."""
    compares: ClassVar[Compares] = "episodes"
    reads: ClassVar[frozenset[str]] = frozenset({"ref_logp_T"})
    traits: ClassVar[frozenset[str]] = frozenset({"imitates"})

    def __post_init__(self) -> None:
        within(self, beta=(0, INF), preference=(0, INF), quality=(0, INF), likelihood=(0, INF))

    def refuses(self, size: int) -> str:
        return no_pair(size)

    def __call__(self, inputs: LossInputs) -> tuple[Tensor, Metrics]:
        good, bad = sides(self.beta * against_reference(inputs), inputs, by_length=False)
        loss = -self.preference * logsigmoid(good - bad)
        loss = loss - self.quality * (logsigmoid(good - self.shift) + logsigmoid(self.shift - bad))
        loss = loss - self.likelihood * sides(inputs.logp, inputs, by_length=True)[0]
        return finish(loss, good - bad, inputs)
