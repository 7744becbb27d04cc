"""The KV cache: shared segments and private slots.

A *segment* holds the keys and values of tokens that are part of the prefix of several contexts (a system prompt): stored once, attended
once for all.  A *slot* is one running context: a chain of segments, and after it a private stretch in a static buffer that grows as
tokens come and stays across turns.  Reuse goes by token ids: what matches is never computed again, so the branches of a trajectory tree
share their past without naming it.

Five contexts about two questions; the first three have said and heard the same in their first turn:

    system prompt --+-- question A -- turn 1, result --+-- slot 0: "Pa"
      (segment)     |    (segment)       (segment)     +-- slot 1: "The"
                    |                                  +-- slot 2: "Par"
                    +-- question B --+-- slot 3: "I do"
                         (segment)   +-- slot 4: "I will look"

Turn 1 of slots 0 to 2 was sampled in each of them, as private keys and values.  When the three ask for their second turn, one of them
is copied into a segment, which the new tokens of the result are then computed into (`new_segment`), and the three go on from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

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
    """Tokens [start, start + n) of every context that has `path` as a prefix.  keys[layer], values[layer]: (kv_heads, n, d).
    used: when a slot was last put on it.  children: the segments that go on from here; several may start alike.
    filled: whether its part of the KV cache is there; before, nothing may be copied from it, and who stands on it waits."""

    path: Ints
    start: int
    parent: Segment | None
    keys: Tensor
    values: Tensor
    used: int = 0
    filled: bool = False
    children: list[Segment] = field(default_factory=list)

    @classmethod
    def empty(cls, shape: Shape, path: Ints, parent: Segment | None = None) -> Segment:
        """For the end of `path` after `parent`, still to be computed."""
        start = len(parent.path) if parent else 0
        size = (shape.layers, shape.kv_heads, len(path) - start, shape.dim)
        keys, values = (torch.empty(size, dtype=shape.dtype, device=shape.device) for _ in range(2))
        return cls(path, start, parent, keys, values)

    def __len__(self) -> int:
        return len(self.path) - self.start


@dataclass(eq=False, slots=True)
class Slot:
    """One context in the cache: `ids[:length]` are its tokens whose keys and values are here, base included."""

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
    """How much of a request is stored: `length` tokens, of which those after `base` are the first of `source`'s own, if it is given."""

    length: int
    base: Segment | None
    source: Slot | Segment | None


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
    shared_tokens: segments hold no more than this, by LRU eviction; what was evicted is computed again when it is wanted again.
    """

    def __init__(self, shape: Shape, slots: int, max_context: int, *, shared_tokens: int = 1 << 16, capacity: int = 128) -> None:
        self.shape = shape
        self.shared_tokens = shared_tokens
        self.max_context = max_context
        self._ids = np.zeros((slots, max_context), np.int64)
        self.slots = [Slot(i, self._ids[i]) for i in range(slots)]
        self.segments: list[Segment] = []
        self._roots: list[Segment] = []
        self.keys = self._buffer(min(capacity, max_context))
        self.values = self._buffer(min(capacity, max_context))
        self._clock = 0

    @property
    def free(self) -> int:
        """How many slots are idle."""
        return sum(not slot.busy for slot in self.slots)

    def clear(self) -> None:
        """Forget everything: the weights have changed."""
        assert self.free == len(self.slots), "no request runs while the weights change"
        self.segments.clear()
        self._roots.clear()
        for slot in self.slots:
            slot.length, slot.base, slot.used = 0, None, 0

    def match(self, tokens: Ints) -> Match:
        """The longest stored prefix of `tokens` that leaves at least one token to compute.  Of equal ones whole segments are preferred,
        then idle slots."""
        best = self._in_segments(tokens[:-1])
        for slot, length in zip(self.slots, self._agreeing(tokens[:-1]), strict=True):
            free = not isinstance(best.source, Slot) or best.source.busy
            tie = length == best.length and best.source is not None and free and not slot.busy
            if length > slot.start and (length > best.length or tie):
                best = Match(length, slot.base, slot)
        return best

    def _in_segments(self, tokens: Ints) -> Match:
        """The longest prefix of `tokens` that segments hold: whole ones, perhaps after them the first tokens of another."""
        best, level = Match(0, None, None), self._roots
        while level:
            whole: list[Segment] = []
            for segment in level:
                if segment.start >= len(tokens) or segment.path[segment.start] != tokens[segment.start]:
                    continue
                length = segment.start + common_prefix(segment.path[segment.start :], tokens[segment.start :])
                if length == len(segment.path):
                    whole.append(segment)
                    if length >= best.length:
                        best = Match(length, segment, None)
                elif length > best.length and segment.filled:  # what the next step computes cannot be copied before it
                    best = Match(length, segment.parent, segment)
            level = [child for segment in whole for child in segment.children]
        return best

    def new_segment(self, path: Ints, match: Match) -> Segment:
        """A segment for the end of `path`, of which `match` is stored already: what the matched source has of its own is copied, and
        `path[match.length:]` is still to be computed.

        With a slot on segments of 100 tokens that holds 130, and a path of 170 tokens, the segment is [100, 170): 30 tokens copied, 40 to
        compute.
        """
        segment = Segment.empty(self.shape, path, match.base)
        if match.source is not None:
            self._copy(match, segment.keys, segment.values)
        segment.used = self._clock
        self.segments.append(segment)
        (match.base.children if match.base else self._roots).append(segment)
        return segment

    def claim(self, match: Match, tokens: Ints, share: int) -> Slot:
        """A slot that holds the matched prefix of `tokens`.  One must be idle.

        An idle slot that ends with the match goes on as it is; else the matching private keys and values are copied from wherever
        they are (busy or not: the past of a context never changes).  Segments shorter than `share` at the end of the chain become
        private: attending them apart would cost more than it saves.
        """
        self._clock += 1
        source = match.source
        if isinstance(source, Slot) and not source.busy and source.length == match.length:
            slot = source
        else:
            slot = self._idle(tokens[: match.length], source)
            if source is None:
                self._begin(slot, match.base, share)
            else:
                slot.set(tokens[: match.length], match.base)
                self.reserve(match.length - slot.start)
                self._copy(match, self.keys[:, slot.index], self.values[:, slot.index])
        slot.busy, slot.used = True, self._clock
        for segment in chain(slot.base):
            segment.used = self._clock
        return slot

    def copy(self, slot: Slot) -> Slot:
        """Another slot with the context of this one, for requests that go on apart.  One must be idle."""
        return self.claim(Match(slot.length, slot.base, slot), slot.tokens, 0)

    def _idle(self, tokens: Ints, source: Slot | Segment | None) -> Slot:
        """The idle slot that is missed least by others when it holds `tokens`: one whose content they contain (a sibling that said the
        same), an empty one, the least recently used one."""
        agreeing = self._agreeing(tokens)
        idle = [slot for slot in self.slots if not slot.busy]
        return min(idle, key=lambda s: (s is source, agreeing[s.index] < s.length, s.length == 0, s.used, s.index))

    def _agreeing(self, tokens: Ints) -> list[int]:
        """For each slot, how many of its first tokens are those of `tokens`."""
        if not len(tokens):
            return [0] * len(self.slots)
        differ = self._ids[:, : len(tokens)] != tokens
        equal = np.where(differ.any(1), differ.argmax(1), len(tokens)).tolist()
        return [min(n, slot.length) for n, slot in zip(equal, self.slots, strict=True)]

    def evict(self, wanted: Sequence[Ints]) -> None:
        """Drop segments until the rest fits `shared_tokens`, with the idle contexts that stand on them.  What running contexts and the
        `wanted` ones stand on stays, even if that is more."""
        excess = sum(map(len, self.segments)) - self.shared_tokens
        if excess <= 0:
            return
        ends = [slot.base for slot in self.slots if slot.busy] + [self.match(tokens).base for tokens in wanted]
        kept = {id(segment) for end in ends for segment in chain(end)}
        for segment in sorted(self.segments, key=lambda s: (s.used, -s.start)):  # those that stand on others first
            if excess <= 0:
                break
            if id(segment) in kept or segment.children:
                continue
            self.segments.remove(segment)
            (segment.parent.children if segment.parent else self._roots).remove(segment)
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

    def _copy(self, match: Match, keys: Tensor, values: Tensor) -> None:
        """What the match's source has of it into the first places of keys and values (layers, kv_heads, capacity, d)."""
        source = match.source
        assert source is not None, "only what has a source is copied"
        n = match.length - source.start
        if isinstance(source, Slot):
            own = self.keys[:, source.index], self.values[:, source.index]
        else:
            own = source.keys, source.values
        keys[:, :, :n], values[:, :, :n] = own[0][:, :, :n], own[1][:, :, :n]

    def _buffer(self, capacity: int) -> Tensor:
        s = self.shape
        return torch.zeros(s.layers, len(self.slots), s.kv_heads, capacity, s.dim, dtype=s.dtype, device=s.device)
