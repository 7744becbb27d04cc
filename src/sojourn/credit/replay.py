"""A buffer of groups that carried a signal, to stand in for groups that carry none (`TrainConfig.replay`).

[selective sample replay: arXiv 2504.08837; SSB, Skywork-R1V2, arXiv 2504.16656: p proportional to |A|]
"""

from __future__ import annotations

from collections import deque
from typing import Any, Generic, TypeVar

import numpy as np

T = TypeVar("T")


class Replay(Generic[T]):
    """The last `capacity` items with a positive signal, drawn with chances proportional to it.

    What is drawn was sampled by an older policy: pair it with an objective whose ratio or correction accounts for that.
    """

    def __init__(self, capacity: int) -> None:
        self.items: deque[tuple[T, float]] = deque(maxlen=capacity)

    def add(self, item: T, signal: float) -> None:
        """Remember an item, for example a group with its mean |A|; without a signal it is not kept."""
        if signal > 0:
            self.items.append((item, signal))

    def draw(self, count: int, draw: np.random.Generator) -> list[T]:
        """At most `count` different items."""
        signal = np.array([signal for _, signal in self.items])
        size = min(count, len(self.items))
        if size == 0:
            return []
        chosen = draw.choice(len(self.items), size, replace=False, p=signal / signal.sum())
        return [self.items[i][0] for i in chosen.tolist()]

    def state(self) -> list[Any]:
        """All it holds; fit for JSON if the items are."""
        return [[item, signal] for item, signal in self.items]

    def load_state(self, state: list[Any]) -> None:
        self.items = deque(((item, signal) for item, signal in state), self.items.maxlen)
