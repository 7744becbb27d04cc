"""How the tokens of one engine step attend.

A step runs the new tokens of many contexts as one flat row.  Each *piece* of it belongs to a slot or to a segment that is being
filled.  In every layer the plan first stores the new keys and values, then attends: the private stretches of all short pieces in
one batch, each shared segment once for all contexts that have it as a prefix, and joins the parts by their log-normalisers.

A step that fills a segment S of three tokens for contexts that wait, decodes one token of slots 0 and 1, which stand on segment P, and
prefills two tokens of slot 2, which stands on nothing:

    flat row      s0 s1 s2 | a | b | c0 c1
    piece         filling S | slot 0 | slot 1 | slot 2        (owner, first in the row, count, position of its first token)
    attends to    S so far | slot 0's own keys and P | slot 1's own keys and P | slot 2's own keys so far

    private part: a, b, and c0 c1, each over the own keys of its slot         -> out, log-normaliser
    shared part:  a and b together over P, whose keys are read once for both  -> out, log-normaliser
    joined:       softmax over both sets of keys, as if they had been one (`attention.merge`)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from sojourn.engine.attention import attend, bias_of, merge, sink
from sojourn.engine.cache import Cache, Segment, Slot, chain
from sojourn.engine.native import fits, kernels

LONG = 48
"""A piece longer than this is attended alone: padding others to its length would cost more."""


Owner = TypeVar("Owner", Slot, Segment)


@dataclass(frozen=True, slots=True)
class Piece(Generic[Owner]):
    """Tokens [first, first + count) of the flat row: positions [past, past + count) of `owner`."""

    owner: Owner
    first: int
    count: int
    past: int


@dataclass(frozen=True, slots=True)
class _Single:
    """Slot pieces of one token, for the kernel.  flat: where they are in the flat row.  slot: their slots.  start, stop: which private
    tokens they see, itself included; the start for each window."""

    flat: Tensor
    slot: Tensor
    start: dict[int | None, Tensor]
    stop: Tensor

    @classmethod
    def of(cls, pieces: Sequence[Piece[Slot]], windows: Sequence[int | None]) -> _Single:
        ends = [p.past + 1 - p.owner.start for p in pieces]
        starts = {w: [0 if w is None else max(0, end - w) for end in ends] for w in windows}
        return cls(
            torch.tensor([p.first for p in pieces]),
            torch.tensor([p.owner.index for p in pieces]),
            {window: torch.tensor(start) for window, start in starts.items()},
            torch.tensor(ends),
        )


@dataclass(slots=True)
class _Bucket:
    """Short slot pieces, padded to `width` tokens.  slots: those attended, `dense` if they are the first ones; straight: the flat
    row is one token of each, in their order; flat: their tokens in the flat row; row, column: where each token sits in the padded
    block; bias: (rows, 1, width * heads per key head, private length)."""

    slots: Tensor
    dense: bool
    straight: bool
    width: int
    length: int
    flat: Tensor
    row: Tensor
    column: Tensor
    bias: dict[int | None, Tensor]


class EnginePlan:
    """One step's attention over `cache` for `pieces`; `group` query heads share a key head; `windows` are the sliding windows that
    the model's layers use (None for full attention)."""

    def __init__(
        self,
        cache: Cache,
        slots: Sequence[Piece[Slot]],
        filling: Sequence[Piece[Segment]],
        group: int,
        windows: Sequence[int | None],
    ) -> None:
        self.cache = cache
        self.group = group
        self.windows = windows
        self.filling = filling
        self._causal: dict[tuple[int, int | None], Tensor] = {}
        self.long = [p for p in slots if p.count > LONG]
        short = [p for p in slots if p.count <= LONG]
        one, more = [p for p in short if p.count == 1], [p for p in short if p.count > 1]
        shape = cache.shape
        self.kernels = kernels(shape.dtype) if shape.device.type == "cpu" and fits(group, shape.dim) else None
        self.single = _Single.of(one, windows) if self.kernels and one else None
        self.buckets = [self._bucket(chosen) for chosen in (() if self.kernels else one, more) if chosen]
        self.shared = self._shared(short)
        self.stored = torch.tensor([i for p in slots for i in range(p.first, p.first + p.count)], dtype=torch.long)
        self.store_slot = torch.tensor([p.owner.index for p in slots for _ in range(p.count)], dtype=torch.long)
        self.store_at = torch.tensor(
            [i - p.owner.start for p in slots for i in range(p.past, p.past + p.count)], dtype=torch.long
        )

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
        self._store(layer, key, value)
        kv_heads, tokens, dim = key.shape
        grouped = query.view(kv_heads, self.group, tokens, dim).permute(2, 0, 1, 3)
        out: Tensor = query.new_empty(tokens, kv_heads, self.group, dim)
        lse = torch.empty(tokens, kv_heads, self.group, dtype=torch.float32)
        for filled in self.filling:
            span, segment = slice(filled.first, filled.first + filled.count), filled.owner
            past = [*chain(segment.parent), segment]
            parts = [s.keys[layer] for s in past], [s.values[layer] for s in past]
            out[span], lse[span] = self._attend_alone(parts, filled, grouped[span], scale, window)
        for piece in self.long:
            span, slot, n = (
                slice(piece.first, piece.first + piece.count),
                piece.owner,
                piece.past + piece.count - piece.owner.start,
            )
            past = chain(slot.base)
            parts = (
                [*(s.keys[layer] for s in past), self.cache.keys[layer, slot.index, :, :n]],
                [*(s.values[layer] for s in past), self.cache.values[layer, slot.index, :, :n]],
            )
            out[span], lse[span] = self._attend_alone(parts, piece, grouped[span], scale, window)
        if self.kernels and self.single:
            place, keys, values = self.single, self.cache.keys[layer], self.cache.values[layer]
            whole = len(place.flat) == tokens
            rows = grouped if whole else grouped[place.flat]
            part = self.kernels.attend(rows, keys, values, place.slot, place.start[window], place.stop, scale)
            if whole:
                out, lse = part
            else:
                out[place.flat], lse[place.flat] = part
        for bucket in self.buckets:
            part = self._attend_private(layer, bucket, grouped, scale, window)
            if len(bucket.flat) == tokens:
                out, lse = (each.contiguous() for each in part)
            else:
                out[bucket.flat], lse[bucket.flat] = part
        for segment, flat, biases in self.shared:
            if self.kernels and window not in biases:
                self.kernels.attend_shared(grouped, segment.keys[layer], segment.values[layer], flat, out, lse, scale)
                continue
            part = self._attend_shared(layer, segment, grouped, flat, scale, biases.get(window))
            if len(flat) == tokens:
                out, lse = merge((out, lse), part)
            else:
                out[flat], lse[flat] = merge((out[flat], lse[flat]), part)
        if sinks is not None:
            out = sink(out, lse, sinks.view(kv_heads, self.group))
        return out.reshape(tokens, kv_heads * self.group, dim)

    def _store(self, layer: int, key: Tensor, value: Tensor) -> None:
        cache = self.cache
        for piece in self.filling:
            span, at = slice(piece.first, piece.first + piece.count), piece.past - piece.owner.start
            piece.owner.keys[layer][:, at:] = key[:, span]
            piece.owner.values[layer][:, at:] = value[:, span]
        if len(self.stored):
            whole = len(self.stored) == key.shape[1]
            for buffer, new in ((cache.keys, key), (cache.values, value)):
                new = new if whole else new[:, self.stored]
                if self.kernels:
                    self.kernels.store(new, buffer[layer], self.store_slot, self.store_at)
                    continue
                buffer[layer][self.store_slot, :, self.store_at] = new.transpose(0, 1)

    def _attend_alone(
        self,
        parts: tuple[list[Tensor], list[Tensor]],
        piece: Piece[Slot] | Piece[Segment],
        query: Tensor,
        scale: float,
        window: int | None,
    ) -> tuple[Tensor, Tensor]:
        """A long piece or a segment: query (n, kv_heads, group, d) over all keys and values up to its end, given in parts."""
        n, kv_heads, group, dim = query.shape
        if (piece.first, window) not in self._causal:  # all layers have the same
            position = torch.arange(piece.past, piece.past + n)
            visible = may_see(position[:, None], torch.arange(piece.past + n)[None], window)
            self._causal[piece.first, window] = bias_of(visible.repeat_interleave(self.group, 0), query.dtype)[None, None]
        flat = query.permute(1, 0, 2, 3).reshape(1, kv_heads, n * group, dim)
        keys, values = (torch.cat(each, 1)[None] for each in parts)
        out, lse = attend(flat, keys, values, scale, self._causal[piece.first, window])
        return out.view(kv_heads, n, group, dim).permute(1, 0, 2, 3), lse.view(kv_heads, n, group).permute(1, 0, 2)

    def _attend_private(
        self, layer: int, bucket: _Bucket, grouped: Tensor, scale: float, window: int | None
    ) -> tuple[Tensor, Tensor]:
        _, kv_heads, group, dim = grouped.shape
        keys, values = self.cache.keys[layer, :, :, : bucket.length], self.cache.values[layer, :, :, : bucket.length]
        if bucket.dense:
            keys, values = keys[: len(bucket.slots)], values[: len(bucket.slots)]
        else:
            keys, values = keys[bucket.slots], values[bucket.slots]
        if bucket.straight:
            return attend(grouped[: len(bucket.flat)], keys, values, scale, bucket.bias[window])
        query = torch.zeros(len(bucket.slots), kv_heads, bucket.width, group, dim, dtype=grouped.dtype)
        query[bucket.row, :, bucket.column] = grouped[bucket.flat]
        out, lse = attend(query.flatten(2, 3), keys, values, scale, bucket.bias[window])
        return (
            out.unflatten(2, (bucket.width, group))[bucket.row, :, bucket.column],
            lse.unflatten(2, (bucket.width, group))[bucket.row, :, bucket.column],
        )

    def _attend_shared(
        self, layer: int, segment: Segment, grouped: Tensor, flat: Tensor, scale: float, bias: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        whole = len(flat) == len(grouped)
        query = grouped if whole else grouped[flat]
        n, kv_heads, group, dim = query.shape
        query = query.permute(1, 0, 2, 3).reshape(1, kv_heads, n * group, dim)
        out, lse = attend(query, segment.keys[layer][None], segment.values[layer][None], scale, bias[0] if bias else None)
        if bias:
            lse = lse.masked_fill(bias[1], -torch.inf)
        return out.view(kv_heads, n, group, dim).permute(1, 0, 2, 3), lse.view(kv_heads, n, group).permute(1, 0, 2)

    def _bucket(self, pieces: Sequence[Piece[Slot]]) -> _Bucket:
        highest = max(p.owner.index for p in pieces) + 1
        width = max(p.count for p in pieces)
        dense = width == 1 and 2 * len(pieces) >= highest
        slots = list(range(highest)) if dense else [p.owner.index for p in pieces]
        row_of = {slot: row for row, slot in enumerate(slots)}
        length = max(p.past + p.count - p.owner.start for p in pieces)
        start = torch.zeros(len(slots), dtype=torch.long)
        position = torch.zeros(len(slots), width, dtype=torch.long)  # idle rows and padding see position 0 only
        flat: list[int] = []
        row: list[int] = []
        column: list[int] = []
        for p in pieces:
            r = row_of[p.owner.index]
            start[r] = p.owner.start
            position[r] = p.past
            position[r, : p.count] = torch.arange(p.past, p.past + p.count)
            flat += range(p.first, p.first + p.count)
            row += [r] * p.count
            column += range(p.count)
        biases = {}
        for window in self.windows:
            visible = may_see(position[:, :, None], start[:, None, None] + torch.arange(length), window)
            biases[window] = bias_of(visible.repeat_interleave(self.group, 1), self.cache.shape.dtype)[:, None]
        places = torch.tensor([flat, row, column])
        straight = dense and row == flat == list(range(len(slots)))
        return _Bucket(torch.tensor(slots), dense, straight, width, length, places[0], places[1], places[2], biases)

    def _shared(self, pieces: Sequence[Piece[Slot]]) -> list[tuple[Segment, Tensor, dict[int | None, tuple[Tensor, Tensor]]]]:
        """For each shared segment: the flat tokens that see it, and for windows that cut it, the bias and which rows it empties."""
        users: dict[int, list[Piece[Slot]]] = defaultdict(list)
        segments: dict[int, Segment] = {}
        for piece in pieces:
            for segment in chain(piece.owner.base):
                segments[id(segment)] = segment
                users[id(segment)].append(piece)
        result = []
        for key, segment in segments.items():
            flat = torch.tensor([i for p in users[key] for i in range(p.first, p.first + p.count)])
            position = torch.tensor([i for p in users[key] for i in range(p.past, p.past + p.count)])
            biases: dict[int | None, tuple[Tensor, Tensor]] = {}
            for window in self.windows:
                if window is not None and int(position.max()) - window >= segment.start:
                    keys = torch.arange(segment.start, len(segment.path))
                    visible = may_see(position[:, None], keys[None], window).repeat_interleave(self.group, 0)
                    biases[window] = (bias_of(visible, self.cache.shape.dtype)[None, None], ~visible.any(1))
            result.append((segment, flat, biases))
        return result


def may_see(query: Tensor, key: Tensor, window: int | None) -> Tensor:
    """Causal, and within the sliding window: `key` may be seen from `query` (positions)."""
    return (key <= query) if window is None else (key <= query) & (key > query - window)
