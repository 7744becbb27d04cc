"""Values come back from JSON as they were: a task that is played again is the task that was played."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from sojourn.core import Failure, FailureKind, Image, StopReason, ToolCall, ToolResult, assistant, user
from sojourn.core.values import DEEPEST, from_json, to_json

VALUES: list[Any] = [
    None, True, 3, 2.5, -0.0, float("inf"), 2**70, "", "{not json", b"\x00\xff", (), (1, (2,)), [1, (2, [3])], {1, 2}, frozenset({"a"}),
    {"a": (1,)}, {3: "a", (1, 2): "b"}, {"$tuple": [1]}, {"$other": 1}, {"$tuple": 1, "b": 2}, {"a": {"$float": "nan"}},
    user("hi"), assistant("x", [ToolCall("f", {"n": (1,)})]), user([Image(b"\x89PNG")]), ToolResult("t", "no", True, FailureKind.BUDGET),
    Failure(FailureKind.MODEL, "here", "this"), StopReason.TRUNCATED,
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_come_back(value: Any) -> None:
    again = from_json(to_json({"x": value}))["x"]
    assert again == value and type(again) is type(value)


def test_what_json_has_is_written_as_it_is() -> None:
    value = {"answer": 4, "list": [1.5, None, {"deep": "text"}], "name": "Zo\u00eb"}
    assert json.loads(to_json(value)) == value


@pytest.mark.parametrize(
    "array", [np.arange(6).reshape(2, 3), np.zeros((0, 2), np.float32), np.array(["ab", "c"]), np.array([True])]
)
def test_arrays_keep_type_and_shape(array: np.ndarray) -> None:
    again = from_json(to_json(array))
    assert again.dtype == array.dtype
    np.testing.assert_array_equal(again, array)


def test_numbers_of_numpy_are_equal_numbers() -> None:
    assert from_json(to_json([np.int64(3), np.float32(0.1), np.bool_(True)])) == [3, float(np.float32(0.1)), True]


def test_a_value_without_end_is_cut() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    assert to_json(deep).count("[") == DEEPEST
