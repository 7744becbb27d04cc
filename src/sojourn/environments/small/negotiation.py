"""Negotiation: divide some things with a partner who values them otherwise, and who gives way slowly.

The one idea: each side sees its own values alone, and the pie shrinks with every round; so one has to find out from the partner's offers what
it cares for and to ask for the rest.  The setting is Deal or No Deal (Lewis et al., arXiv 1706.05125); the partner is a script that
takes any split worth its present threshold, which falls by a point a round down to its floor, and else offers the split
that is worth just that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import product
from random import Random
from typing import Any, NamedTuple

from sojourn.core import Action, Observation, Task, Transition
from sojourn.environments.small.common import DrawnTasks, SmallWorld, counted, refuse, say
from sojourn.environments.tools import answer_text

KINDS = ("book", "hat", "ball", "cup")
ROUNDS, START, TOTAL = 6, 8, 10
GOOD = 0.9
"""A deal is a success if it pays this much of the best that could be had."""

Split = tuple[int, ...]
"""How many of each kind the policy gets; the partner gets the rest."""


class Talk(NamedTuple):
    """Rounds that are over, and what the policy would get by the partner's last offer."""

    round: int = 0
    offered: Split | None = None


class Negotiation(SmallWorld[Talk]):
    """`take 1 book, 2 ball` proposes what the policy gets, `accept` takes the partner's offer, `leave` ends without a deal.

    Rewards, at a deal: `deal`, the policy's points of ten, from 0 to 1; `delay`, -0.05 for each round before.  Without a deal, also after
    the last round, nothing.  Success is a deal that pays 0.9 of the best that any sequence of proposals would have paid.
    `task.data`: `counts`, `mine` and `theirs` (points for one of each kind), `floor` (what the partner takes in the end), `limit`.
    """

    def start(self, task: Task) -> Talk:
        return Talk()

    def prompt(self) -> str:
        counts, mine = self._counts, self.task.data["mine"]
        worth = ", ".join(f"{kind} {value}" for kind, value in zip(KINDS, mine, strict=False))
        first = f"{next(iter(counts.values()))} {KINDS[0]}"
        return f"Divide {counted(counts)}. Worth to you: {worth}. Say take {first} (the partner gets the rest), accept or leave."

    async def answer(self, action: Action) -> Transition:
        said = " ".join(answer_text(action).lower().rstrip(".").split())
        if said == "leave":
            return self._end(None)
        if said == "accept" and self.state.offered is not None:
            return self._end(self.state.offered)
        split = read_split(said, self.task.data["counts"])
        if split is None:
            return refuse(f"Say take and numbers of {', '.join(self._counts)}, or accept, or leave.")
        if worth_to_partner(self.task.data, split) >= threshold(self.task.data, self.state.round):
            return self._end(split)
        return self._counter()

    def legal_actions(self) -> Sequence[str]:
        takes = [f"take {_in_words(split)}" for split in splits(self.task.data["counts"])[1:]]
        return [*takes, *(["accept"] if self.state.offered is not None else []), "leave"]

    def oracle(self) -> Action:
        """Knows the partner's values: waits for the best round by asking for everything, then takes what pays most."""
        _, when, split = best(self.task.data, self.state.round)
        return say(f"take {_in_words(split if when == self.state.round else tuple(self.task.data['counts']))}")

    @property
    def _counts(self) -> dict[str, int]:
        return dict(zip(KINDS, self.task.data["counts"], strict=False))

    def _counter(self) -> Transition:
        """The partner offers, and a round is over; after the last one it leaves."""
        if self.state.round == ROUNDS - 1:
            return self._end(None)
        offer = offered(self.task.data, self.state.round)
        self.state = Talk(self.state.round + 1, offer)
        return Transition(Observation.of(f"No. You get {_in_words(offer)}."))

    def _end(self, split: Split | None) -> Transition:
        if split is None:
            return Transition(Observation.of("No deal."), 0.0, terminated=True)
        reward = {"deal": _points(self.task.data["mine"], split) / TOTAL, "delay": 0.05 * -self.state.round}
        success = sum(reward.values()) >= GOOD * best(self.task.data)[0]
        return Transition(Observation.of("Deal."), reward, terminated=True, info={"success": success})

    @staticmethod
    def tasks() -> DrawnTasks:
        """Levels are the number of kinds of things."""
        return DrawnTasks("negotiation", ("2", "3", "4"), draw, lambda data: sorted(data.items()))


