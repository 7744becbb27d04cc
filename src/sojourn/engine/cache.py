"""Keys and values of contexts: shared segments and private slots.

A *segment* holds the keys and values of tokens that several contexts begin with (a system prompt): stored once, attended once for
all.  A *slot* is one running context: a chain of segments, and after it a private stretch in a static buffer that grows as tokens
come and stays across turns.  Reuse goes by token ids: what matches is never computed again, so the branches of a trajectory tree
share their past without naming it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from sojourn.core import Ints


@dataclass(frozen=True, slots=True)
class Shape:
    """What one token's keys and values take: layers x 2 x kv_heads x dim."""

    layers: int
    kv_heads: int
    dim: int
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, model: PreTrainedModel) -> Shape:
        config = model.config.get_text_config()
        heads = config.num_attention_heads
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        return cls(config.num_hidden_layers, kv_heads, dim, model.dtype, model.device)


@dataclass(eq=False, slots=True)
class Segment:
    """Tokens [start, start + n) of every context that begins with `path`.  keys[layer], values[layer]: (kv_heads, n, d).
    used: when a slot last began with it."""

    path: Ints
    start: int
    parent: Segment | None
    keys: Tensor
    values: Tensor
    used: int

    def __len__(self) -> int:
        return len(self.path) - self.start


@dataclass(eq=False, slots=True)
class Slot:
    """One context in the store: `ids[:length]` are its tokens whose keys and values are here, base included."""

    index: int
    ids: Ints
    length: int = 0
    base: Segment | None = None
    busy: bool = False
    used: int = 0

    @property
    def tokens(self) -> Ints:
        return self.ids[: self.length]

    @property
    def start(self) -> int:
        """Position of the first private token."""
        return len(self.base.path) if self.base else 0

    def set(self, tokens: Ints, base: Segment | None) -> None:
        self.length, self.base = len(tokens), base
        self.ids[: self.length] = tokens

    def extend(self, ids: Ints) -> None:
        self.ids[self.length : self.length + len(ids)] = ids
        self.length += len(ids)


@dataclass(frozen=True, slots=True)
class Match:
    """How much of a request is stored: `length` tokens, in `source`'s slot if given, else in the segments down to `base`."""

    length: int
    base: Segment | None
    source: Slot | None


def chain(segment: Segment | None) -> list[Segment]:
    """The segments from the root down to `segment`."""
    segments = []
    while segment is not None:
        segments.append(segment)
        segment = segment.parent
    return segments[::-1]


def common_prefix(a: Ints, b: Ints) -> int:
    """How many leading ids are equal."""
    n = min(len(a), len(b))
    differ = np.flatnonzero(a[:n] != b[:n])
    return int(differ[0]) if len(differ) else n


