"""What a task asks, and how many different ones a source has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.core import Image, Split, Task, Text, content, distinct


def same(one: Any, other: Any) -> bool:
    return content(Task("one", {"x": one}, "easy")) == content(Task("other", {"x": other}, "hard"))


@dataclass
class Board:
    size: int
    cells: Any = None


BIG = np.zeros((200, 200))
CHANGED = BIG.copy()
CHANGED[100, 100] = 1
DIFFERENT = [
    (BIG, CHANGED), (BIG, BIG.reshape(100, 400)), (BIG, BIG.astype(np.float32)), ([BIG], [CHANGED]), (Board(1, BIG), Board(1, CHANGED)),
    ({"a": 1}, {"b": 1}), ([1, 2], [2, 1]), ([[1], 2], [1, [2]]), ({1, 2}, {1, 3}), (None, "None"), ("1", 1), (b"a", "a"), ([], {}),
    (Text("a"), Image(b"a")), (Image(b"a"), Image(b"b")), (Board(1), Board(2)), (np.array([{"a": 1}]), np.array([{"a": 2}])),
    (complex(1, 2), complex(1, 3)), ({"a": {"b": (1, [BIG])}}, {"a": {"b": (1, [CHANGED])}}),
]  # fmt: skip
EQUAL = [
    (BIG, BIG.copy()), (BIG, np.asfortranarray(BIG)), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), ((1, 2), [1, 2]), ({3, 1, 2}, {2, 3, 1}),
    (float("nan"), float("nan")), (Board(1, BIG), Board(1, BIG.copy())), (Image(b"a"), Image(b"a")), (complex(1, 2), complex(1, 2)),
    (np.int64(3), np.int64(3)), (np.array([{"a": BIG}]), np.array([{"a": BIG.copy()}])),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), DIFFERENT, ids=range(len(DIFFERENT)))
def test_other_data_are_another_task(one: Any, other: Any) -> None:
    assert not same(one, other)


@pytest.mark.parametrize(("one", "other"), EQUAL, ids=range(len(EQUAL)))
def test_equal_data_are_the_same_task_whatever_its_name_and_level(one: Any, other: Any) -> None:
    assert same(one, other)


class Wraps:
    """A finite source that does not say that it is one."""

    levels = ("only",)

    def __init__(self, size: int) -> None:
        self.size = size

    def task(self, split: Split, level: str, index: int) -> Task:
        return Task(f"{split}/{index}", {"n": index % self.size}, level)


class Counts(Wraps):
    """One that does, and is asked for no more."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.asked: list[int] = []

    def count(self, split: Split, level: str) -> int:
        return self.size

    def task(self, split: Split, level: str, index: int) -> Task:
        self.asked.append(index)
        return super().task(split, level, index)


@given(size=st.integers(1, 9), most=st.integers(0, 20))
def test_no_task_of_a_source_is_played_twice(size: int, most: int) -> None:
    first = [f"test/{index}" for index in range(min(size, most))]
    counts = Counts(size)
    sources: Sequence[Wraps] = Wraps(size), counts
    assert [[task.id for task in distinct(source, "test", "only", most)] for source in sources] == [first, first]
    assert counts.asked == list(range(min(size, most)))
