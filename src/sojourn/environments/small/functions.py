"""Functions over integers and lists: say the output, find an input, or find the program; and propose new ones.

The one idea: a triple (program, input, output) gives three questions, of which each hides another part (Absolute Zero, Zhao et al., arXiv
2505.03335).  Deduction hides the output.  Abduction hides the input, and any input that gives the output is right.  Induction hides
the program, and any program is right that maps shown *and hidden* inputs to their outputs.

Programs that are the same function are in the same split, in whatever kind of question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Literal

from sojourn.core import Action, Observation, Task, Transition
from sojourn.environments.small.common import DrawnTasks, SmallWorld, refuse, say
from sojourn.environments.small.pipelines import (
    LANGUAGE,
    ProgramError,
    Value,
    behaviour,
    is_minimal,
    parse,
    random_program,
    random_value,
    read_value,
    run,
    show,
)
from sojourn.environments.tools import answer_text
from sojourn.rendering.protocols import ActionProtocol

Question = Literal["deduction", "abduction", "induction"]
QUESTIONS: tuple[Question, ...] = ("deduction", "abduction", "induction")
SHOWN, HIDDEN, KNOWN = 4, 6, 3


class Functions(SmallWorld[int]):
    """One question, one answer: a number, a list such as `[3, 1]`, or a program.  The state is the number of wrong answers.

    Reward: `correct`, 1 or 0, paid for the answer that ends the episode.  `task.data`: `kind`, `program`, `pairs` (input and output of
    each; deduction and abduction have one), `limit`.

    tries: answers that may be given.  A wrong one before the last is told what is wrong with it, by the shown pairs alone.
    """

    def __init__(self, *, tries: int = 1, example: ActionProtocol | None = None) -> None:
        super().__init__(example=example)
        self._tries = tries

    def start(self, task: Task) -> int:
        return 0

    def prompt(self) -> str:
        return f"{LANGUAGE}\n{ask(self.task.data)}"

    async def answer(self, action: Action) -> Transition:
        wrong = judge(self.task.data, answer_text(action))
        self.state += wrong is not None
        if wrong is None or self.state >= self._tries:
            return Transition(reward={"correct": float(wrong is None)}, terminated=True, info={"success": wrong is None})
        return Transition(Observation.of(f"Wrong: {wrong}. Try again."))

    def oracle(self) -> Action:
        program, (given, output) = self.task.data["program"], self.task.data["pairs"][0]
        return say({"deduction": show(output), "abduction": show(given), "induction": program}[self.task.data["kind"]])

    @staticmethod
    def tasks() -> DrawnTasks:
        """Levels are a kind of question and the number of steps of the program."""
        levels = tuple(f"{kind}-{steps}" for steps in (1, 2, 3, 4) for kind in QUESTIONS)
        return DrawnTasks("functions", levels, draw, content)


class Propose(SmallWorld[int]):
    """Write a new program and an input for it, such as `sort | take 2; [3, 1, 2]`.

    Reward: `valid`, 1 if the program is minimal (no step can be left out), has a value for the input, and is none of the functions in
    the prompt.  How much a solver learns from it is for the training program to judge: `question` makes the task.
    `task.data`: `known` (programs), `next` (one that would do), `limit`.
    """

    def start(self, task: Task) -> int:
        return 0

    def prompt(self) -> str:
        return f"{LANGUAGE}\nKnown: {'; '.join(self.task.data['known'])}. Write another program and an input: PROGRAM; INPUT"

    async def answer(self, action: Action) -> Transition:
        try:
            program, value = proposed(answer_text(action))
        except ProgramError as error:
            return self._end(False, refuse(str(error)))
        known = [behaviour(other) for other in self.task.data["known"]]
        new = is_minimal(program) and behaviour(program) not in known
        return self._end(new, Transition(info={"program": program, "input": value}))

    def oracle(self) -> Action:
        program = self.task.data["next"]
        rng = Random(program)
        value = _input(rng, program)
        return say(f"{program}; {show(value)}")

    @staticmethod
    def _end(valid: bool, transition: Transition) -> Transition:
        info = {**transition.info, "success": valid}
        return Transition(reward={"valid": float(valid)}, terminated=True, failures=transition.failures, info=info)

    @staticmethod
    def tasks() -> DrawnTasks:
        """Levels are the number of steps of the known programs."""
        return DrawnTasks("propose", ("1", "2", "3", "4"), draw_known, lambda data: [behaviour(p) for p in data["known"]])


def question(kind: Question, program: str, inputs: Sequence[Value]) -> dict[str, Any]:
    """The data of a task.  Raises ProgramError if the program has no value for an input."""
    return {"kind": kind, "program": program, "pairs": [[value, run(program, value)] for value in inputs], "limit": 8}


def ask(data: Mapping[str, Any]) -> str:
    given, output = data["pairs"][0]
    if data["kind"] == "deduction":
        return f"Program: {data['program']}. Input: {show(given)}. What is the output?"
    if data["kind"] == "abduction":
        return f"Program: {data['program']}. Output: {show(output)}. Give an input."
    pairs = ", ".join(f"{show(value)} gives {show(result)}" for value, result in data["pairs"][:SHOWN])
    return f"{pairs}. What is the program?"


def judge(data: Mapping[str, Any], answer: str) -> str | None:
    """What is wrong with an answer; None if it is right.  It never tells of hidden pairs."""
    try:
        if data["kind"] == "deduction":
            return None if read_value(answer) == data["pairs"][0][1] else "that is not the output"
        if data["kind"] == "abduction":
            return _compare(data["program"], read_value(answer), data["pairs"][0][1])
        program = answer.lower().rstrip(".")
        wrong = [_compare(program, value, result) for value, result in data["pairs"]]
    except ProgramError as error:
        return str(error)
    shown = next((text for text in wrong[:SHOWN] if text), None)
    return shown or ("a hidden input has another output" if any(wrong) else None)


def proposed(text: str) -> tuple[str, Value]:
    """The program and the input of a proposal.  Raises ProgramError if it is none or the program has no value for it."""
    program, semicolon, value = text.strip().partition(";")
    if not semicolon:
        raise ProgramError("write PROGRAM; INPUT")
    program = " | ".join(" ".join(step.split()) for step in program.lower().split("|"))
    run(program, read_value(value))
    return program, read_value(value)


def draw(rng: Random, level: str) -> dict[str, Any]:
    """A program of which no step can be left out, and inputs for which it has a value that is not trivial."""
    kind, steps = level.split("-")
    program = _program(rng, int(steps))
    count = SHOWN + HIDDEN if kind == "induction" else 1
    while True:
        inputs = [_input(rng, program) for _ in range(count)]
        data = question(kind, program, inputs)  # type: ignore[arg-type]
        if _is_telling(data):
            return data
        program = _program(rng, int(steps))


def draw_known(rng: Random, level: str) -> dict[str, Any]:
    programs: dict[tuple[str, ...], str] = {}
    while len(programs) <= KNOWN:
        program = _program(rng, int(level))
        programs.setdefault(behaviour(program), program)
    *known, new = programs.values()
    return {"known": known, "next": new, "limit": 4}


def content(data: Mapping[str, Any]) -> object:
    return behaviour(data["program"])


def _is_telling(data: Mapping[str, Any]) -> bool:
    """Neither the input, nor the output, nor an empty list may be an answer; induction needs different inputs and outputs."""
    program, ((given, output), *_) = data["program"], data["pairs"]
    if data["kind"] == "deduction":
        return bool(given != output and output != [])
    if data["kind"] == "abduction":
        cheap = [[], 0, output]
        return not any(_compare(program, value, output) is None for value in cheap)
    shown, hidden = data["pairs"][:SHOWN], data["pairs"][SHOWN:]
    inputs = [show(value) for value, _ in data["pairs"]]
    return len(set(inputs)) == len(inputs) and all(len({show(o) for _, o in pairs}) > 2 for pairs in (shown, hidden))


def _compare(program: str, value: Value, wanted: Value) -> str | None:
    """How the program's value for an input differs from the one that is wanted.  Raises ProgramError only for what is no program."""
    parse(program)
    try:
        result = run(program, value)
    except ProgramError as error:
        return f"for {show(value)} {error}"
    return None if result == wanted else f"{show(value)} gives {show(result)}, not {show(wanted)}"


def _program(rng: Random, steps: int) -> str:
    while not is_minimal(program := random_program(rng, steps)):
        pass
    return program


def _input(rng: Random, program: str) -> Value:
    """One for which the program has a value."""
    kind = parse(program)[0][0].takes
    while True:
        value = random_value(rng, kind)
        try:
            run(program, value)
        except ProgramError:
            continue
        return value
