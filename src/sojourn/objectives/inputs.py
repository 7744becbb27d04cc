"""What an objective reads: flat tensors over the action tokens of a micro-batch, and counts over the whole batch.

Legend: T action tokens of this micro-batch.  An objective is `objective(inputs) -> (loss, metrics)`.  Losses and metrics of
micro-batches ADD UP to those of the batch, on any number of ranks, because every denominator is a global count made before any
loss (`Denominators`).  A micro-batch holds whole sequences (episodes), so sequence- and turn-level ratios need no neighbour.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from sojourn.credit.needs import traits


@dataclass(frozen=True, kw_only=True)
class Denominators:
    """Counts over the whole batch (all micro-batches, all ranks), made before filters reject single tokens."""

    tokens: int
    """Action tokens."""
    sequences: int
    """Sequences with at least one action token."""
    prompts: int
    """Prompts (groups) with at least one action token."""
    tokens_per_sequence: Tensor
    """Action tokens by sequence id, shape (number of sequence ids,)."""
    tokens_per_prompt: Tensor
    """Action tokens by prompt id, shape (number of prompt ids,)."""
    pairs: int = 0
    """Preference pairs."""

    @classmethod
    def count(cls, sequence_T: Tensor, prompt_T: Tensor, *, pairs: int = 0) -> Denominators:
        """Count a whole batch from the sequence and prompt id of each action token.

        >>> Denominators.count(torch.tensor([0, 0, 2]), torch.tensor([0, 0, 0])).sequences
        2
        """
        per_sequence, per_prompt = torch.bincount(sequence_T), torch.bincount(prompt_T)
        return cls(
            tokens=len(sequence_T),
            sequences=int((per_sequence > 0).sum()),
            prompts=int((per_prompt > 0).sum()),
            tokens_per_sequence=per_sequence,
            tokens_per_prompt=per_prompt,
            pairs=pairs,
        )


@dataclass(frozen=True, kw_only=True)
class LossInputs:
    """One micro-batch.  Tensors have shape (T,) unless they say otherwise; only `logp` and `entropy` carry gradients."""

    logp: Tensor
    """Log-probability under the policy being trained."""
    old_logp: Tensor
    """Under the policy at the start of this update; `behaviour_logp` where nothing tells the two apart (see `Learner.update`)."""
    behaviour_logp: Tensor
    """Under the distribution that was really sampled, as the engine reported it."""
    advantage: Tensor
    """From credit."""
    sequence: Tensor
    """Sequence (episode) of each token: ids global in the batch, int64."""
    turn: Tensor
    """Action span of each token: ids global in the batch, int64."""
    prompt: Tensor
    """Prompt (group) of each token: ids global in the batch, int64."""
    counts: Denominators
    """Global counts."""
    ref_logp: Tensor | None = None
    """Under the reference policy."""
    entropy: Tensor | None = None
    """Entropy of the policy's distribution at each token."""
    weight: Tensor | None = None
    """Detached factor of each token's loss, from a batch-level rule (`PolicyGradient.prepare`)."""
    marked: Tensor | None = None
    """Tokens that a batch-level rule chose, bool."""
    pairs: Tensor | None = None
    """Preference pairs, shape (P, 2): ids in `sequence` of the chosen and of the rejected."""
    estimate: Tensor | None = None
    """A number that a batch-level rule estimated (KTO's z0), shape ()."""
    forced: Tensor | None = None
    """Tokens that nobody sampled (a demonstration), bool; None if there are none."""
    sampled_counts: Denominators | None = None
    """Global counts of the tokens that were sampled, where some are forced."""
    blind_logp: Tensor | None = None
    """Under the policy being trained, with a corrupted observation; with gradient."""
    blind_entropy: Tensor | None = None
    """Entropy of the policy's distribution at each token with that observation."""
    coefficients: Mapping[str, float] = field(default_factory=dict)
    """Coefficients that a target has moved, by name; a part that has one reads it here before it takes its own."""
    prepared: bool = False
    """Whether the batch-level rules have seen the whole batch; if not, an objective takes this micro-batch for the whole."""

    def take(self, chosen: Tensor) -> LossInputs:
        """The micro-batch of the tokens where `chosen` is True; keeps sequences whole, and both sides of a pair together."""
        parts: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        tokens = {name: part for name, part in parts.items() if isinstance(part, Tensor) and name not in ("pairs", "estimate")}
        taken: dict[str, Any] = {name: part[chosen] for name, part in tokens.items()}
        if self.pairs is not None:
            taken["pairs"] = self.pairs[torch.isin(self.pairs, self.sequence[chosen]).all(dim=1)]
        return replace(self, **taken)

    def sampled(self) -> LossInputs:
        """Without forced tokens: what a part sees that needs a probability of sampling."""
        if self.forced is None or self.sampled_counts is None:
            return self
        return replace(self.take(~self.forced), counts=self.sampled_counts, forced=None, sampled_counts=None)

    def weighted(self, factor: Tensor) -> LossInputs:
        """The same with `weight` multiplied by `factor`, detached."""
        return replace(self, weight=factor.detach() if self.weight is None else self.weight * factor.detach())


Metrics: TypeAlias = dict[str, float]
Compares: TypeAlias = Literal["episodes", "actions", "lengths"]
Reach: TypeAlias = Literal["token", "turn", "sequence"]
Objective: TypeAlias = Callable[[LossInputs], tuple[Tensor, Metrics]]
"""`objective(inputs) -> (loss, metrics)`; both add up over micro-batches."""


def imitates(objective: object) -> bool:
    """Whether an objective says again what was said, whoever said it, so that forced tokens are trained, too."""
    return "imitates" in traits(objective)


@runtime_checkable
class Comparing(Protocol):
    """An objective that reads `pairs`."""

    @property
    def compares(self) -> Compares | None: ...


@runtime_checkable
class Reaching(Protocol):
    """An objective that says how far an advantage works."""

    def reach(self, moved: Mapping[str, float]) -> Reach | None: ...


def compares(objective: Objective) -> Compares | None:
    """What an objective makes pairs of; None if it reads none."""
    return objective.compares if isinstance(objective, Comparing) else None


def reach(objective: Objective, inputs: LossInputs) -> Reach | None:
    """How far an advantage works in an objective; None if it acts on every token, or does not say."""
    return objective.reach(inputs.coefficients) if isinstance(objective, Reaching) else None
