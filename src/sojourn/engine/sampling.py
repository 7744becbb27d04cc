"""From logits to a token and its exact log-probability.

One uniform number per token, a function of the request's seed and the token's index alone, inverted through the cumulative
distribution: no random state, so a request samples the same tokens whoever shares its batch.  The log-probability is that of the
distribution that was really sampled: after temperature, truncation and constraints.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sojourn.engine.native import kernels
from sojourn.engine.protocol import SamplingParams

BLOCK = 256
"""Tokens summed at once when a distribution is inverted."""
_MASK = (1 << 64) - 1


def uniform(seed: int, index: int) -> float:
    """A uniform number in [0, 1) from (seed, index).  [splitmix64; Steele, Lea and Flood 2014]"""
    z = (seed * 0x9E3779B97F4A7C15 + (index + 1) * 0xD1B54A32D192ED03) & _MASK
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = ((z ^ (z >> shift)) * factor) & _MASK
    return ((z ^ (z >> 31)) >> 11) / (1 << 53)


def legal_next(allowed: Sequence[Sequence[int]], done: Sequence[int]) -> list[int]:
    """Ids that continue one of the `allowed` sequences after `done`; empty when one is complete.

    >>> legal_next([(1, 2), (1, 3, 4), (5,)], [1])
    [2, 3]
    """
    n = len(done)
    return sorted({option[n] for option in allowed if len(option) > n and list(option[:n]) == list(done)})


def restrict(logits: Tensor, params: Sequence[SamplingParams], legal: Sequence[Sequence[int] | None] | None = None) -> Tensor:
    """Turn logits (B, V), in place or as a float32 copy, into those of the distributions that are sampled: constraint, temperature,
    then top-k, min-p and top-p, each over what the one before left.  Temperature 0 is greedy: the likeliest token gets all the mass.

    legal: for each row the ids that may come, or None for all.
    """
    if any(p.temperature != 1 or p.top_k or p.top_p < 1 or p.min_p > 0 for p in params):
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    for row, ids in enumerate(legal or ()):
        if ids is not None:
            kept = logits[row, list(ids)].clone()
            logits[row].fill_(-torch.inf)
            logits[row, list(ids)] = kept
    for row, p in enumerate(params):
        if p.temperature not in (0, 1):
            logits[row] /= p.temperature
        if p.temperature == 0 or p.top_k or p.top_p < 1 or p.min_p > 0:
            logits[row] = _truncate(logits[row], p)
    return logits


def _truncate(logits: Tensor, p: SamplingParams) -> Tensor:
    k = 1 if p.temperature == 0 else p.top_k
    values, order = logits.sort(descending=True, stable=True)
    keep = torch.ones_like(values, dtype=torch.bool)
    if k:
        keep[k:] = False
    if p.min_p > 0:
        keep &= values >= values[0] + np.log(p.min_p)
    if p.top_p < 1:
        mass = values.masked_fill(~keep, -torch.inf).softmax(-1)
        keep &= mass.cumsum(-1) - mass < p.top_p
    return torch.full_like(logits, -torch.inf).scatter_(0, order, values.masked_fill(~keep, -torch.inf))


def sample(logits: Tensor, uniforms: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Draw one token a row by inversion.

    logits: (B, V), -inf where forbidden.  uniforms: B numbers in [0, 1).
    Returns tokens (B,) and their log-probabilities (B,).  The sum runs over blocks first: exact enough in float32 for a
    vocabulary of hundreds of thousands, and one pass over memory.
    """
    if logits.device.type == "cpu" and (found := kernels(logits.dtype)):
        return found.draw(logits, uniforms)
    logits = logits.float()
    rows, vocabulary = logits.shape
    blocks = -(-vocabulary // BLOCK)
    top = logits.amax(-1, keepdim=True)
    mass = logits.new_empty(rows, blocks * BLOCK)
    mass[:, vocabulary:] = 0
    torch.sub(logits, top, out=mass[:, :vocabulary]).exp_()
    by_block = mass.view(rows, blocks, BLOCK)
    cumulative = by_block.sum(-1).double().cumsum(-1)
    target = torch.tensor(uniforms, dtype=torch.float64, device=logits.device)[:, None] * cumulative[:, -1:]
    chosen = torch.searchsorted(cumulative, target, right=True).clamp_(max=blocks - 1)
    before = torch.where(chosen > 0, cumulative.gather(1, (chosen - 1).clamp_(min=0)), 0.0)
    inside = by_block[torch.arange(rows, device=logits.device), chosen[:, 0]].double()
    offset = torch.searchsorted(inside.cumsum(-1), target - before, right=True)
    last = BLOCK - 1 - (inside.flip(-1) > 0).int().argmax(-1, keepdim=True)
    tokens = (chosen * BLOCK + torch.minimum(offset, last))[:, 0]
    lse = top.double() + cumulative[:, -1:].log()
    return tokens, (logits.gather(1, tokens[:, None]) - lse)[:, 0].float()
