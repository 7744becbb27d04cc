"""Curricula of curricula: several at once, in shares, and one after another.

The one idea: what a curriculum dealt, it alone hears of again.  A part may play (`Curriculum.next`), so both are awaited.

    Mixture    share ~ weight^(1 / temperature), no part above its cap; what a cap cuts off goes to the others
    Staged     so many tasks from the first, then from the second, and the last for good
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sojourn.core import Task
from sojourn.curriculum.curriculum import Curriculum, Outcome, Pays, Play, dealt


class Joined:
    """Parts by name, and who dealt which task."""

    def __init__(self, parts: Mapping[str, Curriculum]) -> None:
        if not parts:
            raise ValueError(f"{type(self).__name__} got no curricula: give at least one")
        self._parts = dict(parts)
        self._from: dict[str, str] = {}

    async def _deal(self, name: str, count: int, play: Play) -> list[Task]:
        tasks = await dealt(self._parts[name], count, play) if count else []
        self._from |= {task.id: name for task in tasks}
        return tasks

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        for name, part in self._parts.items():
            if own := [outcome for outcome in outcomes if self._from.get(outcome.task.id) == name]:
                part.observe(own)
        self._from = {}

    def pay(self, outcomes: Sequence[Outcome]) -> None:
        for name, part in self._parts.items():
            if isinstance(part, Pays):
                part.pay([outcome for outcome in outcomes if self._from.get(outcome.task.id) == name])

    def state(self) -> dict[str, Any]:
        return {"parts": {name: part.state() for name, part in self._parts.items()}, "from": dict(self._from)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        if set(state["parts"]) != set(self._parts):
            raise ValueError(
                f"curriculum state is of {sorted(state['parts'])}, there are {sorted(self._parts)}: resume with the same parts"
            )
        for name, part in self._parts.items():
            part.load_state(state["parts"][name])
        self._from = dict(state["from"])

    def describe(self) -> dict[str, float | str]:
        return {f"{name}/{key}": value for name, part in self._parts.items() for key, value in part.describe().items()}


class Mixture(Joined):
    """Several curricula at once.

    weights: of each part; temperature: above 1 evens them out.  caps: the largest share that a part may have.  Shares are kept to exactly
    over time.
    """

    def __init__(
        self,
        parts: Mapping[str, Curriculum],
        weights: Mapping[str, float] | None = None,
        *,
        temperature: float = 1.0,
        caps: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(parts)
        given = weights or dict.fromkeys(parts, 1.0)
        if set(given) != set(parts) or min(given.values()) < 0 or not any(given.values()) or set(caps or {}) - set(parts):
            raise ValueError(
                f"Mixture of {sorted(parts)} got weights {dict(given)}, caps {dict(caps or {})}: name the parts, weights >= 0"
            )
        self.shares = capped({name: given[name] ** (1 / temperature) for name in parts}, caps or {})
        self._saved = dict.fromkeys(parts, 0.0)

    async def next(self, count: int, play: Play) -> list[Task]:
        order: list[str] = []
        for _ in range(count):
            for name, share in self.shares.items():
                self._saved[name] += share
            order.append(max(self.shares, key=lambda name: self._saved[name]))
            self._saved[order[-1]] -= 1.0
        return [task for name in self.shares for task in await self._deal(name, order.count(name), play)]

    def state(self) -> dict[str, Any]:
        return super().state() | {"saved": dict(self._saved)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        self._saved = dict(state["saved"])


class Staged(Joined):
    """One curriculum after another.  tasks: how many of each part but the last are dealt; a step is never cut."""

    def __init__(self, parts: Mapping[str, Curriculum], tasks: Sequence[int]) -> None:
        super().__init__(parts)
        if len(tasks) != len(parts) - 1:
            raise ValueError(
                f"Staged of {len(parts)} parts got {len(tasks)} numbers of tasks: give one for each part but the last"
            )
        self._until = dict(zip(parts, tasks, strict=False))
        self.dealt = 0

    @property
    def current(self) -> str:
        passed = 0
        for name, tasks in self._until.items():
            passed += tasks
            if self.dealt < passed:
                return name
        return list(self._parts)[-1]

    async def next(self, count: int, play: Play) -> list[Task]:
        tasks = await self._deal(self.current, count, play)
        self.dealt += len(tasks)
        return tasks

    def state(self) -> dict[str, Any]:
        return super().state() | {"dealt": self.dealt}

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        self.dealt = state["dealt"]

    def describe(self) -> dict[str, float | str]:
        return {"stage": self.current, **super().describe()}


def capped(weights: Mapping[str, float], caps: Mapping[str, float]) -> dict[str, float]:
    """Shares in proportion to weights, none above its cap.  Raises `ValueError` if the caps leave something to nobody.

    >>> capped({"a": 6.0, "b": 3.0, "c": 1.0}, {"a": 0.2})
    {'a': 0.2, 'b': 0.6000000000000001, 'c': 0.2}
    """
    fixed: dict[str, float] = {}
    while True:
        free = {name: weight for name, weight in weights.items() if name not in fixed and weight}
        left, whole = 1 - sum(fixed.values()), sum(free.values())
        if not free and left > 1e-9:
            raise ValueError(
                f"caps {dict(caps)} add up to {sum(fixed.values()):g}, so {left:g} of the tasks is nobody's: raise a cap"
            )
        shares = {name: left * weight / whole for name, weight in free.items()}
        over = {name: caps[name] for name, share in shares.items() if share > caps.get(name, 1.0) + 1e-12}
        if not over:
            return {name: fixed.get(name, shares.get(name, 0.0)) for name in weights}
        fixed |= over