class Cache:
    """All segments and slots of one engine.

    keys, values: (layers, slots, kv_heads, capacity, d); the capacity doubles when a private stretch outgrows it.
    shared_tokens: segments hold no more than this; what was not used for the longest time goes first, and is computed again when
    it is wanted again.
    """

    def __init__(self, shape: Shape, slots: int, max_context: int, *, shared_tokens: int = 1 << 16, capacity: int = 128) -> None:
        self.shape = shape
        self.shared_tokens = shared_tokens
        self.max_context = max_context
        self.slots = [Slot(i, np.zeros(max_context, np.int64)) for i in range(slots)]
        self.segments: list[Segment] = []
        self.keys = self._buffer(min(capacity, max_context))
        self.values = self._buffer(min(capacity, max_context))
        self._clock = 0

    def clear(self) -> None:
        """Forget everything: the weights have changed."""
        assert not any(slot.busy for slot in self.slots), "no request runs while the weights change"
        self.segments.clear()
        for slot in self.slots:
            slot.length, slot.base, slot.used = 0, None, 0

    def match(self, tokens: Ints) -> Match:
        """The longest stored beginning of `tokens` that leaves at least one token to compute; an idle slot is preferred."""
        base = self.segment_for(tokens[:-1])
        best = Match(len(base.path) if base else 0, base, None)
        for slot in self.slots:
            if slot.length < best.length or slot.length <= slot.start:
                continue
            length = min(common_prefix(slot.tokens, tokens), len(tokens) - 1)
            tie = length == best.length and best.source is not None and best.source.busy and not slot.busy
            if length > slot.start and (length > best.length or tie):
                best = Match(length, slot.base, slot)
        return best

    def segment_for(self, tokens: Ints) -> Segment | None:
        """The longest segment whose whole path `tokens` begins with."""
        best = None
        for segment in self.segments:
            n = len(segment.path)
            if n <= len(tokens) and (best is None or n > len(best.path)) and np.array_equal(segment.path, tokens[:n]):
                best = segment
        return best

    def new_segment(self, path: Ints, parent: Segment | None) -> Segment:
        """A segment for the end of `path` after `parent`, still to be filled."""
        start = len(parent.path) if parent else 0
        shape = (self.shape.layers, self.shape.kv_heads, len(path) - start, self.shape.dim)
        keys, values = (torch.empty(shape, dtype=self.shape.dtype, device=self.shape.device) for _ in range(2))
        segment = Segment(path, start, parent, keys, values, self._clock)
        self.segments.append(segment)
        return segment

    def claim(self, match: Match, share: int) -> Slot:
        """A slot that holds the matched tokens.  One must be idle.

        An idle slot that ends with the match goes on as it is; else the matching private keys and values are copied from wherever
        they are (busy or not: the past of a context never changes).  Segments shorter than `share` at the end of the chain become
        private: attending them apart would cost more than it saves.
        """
        self._clock += 1
        source = match.source
        if source is not None and not source.busy and source.length == match.length:
            slot = source
        else:
            idle = [slot for slot in self.slots if not slot.busy]
            slot = min(idle, key=lambda s: (s is source, s.length > 0, s.used, s.index))
            if source is not None:
                self._copy(source, slot, match.length)
            else:
                self._begin(slot, match.base, share)
        slot.busy, slot.used = True, self._clock
        for segment in chain(slot.base):
            segment.used = self._clock
        return slot

    def evict(self, wanted: Sequence[Match]) -> None:
        """Drop segments until the rest fits `shared_tokens`, with the idle contexts that begin with them.  What running contexts and
        `wanted` matches stand on stays, even if that is more."""
        excess = sum(map(len, self.segments)) - self.shared_tokens
        if excess <= 0:
            return
        ends = [slot.base for slot in self.slots if slot.busy] + [m.source.base if m.source else m.base for m in wanted]
        kept = {id(segment) for end in ends for segment in chain(end)}
        for segment in sorted(self.segments, key=lambda s: (s.used, -s.start)):  # those that stand on others first
            if excess <= 0:
                break
            if id(segment) in kept or any(other.parent is segment for other in self.segments):
                continue
            self.segments.remove(segment)
            excess -= len(segment)
            for slot in self.slots:
                if slot.base is segment:
                    slot.length, slot.base, slot.used = 0, None, 0

    def reserve(self, length: int) -> None:
        """Make room for private stretches of `length` tokens."""
        old = self.keys.shape[3]
        if length <= old:
            return
        for name in ("keys", "values"):
            grown = self._buffer(min(self.max_context, max(length, 2 * old)))
            grown[:, :, :, :old] = getattr(self, name)
            setattr(self, name, grown)

    def _begin(self, slot: Slot, segment: Segment | None, share: int) -> None:
        tail: list[Segment] = []
        base = segment
        while base is not None and len(base) < share:
            tail.insert(0, base)
            base = base.parent
        slot.set(segment.path if segment else np.zeros(0, np.int64), base)
        self.reserve(sum(map(len, tail)))
        at = 0
        for short in tail:
            self.keys[:, slot.index, :, at : at + len(short)] = short.keys
            self.values[:, slot.index, :, at : at + len(short)] = short.values
            at += len(short)

    def _copy(self, source: Slot, target: Slot, length: int) -> None:
        target.set(source.ids[:length], source.base)
        n = length - source.start
        self.keys[:, target.index, :, :n] = self.keys[:, source.index, :, :n]
        self.values[:, target.index, :, :n] = self.values[:, source.index, :, :n]

    def _buffer(self, capacity: int) -> Tensor:
        s = self.shape
        return torch.zeros(s.layers, len(self.slots), s.kv_heads, capacity, s.dim, dtype=s.dtype, device=s.device)
