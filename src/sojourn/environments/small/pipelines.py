"""A tiny typed language over integers and lists of them: `sort | take 2 | sum`.

The one idea: a program is a pipeline of operations from a fixed table, so that its type follows from its first and last operation, a
random program is a random walk over types, and running a model's program runs table entries and nothing else.  Every program ends:
there are no loops, and sizes are bounded.

Two programs are the same function if they agree on a fixed set of inputs (`behaviour`).  In the spirit of DeepCoder's language (Balog
et al., arXiv 1611.01989).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from random import Random
from typing import Literal, NamedTuple

Value = int | list[int]
Kind = Literal["int", "list"]
LARGEST, LONGEST, MOST_STEPS = 10**6, 50, 12


class ProgramError(ValueError):
    """The text is no program, or the program has no value for this input."""


class Operation(NamedTuple):
    """`takes` to `gives`; `numbers` are the arguments that random programs use, none if it takes no argument."""

    takes: Kind
    gives: Kind
    run: Callable[..., Value]
    numbers: Sequence[int] = ()


OPERATIONS = {
    "sort": Operation("list", "list", sorted),
    "reverse": Operation("list", "list", lambda xs: xs[::-1]),
    "unique": Operation("list", "list", lambda xs: list(dict.fromkeys(xs))),
    "even": Operation("list", "list", lambda xs: [x for x in xs if x % 2 == 0]),
    "odd": Operation("list", "list", lambda xs: [x for x in xs if x % 2]),
    "above": Operation("list", "list", lambda xs, k: [x for x in xs if x > k], range(1, 8)),
    "below": Operation("list", "list", lambda xs, k: [x for x in xs if x < k], range(2, 9)),
    "add": Operation("list", "list", lambda xs, k: [x + k for x in xs], range(1, 6)),
    "times": Operation("list", "list", lambda xs, k: [x * k for x in xs], range(2, 5)),
    "take": Operation("list", "list", lambda xs, k: xs[: max(k, 0)], range(1, 4)),
    "drop": Operation("list", "list", lambda xs, k: xs[max(k, 0) :], range(1, 4)),
    "sum": Operation("list", "int", sum),
    "max": Operation("list", "int", max),
    "min": Operation("list", "int", min),
    "len": Operation("list", "int", len),
    "first": Operation("list", "int", lambda xs: xs[0]),
    "last": Operation("list", "int", lambda xs: xs[-1]),
    "plus": Operation("int", "int", lambda x, k: x + k, range(1, 10)),
    "minus": Operation("int", "int", lambda x, k: x - k, range(1, 10)),
    "mod": Operation("int", "int", lambda x, k: x % k, range(2, 10)),
    "upto": Operation("int", "list", lambda x: list(range(1, min(x, LONGEST + 1) + 1))),
    "digits": Operation("int", "list", lambda x: [int(digit) for digit in str(abs(x))]),
}
LANGUAGE = (
    "A program is steps with | between. List to list: sort, reverse, unique, even, odd, above K, below K, add K, times K, take K, "
    "drop K. List to number: sum, max, min, len, first, last. Number to number: plus K, minus K, mod K. Number to list: upto, digits."
)

Step = tuple[Operation, tuple[int, ...]]


def parse(program: str) -> list[Step]:
    """The steps of a program.  Raises ProgramError, with the step, if it is none.

    >>> len(parse("sort | take 2"))
    2
    >>> parse("sum | sort")
    Traceback (most recent call last):
    sojourn.environments.small.pipelines.ProgramError: step 2, 'sort', takes a list, not a int
    """
    texts = program.split("|")
    if len(texts) > MOST_STEPS:
        raise ProgramError(f"{len(texts)} steps are too many, {MOST_STEPS} are allowed")
    steps: list[Step] = []
    for number, text in enumerate(texts, start=1):
        step = _step(" ".join(text.split()), number)
        if steps and steps[-1][0].gives != step[0].takes:
            raise ProgramError(f"step {number}, '{text.strip()}', takes a {step[0].takes}, not a {steps[-1][0].gives}")
        steps.append(step)
    return steps


def run(program: str, value: Value) -> Value:
    """The program's value for an input.  Raises ProgramError if it has none: wrong type, an empty list's maximum, too large.

    >>> run("sort | take 2 | sum", [5, 1, 4])
    5
    """
    return _run(parse(program), value)


def read_value(text: str) -> Value:
    """A number or a list of numbers.  Raises ProgramError.

    >>> read_value("[3, -1]"), read_value(" 7 ")
    ([3, -1], 7)
    """
    text = text.strip()
    if re.fullmatch(r"-?\d{1,7}", text):
        return int(text)
    if not re.fullmatch(r"\[\s*(-?\d{1,7}(\s*,\s*-?\d{1,7}){0,49})?\s*\]", text):
        raise ProgramError("neither a number nor a list such as [3, 1]")
    return [int(number) for number in re.findall(r"-?\d+", text)]


def show(value: Value) -> str:
    return str(value)


def kind_of(value: Value) -> Kind:
    return "int" if isinstance(value, int) else "list"


def random_program(rng: Random, steps: int) -> str:
    """A random walk over the types, from a list or a number; no two steps in a row that one could do."""
    kind: Kind = rng.choice(("list", "list", "list", "int"))
    said: list[str] = []
    name = ""
    for _ in range(steps):
        fits = [other for other, operation in OPERATIONS.items() if operation.takes == kind and other != name]
        name = rng.choice([other for other in fits if {name, other} != {"plus", "minus"}])
        numbers = OPERATIONS[name].numbers
        said.append(f"{name} {rng.choice(numbers)}" if numbers else name)
        kind = OPERATIONS[name].gives
    return " | ".join(said)


def random_value(rng: Random, kind: Kind) -> Value:
    return rng.randint(1, 40) if kind == "int" else [rng.randint(0, 9) for _ in range(rng.randint(3, 6))]


def behaviour(program: str) -> tuple[str, ...]:
    """What the program does to twenty fixed inputs: equal for programs that are the same function there."""
    return _behaviour(parse(program))


def is_minimal(program: str) -> bool:
    """Whether no steps in a row can be left out, and the value depends on the input."""
    steps = parse(program)
    own, identity = _behaviour(steps), tuple(map(show, _probes(steps[0][0].takes)))
    if len(set(own)) < 3 or own == identity:
        return False
    cuts = [(i, j) for i in range(len(steps)) for j in range(i + 1, len(steps) + 1) if j - i < len(steps)]
    shorter = [steps[:i] + steps[j:] for i, j in cuts]
    return all(not _fits(rest) or _behaviour(rest) != own for rest in shorter)


def _run(steps: Sequence[Step], value: Value) -> Value:
    if kind_of(value) != steps[0][0].takes:
        raise ProgramError(f"the program takes a {steps[0][0].takes}, not {show(value)}")
    for operation, numbers in steps:
        try:
            value = operation.run(value, *numbers)
        except (IndexError, ValueError, ZeroDivisionError):
            raise ProgramError(f"there is no value for {show(value)}") from None
        if any(abs(x) > LARGEST for x in _numbers(value)) or len(_numbers(value)) > LONGEST:
            raise ProgramError("a value became too large")
    return value


def _behaviour(steps: Sequence[Step]) -> tuple[str, ...]:
    return tuple(_outcome(steps, value) for value in _probes(steps[0][0].takes))


@cache
def _probes(kind: Kind) -> tuple[Value, ...]:
    rng = Random("probes")
    return tuple(random_value(rng, kind) for _ in range(20))


def _outcome(steps: Sequence[Step], value: Value) -> str:
    try:
        return show(_run(steps, value))
    except ProgramError:
        return "none"


def _fits(steps: Sequence[Step]) -> bool:
    return all(before.gives == after.takes for (before, _), (after, _) in pairwise(steps))


def _step(text: str, number: int) -> Step:
    match = re.fullmatch(r"([a-z]+)(?: (-?\d{1,3}))?", text)
    if match is None or match[1] not in OPERATIONS:
        raise ProgramError(f"step {number}, '{text[:40]}', is unknown")
    operation = OPERATIONS[match[1]]
    if bool(operation.numbers) != (match[2] is not None):
        raise ProgramError(f"step {number}, '{match[1]}', takes {'a' if operation.numbers else 'no'} number")
    return operation, (int(match[2]),) if match[2] is not None else ()


def _numbers(value: Value) -> list[int]:
    return [value] if isinstance(value, int) else value
