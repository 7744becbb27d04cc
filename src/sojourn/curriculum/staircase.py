"""The level curriculum: climb as soon as a level is mastered, train where there is signal.

The one idea: a group of episodes teaches only if its returns differ.  A level that is never solved teaches nothing, however long one
trains on it, and neither does one that is always solved.  So three kinds of levels share the tasks: the *current* level, the easiest
that is not mastered, gets nearly all; mastered levels get a small rehearsal; the next level gets a small probe, more as soon
as the probe gives signal.  If the current level gives no signal even so, the mastered level below it is trained on.
[Success bands: Florensa et al., arXiv 1705.06366.  Learnability p(1-p): Rutherford et al., arXiv 2408.15099]
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sojourn.core import Task, TaskSource
from sojourn.curriculum.curriculum import Dealer, Outcome


@dataclass(slots=True)
class LevelEstimate:
    """What is believed of a level: success (share of episodes), signal (share of groups that teach), over the last few groups."""

    success: float = 0.0
    signal: float = 0.0
    groups: int = 0
    mastered: bool = False

    def update(self, success: float, signal: float, count: int, memory: float) -> None:
        """Move towards the means over `count` new groups.

        Exponentially; success is a plain mean as long as that is faster, and signal, which may be rare, looks back twice as far.
        """
        self.groups += count
        self.success += max(1 - (1 - 1 / memory) ** count, count / self.groups) * (success - self.success)
        self.signal += (1 - (1 - 0.5 / memory) ** count) * (signal - self.signal)


class Staircase:
    """Climbs the levels of a task source, easiest first.

    goal: success at which a level counts as mastered; raising it stays longer on each level.  A level that falls `slack` below is
    no longer mastered.  memory: groups that an estimate looks back on; raising it is steadier and slower to notice.
    rehearsal, probe: shares of all tasks for mastered levels and for the next level.
    enough: share of groups with signal from which the current level deserves all the rest.
    """

    def __init__(
        self,
        source: TaskSource,
        *,
        seed: int = 0,
        goal: float = 0.7,
        slack: float = 0.2,
        memory: float = 4.0,
        rehearsal: float = 0.12,
        probe: float = 0.06,
        enough: float = 0.1,
    ) -> None:
        self._levels = tuple(source.levels)
        self._goal, self._slack, self._memory = goal, slack, memory
        self._rehearsal, self._probe, self._enough = rehearsal, probe, enough
        self._dealer = Dealer(source, seed)
        self._known = {level: LevelEstimate() for level in self._levels}
        self._known[self.current].signal = 1.0

    @property
    def current(self) -> str:
        """The easiest level that is not mastered; the hardest if all are."""
        return next((level for level in self._levels if not self._known[level].mastered), self._levels[-1])

    def next(self, count: int) -> list[Task]:
        return self._dealer.deal(count, self.shares())

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        by_level = defaultdict(list)
        for outcome in outcomes:
            by_level[outcome.task.level].append(outcome)
        before = self.current
        for level, group in by_level.items():
            self._learn(self._known[level], group)
        if self.current != before:
            # A level just reached is believed to teach until some twenty groups have shown that it does not.
            self._known[self.current].signal = 1.0

    def _learn(self, known: LevelEstimate, group: Sequence[Outcome]) -> None:
        success = sum(outcome.success_rate for outcome in group) / len(group)
        signal = sum(not outcome.zero_signal for outcome in group) / len(group)
        known.update(success, signal, len(group), self._memory)
        known.mastered = known.success >= (self._goal - self._slack if known.mastered else self._goal)

    def shares(self) -> dict[str, float]:
        """Share of the coming tasks for each level; they add up to 1."""
        here = self._levels.index(self.current)
        below, above = self._levels[:here], self._levels[here + 1 : here + 2]
        weights = dict.fromkeys(self._levels, 0.0)
        weights.update(self._work(here))
        budget = 1 - self._rehearsal * bool(below) - self._probe * bool(above)
        shares = {level: budget * weight / sum(weights.values()) for level, weight in weights.items()}
        for level in above:
            shares[level] += self._probe
        forgetting = {level: 1.05 - self._known[level].success for level in below}
        for level, weight in forgetting.items():
            shares[level] += self._rehearsal * weight / sum(forgetting.values())
        return shares

    def _work(self, here: int) -> dict[str, float]:
        """Weights of the levels that may be trained on in earnest: the current one, and its neighbours if they teach better."""
        worth = min(self._known[self._levels[here]].signal / self._enough, 1.0)
        weights = {self._levels[here]: worth + 0.1}
        if here > 0:
            weights[self._levels[here - 1]] = (1 - worth) * self._known[self._levels[here - 1]].signal
        if here + 1 < len(self._levels):
            weights[self._levels[here + 1]] = self._known[self._levels[here + 1]].signal / 2
        return weights

    def state(self) -> dict[str, Any]:
        return {"levels": {level: asdict(known) for level, known in self._known.items()}, "dealer": self._dealer.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._dealer.load_state(state["dealer"])
        self._known = {level: LevelEstimate(**known) for level, known in state["levels"].items()}

    def describe(self) -> dict[str, float | str]:
        shares = self.shares()
        shown: dict[str, float | str] = {"level": self.current}
        for level in self._levels:
            shown[f"success/{level}"] = round(self._known[level].success, 3)
            shown[f"share/{level}"] = round(shares[level], 3)
        return shown
