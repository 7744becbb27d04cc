"""Tasks and where they come from."""

from __future__ import annotations

import pickle
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from hashlib import blake2b
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

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
    which indices it has handed out.  A finite source wraps around; it may say where (`Countable`).
    """

    @property
    def levels(self) -> Sequence[str]:
        """The levels, easiest first."""
        ...

    def task(self, split: Split, level: str, index: int) -> Task: ...


@runtime_checkable
class Countable(Protocol):
    """A task source that knows how many tasks it has."""

    def count(self, split: Split, level: str) -> int | None:
        """Tasks before the source wraps around; None for no end."""
        ...


def distinct(source: TaskSource, split: Split, level: str, most: int) -> list[Task]:
    """At most `most` tasks from the front of a source, none twice, whether the source says how many it has or wraps around unsaid."""
    size = source.count(split, level) if isinstance(source, Countable) else None
    found: dict[Hashable, Task] = {}
    for index in range(min(most, size or most)):  # a source that has none says what it lacks
        task = source.task(split, level, index)
        found.setdefault(content(task), task)
    return list(found.values())


def content(task: Task) -> Hashable:
    """What a task asks: equal for two tasks if and only if their data are.  Large arrays are as good as their bytes.

    >>> content(Task("a", {"grid": [1, 2]})) == content(Task("b", {"grid": (1, 2)}))
    True
    """
    return _content(task.data)


def _content(value: Any) -> Hashable:
    """Something hashable that is equal for equal values, whatever container holds them."""
    match value:
        case None | str() | bytes() | int():
            return value
        case float():
            return value if value == value else "nan"
        case Mapping():
            return "map", frozenset((_content(key), _content(item)) for key, item in value.items())
        case list() | tuple():
            return tuple(map(_content, value))
        case set() | frozenset():
            return "set", frozenset(map(_content, value))
    if is_dataclass(value) and not isinstance(value, type):
        return type(value).__qualname__, tuple(_content(getattr(value, f.name)) for f in fields(value))
    if hasattr(value, "__array__") or hasattr(value, "__array_interface__"):  # also tensors, images, tables
        array = np.asarray(value)
        if array.dtype.hasobject:
            return "array", _content(array.tolist())
        return "array", array.dtype.str, array.shape, _digest(array.tobytes())
    try:
        return type(value).__qualname__, _digest(pickle.dumps(value))
    except Exception:  # foreign objects refuse in many ways
        return type(value).__qualname__, repr(value)


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()
