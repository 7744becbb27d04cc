"""Arithmetic in words, with a calculator that does one operation a call.

The calculator does the first operation of an expression, from the left, and gives back what remains: `12 * 34 + 5` becomes
`408 + 5`.  So a question of n steps takes n calls, each of which needs what the one before gave.

The one idea: a staircase.  Level 1 needs one call and an answer, level 2 two calls of which the second uses the result of the first,
level 3 three or four.  A small language model cannot multiply, so what it has to learn is to call, read and go on.  Questions
are drawn by (split, level, index) alone, and the split is decided by a hash of the numbers in the question: no question, in no
wording and in no order of its terms, is in both splits.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from random import Random

from sojourn.core import (
    Action,
    Message,
    Observation,
    Split,
    Task,
    ToolCall,
    ToolResult,
    Transition,
    assistant,
    user,
)
from sojourn.environments.tools import ToolEnvironment, answer_text
from sojourn.rendering.protocols import ActionProtocol, XmlTags
from sojourn.tools import ToolError, tool

OPERATIONS = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}
ASK = {"+": "plus", "-": "minus", "*": "times"}
TELL = {"+": "add", "-": "subtract", "*": "multiply by"}
TEST_SHARE = 1 / 8
INTEGER = re.compile(r"(?<!\w)[-+]? ?(?:\d{1,3}(?:[ ,]\d{3})+|\d{1,40})(?!\w)")
EXPRESSION = re.compile(r"(-?\d{1,30})(?:\s*([-+*])\s*(\d{1,30})((?:\s*[-+*]\s*\d{1,30})*))?")


@tool(quick=True)
def calc(expression: str) -> str:
    """does the first operation"""
    match = EXPRESSION.fullmatch(expression.replace("\u00d7", "*").strip())
    if match is None:
        raise ToolError("Error: not an expression")
    left, operator, right, rest = match.groups()
    return f"{OPERATIONS[operator](int(left), int(right))}{rest}" if operator else str(int(left))


class ToolArithmetic(ToolEnvironment):
    """A question whose answer is a whole number, and a calculator.

    The first observation shows the protocol once, on another question.  Two reward terms: `correct`, 1 or 0, paid for the answer (a
    text that is no call counts as the answer); and `progress`, paid for a call that brings the next intermediate value.
    `task.data`: `question`, `numbers`, `operators`, `answer` (see `ArithmeticTasks`).

    progress: what all intermediate values together pay.  With 0 only the answer pays: then a question of two steps, which an
    untrained policy never solves, gives no signal.
    """

    def __init__(self, protocol: ActionProtocol | None = None, *, progress: float = 0.5) -> None:
        super().__init__((calc,), patience=2)
        self._protocol = protocol or XmlTags(tools=(calc.spec,))
        self._progress = progress
        self._results: tuple[str, ...] = ()

    async def reset(self, task: Task, *, seed: int) -> Observation:
        self._task = task
        self._values = chain(task.data["numbers"], task.data["operators"])
        self._results, self.tool_calls, self._faults = (), 0, 0
        return Observation.of([*self._example(), user(task.data["question"])])

    async def step(self, action: Action) -> Transition:
        transition = await super().step(action)
        return replace(transition, info={"success": False, **transition.info})  # progress alone is no success

    async def answer(self, action: Action) -> Transition:
        correct = read_integer(answer_text(action)) == self._values[-1]
        return Transition(reward={"correct": float(correct)}, terminated=True, info={"success": correct})

    async def observe(self, results: Sequence[ToolResult]) -> Transition:
        before = self._done
        self._results += tuple(result.text for result in results)
        transition = await super().observe(results)
        paid = self._progress * (self._done - before) / (len(self._values) - 1)
        return replace(transition, reward={"progress": paid} if paid else 0.0)

    def snapshot(self) -> object:
        return self._task, self._values, self._results, self.tool_calls, self._faults

    def restore(self, snapshot: object) -> None:
        self._task, self._values, self._results, self.tool_calls, self._faults = snapshot  # type: ignore[misc]

    def state_key(self) -> Hashable:
        return self._task.id, self._results

    def oracle(self) -> Action:
        """Call with what remains after the furthest intermediate value that the calculator has shown; at the end, answer."""
        done = self._done
        if done == len(self._values) - 1:
            return self._say(Action("", answer=str(self._values[-1])))
        remaining = zip(self._task.data["operators"][done:], self._task.data["numbers"][done + 1 :], strict=True)
        return self._say(call(" ".join([str(self._values[done]), *(f"{o} {n}" for o, n in remaining)])))

    @property
    def _done(self) -> int:
        """Steps whose value the calculator has shown: up to the furthest."""
        shown = {match[0] for result in self._results if (match := re.match(r"-?\d+", result))}
        return max(k for k, value in enumerate(self._values) if k == 0 or str(value) in shown)

    def _example(self) -> list[Message]:
        """One question of two steps, answered in the protocol."""
        messages = [user("What is 12 times 34, then plus 5?")]
        for expression, result in (("12 * 34 + 5", "408 + 5"), ("408 + 5", "413")):
            asked = self._say(call(expression))
            messages += [assistant(asked.text, asked.calls), ToolResult("calc", result).message()]
        return [*messages, assistant(self._say(Action("", answer="413")).text)]

    def _say(self, action: Action) -> Action:
        return replace(action, text=self._protocol.format(action))

    @staticmethod
    def tasks(*, operators: str = "+-*", digits: tuple[int, int] = (3, 4)) -> ArithmeticTasks:
        """The questions; see `ArithmeticTasks`."""
        return ArithmeticTasks(operators, digits)


@dataclass(frozen=True)
class ArithmeticTasks:
    """An endless source of questions, a function of (split, level, index) alone.

    operators: which may occur.  digits: the fewest and most digits of a number.  One question in eight is a test question.

    >>> ArithmeticTasks().task("train", "2", 0).data["operators"]
    '*+'
    """

    operators: str = "+-*"
    digits: tuple[int, int] = (3, 4)
    levels: Sequence[str] = ("1", "2", "3")

    def task(self, split: Split, level: str, index: int) -> Task:
        if level not in self.levels:
            raise ValueError(f"tool_arithmetic has no level '{level}': choose one of {', '.join(self.levels)}")
        rng = Random(f"tool_arithmetic/{split}/{level}/{index}")
        numbers, operators = self._draw(rng, level)
        while split_of(numbers) != split:
            numbers, operators = self._draw(rng, level)
        data = {"question": in_words(numbers, operators, rng), "numbers": numbers, "operators": operators}
        data["answer"] = str(chain(numbers, operators)[-1])
        return Task(f"tool_arithmetic/{split}/{level}/{index}", data, level)

    def _draw(self, rng: Random, level: str) -> tuple[list[int], str]:
        """Numbers and operators; at most one product where there is a choice, so that answers stay short."""
        steps = rng.choice((3, 4)) if level == "3" else int(level)
        operators = ""
        for _ in range(steps):
            choice = self.operators.replace("*", "") if "*" in operators else self.operators
            operators += rng.choice(choice or self.operators)
        numbers = [rng.randrange(10 ** (n - 1), 10**n) for n in (rng.randint(*self.digits) for _ in range(steps + 1))]
        return numbers, operators


def split_of(numbers: Sequence[int]) -> Split:
    """The split that owns every question with these numbers, in whatever order."""
    return "test" if Random(f"split {sorted(numbers)}").random() < TEST_SHARE else "train"


def chain(numbers: Sequence[int], operators: str) -> list[int]:
    """The values after each step, from left to right; the first is the first number, the last is the answer.

    >>> chain([5, 3, 10], "*-")
    [5, 15, 5]
    """
    steps = zip(operators, numbers[1:], strict=True)
    return list(accumulate(steps, lambda value, step: OPERATIONS[step[0]](value, step[1]), initial=numbers[0]))


def in_words(numbers: Sequence[int], operators: str, rng: Random) -> str:
    """One of four wordings; all say that the steps follow one another."""
    steps = list(zip(operators, numbers[1:], strict=True))
    asked = ", then ".join(f"{ASK[operator]} {number}" for operator, number in steps)
    told = ", then ".join(f"{TELL[operator]} {number}" for operator, number in steps)
    return rng.choice(
        (
            f"What is {numbers[0]} {asked}?",
            f"How much is {numbers[0]} {asked}?",
            f"Compute {numbers[0]} {asked}.",
            f"Take {numbers[0]}, then {told}. What do you get?",
        )
    )


def read_integer(text: str) -> int | None:
    """The one whole number in `text` (thousands may be parted by a comma or a space); None if there is none, or several.

    >>> read_integer("It is 1,817,517."), read_integer("12 * 34 = 408")
    (1817517, None)
    """
    found = INTEGER.findall(text.replace("\u2212", "-"))
    return int(re.sub("[ ,]", "", found[0])) if len(found) == 1 else None


def call(expression: str) -> Action:
    return Action("", (ToolCall("calc", {"expression": expression}),))
