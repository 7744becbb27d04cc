"""Arithmetic in words: the question says what is judged, splits stay apart, the calculator does one operation."""

import asyncio
import operator
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.core import Action, Failure, FailureKind, Task, ToolCall, Transition
from sojourn.environments import ToolArithmetic, check_environment, find
from sojourn.environments.math.tool_arithmetic import calc, read_integer, split_of
from sojourn.rendering.protocols import JsonTags, ReAct, XmlTags

WORDS = {
    "plus": operator.add, "add": operator.add, "minus": operator.sub, "subtract": operator.sub, "times": operator.mul,
    "multiply by": operator.mul,
}  # fmt: skip
STEP = re.compile(rf"({'|'.join(WORDS)}) (\d+)")
LEVELS = st.sampled_from(ToolArithmetic.tasks().levels)
SPLITS = st.sampled_from(["train", "test"])
INDICES = st.integers(0, 10**6)
INTEGERS = st.integers(-(10**12), 10**12)


some = settings(deadline=None, max_examples=50)


def solve(question: str) -> tuple[int, int]:
    """The answer, worked out from the words alone, and the number of steps."""
    value = int(re.search(r"\d+", question)[0])
    steps = STEP.findall(question)
    for word, number in steps:
        value = WORDS[word](value, int(number))
    return value, len(steps)


def judge(task: Task, *actions: Action, progress: float = 0.5) -> Transition:
    async def run() -> Transition:
        environment = ToolArithmetic(progress=progress)
        await environment.reset(task, seed=0)
        for action in actions:
            transition = await environment.step(action)
        return transition

    return asyncio.run(run())


def calculate(expression: str) -> str:
    return asyncio.run(calc.call({"expression": expression})).text


@some
@given(SPLITS, LEVELS, INDICES)
def test_the_words_of_a_question_say_the_answer_that_is_judged_right(split: str, level: str, index: int) -> None:
    task = ToolArithmetic.tasks().task(split, level, index)
    value, _ = solve(task.data["question"])
    assert judge(task, Action("", answer=str(value))).reward == {"correct": 1.0}
    assert judge(task, Action("", answer=str(value + 1))).reward == {"correct": 0.0}


@some
@given(SPLITS, LEVELS, INDICES)
def test_a_level_is_the_number_of_dependent_steps(split: str, level: str, index: int) -> None:
    _, steps = solve(ToolArithmetic.tasks().task(split, level, index).data["question"])
    assert steps in {"1": (1,), "2": (2,), "3": (3, 4)}[level]


@some
@given(st.lists(st.integers(100, 9999), min_size=2, max_size=5).flatmap(lambda ns: st.tuples(st.just(ns), st.permutations(ns))))
def test_reordering_a_question_keeps_its_split(numbers: tuple[list[int], list[int]]) -> None:
    assert split_of(numbers[0]) == split_of(numbers[1])


@some
@given(LEVELS, st.lists(INDICES, min_size=1, max_size=20))
def test_no_training_question_has_the_numbers_of_a_test_question(level: str, indices: list[int]) -> None:
    source = ToolArithmetic.tasks(digits=(1, 1))  # few numbers, so that splits would collide if they could
    train, test = ({tuple(sorted(source.task(s, level, i).data["numbers"])) for i in indices} for s in ("train", "test"))
    assert not train & test


def test_both_splits_and_all_operators_and_wordings_occur() -> None:
    tasks = [ToolArithmetic.tasks().task("test", "1", index) for index in range(200)]
    assert {task.data["operators"] for task in tasks} == {"+", "-", "*"}
    assert {task.data["question"].split()[0] for task in tasks} == {"What", "How", "Compute", "Take"}


@some
@given(INTEGERS, st.sampled_from("+-*"), st.integers(0, 10**12))
def test_the_calculator_does_an_operation_exactly(left: int, op: str, right: int) -> None:
    expected = {"+": left + right, "-": left - right, "*": left * right}[op]
    assert calculate(f"{left} {op} {right}") == calculate(f"{left}{op}{right}") == str(expected)


def test_the_calculator_does_the_first_operation_only_and_gives_back_what_remains() -> None:
    assert calculate("12 * 34 + 5 - 6") == "408 + 5 - 6"
    assert calculate("2 + 3 * 4") == "5 * 4"  # from the left, as the questions say


def test_a_number_alone_is_its_own_value_and_the_written_times_sign_multiplies() -> None:
    assert calculate(" -012 ") == "-12"
    assert calculate("7 \u00d7 6") == "42"


@pytest.mark.parametrize("text", ["2 ** 8", "", "__import__('os')", "1.5 * 2", "(1 + 2)", "2 + 3 *", "9" * 99 + " * 2"])
def test_the_calculator_refuses_all_else_and_runs_nothing(text: str) -> None:
    result = asyncio.run(calc.call({"expression": text}))
    assert result.error and result.text == "Error: not an expression"


@some
@given(INTEGERS, st.sampled_from(["{:d}", "{:+d}", "{:,d}", " {:d} ", "The answer is {:d}."]))
def test_an_answer_may_have_a_sign_thousands_separators_and_words_around(number: int, form: str) -> None:
    assert read_integer(form.format(number)) == number
    assert read_integer(f"{number:,}".replace(",", " ")) == number


@pytest.mark.parametrize("text", ["", "no idea", "12 * 34 = 408", "408.5", "408 or 409", "4e8", "x408", "408,12"])
def test_an_answer_that_is_not_one_whole_number_is_wrong(text: str) -> None:
    assert read_integer(text) is None


