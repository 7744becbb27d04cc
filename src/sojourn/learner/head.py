"""Log-probabilities and entropies of the trained tokens, without ever holding all logits.

The head runs on the places that predict trained tokens, in chunks; the backward pass computes the logits of a chunk again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sojourn.core import Ints

CHUNK = 128
"""Places whose logits are held at once."""


def log_probabilities(
    hidden: Tensor, weight: Tensor, place: Tensor, target: Tensor, *, temperature: float = 1.0, softcap: float | None = None
) -> tuple[Tensor, Tensor]:
    """Of the entries (place, target): the log-probability of `target` after `place`, and the entropy there, both (T,), float32.

    hidden: (U, D), one row a place.  weight: (V, D), the head.  place, target: (T,).
    temperature divides the logits, as in sampling.  softcap: the model's final soft-capping of logits, if it has one.
    """
    order = torch.argsort(place, stable=True)
    logp, entropy = _Head.apply(hidden, weight, place[order], target[order], temperature, softcap)
    return logp[torch.argsort(order)], entropy[place]


def legal_log_probabilities(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    legal: Sequence[Ints],
    *,
    temperature: float = 1.0,
    softcap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """The same of tokens that were sampled among `legal` ids only; the head's other rows are not touched.

    hidden: (T, D), one row an entry.  target: (T,), each among its own `legal` ids.
    """
    width = max(map(len, legal))
    ids = torch.tensor([[*row, *[row[0]] * (width - len(row))] for row in legal], device=hidden.device)
    length = torch.tensor([len(row) for row in legal], device=hidden.device)
    filler = torch.arange(width, device=hidden.device)[None] >= length[:, None]
    logits = torch.einsum("td,twd->tw", hidden, weight[ids]).float()
    if softcap:
        logits = (logits / softcap).tanh() * softcap
    logps = (logits / temperature).masked_fill(filler, -torch.inf).log_softmax(-1)
    at = (ids == target[:, None]).int().argmax(-1, keepdim=True)
    known = logps.masked_fill(filler, 0.0)
    return logps.gather(1, at)[:, 0], -(logps.exp() * known).sum(-1)


def squares(hidden: Tensor, weight: Tensor, *, temperature: float = 1.0, softcap: float | None = None) -> Tensor:
    """The sum of the squared probabilities after each row of `hidden` (U, D), (U,), float32, without gradients."""
    logits = (_logits(rows, weight, temperature, softcap)[0] for rows in hidden.split(CHUNK))
    return torch.cat([each.softmax(-1).square().sum(-1) for each in logits])


class _Head(torch.autograd.Function):
    """Entries sorted by place; returns logp (T,) and the entropy of every place (U,)."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, place: Tensor, target: Tensor, temperature: float, softcap: float | None
    ) -> tuple[Tensor, Tensor]:
        logp = torch.empty(len(place), dtype=torch.float32, device=hidden.device)
        entropy = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        for rows, entries in _chunks(len(hidden), place):
            logits, _ = _logits(hidden[rows], weight, temperature, softcap)
            lse = logits.logsumexp(-1)
            logp[entries] = logits[place[entries] - rows.start, target[entries]] - lse[place[entries] - rows.start]
            entropy[rows] = lse - (logits.sub(lse[:, None]).exp_() * logits).sum(-1)
        ctx.save_for_backward(hidden, weight, place, target)
        ctx.temperature, ctx.softcap = temperature, softcap
        return logp, entropy

    @staticmethod
    def backward(ctx: Any, d_logp: Tensor, d_entropy: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, place, target = ctx.saved_tensors
        d_hidden = torch.empty_like(hidden)
        d_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        for rows, entries in _chunks(len(hidden), place):
            logits, slope = _logits(hidden[rows], weight, ctx.temperature, ctx.softcap)
            logp = logits.log_softmax(-1)
            p = logp.exp()
            local = place[entries] - rows.start
            total = torch.zeros(len(p), dtype=p.dtype, device=p.device).index_add_(0, local, d_logp[entries])
            if d_entropy[rows].any():
                entropy = -(p * logp).sum(-1, keepdim=True)
                d_logits = p * (-total[:, None] - d_entropy[rows][:, None] * (logp + entropy))
            else:
                d_logits = p.mul_(-total[:, None])
            d_logits.index_put_((local, target[entries]), d_logp[entries], accumulate=True)
            if slope is not None:
                d_logits *= slope
            d_logits = d_logits.div_(ctx.temperature).to(weight.dtype)
            d_hidden[rows] = d_logits @ weight
            if d_weight is not None:
                d_weight.addmm_(d_logits.t(), hidden[rows])
        return d_hidden, d_weight, None, None, None, None


def _chunks(places: int, place: Tensor) -> list[tuple[slice, slice]]:
    """Ranges of places and the matching ranges of the sorted entries."""
    edges = torch.arange(0, places + CHUNK, CHUNK, device=place.device).clamp_(max=places)
    cuts = torch.searchsorted(place, edges).tolist()
    bounds = edges.tolist()
    return [(slice(a, b), slice(i, j)) for a, b, i, j in zip(bounds, bounds[1:], cuts, cuts[1:], strict=False) if b > a]


def _logits(hidden: Tensor, weight: Tensor, temperature: float, softcap: float | None) -> tuple[Tensor, Tensor | None]:
    """Logits in float32 and, with soft-capping, the slope of the cap."""
    logits = (hidden @ weight.t()).float()
    slope = None
    if softcap:
        logits = logits.div_(softcap).tanh_()
        slope = 1 - logits.square()
        logits = logits * softcap
    return logits.div_(temperature) if temperature != 1 else logits, slope
