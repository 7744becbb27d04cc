"""The critic's loss: how a value head learns to predict returns.

L = 1/2 max((V - R)^2, (clip(V, V_old - e, V_old + e) - R)^2) / scale^2         [PPO code; arXiv 2005.12729, sec. 3]
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sojourn.credit.ranges import INF, checked, within
from sojourn.objectives.inputs import Metrics


@dataclass(frozen=True, kw_only=True)
class CriticInputs:
    """One micro-batch; tensors of shape (T,) over action tokens.

    value: prediction, with gradient.  old_value: the one when the batch was scored.  target: what it should predict.  All in units of
    return.
    tokens: action tokens of the whole batch; losses of micro-batches add up.
    """

    value: Tensor
    old_value: Tensor
    target: Tensor
    tokens: int


@checked
class ValueLoss:
    """Half the squared error, optionally with the pessimistic clip."""

    clip: float | None = None
    """How far a value may move while a rollout is learned from, in units of return; None does not bound it.  Under the size of returns
    it holds the critic up for as many rollouts as it goes into them."""
    scale: float = 1.0
    """Size of returns: the head's number times this is the value.  Raise it where episodes pay far more than 1, or a critic needs as
    many steps as its returns are large."""
    warm_up: int = 0
    """Rollouts from which only the critic learns, counted after those that imitate an oracle; raise it when the critic starts from a
    language model's head."""

    def __post_init__(self) -> None:
        within(self, clip=(0, INF), scale=(1e-9, INF), warm_up=(0, INF))

    def policy_learns(self, rollout: int) -> bool:
        """Whether the policy is trained on this rollout, counted from 0."""
        return rollout >= self.warm_up

    def __call__(self, inputs: CriticInputs) -> tuple[Tensor, Metrics]:
        square = (inputs.value - inputs.target).square()
        if self.clip is not None:
            near = inputs.old_value + (inputs.value - inputs.old_value).clamp(-self.clip, self.clip)
            square = torch.maximum(square, (near - inputs.target).square())
        loss = 0.5 * square.sum() / (self.scale**2 * inputs.tokens)
        error = (inputs.value.detach() - inputs.target).abs().sum() / inputs.tokens
        return loss, {"value_loss": float(loss.detach()), "value_error": float(error)}
