"""A world: an environment together with its tasks.  It is what a run trains on, and what every maker in this room returns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

from sojourn.core import Environment, MultiAgentEnvironment, Split, Task, TaskSource, content

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    E = TypeVar("E", bound=Environment | MultiAgentEnvironment, covariant=True, default=Environment)
else:  # a worker's venv has numpy alone
    from typing import TypeVar

    E = TypeVar("E", bound=Environment | MultiAgentEnvironment, covariant=True)


@dataclass(frozen=True, slots=True)
class World(Generic[E]):
    """`make()` gives a fresh environment for one episode; `tasks` says what is asked in it."""

    make: Callable[[], E]
    tasks: TaskSource


class TaskList:
    """A finite task source; an index beyond the end wraps around.

    Levels are those of the training tasks, in the order in which they first occur.  Raises ValueError if a task is in both splits.
    """

    def __init__(self, train: Sequence[Task], test: Sequence[Task] = ()) -> None:
        _refuse_shared(train, test)
        self._tasks: dict[tuple[Split, str], list[Task]] = defaultdict(list)
        for task in train:
            self._tasks["train", task.level].append(task)
        for task in test:
            self._tasks["test", task.level].append(task)
        self.levels = tuple(dict.fromkeys(task.level for task in train))

    def count(self, split: Split, level: str) -> int:
        """Tasks of a level before the list wraps around."""
        return len(self._tasks.get((split, level), ()))

    def task(self, split: Split, level: str, index: int) -> Task:
        found = self._tasks.get((split, level))
        if not found:
            raise ValueError(f"there is no {split} task of level '{level}': give some (levels of training tasks: {self.levels})")
        return found[index % len(found)]


def _refuse_shared(train: Sequence[Task], test: Sequence[Task]) -> None:
    held_out = {content(task): task.id for task in test}
    for task in train if held_out else ():
        shared = held_out.get(content(task))
        if shared is not None:
            raise ValueError(f"test task '{shared}' is also training task '{task.id}': keep it in one split")
