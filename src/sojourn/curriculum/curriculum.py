"""A curriculum: it gives the next tasks, sees what came of them, and saves what it knows.

The one idea: a task source is addressable, so a curriculum is arithmetic on counters.  It draws no random numbers; the same state
always goes on in the same way, which is what makes a resumed run equal to one that was never stopped.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import isawaitable, signature
from typing import Any, Protocol, runtime_checkable

from sojourn.core import EpisodeGroup, Task, TaskSource


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one group of episodes on one task.

    success_rate: share of its episodes that solved the task.  zero_signal: all its returns were equal, so that it taught nothing.
    returns: of its episodes, by role that learns.  advantage: mean |A| over its episodes, of the last role that learned from it.
    answers: what its episodes said last; what most of them say is a label where there is none.
    """

    task: Task
    success_rate: float
    zero_signal: bool
    returns: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    advantage: float = 0.0
    answers: tuple[str, ...] = ()


class Play(Protocol):
    """Plays tasks with the policies of this step.  Its episodes are trained with the step's; they are not among the outcomes."""

    async def __call__(
        self, tasks: Sequence[Task], *, size: int, environment: Any = None, program: Any = None
    ) -> list[EpisodeGroup]:
        """Each task `size` times; in the experiment's world and by its program, if nothing else is said."""
        ...


class Curriculum(Protocol):
    """Chooses training tasks.  The training loop alone calls it.

    One that plays has `async next(count, play)`; and if what it played is to be paid for what became of the tasks, `pay(outcomes)`, which is
    called when they have been played, and before anything is learned.
    """

    @property
    def next(self) -> Callable[..., list[Task] | Awaitable[list[Task]]]:
        """`next(count)`, or `next(count, play)`: the next `count` tasks."""
        ...

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        """Learn from the groups of one step; the order among them does not matter."""
        ...

    def state(self) -> dict[str, Any]:
        """All it knows, fit for JSON."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None: ...

    def describe(self) -> dict[str, float | str]:
        """What to show about it: in the progress display, the metrics and the report."""
        ...


@runtime_checkable
class Pays(Protocol):
    """A curriculum that pays for what it played."""

    def pay(self, outcomes: Sequence[Outcome]) -> None: ...


async def dealt(curriculum: Curriculum, count: int, play: Play) -> list[Task]:
    """The next `count` tasks of a curriculum, whether it plays or not."""
    plays = len(signature(curriculum.next).parameters) > 1
    tasks = curriculum.next(count, play) if plays else curriculum.next(count)
    return await tasks if isawaitable(tasks) else tasks


class Dealer:
    """Deals training tasks level by level, each level from the front, in given proportions.

    Proportions are kept exactly over time: each level saves up its share of every task, and the richest level pays for the next.
    `seed` moves the place in the source at which dealing starts, so that runs with different seeds train on different tasks.
    """

    def __init__(self, source: TaskSource, seed: int) -> None:
        self.source = source
        self._start = seed * 1_000_003
        self.dealt = dict.fromkeys(source.levels, 0)
        self._saved = dict.fromkeys(source.levels, 0.0)

    def deal(self, count: int, shares: Mapping[str, float]) -> list[Task]:
        """`count` tasks; `shares` of the levels add up to 1."""
        return [self._one(shares) for _ in range(count)]

    def _one(self, shares: Mapping[str, float]) -> Task:
        for level, share in shares.items():
            self._saved[level] += share
        level = max(shares, key=lambda name: self._saved[name])
        self._saved[level] -= 1.0
        index = self._start + self.dealt[level]
        self.dealt[level] += 1
        return self.source.task("train", level, index)

    def state(self) -> dict[str, Any]:
        return {"start": self._start, "dealt": dict(self.dealt), "saved": dict(self._saved)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        if set(state["dealt"]) != set(self.dealt):
            found, expected = sorted(state["dealt"]), sorted(self.dealt)
            raise ValueError(
                f"curriculum state is for levels {found}, the task source has {expected}: resume with the same tasks"
            )
        self._start, self.dealt, self._saved = state["start"], dict(state["dealt"]), dict(state["saved"])


class Uniform:
    """Fixed levels in equal shares: the control.  Without `levels`, all the source has."""

    def __init__(self, source: TaskSource, levels: Sequence[str] | None = None, *, seed: int = 0) -> None:
        self._levels = tuple(source.levels if levels is None else levels)
        unknown = [level for level in self._levels if level not in source.levels]
        if unknown or not self._levels:
            raise ValueError(f"levels {unknown or 'none given'}: the task source has {', '.join(source.levels)}")
        self._dealer = Dealer(source, seed)

    def next(self, count: int) -> list[Task]:
        return self._dealer.deal(count, dict.fromkeys(self._levels, 1 / len(self._levels)))

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        """Nothing changes its mind."""

    def state(self) -> dict[str, Any]:
        return self._dealer.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._dealer.load_state(state)

    def describe(self) -> dict[str, float | str]:
        return {"level": "+".join(self._levels)}
