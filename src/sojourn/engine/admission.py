"""Who joins the running batch, and which prefixes are computed once for several of them.

Prompts that wait form a trie.  Where at least two go on alike for `COMPUTE_ONCE` tokens that are stored nowhere, these become a segment,
which the next step fills; the requests wait for that one step and then go on from the segment.  It makes no difference whether the
requests are the first turn of a group or the fifth turn of siblings that have said the same so far:

    stored:   slot 0: P Q a b      slot 1: P Q a b      slot 2: P Q a c          (P, Q: segments; a, b, c: sampled)
    waiting:  P Q a b r s t x      P Q a b r s t y      P Q a c r s z
              common to all: P Q a, stored.  Common to the first two: P Q a b r s t, of which r s t is new.
    segment:  [a b r s t] on Q, a b copied from slot 0, r s t to compute; then x and y are computed each on its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sojourn.core import Ints
from sojourn.engine.cache import Cache, Segment, common_prefix
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


def admit(cache: Cache, waiting: Sequence[Request]) -> Admission:
    """Give waiting requests a slot each, as many as are idle.  Those that stand on a segment which is still to be filled wait for it."""
    free = cache.free
    chosen, later = waiting[:free], waiting[free:]
    cache.evict([request.prompt for request in chosen])
    filling: list[Filling] = []
    _share(cache, [request.prompt for request in chosen], filling)
    unfilled = {id(each.segment) for each in filling}
    admitted: list[Request] = []
    held: list[Request] = []
    for request in chosen:
        match = cache.match(request.prompt)
        if id(match.base) in unfilled:
            held.append(request)
        else:
            request.slot = cache.claim(match, request.prompt, ATTEND_ONCE)
            admitted.append(request)
    return Admission(admitted, [*held, *later], filling)


def _share(cache: Cache, prompts: Sequence[Ints], filling: list[Filling]) -> None:
    """Add to `filling` what all prompts have in common, then what those that go on alike have."""
    if len(prompts) < 2:
        return
    length = min(min(common_prefix(prompts[0], other) for other in prompts[1:]), min(map(len, prompts)) - 1)
    match = cache.match(prompts[0][: length + 1])
    if length - match.length >= COMPUTE_ONCE:
        filling.append(Filling(cache.new_segment(prompts[0][:length], match), match.length))
    branches: dict[int, list[Ints]] = {}
    for prompt in prompts:
        if len(prompt) > length + 1:  # the last token of the others is their own, whatever it is
            branches.setdefault(int(prompt[length]), []).append(prompt)
    for branch in branches.values():
        _share(cache, branch, filling)
