"""Tasks that have a number for their difficulty: the next ones are those nearest to a target, which follows the reward.

T <- clip(T + step tanh(sensitivity (R - goal)), low, high)      [AdaRFT, arXiv 2504.05520; `next_difficulty`]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sojourn.core import Task, TaskSource
from sojourn.curriculum.curriculum import Outcome
from sojourn.curriculum.difficulty import next_difficulty


class Adaptive:
    """The first `size` training tasks of every level, those nearest to the target difficulty first; of equals, the one dealt less often.

    difficulty: of a task, in the range of `settings`.  role: whose mean return the target follows; "" for the success rate.
    settings: of `next_difficulty`.
    """

    def __init__(
        self,
        source: TaskSource,
        difficulty: Callable[[Task], float],
        *,
        size: int,
        begin: float = 0.0,
        role: str = "",
        **settings: float,
    ) -> None:
        if size < 1:
            raise ValueError(
                f"Adaptive(size={size}): there must be a task to choose; give the number of training tasks of a level"
            )
        self._tasks = [source.task("train", level, index) for level in source.levels for index in range(size)]
        self._difficulty = [float(difficulty(task)) for task in self._tasks]
        self._dealt = [0] * len(self._tasks)
        self._role, self._settings = role, settings
        self.target = begin

    def next(self, count: int) -> list[Task]:
        chosen: list[Task] = []
        while len(chosen) < count:
            near = sorted(range(len(self._tasks)), key=lambda i: (abs(self._difficulty[i] - self.target), self._dealt[i], i))
            for number in near[: count - len(chosen)]:
                self._dealt[number] += 1
                chosen.append(self._tasks[number])
        return chosen

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        earned = [value for outcome in outcomes for value in self._earned(outcome)]
        if earned:
            self.target = next_difficulty(self.target, sum(earned) / len(earned), **self._settings)

    def _earned(self, outcome: Outcome) -> Sequence[float]:
        return outcome.returns.get(self._role, ()) if self._role else (outcome.success_rate,)

    def state(self) -> dict[str, Any]:
        return {"target": self.target, "dealt": list(self._dealt)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        if len(state["dealt"]) != len(self._tasks):
            raise ValueError(
                f"curriculum state is of {len(state['dealt'])} tasks, there are {len(self._tasks)}: resume with the same tasks"
            )
        self.target, self._dealt = state["target"], list(state["dealt"])

    def describe(self) -> dict[str, float | str]:
        return {"difficulty": round(self.target, 3)}
