"""How an implementation is held against the checks.

An adapter answers three questions in its implementation's own code: which advantages do these episode groups get, what is the loss of
these rows, and how likely is each token when it is sampled with these parameters.  Algorithms are named as in
`sojourn.objectives.presets`.  What an implementation does not offer raises `NotOffered` with the reason; the check is then skipped,
which is neither passed nor failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sojourn.core import EpisodeGroup
from sojourn.objectives import LossInputs


class NotOffered(Exception):
    """The implementation has no such algorithm, or its interface cannot express the question."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A batch as most trainers hold it: one padded row for each sequence.  Tensors of shape (B, L), float64 and right-padded.

    logp carries the gradient.  mask: True on action tokens; False on observations and padding, whose values are junk.
    turn: number of the action span in the batch, -1 off the mask.  prompt: group of each row, shape (B,).
    """

    logp: Tensor
    old_logp: Tensor
    behaviour_logp: Tensor
    ref_logp: Tensor
    advantage: Tensor
    entropy: Tensor
    mask: Tensor
    turn: Tensor
    prompt: Tensor


class Adapter(Protocol):
    """An implementation under test."""

    name: str

    def advantages(
        self, algorithm: str, groups: Sequence[EpisodeGroup], *, value: float = 0.0, after: float = 0.0
    ) -> NDArray[np.float64]:
        """Advantages of all action tokens, in the order of groups, episodes, actions; shape (T,).

        value: what a critic says of every state; after: of the state after an episode's last action.
        """
        ...

    def loss(self, algorithm: str, rows: Rows, micro_batches: Sequence[Sequence[int]]) -> Tensor:
        """Loss of the batch, computed in micro-batches of the given rows and put together as the implementation does."""
        ...

    def sampled_logprobs(self, logits: Tensor, *, temperature: float, top_p: float, legal: Sequence[int] | None) -> Tensor:
        """Log-probabilities of the distribution that is really sampled from, given raw logits; both of shape (V,)."""
        ...


def to_rows(inputs: LossInputs, *, observations: int = 0, padding: int = 0, junk: float = 0.0) -> Rows:
    """Lay a flat batch out in rows, with observations of that many tokens after each turn and columns of padding.

    junk: the value of every number off the mask.
    """
    layouts = [_layout(inputs, sequence, observations) for sequence in torch.unique(inputs.sequence).tolist()]
    width = max(map(len, layouts)) + padding
    index = torch.tensor([layout + [-1] * (width - len(layout)) for layout in layouts])
    mask = index >= 0

    def lay(value_T: Tensor, fill: float) -> Tensor:
        return torch.where(mask, value_T.detach()[index.clamp(min=0)], fill)

    assert inputs.ref_logp is not None and inputs.entropy is not None
    first = index[:, 0]
    return Rows(
        logp=lay(inputs.logp, junk).requires_grad_(),
        old_logp=lay(inputs.old_logp, -junk),
        behaviour_logp=lay(inputs.behaviour_logp, 2 * junk),
        ref_logp=lay(inputs.ref_logp, -2 * junk),
        advantage=lay(inputs.advantage, junk),
        entropy=lay(inputs.entropy, junk),
        mask=mask,
        turn=torch.where(mask, inputs.turn[index.clamp(min=0)], -1),
        prompt=inputs.prompt[first],
    )


def _layout(inputs: LossInputs, sequence: int, observations: int) -> list[int]:
    """Flat positions of one row, -1 where an observation stands."""
    row: list[int] = []
    mine = torch.nonzero(inputs.sequence == sequence).flatten()
    for turn in torch.unique_consecutive(inputs.turn[mine]).tolist():
        row += mine[inputs.turn[mine] == turn].tolist() + [-1] * observations
    return row


def gradient(adapter: Adapter, algorithm: str, rows: Rows, micro_batches: Sequence[Sequence[int]] | None = None) -> Tensor:
    """Gradient of the loss at `rows.logp`, shape (B, L)."""
    whole = [list(range(len(rows.mask)))]
    (grad,) = torch.autograd.grad(adapter.loss(algorithm, rows, micro_batches or whole), rows.logp)
    return grad
