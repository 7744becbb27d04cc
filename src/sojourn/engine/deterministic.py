"""Attention whose every bit is the same, whoever else is in the batch and whatever is stored.

Matrix products of different shapes round differently.  So in deterministic mode a token is computed with the `CHUNK` aligned
positions around it and nothing else, over keys up to the end of that chunk: every shape is a function of its position alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sojourn.engine.attention import attend, bias_of, sink
from sojourn.engine.cache import Cache, Slot
from sojourn.engine.plan import may_see

CHUNK = 16
"""Positions computed together.  Raising it makes prefill faster and decoding slower."""


class FixedPlan:
    """The tokens at positions [first, first + CHUNK) of `slot`, which has no shared base; see `EnginePlan`."""

    def __init__(self, cache: Cache, slot: Slot, first: int, group: int, windows: Sequence[int | None]) -> None:
        self.cache, self.slot, self.first, self.group = cache, slot, first, group
        query, key = torch.arange(first, first + CHUNK)[:, None], torch.arange(first + CHUNK)[None]
        self._bias = {
            w: bias_of(may_see(query, key, w).repeat_interleave(group, 0), cache.shape.dtype)[None, None] for w in windows
        }

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
        end = self.first + CHUNK
        keys, values = self.cache.keys[layer, self.slot.index], self.cache.values[layer, self.slot.index]
        keys[:, self.first : end], values[:, self.first : end] = key, value
        grouped = query.unflatten(0, (-1, self.group)).transpose(1, 2).flatten(1, 2)[None]
        out, lse = attend(
            grouped, keys[None, :, :end].contiguous(), values[None, :, :end].contiguous(), scale, self._bias[window]
        )
        if sinks is not None:
            out = sink(out, lse, sinks.view(-1, self.group).repeat(1, CHUNK))
        rows: Tensor = out[0].unflatten(1, (CHUNK, self.group))
        return rows.transpose(0, 1).flatten(1, 2)
