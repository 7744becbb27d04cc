"""A batch as most trainers hold it: one padded row for each sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sojourn.objectives import LossInputs


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Tensors of shape (B, L), float64 and right-padded, where nothing else is said.

    logp carries the gradient.  mask: True on action tokens; False on observations and padding, whose values are junk.
    turn: number of the action span in the batch, -1 off the mask.  prompt: group of each row, shape (B,).
    pairs: the chosen and the rejected row of each preference, shape (P, 2).
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
    pairs: Tensor

    def take(self, rows: Sequence[int]) -> Rows:
        """Some of the rows, and the pairs that have both sides among them."""
        place = torch.full((len(self.mask),), -1)
        place[list(rows)] = torch.arange(len(rows))
        pairs = place[self.pairs]
        parts = {name: value[list(rows)] for name, value in vars(self).items() if name != "pairs"}
        return Rows(**parts, pairs=pairs[(pairs >= 0).all(dim=1)])


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

    assert inputs.ref_logp is not None and inputs.entropy is not None and inputs.pairs is not None
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
        pairs=inputs.pairs,
    )


def _layout(inputs: LossInputs, sequence: int, observations: int) -> list[int]:
    """Flat positions of one row, -1 where an observation stands."""
    row: list[int] = []
    mine = torch.nonzero(inputs.sequence == sequence).flatten()
    for turn in torch.unique_consecutive(inputs.turn[mine]).tolist():
        row += mine[inputs.turn[mine] == turn].tolist() + [-1] * observations
    return row
