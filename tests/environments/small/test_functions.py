"""Functions: the language does what it says, text of a model runs nothing, and any right answer is right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_worlds import play_out, say, solved

from sojourn.core import Task
from sojourn.environments.small.common import split_of
from sojourn.environments.small.functions import Functions, Propose, content, judge, question
from sojourn.environments.small.pipelines import ProgramError, behaviour, is_minimal, parse, read_value, run

INDICES = st.integers(0, 10**4)


def task(kind: str, program: str, *inputs: object) -> Task:
    return Task("t", question(kind, program, inputs), f"{kind}-1")


@pytest.mark.parametrize(
    ("program", "value", "result"),
    [
        ("sort", [3, 1, 2], [1, 2, 3]), ("reverse", [3, 1, 2], [2, 1, 3]), ("unique", [3, 1, 3], [3, 1]), ("even", [3, 0, 2], [0, 2]),
        ("odd", [3, 0, -1], [3, -1]), ("above 2", [3, 2, 1], [3]), ("below 2", [3, 2, 1], [1]), ("add 2", [0, 1], [2, 3]),
        ("times 3", [0, 2], [0, 6]), ("take 2", [5, 6, 7], [5, 6]), ("drop 2", [5, 6, 7], [7]), ("sum", [], 0), ("max", [1, 9, 3], 9),
        ("min", [4, 2], 2), ("len", [4, 2], 2), ("first", [4, 2], 4), ("last", [4, 2], 2), ("plus 4", 3, 7), ("minus 4", 3, -1),
        ("mod 4", 11, 3), ("upto", 3, [1, 2, 3]), ("digits", 407, [4, 0, 7]), ("sort | reverse | take 2 | sum", [4, 9, 1, 8], 17),
        ("upto | times 2 | sum", 4, 20), ("len | plus 1 | upto", [0, 0], [1, 2, 3]), ("upto", -3, []),
    ],
)  # fmt: skip
def test_what_the_operations_do_by_hand(program: str, value: object, result: object) -> None:
    assert run(program, value) == result


@pytest.mark.parametrize(
    ("program", "value", "why"),
    [
        ("sum | sort", [1], "step 2, 'sort', takes a list"), ("sort", 3, "takes a list"), ("upto", [3], "takes a int"),
        ("max", [], "no value"), ("first", [], "no value"), ("mod 0", 3, "no value"), ("plus 9 | upto", 60, "too large"),
        ("times 999 | times 999 | times 999", [9], "too large"), ("take", [1], "takes a number"), ("sort 2", [1], "takes no number"),
        ("__import__('os').system('x')", [1], "unknown"), ("", [1], "unknown"), ("sort |", [1], "unknown"), ("take 9999", [1], "unknown"),
        ("sort | " * 20 + "sum", [1], "too many"),
    ],
)  # fmt: skip
def test_what_is_no_program_or_has_no_value_says_why(program: str, value: object, why: str) -> None:
    with pytest.raises(ProgramError, match=why):
        run(program, value)


@given(st.text(max_size=80), st.sampled_from(["deduction-1", "abduction-2", "induction-3"]), INDICES)
def test_no_text_breaks_the_judge(text: str, level: str, index: int) -> None:
    assert judge(Functions.tasks().task("train", level, index % 10).data, text) is not None


@given(st.text(max_size=80))
def test_no_text_breaks_the_reader_of_values(text: str) -> None:
    try:
        value = read_value(text)
    except ProgramError:
        return
    assert read_value(str(value)) == value


@pytest.mark.parametrize("text", ["1e9", "[1,]", "[1 2]", "[[1]]", "1, 2", "(1)", "[1]*9", "99999999", "[", "--1", "1.0"])
def test_what_is_no_value_is_none(text: str) -> None:
    with pytest.raises(ProgramError):
        read_value(text)


def test_deduction_wants_the_output_and_nothing_near_it() -> None:
    asked = task("deduction", "sort | take 2", [5, 1, 4])
    assert solved(play_out(Functions(), asked, say("[1,4]")))
    for near in ("[4, 1]", "[1, 4, 5]", "[1]", "1, 4", "[1, 4] [1, 4]", "5"):
        assert not solved(play_out(Functions(), asked, say(near))), near


def test_abduction_takes_every_input_that_gives_the_output() -> None:
    asked = task("abduction", "sort | take 2", [5, 1, 4])
    for right in ("[5, 1, 4]", "[4, 1]", "[9, 9, 4, 1]"):
        assert solved(play_out(Functions(), asked, say(right))), right
    for wrong in ("[5, 4]", "[]", "4", "[1, 4, 0]"):
        assert not solved(play_out(Functions(), asked, say(wrong))), wrong


def test_induction_takes_every_program_that_fits_and_hidden_inputs_count() -> None:
    inputs = [[1, 2], [3, 9], [4, 5], [2, 7], [6, 1], [8, 3], [9, 4], [5, 5], [7, 0], [3, 2]]
    asked = task("induction", "max", *inputs)
    for right in ("max", "sort | last", "sort | reverse | first", "reverse | max"):
        assert solved(play_out(Functions(), asked, say(right))), right
    assert judge(asked.data, "last") == "a hidden input has another output"  # fits all that is shown
    assert judge(asked.data, "first") == "[1, 2] gives 1, not 2"
    assert judge(asked.data, "sort") is not None and judge(asked.data, "max; last") is not None


def test_a_wrong_answer_is_told_of_shown_pairs_alone_and_may_be_tried_again() -> None:
    inputs = [[1, 2], [3, 9], [4, 5], [2, 7], [6, 1], [8, 3], [9, 4], [5, 5], [7, 0], [3, 2]]
    asked = task("induction", "max", *inputs)
    told, over = play_out(Functions(tries=2), asked, say("last"), say("max"))
    assert not told.terminated and told.reward == 0 and not any(str(x) in told.observation.messages[0].text for x in inputs[4:])
    assert over.reward == {"correct": 1.0}
    assert play_out(Functions(tries=2), asked, say("last"), say("last"))[-1].terminated
    assert len(play_out(Functions(), asked, say("last"), say("max"))) == 1


@given(st.sampled_from(Functions.tasks().levels), INDICES)
def test_the_pairs_of_a_task_are_those_of_its_program(level: str, index: int) -> None:
    data = Functions.tasks().task("train", level, index % 30).data
    assert all(run(data["program"], value) == result for value, result in data["pairs"])
    assert len(parse(data["program"])) == int(level[-1]) and is_minimal(data["program"])


@given(st.integers(1, 4), INDICES)
def test_the_output_itself_and_an_empty_list_are_never_an_answer_to_abduction(steps: int, index: int) -> None:
    data = Functions.tasks().task("test", f"abduction-{steps}", index % 30).data
    assert judge(data, str(data["pairs"][0][1])) and judge(data, "[]") and judge(data, "0")


def test_equal_functions_are_one_content_and_in_one_split() -> None:
    same = [question("deduction", program, [[3, 1]]) for program in ("max", "sort | last", "sort | reverse | first")]
    other = question("deduction", "min", [[3, 1]])
    assert len({content(data) for data in same}) == 1 and content(other) != content(same[0])
    assert len({split_of(content(data)) for data in same}) == 1


@pytest.mark.parametrize(
    ("program", "minimal"),
    [
        ("sort | sum", False),
        ("take 3 | first", False),
        ("sort | first", True),
        ("drop 300 | len", False),
        ("sort | sort", False),
        ("plus 3 | minus 3", False),
    ],
)
def test_a_program_is_minimal_if_nothing_can_be_left_out(program: str, minimal: bool) -> None:
    assert is_minimal(program) is minimal


def test_a_proposal_must_be_new_minimal_and_have_a_value() -> None:
    known = Task("t", {"known": ["max", "len"], "next": "min", "limit": 4}, "1")

    def valid(text: str) -> bool:
        return solved(play_out(Propose(), known, say(text)))

    assert valid("min; [3, 1]") and valid("Sort|take 2 ; [3, 1]")
    for bad in (
        "max; [3, 1]",
        "sort | last; [3, 1]",
        "sort | min; [3, 1]",
        "min; []",
        "min; 3",
        "min",
        "; [1]",
        "min; [3]; [4]",
        "",
    ):
        assert not valid(bad), bad
    info = play_out(Propose(), known, say("min; [3, 1]"))[-1].info
    assert judge(question("deduction", info["program"], [info["input"]]), "1") is None


def test_behaviour_is_a_function_of_the_program_alone() -> None:
    assert behaviour("sort|first") == behaviour("min") != behaviour("max")