def splits(counts: Sequence[int]) -> list[Split]:
    """All divisions; in the first the policy gets nothing."""
    return list(product(*(range(count + 1) for count in counts)))


def worth_to_partner(data: Mapping[str, Any], split: Split) -> int:
    return _points(data["theirs"], [count - taken for count, taken in zip(data["counts"], split, strict=True)])


def threshold(data: Mapping[str, Any], round: int) -> int:
    """Points that the partner wants in this round."""
    return max(int(data["floor"]), START - round)


def offered(data: Mapping[str, Any], round: int) -> Split:
    """What the partner leaves: as little above its threshold as can be, then as many things as can be."""
    enough = [split for split in splits(data["counts"]) if worth_to_partner(data, split) >= threshold(data, round)]
    return min(enough, key=lambda split: (worth_to_partner(data, split), -sum(split), split))


def best(data: Mapping[str, Any], since: int = 0) -> tuple[float, int, Split]:
    """The most that can be had from a round on, the round, and the split.  The partner would take it, so nobody has to accept."""
    deals = [
        (_points(data["mine"], split) / TOTAL - 0.05 * round, -round, split)
        for round in range(since, ROUNDS)
        for split in splits(data["counts"])
        if worth_to_partner(data, split) >= threshold(data, round)
    ]
    value, when, split = max(deals)
    return value, -when, split


def read_split(text: str, counts: Sequence[int]) -> Split | None:
    """`take 1 book, 2 ball`; None if it is no proposal, names a kind twice or takes more than there is.

    >>> read_split("take 1 book, 2 ball", (1, 2, 2))
    (1, 0, 2)
    """
    kinds = KINDS[: len(counts)]
    if not re.fullmatch(r"take( \d (?:book|hat|ball|cup)s?,?)+", text):
        return None
    said = [(int(number), kind) for number, kind in re.findall(r"(\d) (book|hat|ball|cup)", text)]
    taken = {kind: number for number, kind in said}
    if len(taken) < len(said) or not set(taken) <= set(kinds) or not any(taken.values()):
        return None
    split = tuple(taken.get(kind, 0) for kind in kinds)
    return split if all(t <= count for t, count in zip(split, counts, strict=True)) else None


def draw(rng: Random, level: str) -> dict[str, Any]:
    """Both sides' values of everything are ten points.  Half of them can be had, and not all at once: there is something to settle."""
    while True:
        counts = [rng.randint(1, 3) for _ in range(int(level))]
        ten = _values(counts)
        if len(ten) < 2:
            continue  # 3 books and 3 hats are never worth ten points
        mine, theirs = rng.sample(ten, 2)
        data: dict[str, Any] = {
            "counts": counts,
            "mine": mine,
            "theirs": theirs,
            "floor": rng.choice((3, 4, 5)),
            "limit": ROUNDS + 2,
        }
        if TOTAL / 2 <= max(_points(mine, s) for s in splits(counts) if worth_to_partner(data, s) >= data["floor"]) < TOTAL:
            return data


def _values(counts: Sequence[int]) -> list[list[int]]:
    """All values of one of each kind that make ten points together."""
    *first, last = counts
    found = []
    for values in product(*(range(TOTAL // count + 1) for count in first)):
        left = TOTAL - _points(values, first)
        if left >= 0 and left % last == 0:
            found.append([*values, left // last])
    return found


def _points(values: Sequence[int], counts: Sequence[int]) -> int:
    return sum(value * count for value, count in zip(values, counts, strict=True))


def _in_words(split: Split) -> str:
    return counted({kind: number for kind, number in zip(KINDS, split, strict=False) if number})
