"""Countdown: reach a number with given numbers, each used once at most, and + - * / and brackets.

The one idea: the answer is a formula that is easy to judge and hard to find; a small parser with exact fractions judges it, and nothing
of it is ever run as code.  The task of TinyZero and of many studies of R1-like training (Gandhi et al., arXiv 2503.01307).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from random import Random
from typing import Any

from sojourn.core import Action, Task, Transition
from sojourn.environments.small.common import DrawnTasks, SmallWorld, say
from sojourn.environments.tools import answer_text
from sojourn.rendering.protocols import ActionProtocol

TOKEN = re.compile(r"\s*(\d{1,4}|[-+*/()])")
LONGEST = 120


class Countdown(SmallWorld[None]):
    """One question, one formula.

    Reward: `correct`, 1 or 0; and `format`, paid for any formula of the given numbers.  Only the target is success.  `= 24` may
    follow the formula if it is true.  `task.data`: `numbers`, `target`, `solution`, `limit`.

    format: what a well-formed formula pays, right or wrong.  0.1 helps a model that writes none yet; with a large one the
    policy has no reason to compute.
    """

    def __init__(self, *, format: float = 0.0, example: ActionProtocol | None = None) -> None:
        super().__init__(example=example)
        self._format = format

    def start(self, task: Task) -> None:
        return None

    def prompt(self) -> str:
        numbers = ", ".join(map(str, self.task.data["numbers"]))
        return f"Make {self.task.data['target']} from {numbers}. Use each number once at most, and + - * / ( )."

    async def answer(self, action: Action) -> Transition:
        value = evaluate(answer_text(action), self.task.data["numbers"], self.task.data["target"])
        correct = value == self.task.data["target"]
        reward = {"correct": float(correct)} | ({"format": self._format * (value is not None)} if self._format else {})
        return Transition(reward=reward, terminated=True, info={"success": correct})

    def oracle(self) -> Action:
        return say(self.task.data["solution"])

    @staticmethod
    def tasks() -> DrawnTasks:
        """Levels are how many numbers are given."""
        return DrawnTasks("countdown", ("3", "4", "5", "6"), draw, content)


def evaluate(text: str, numbers: list[int], target: int) -> Fraction | None:
    """The value of a formula of these numbers; None if it is none.

    >>> evaluate("(1 + 3) * 6 = 24", [1, 3, 6], 24)
    Fraction(24, 1)
    >>> evaluate("24", [1, 3, 6], 24) is None
    True
    """
    formula = re.sub(rf"=\s*{target}\s*$", "", text.replace("\u00d7", "*").replace("\u00f7", "/").strip())
    if len(formula) > LONGEST:
        return None
    tokens = TOKEN.findall(formula)
    used = Counter(int(token) for token in tokens if token.isdigit())
    if "".join(tokens) != re.sub(r"\s+", "", formula) or re.search(r"\d\s+\d", formula) or used - Counter(numbers):
        return None
    try:
        value, rest = _sum(tokens)
    except (ValueError, ZeroDivisionError):
        return None
    return None if rest else value


def _sum(tokens: list[str]) -> tuple[Fraction, list[str]]:
    """sum = product (("+" | "-") product)*; the value and what follows."""
    value, rest = _product(tokens)
    while rest and rest[0] in "+-":
        other, after = _product(rest[1:])
        value, rest = (value + other if rest[0] == "+" else value - other), after
    return value, rest


def _product(tokens: list[str]) -> tuple[Fraction, list[str]]:
    """product = atom (("*" | "/") atom)*"""
    value, rest = _atom(tokens)
    while rest and rest[0] in "*/":
        other, after = _atom(rest[1:])
        value, rest = (value * other if rest[0] == "*" else value / other), after
    return value, rest


def _atom(tokens: list[str]) -> tuple[Fraction, list[str]]:
    """atom = number | "(" sum ")"; no sign: a number that is given is positive."""
    if tokens and tokens[0].isdigit():
        return Fraction(tokens[0]), tokens[1:]
    if tokens and tokens[0] == "(":
        value, rest = _sum(tokens[1:])
        if rest and rest[0] == ")":
            return value, rest[1:]
    raise ValueError("no formula")


def draw(rng: Random, level: str) -> dict[str, Any]:
    """Join random pairs by random operations until one formula is left; its value must be a whole number that is not given."""
    while True:
        numbers = [rng.randint(1, 25) for _ in range(int(level))]
        left = [(str(number), Fraction(number)) for number in numbers]
        while len(left) > 1:
            (a, x), (b, y) = (left.pop(rng.randrange(len(left))) for _ in range(2))
            sign = rng.choice("+-*/" if y else "+-*")
            value = {"+": x + y, "-": x - y, "*": x * y, "/": x / y if y else y}[sign]
            left.append((f"({a} {sign} {b})", value))
        ((solution, value),) = left
        if value.denominator == 1 and 10 <= value <= 200 and value not in numbers:
            return {"numbers": numbers, "target": int(value), "solution": solution[1:-1], "limit": 4}


def content(data: Mapping[str, Any]) -> object:
    return sorted(data["numbers"]), data["target"]
