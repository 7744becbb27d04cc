"""Log-probabilities and entropies of the trained tokens, without ever holding all logits.

The head runs on the places that predict trained tokens, in chunks; the backward pass computes the logits of a chunk again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from sojourn.core import Ints

CHUNK = 256
"""Places whose logits are held at once."""
TILE = 16
"""Places whose probabilities are computed at once: so many that they stay in the cache of the processor."""


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
    tiles = (_finished(logits, temperature, softcap)[0] for _, logits in _tiles(hidden, weight))
    return torch.cat([each.softmax(-1).square().sum(-1) for each in tiles])


class _Head(torch.autograd.Function):
    """Entries sorted by place; returns logp (T,) and the entropy of every place (U,)."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, place: Tensor, target: Tensor, temperature: float, softcap: float | None
    ) -> tuple[Tensor, Tensor]:
        logp = torch.empty(len(place), dtype=torch.float32, device=hidden.device)
        entropy, lse = (torch.empty(len(hidden), dtype=torch.float32, device=hidden.device) for _ in range(2))
        for rows, logits in _tiles(hidden, weight):
            entries = _entries(place, rows)
            logits, _ = _finished(logits, temperature, softcap)
            top = logits.amax(-1, keepdim=True)
            shifted = logits.sub_(top)
            mass = shifted.exp()
            total = mass.sum(-1)
            log_total = total.log()
            logp[entries] = shifted[place[entries] - rows.start, target[entries]] - log_total[place[entries] - rows.start]
            entropy[rows] = log_total - torch.linalg.vecdot(mass, shifted) / total
            lse[rows] = top[:, 0] + log_total
        ctx.save_for_backward(hidden, weight, place, target, lse)
        ctx.temperature, ctx.softcap = temperature, softcap
        return logp, entropy

    @staticmethod
    def backward(ctx: Any, d_logp: Tensor, d_entropy: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, place, target, lse = ctx.saved_tensors
        d_hidden = torch.empty_like(hidden)
        d_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        wanted = bool(d_entropy.any())
        for chunk in _ranges(0, len(hidden), CHUNK):
            d_logits = hidden[chunk] @ weight.t()
            for rows in _ranges(chunk.start, chunk.stop, TILE):
                entries = _entries(place, rows)
                own = d_logits[rows.start - chunk.start : rows.stop - chunk.start]
                logits, slope = _finished(own, ctx.temperature, ctx.softcap)
                logp = logits.sub_(lse[rows, None])
                p = logp.exp() if wanted else logp.exp_()
                local = place[entries] - rows.start
                total = p.new_zeros(len(p)).index_add_(0, local, d_logp[entries])
                if wanted:
                    entropy = -torch.linalg.vecdot(p, logp)
                    p.mul_(logp.add_(entropy[:, None]).mul_(-d_entropy[rows, None]).sub_(total[:, None]))
                else:
                    p.mul_(-total[:, None])
                p.index_put_((local, target[entries]), d_logp[entries], accumulate=True)
                if slope is not None:
                    p.mul_(slope)
                own.copy_(p.div_(ctx.temperature) if ctx.temperature != 1 else p)
            d_hidden[chunk] = d_logits @ weight
            if d_weight is not None:
                d_weight.addmm_(d_logits.t(), hidden[chunk])
        return d_hidden, d_weight, None, None, None, None


def _ranges(start: int, stop: int, size: int) -> Iterator[slice]:
    return (slice(at, min(at + size, stop)) for at in range(start, stop, size))


def _tiles(hidden: Tensor, weight: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Ranges of places, and their logits as the product gives them."""
    for chunk in _ranges(0, len(hidden), CHUNK):
        logits = hidden[chunk] @ weight.t()
        for rows in _ranges(chunk.start, chunk.stop, TILE):
            yield rows, logits[rows.start - chunk.start : rows.stop - chunk.start]


def _entries(place: Tensor, rows: slice) -> slice:
    """Of entries that are sorted by place, those of some places."""
    first, last = torch.searchsorted(place, torch.tensor([rows.start, rows.stop], device=place.device)).tolist()
    return slice(first, last)


def _finished(logits: Tensor, temperature: float, softcap: float | None) -> tuple[Tensor, Tensor | None]:
    """Logits in float32, in place where they are that already, and with soft-capping the slope of the cap."""
    logits, slope = logits.float(), None
    if softcap:
        logits = logits.div_(softcap).tanh_()
        slope = 1 - logits.square()
        logits.mul_(softcap)
    return logits.div_(temperature) if temperature != 1 else logits, slope
