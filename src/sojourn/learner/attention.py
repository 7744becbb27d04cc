"""Tree attention whose cost follows the tree.

The depth-first row is cut into *blocks*: runs of tokens that share all ancestors outside the block.  A block attends to that path
without any mask, and to itself under the rule `k <= q < end[k]`.  So a token costs the length of its path plus one block, never
the square of the pack.

A trunk P of two tokens, below it a with its children b and c, and d; with blocks of three tokens at most:

    token  P0 P1 a  b  c  d        blocks   P0 P1     path none, causal among themselves
    end     6  6  5  4  5  6                a b c     path [0, 2), seen by all three without a mask; b sees a, c sees a and not b
                                            d         path [0, 2)

The backward pass computes the probabilities again from the log-normaliser.  [after FlashAttention-2,
arXiv 2307.08691, section 3.1]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sojourn.engine.attention import attend, bias_of, sink
from sojourn.learner.batch import Positions, TreeBatch

BLOCK = 192
"""Tokens of a block at most.  Larger blocks mean fewer calls and more masked-out work."""


@dataclass(frozen=True, slots=True)
class Block:
    """Tokens [start, stop) and the ranges of their common ancestors outside, root first."""

    start: int
    stop: int
    path: tuple[tuple[int, int], ...]


def blocks(end: Positions, size: int = BLOCK) -> list[Block]:
    """Cut a depth-first row, given the subtree ends (N,), into blocks of at most `size` tokens."""
    result: list[Block] = []
    stack: list[tuple[int, int, tuple[tuple[int, int], ...]]] = [(0, len(end), ())]
    while stack:
        start, stop, path = stack.pop()
        while start < stop:
            last = start
            while last < stop and end[last] - start <= size:  # whole sibling subtrees while they fit
                last = int(end[last])
            if last > start:
                result.append(Block(start, last, path))
            else:  # one subtree is too large: its trunk is a block, its branches follow
                last = start + 1
                while last - start < size and last < end[start] and end[last] == end[start]:
                    last += 1
                result.append(Block(start, last, path))
                stack.append((last, int(end[start]), _join(path, (start, last))))
                last = int(end[start])
            start = last
    return sorted(result, key=lambda block: block.start)


def _join(path: tuple[tuple[int, int], ...], last: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """`path` and then `last`, as one range where they touch."""
    if path and path[-1][1] == last[0]:
        return (*path[:-1], (path[-1][0], last[1]))
    return (*path, last)


class TreePlan:
    """The attention of one forward and backward pass over a TreeBatch."""

    def __init__(self, batch: TreeBatch, group: int, windows: list[int | None], dtype: torch.dtype) -> None:
        self.blocks = blocks(batch.end)
        self.group = group
        self._bias = {w: [_bias(batch, block, w, group, dtype) for block in self.blocks] for w in windows}

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float,
        window: int | None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """See `engine.attention.Plan`."""
        out, lse = _TreeAttention.apply(query, key, value, self.blocks, self._bias[window], self.group, scale, window is not None)
        return out if sinks is None else sink(out, lse.T, sinks)


def _bias(batch: TreeBatch, block: Block, window: int | None, group: int, dtype: torch.dtype) -> Tensor:
    """(group * n, path + n): 0 where visible, -inf where not."""
    keys = np.concatenate([np.arange(a, b) for a, b in (*block.path, (block.start, block.stop))])
    queries = np.arange(block.start, block.stop)[:, None]
    visible = (keys <= queries) & (queries < batch.end[keys])
    if window is not None:
        visible &= batch.position[queries] - batch.position[keys] < window
    return bias_of(torch.from_numpy(visible), dtype).repeat(group, 1)


def _gather(tensor: Tensor, block: Block) -> Tensor:
    """Keys or values (kv_heads, L, d) that the block sees."""
    if not block.path:
        return tensor[:, block.start : block.stop]
    return torch.cat([tensor[:, a:b] for a, b in (*block.path, (block.start, block.stop))], 1)


def _scatter(gradient: Tensor, part: Tensor, block: Block) -> None:
    at = 0
    for a, b in (*block.path, (block.start, block.stop)):
        gradient[:, a:b] += part[:, at : at + b - a]
        at += b - a


class _TreeAttention(torch.autograd.Function):
    """query (heads, N, d), key and value (kv_heads, N, d) -> (N, heads, d) and the log-normalisers (heads, N), float32; heads that share a
    key head lie side by side."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cut: list[Block],
        bias: list[Tensor],
        group: int,
        scale: float,
        windowed: bool,
    ) -> tuple[Tensor, Tensor]:
        heads, tokens, dim = query.shape
        grouped = query.unflatten(0, (heads // group, group))
        out = torch.empty(heads // group, group, tokens, dim, dtype=query.dtype, device=query.device)
        lse = torch.empty(heads // group, group, tokens, dtype=torch.float32, device=query.device)
        for block, mask in zip(cut, bias, strict=True):
            span = slice(block.start, block.stop)
            rows = grouped[:, :, span].flatten(1, 2)[None]
            part, norm = attend(rows, _gather(key, block)[None], _gather(value, block)[None], scale, mask)
            out[:, :, span] = part[0].unflatten(1, (group, -1))
            lse[:, :, span] = norm[0].unflatten(1, (group, -1))
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.cut, ctx.bias, ctx.group, ctx.scale, ctx.windowed = cut, bias, group, scale, windowed
        ctx.set_materialize_grads(False)  # most models have no sinks, and then the log-normalisers get no gradient
        return out.flatten(0, 1).transpose(0, 1), lse.flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_lse: Tensor | None) -> tuple[Tensor | None, ...]:
        query, key, value, out, lse = ctx.saved_tensors
        group, scale, windowed, dim = ctx.group, ctx.scale, ctx.windowed, query.shape[-1]
        grad = grad.transpose(0, 1).unflatten(0, (-1, group))
        delta = (grad * out).sum(-1, dtype=torch.float32)
        if grad_lse is not None:  # d lse / d score is the probability, so it joins what is taken off before multiplying with it
            delta = delta - grad_lse.unflatten(0, (-1, group))
        query = _less((query * scale).unflatten(0, (-1, group)), lse)
        above = _less(grad, delta)
        ones = key.new_ones(*key.shape[:2], 2)
        key, value = torch.cat([key, ones], -1), torch.cat([value, ones], -1)
        d_query = torch.empty_like(out)
        d_key, d_value = torch.zeros_like(out[:, 0]), torch.zeros_like(out[:, 0])
        for block, mask in zip(ctx.cut, ctx.bias, strict=True):
            span = slice(block.start, block.stop)
            first = 0 if windowed else mask.shape[1] - (block.stop - block.start)  # what lies before is seen by all
            rows, keys, upper = query[:, :, span].flatten(1, 2), _gather(key, block), above[:, :, span].flatten(1, 2)
            p = rows @ keys.transpose(1, 2)
            p[..., first:] += mask[:, first:]
            p.exp_()
            _scatter(d_value, p.transpose(1, 2) @ upper[..., :dim], block)
            d_score = (upper @ _gather(value, block).transpose(1, 2)).mul_(p)
            d_query[:, :, span] = (d_score @ keys[..., :dim]).unflatten(1, (group, -1))
            _scatter(d_key, d_score.transpose(1, 2) @ rows[..., :dim], block)
        return d_query.mul_(scale).flatten(0, 1), d_key, d_value, None, None, None, None, None


def _less(rows: Tensor, number: Tensor) -> Tensor:
    """(..., d + 2): `rows` such that their product with vectors that end in (1, 1) is less by `number` (...), float32.  The product
    adds in float32 whatever its precision is, so the number is given as two of its precision."""
    high = number.to(rows.dtype)
    return torch.cat([rows, -torch.stack([high, (number - high).to(rows.dtype)], -1)], -1)
