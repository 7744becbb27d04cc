"""Countdown: the judge knows arithmetic, and nothing but a formula of the given numbers counts."""

import re
from fractions import Fraction
from itertools import permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_worlds import play_out, say, solved

from sojourn.core import Task
from sojourn.environments.small.countdown import Countdown, evaluate

INDICES = st.integers(0, 10**4)
TASK = Task("t", {"numbers": [3, 5, 8, 3], "target": 24, "solution": "3 * 8", "limit": 4}, "4")
NUMBERS = st.integers(1, 25).map(lambda n: (str(n), Fraction(n), [n]))


def joined(parts: object) -> tuple[str, Fraction | None, list[int]]:
    (a, x, first), (b, y, second), sign = parts  # type: ignore[misc]
    if x is None or y is None or (sign == "/" and y == 0):
        value = None
    else:
        value = {"+": lambda: x + y, "-": lambda: x - y, "*": lambda: x * y, "/": lambda: x / y}[sign]()
    return f"({a} {sign} {b})", value, first + second


FORMULAS = st.recursive(NUMBERS, lambda inner: st.tuples(inner, inner, st.sampled_from("+-*/")).map(joined), max_leaves=6)


@given(FORMULAS)
def test_a_formula_has_the_value_of_its_parts(formula: tuple[str, Fraction | None, list[int]]) -> None:
    text, value, numbers = formula
    assert evaluate(text, numbers, 0) == value == evaluate(text.replace(" ", ""), numbers[::-1], 0)


@pytest.mark.parametrize(
    ("text", "value"),
    [("2 + 3 * 4", 14), ("2 * 3 + 4", 10), ("4 - 3 - 2", -1), ("4 / 2 / 3", Fraction(2, 3)), ("4 - (3 - 2)", 3), ("((3))", 3)],
)
def test_precedence_and_order_are_those_of_school(text: str, value: Fraction | int) -> None:
    assert evaluate(text, [2, 3, 4], 0) == value


@pytest.mark.parametrize("text", ["3 * 8", "8*3", "(3 + 5) * 3", "3 * 8 = 24", "3 \u00d7 8", " (3*(8)) "])
def test_a_formula_that_reaches_the_target_is_right(text: str) -> None:
    assert play_out(Countdown(), TASK, say(text))[-1].reward == {"correct": 1.0}


@pytest.mark.parametrize(
    "text",
    [
        "24", "3 * 5", "8 * 8 - 8 * 5", "3 * 8 = 25", "3 * 8 = 24 = 24", "2 * 12", "3 * 8 3", "3 8", "38 - 14", "3**8", "-3 * -8", "3 * 8;",
        "3 * 8 or 5", "int(24)", "", "()", "3 *", "= 24", "Make 24 from 3, 5, 8, 3.", "(" * 60 + "3 * 8" + ")" * 60, "3 * 8 / (5 - 5)",
        "3 * 8 + 0", "3 + 3 + 3 + 5 + 5 + 5", "3 5 8 3 24",
    ],
)  # fmt: skip
def test_what_is_nearly_right_is_wrong(text: str) -> None:
    assert not solved(play_out(Countdown(format=0.1), TASK, say(text)))


def test_format_pays_for_a_formula_of_the_given_numbers_and_is_no_success() -> None:
    wrong = play_out(Countdown(format=0.1), TASK, say("3 + 5"))[-1]
    assert wrong.reward == {"correct": 0.0, "format": 0.1} and not wrong.info["success"]
    assert play_out(Countdown(format=0.1), TASK, say("3 + 6"))[-1].reward == {"correct": 0.0, "format": 0.0}


@given(st.sampled_from(["3", "4"]), INDICES)
def test_no_target_is_given_and_every_task_has_a_solution(level: str, index: int) -> None:
    data = Countdown.tasks().task("train", level, index).data
    assert evaluate(data["solution"], data["numbers"], data["target"]) == data["target"] not in data["numbers"]


@given(INDICES)
def test_brute_force_finds_a_solution_that_the_judge_takes(index: int) -> None:
    task = Countdown.tasks().task("test", "3", index)
    for (a, b, c), (f, g) in product(permutations(task.data["numbers"]), product("+-*/", repeat=2)):
        for text in (f"({a} {f} {b}) {g} {c}", f"{a} {f} ({b} {g} {c})"):
            try:
                value = eval(re.sub(r"(\d+)", r"Fraction(\1)", text))
            except ZeroDivisionError:
                continue
            if value == task.data["target"]:
                assert solved(play_out(Countdown(), task, say(text)))
                return
    raise AssertionError(f"brute force finds no solution of {task.data}")
