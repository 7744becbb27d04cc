"""A role proposes the tasks that others are to solve, and is paid for how much there is to learn from them.

The one idea: proposing is an episode like any other, played with the policies of the step before its tasks are, and trained with them.  What
it earned is known when its task has been solved, or not: `pay` is called between.

    next   play(asks) -> proposals -> tasks          pay   reward(what became of the task) -> the proposer's episode

[Absolute Zero, arXiv 2505.03335; R-Zero, arXiv 2508.05004]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sojourn.core import Episode, Task, TaskSource
from sojourn.curriculum.curriculum import Curriculum, Outcome, Play, dealt


def learnable(outcome: Outcome) -> float:
    """1 - |2 p - 1|: most for a task that is solved half of the time.  [R-Zero; there p is the share of the solver's commonest answer]"""
    return 1 - abs(2 * outcome.success_rate - 1)


def hard_not_hopeless(outcome: Outcome) -> float:
    """1 - p, and 0 for a task that nobody solved.  [Absolute Zero, eq. 4]"""
    return 1 - outcome.success_rate if outcome.success_rate > 0 else 0.0


class Proposing:
    """Tasks that an agent proposes.

    asks: what the proposer is asked, a training task each.  read: the task in a proposing episode, None if there is none.  others: deals what
    is missing.  size: proposals for each ask, a group that is compared.  agent: who is paid.
    environment, program: how asks are played; None for the experiment's own.
    invalid: what an episode without a task earns.
    """

    def __init__(
        self,
        asks: TaskSource,
        read: Callable[[Episode], Task | None],
        others: Curriculum,
        *,
        reward: Callable[[Outcome], float] = learnable,
        agent: str = "proposer",
        size: int = 4,
        environment: Any = None,
        program: Any = None,
        invalid: float = -1.0,
    ) -> None:
        if size < 2:
            raise ValueError(f"Proposing(size={size}): proposals are compared with each other; give 2 or more")
        self._asks, self._read, self._others, self._reward = asks, read, others, reward
        self._agent, self._size, self._how, self._invalid = agent, size, {"environment": environment, "program": program}, invalid
        self._open: dict[str, Episode] = {}
        self.asked = self.proposed = 0
        self._earned = 0.0

    async def next(self, count: int, play: Play) -> list[Task]:
        """As many proposals as there is room for, and the rest from the others."""
        level = self._asks.levels[0]
        numbers = range(self.asked, self.asked + count // self._size)
        groups = await play([self._asks.task("train", level, number) for number in numbers], size=self._size, **self._how)
        self.asked += len(numbers)
        tasks = []
        for episode in (episode for group in groups for episode in group.valid):
            task = self._read(episode)
            if task is None:
                self._pay(episode, "invalid", self._invalid)
                continue
            tasks.append(replace(task, id=f"{task.id}@{episode.id}"))
            self._open[tasks[-1].id] = episode
        self.proposed = len(tasks)
        return [*tasks, *(await dealt(self._others, count - len(tasks), play) if len(tasks) < count else [])]

    def pay(self, outcomes: Sequence[Outcome]) -> None:
        """Pay the proposers for what became of their tasks; of a task that came to no result nothing is known, and nothing paid."""
        earned = []
        for outcome in outcomes:
            if (episode := self._open.get(outcome.task.id)) is not None:
                earned.append(self._reward(outcome))
                self._pay(episode, "proposed", earned[-1])
        self._earned = sum(earned) / len(earned) if earned else 0.0

    def _pay(self, episode: Episode, name: str, value: float) -> None:
        terms = episode.paid.setdefault(self._agent, {})
        terms[name] = terms.get(name, 0.0) + value

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        self._others.observe([outcome for outcome in outcomes if outcome.task.id not in self._open])
        self._open = {}

    def state(self) -> dict[str, Any]:
        return {"asked": self.asked, "others": self._others.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.asked = state["asked"]
        self._others.load_state(state["others"])

    def describe(self) -> dict[str, float | str]:
        return {"proposed": float(self.proposed), "proposer's reward": round(self._earned, 3), **self._others.describe()}