def test_a_text_without_call_and_answer_is_judged_and_ends_the_episode() -> None:
    task = Task("t", {"question": "What is 12 times 34?", "numbers": [12, 34], "operators": "*"}, "1")
    transition = judge(task, Action("It is 408."))
    assert transition.terminated and transition.info == {"success": True, "tool_calls": 0}


def test_a_malformed_action_costs_a_turn_and_is_told() -> None:
    task = ToolArithmetic.tasks().task("train", "1", 0)
    fault = Failure(FailureKind.MODEL, "action", "close your tag")
    transition = judge(task, Action("<calc>1", fault=fault))
    assert not transition.terminated and transition.failures == (fault,)
    assert transition.observation.messages[0].text == "close your tag"


def test_malformed_actions_in_a_row_end_the_episode_but_a_call_between_forgives() -> None:
    task = ToolArithmetic.tasks().task("train", "1", 0)
    fault = Action("<", fault=Failure(FailureKind.MODEL, "action", "close your tag"))
    some_call = Action("", (ToolCall("calc", {"expression": "1 + 1"}),))
    assert judge(task, fault, fault).terminated
    assert not judge(task, fault, some_call, fault).terminated


def test_a_restored_state_remembers_the_malformed_actions() -> None:
    async def run() -> list[bool]:
        environment = ToolArithmetic()
        await environment.reset(ToolArithmetic.tasks().task("train", "1", 0), seed=0)
        fault = Action("<", fault=Failure(FailureKind.MODEL, "action", "close your tag"))
        fresh = environment.snapshot()
        first = await environment.step(fault)
        warned = environment.snapshot()
        environment.restore(fresh)
        second = await environment.step(fault)
        environment.restore(warned)
        return [first.terminated, second.terminated, (await environment.step(fault)).terminated]

    assert asyncio.run(run()) == [False, False, True]


@some
@given(st.sampled_from(["2", "3"]), INDICES)
def test_no_single_call_shows_the_answer_of_a_question_of_several_steps(level: str, index: int) -> None:
    task = ToolArithmetic.tasks().task("train", level, index)
    whole = str(task.data["numbers"][0]) + "".join(
        f" {o} {n}" for o, n in zip(task.data["operators"], task.data["numbers"][1:], strict=True)
    )
    assert read_integer(calculate(whole)) is None  # an expression, not a number
    assert not judge(task, Action("", (ToolCall("calc", {"expression": whole}),))).terminated


@pytest.mark.parametrize(
    "protocol", [XmlTags(tools=(calc.spec,)), JsonTags(), ReAct(tools=(calc.spec,))], ids=lambda p: type(p).__name__
)
@pytest.mark.parametrize("level", ToolArithmetic.tasks().levels)
def test_the_oracle_solves_the_task_in_what_a_policy_would_write(protocol: object, level: str) -> None:
    async def run() -> Transition:
        environment = ToolArithmetic(protocol)
        await environment.reset(ToolArithmetic.tasks().task("train", level, 3), seed=0)
        while True:
            transition = await environment.step(protocol.parse(environment.oracle().text))
            if transition.terminated:
                return transition

    assert asyncio.run(run()).info["success"]


def test_the_oracle_recovers_from_a_detour() -> None:
    async def run() -> Transition:
        environment = ToolArithmetic()
        await environment.reset(ToolArithmetic.tasks().task("train", "3", 0), seed=0)
        await environment.step(environment.oracle())
        await environment.step(Action("", (ToolCall("calc", {"expression": "1 + 1"}),)))
        while True:
            transition = await environment.step(environment.oracle())
            if transition.terminated:
                return transition

    assert asyncio.run(run()).info["success"]


def test_the_example_in_the_prompt_is_right_and_on_another_question() -> None:
    task = ToolArithmetic.tasks().task("train", "1", 0)
    example, *turns, question = asyncio.run(ToolArithmetic().reset(task, seed=0)).messages
    assert question.text == task.data["question"] != example.text
    protocol = XmlTags(tools=(calc.spec,))
    for said, shown in zip(turns[:-1:2], turns[1:-1:2], strict=True):
        assert calculate(protocol.parse(said.text).calls[0].arguments["expression"]) == shown.text
    assert protocol.parse(turns[-1].text).answer == str(solve(example.text)[0])


def test_a_call_is_paid_for_the_next_intermediate_value_once() -> None:
    task = Task("t", {"question": "What is 12 times 34, then plus 5?", "numbers": [12, 34, 5], "operators": "*+"}, "2")

    def paid(*expressions: str, progress: float = 0.5) -> object:
        return judge(task, *(Action("", (ToolCall("calc", {"expression": e}),)) for e in expressions), progress=progress).reward

    assert paid("12 * 34") == paid("12 * 34 + 5") == paid("12 * 34 + 5", "408 + 5") == {"progress": 0.25}
    assert paid("12 * 34", "12 * 34") == paid("12 + 34") == paid("5 + 12 * 34") == paid("12 * 34", progress=0.0) == 0.0


def test_progress_without_the_answer_is_no_success() -> None:
    task = ToolArithmetic.tasks().task("train", "1", 0)
    first, second = task.data["numbers"]
    right_call = Action("", (ToolCall("calc", {"expression": f"{first} {task.data['operators']} {second}"}),))
    assert judge(task, right_call).info["success"] is False
    fault = Action("<", fault=Failure(FailureKind.MODEL, "action", "close your tag"))
    over = judge(task, right_call, fault, fault)
    assert over.terminated and over.info["success"] is False


def test_the_world_passes_the_checker() -> None:
    assert "solved: 18 of 18 by the oracle" in check_environment(find("math/tool_arithmetic"))


def test_an_unknown_level_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no level '7'.*1, 2, 3"):
        ToolArithmetic.tasks().task("train", "7", 0)
