"""A world: an environment together with its tasks.  It is what a run trains on, and what every maker in this room returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sojourn.core import Environment, Split, Task, TaskSource


@dataclass(frozen=True, slots=True)
class World:
    """`make()` gives a fresh environment for one episode; `tasks` says what is asked in it."""

    make: Callable[[], Environment]
    tasks: TaskSource


class TaskList:
    """A finite task source; an index beyond the end wraps around.

    Levels are those of the training tasks, in the order in which they first occur.  Raises ValueError if a task is in both splits.
    """

    def __init__(self, train: Sequence[Task], test: Sequence[Task] = ()) -> None:
        seen = {_content(task): task.id for task in train}
        for task in test:
            if _content(task) in seen:
                raise ValueError(f"test task '{task.id}' is also training task '{seen[_content(task)]}': keep it in one split")
        self._tasks: dict[Split, Sequence[Task]] = {"train": tuple(train), "test": tuple(test)}
        self.levels = tuple(dict.fromkeys(task.level for task in train))

    def task(self, split: Split, level: str, index: int) -> Task:
        found = [task for task in self._tasks[split] if task.level == level]
        if not found:
            raise ValueError(f"there is no {split} task of level '{level}': give some (levels of training tasks: {self.levels})")
        return found[index % len(found)]


def _content(task: Task) -> str:
    return repr(sorted(task.data.items()))
