"""A finite list of tasks in rounds, without those that teach nothing now.

In each round a rule says of every task, by what became of it before, with which share of the rounds it still comes:

    unsolved   0 for tasks that were all right the last time                         [history resampling, SRPO, arXiv 2504.14286]
    lively     p^z after z times in a row without a signal                           [GRESO, arXiv 2506.02177]

No numbers are drawn: a task saves up its share in every round and comes when it has saved 1, so half means every second round.  A task
that was never solved may come with a hint, a share of its solution that the environment shows (`hints`)  [GHPO, arXiv 2507.10628].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from sojourn.core import Task, TaskSource
from sojourn.curriculum.curriculum import Outcome

Seen: TypeAlias = tuple[float, bool]
"""Success rate of a group of a task, and whether it taught nothing."""
Rule: TypeAlias = Callable[[Sequence[Seen]], float]
"""`rule(what became of a task, oldest first) -> a number in [0, 1]`."""


def unsolved(seen: Sequence[Seen]) -> float:
    """Every task comes again, but one that was all right the last time.

    >>> unsolved([(1.0, True), (0.5, False)]), unsolved([(1.0, True)])
    (1.0, 0.0)
    """
    return 0.0 if seen and seen[-1][0] == 1.0 else 1.0


def lively(keep: float = 0.5) -> Rule:
    """A task comes with the share `keep` to the power of how often, in a row, it carried no signal.

    >>> lively(0.5)([(0.5, False), (0.0, True), (0.0, True)])
    0.25
    """

    def rule(seen: Sequence[Seen]) -> float:
        return float(keep ** _trailing(silent for _, silent in seen))

    return rule


def hinted(first: float = 0.25, step: float = 0.25, most: float = 0.75) -> Rule:
    """The share of its solution that a task shows: none, and more each time in a row that nobody solved it.

    >>> [hinted()([(0.0, True)] * times) for times in range(4)]
    [0.0, 0.25, 0.5, 0.75]
    """

    def rule(seen: Sequence[Seen]) -> float:
        times = _trailing(rate == 0.0 for rate, _ in seen)
        return min(first + step * (times - 1), most) if times else 0.0

    return rule


def _trailing(flags: Iterable[bool]) -> int:
    """How many at the end are true."""
    count = 0
    for flag in flags:
        count = count + 1 if flag else 0
    return count


class Rounds:
    """The first `size` training tasks of every level, in rounds.

    again: with which share of the rounds a task comes.  hints: how much of its solution a task shows, as `data["hint"]`; the environment puts
    it into its prompt.
    """

    def __init__(self, source: TaskSource, *, size: int, again: Rule = unsolved, hints: Rule | None = None) -> None:
        if size < 1:
            raise ValueError(f"Rounds(size={size}): a round needs a task; give the number of training tasks of a level")
        self._source, self._again, self._hints = source, again, hints
        self._places = [(level, index) for index in range(size) for level in source.levels]
        self._saved = [0.0] * len(self._places)
        self._seen: list[list[Seen]] = [[] for _ in self._places]
        self._queue: list[int] = []
        self._number: dict[str, int] = {}
        self.round = 0

    def next(self, count: int) -> list[Task]:
        """The next `count` tasks; a new round begins where one ends."""
        tasks: list[Task] = []
        while len(tasks) < count:
            self._queue = self._queue or self._due()
            tasks.append(self._task(self._queue.pop(0)))
        return tasks

    def _due(self) -> list[int]:
        """The tasks of the next round; all of them, if the rule wants none."""
        self.round += 1
        shares = [self._again(seen) for seen in self._seen]
        if not any(shares):
            return list(range(len(shares)))
        due: list[int] = []
        while not due:
            self._saved = [saved + share for saved, share in zip(self._saved, shares, strict=True)]
            due = [number for number, saved in enumerate(self._saved) if saved >= 1]
            for number in due:
                self._saved[number] -= 1
        return due

    def _task(self, number: int) -> Task:
        level, index = self._places[number]
        task = self._source.task("train", level, index)
        self._number[task.id] = number
        share = self._hints(self._seen[number]) if self._hints else 0.0
        return replace(task, data={**task.data, "hint": share}) if share else task

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            if (number := self._number.get(outcome.task.id)) is not None:
                self._seen[number].append((outcome.success_rate, outcome.zero_signal))

    def state(self) -> dict[str, Any]:
        return {"saved": self._saved, "seen": self._seen, "queue": self._queue, "number": self._number, "round": self.round}

    def load_state(self, state: Mapping[str, Any]) -> None:
        if len(state["saved"]) != len(self._places):
            raise ValueError(
                f"curriculum state is of {len(state['saved'])} tasks, there are {len(self._places)}: resume with the same tasks"
            )
        self._saved, self._queue, self._number = list(state["saved"]), list(state["queue"]), dict(state["number"])
        self._seen = [[(rate, silent) for rate, silent in seen] for seen in state["seen"]]
        self.round = state["round"]

    def describe(self) -> dict[str, float | str]:
        solved = sum(bool(seen) and seen[-1][0] == 1.0 for seen in self._seen)
        return {"round": float(self.round), "solved": solved / len(self._places)}
