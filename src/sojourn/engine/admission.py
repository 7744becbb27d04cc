"""Who joins the running batch, and which prefixes are computed once for several of them.

Prompts that wait form a trie.  Where at least two go on alike for `COMPUTE_ONCE` tokens that are stored nowhere, these become a segment,
which the next step fills; the requests wait for that one step and then go on from the segment.  It makes no difference whether the
requests are the first turn of a group or the fifth turn of siblings that have said the same so far:

    stored:   slot 0: P Q a b      slot 1: P Q a b      slot 2: P Q a c          (P, Q: segments; a, b, c: sampled)
    waiting:  P Q a b r s t x      P Q a b r s t y      P Q a c r s z
              common to all: P Q a, stored.  Common to the first two: P Q a b r s t, of which r s t is new.
    segment:  [a b r s t] on Q, a b copied from slot 0, r s t to compute; then x and y are computed each on its own.

Requests whose whole prompts are equal share a slot, and so one row of the batch, until they sample different tokens (`RunningBatch`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sojourn.core import Ints
from sojourn.engine.cache import Cache, Segment, Slot, common_prefix
from sojourn.engine.request import Request

COMPUTE_ONCE = 4
"""New tokens that waiting requests have in common are computed once if there are at least this many."""
ATTEND_ONCE = 48
"""Segments of at least this many tokens are also attended once for all requests on them; shorter ones are copied to each."""


@dataclass(frozen=True, slots=True)
class Filling:
    """A segment whose first `stored` positions (of the whole path) are there, and whose others the next step computes."""

    segment: Segment
    stored: int


@dataclass(frozen=True, slots=True)
class Admission:
    """Requests that have a slot now, those that wait, and the segments that the next step must fill, parents first."""

    admitted: list[Request]
    waiting: list[Request]
    filling: list[Filling]


def admit(cache: Cache, waiting: Sequence[Request], room: int) -> Admission:
    """Give the first `room` waiting requests a slot.  Those that stand on a segment which is still to be filled wait for it."""
    chosen, later = waiting[:room], waiting[room:]
    cache.evict([request.prompt for request in chosen])
    filling: list[Filling] = []
    _share(cache, _Sorted.of([request.prompt for request in chosen]), filling)
    unfilled = {id(each.segment) for each in filling}
    admitted: list[Request] = []
    held: list[Request] = []
    slots: dict[bytes, Slot] = {}
    for request in chosen:
        key = request.prompt.tobytes()
        if key not in slots:
            match = cache.match(request.prompt)
            if id(match.base) in unfilled:
                held.append(request)
                continue
            slots[key] = cache.claim(match, request.prompt, ATTEND_ONCE)
        request.slot = slots[key]
        admitted.append(request)
    return Admission(admitted, [*held, *later], filling)


@dataclass(frozen=True, slots=True)
class _Sorted:
    """Prompts in the order of their ids, so that those which begin alike lie together.  alike[i]: ids that prompts i and i + 1 have in
    common; what a run of prompts has in common is the least of these."""

    prompts: Sequence[Ints]
    alike: Sequence[int]

    @classmethod
    def of(cls, prompts: Sequence[Ints]) -> _Sorted:
        ordered = sorted(prompts, key=lambda prompt: prompt.astype(">i8").tobytes())
        return cls(ordered, [common_prefix(one, other) for one, other in pairwise(ordered)])

    def after(self, length: int) -> Iterator[_Sorted]:
        """The runs of prompts that have more than `length` ids in common and go on after the next one."""
        start = 0
        for stop in range(1, len(self.prompts) + 1):
            if len(self.prompts[stop - 1]) == length + 1:  # sorted, so it is before those of its run that go on
                start = stop
            elif stop == len(self.prompts) or self.alike[stop - 1] <= length:
                yield _Sorted(self.prompts[start:stop], self.alike[start : stop - 1])
                start = stop


def _share(cache: Cache, sorted_: _Sorted, filling: list[Filling]) -> None:
    """Add to `filling` what all prompts have in common, then what those that go on alike have."""
    prompts, alike = sorted_.prompts, sorted_.alike
    if len(prompts) < 2:
        return
    first, common = prompts[0], min(alike)
    length = min(common, len(first) - 1)  # the last token of each is computed for its logits, so it is its own
    match = cache.match(first[: length + 1])
    equal = common == len(first) == len(prompts[-1])  # they share a slot: a segment is for what is attended once
    if length - match.length >= (ATTEND_ONCE if equal else COMPUTE_ONCE):
        filling.append(Filling(cache.new_segment(first[:length], match), match.length))
    for run in sorted_.after(length):
        _share(cache, run, filling)
