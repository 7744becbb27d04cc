"""Supervised objectives: say again what was said.

The action tokens of chosen episodes (an oracle's, the successful ones) are the targets.  Which ones is a filter's business, so
warm-up, rejection-sampling fine-tuning, filtered behaviour cloning and expert iteration are this one loss.

    plain                -log pi
    probability          -sg[pi] log pi                   [DFT, arXiv 2508.05629, sec. 3]
    uncertainty          -sg[pi (1 - pi)] log pi          [CHORD-phi, arXiv 2508.11408]
    AdvantageWeighted    -exp(A / beta) log pi            [AWR, arXiv 1910.00177, alg. 1; MARWIL, NeurIPS 2018]
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from sojourn.credit.needs import Composite
from sojourn.credit.ranges import INF, checked, weighed, within
from sojourn.objectives.aggregation import Aggregation
from sojourn.objectives.batch_rules import BatchRule
from sojourn.objectives.inputs import Compares, LossInputs, Metrics, Objective, compares, imitates
from sojourn.objectives.ratio import capped_exp


@checked
class Supervised:
    """Weighted negative log-likelihood of the action tokens."""

    traits: ClassVar[frozenset[str]] = frozenset({"imitates"})

    weight: Literal["plain", "probability", "uncertainty"] = "plain"
    """Which tokens count more."""
    positive_only: bool = False
    """Only tokens with a positive advantage (filtered behaviour cloning, the NLL term of VAPO); the others count 0."""
    aggregation: Aggregation = Aggregation()
    """How token losses become one number."""

    def __call__(self, inputs: LossInputs) -> tuple[Tensor, Metrics]:
        probability = inputs.logp.detach().exp()
        factor = {
            "plain": torch.ones_like(probability),
            "probability": probability,
            "uncertainty": probability * (1 - probability),
        }[self.weight]
        if self.positive_only:
            factor = torch.where(inputs.advantage > 0, factor, 0.0)
        return likelihood(factor, self.aggregation, inputs)


@checked
class AdvantageWeighted:
    """Cloning that listens to the advantage: better actions are imitated more."""

    traits: ClassVar[frozenset[str]] = frozenset({"imitates"})

    beta: float = 1.0
    """Temperature; towards 0 only the best counts, large is plain cloning."""
    limit: float = 20.0
    """Largest weight."""
    aggregation: Aggregation = Aggregation()
    """How token losses become one number."""

    def __post_init__(self) -> None:
        within(self, beta=(1e-9, INF), limit=(0, INF))

    def __call__(self, inputs: LossInputs) -> tuple[Tensor, Metrics]:
        return likelihood(capped_exp(inputs.advantage / self.beta).clamp(max=self.limit), self.aggregation, inputs)


def likelihood(factor: Tensor, aggregation: Aggregation, inputs: LossInputs) -> tuple[Tensor, Metrics]:
    """Negative log-likelihood with a detached factor of each token."""
    loss = -(aggregation.weights(inputs) * factor.detach() * inputs.logp).sum()
    return loss, {"loss": float(loss.detach()), "nll": float(-inputs.logp.detach().sum() / inputs.counts.tokens)}


@checked
class Mix(Composite):
    """loss = sum of weight x loss of each part, on the same tokens: (1 - mu) RL + mu SFT (CHORD), PPO + NLL of successes (VAPO).
    Forced tokens (demonstrations) are seen by the parts that imitate, and by no other.

    Raises ValueError for two parts that look at the whole batch (`PolicyGradient`, `Kto`), or that compare different things.
    """

    parts: tuple[Objective, ...]
    """What is added."""
    weights: tuple[float, ...]
    """One for each part."""

    def __post_init__(self) -> None:
        weighed(self)
        if len(rules := self._rules) > 1:
            first, second = (type(rule).__name__ for rule in rules[:2])
            raise ValueError(
                f"Mix: {first} and {second} both look at the whole batch to mark or weigh tokens, and their marks would mix; keep one of "
                "them (policy gradients that differ in their advantages are one, with credit.Sum)"
            )

        if len({compares(part) for part in self.parts} - {None}) > 1:
            raise ValueError(
                "Mix: one part compares episodes and another actions; there is one set of pairs, so keep one of them"
            )

    @property
    def _rules(self) -> list[BatchRule]:
        """The parts that look at the whole batch."""
        parts: tuple[object, ...] = self.parts
        return [part for part in parts if isinstance(part, BatchRule)]

    @property
    def made_of(self) -> tuple[object, ...]:
        return self.parts

    @property
    def compares(self) -> Compares | None:
        """What the parts that read pairs make pairs of."""
        return next((found for part in self.parts if (found := compares(part))), None)

    def prepare(self, inputs: LossInputs) -> LossInputs:
        """Let the part that looks at the whole batch do so."""
        rules = self._rules
        return rules[0].prepare(inputs) if rules else inputs

    def __call__(self, inputs: LossInputs) -> tuple[Tensor, Metrics]:
        total, metrics = torch.zeros((), dtype=inputs.logp.dtype, device=inputs.logp.device), Metrics()
        inputs = inputs if inputs.prepared else self.prepare(inputs)
        for part, weight in zip(self.parts, self.weights, strict=True):
            loss, part_metrics = part(inputs if imitates(part) else inputs.sampled())
            total, metrics = total + weight * loss, metrics | part_metrics
        return total, metrics | {"loss": float(total.detach())}
