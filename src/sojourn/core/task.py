"""Tasks and where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from sojourn.core.text import settle

Split = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class Task:
    """One problem to solve.  `data` is the environment's own; `level` is what a curriculum may choose by."""

    id: str
    data: Mapping[str, Any] = field(default_factory=dict)
    level: str = "default"

    def __post_init__(self) -> None:
        settle(self, "id", "level")


class TaskSource(Protocol):
    """An addressable, deterministic stream of tasks.

    The same (split, level, index) is always the same task, and the splits never share one; so a curriculum's whole state is
    which indices it has handed out.  A finite source wraps around.
    """

    @property
    def levels(self) -> Sequence[str]:
        """The levels, easiest first."""
        ...

    def task(self, split: Split, level: str, index: int) -> Task: ...
