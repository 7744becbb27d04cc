"""ToolRL's reward, arXiv 2504.13958: worked examples, then what must not matter."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.core import ToolCall
from sojourn.rewards import tool_correctness, tool_format

ADD = ToolCall("add", {"a": 1, "b": 2})
names, keys = st.sampled_from(["f", "g"]), st.sampled_from(["x", "y", "z"])
calls = st.lists(st.builds(ToolCall, names, st.dictionaries(keys, st.integers(0, 1), max_size=3)), max_size=4)
right_ones = calls.filter(bool)


@pytest.mark.parametrize(
    ("said", "gold", "expected"),
    [
        ([ADD], [ADD], 3.0),
        ([ToolCall("add", {"a": 1, "b": 9})], [ADD], 1.5),  # S = 1 + 1 + 1 of 4
        ([ToolCall("add")], [ADD], -1.5),  # S = 1 + 0 + 0 of 4
        ([ToolCall("sub", {"a": 1, "b": 2})], [ADD], -3.0),
        ([], [ADD], -3.0),
        ([ToolCall("now")], [ToolCall("now"), ToolCall("here")], 0.0),  # S = 1/2 + 1 of 3: no keys on both sides are equal keys
        ([ADD], [], 0.0),
        ([], [], 0.0),
        ([ToolCall("add", {"a": 1, "c": 2})], [ADD], 6 * (1 + 1 / 3 + 1) / 4 - 3),
        ([ADD, ADD], [ADD], 6 * (1 / 2 + 1 + 2) / 4 - 3),  # a call too many shares half of the names
        ([ToolCall("add", {"a": None})], [ToolCall("add", {"b": None})], 6 * 1 / 3 - 3),  # a key that is missing is no value
    ],
)
def test_worked_examples(said: list[ToolCall], gold: list[ToolCall], expected: float) -> None:
    assert tool_correctness(said, gold) == pytest.approx(expected)


def test_each_call_is_matched_where_all_are_worth_most() -> None:
    """Gold calls taken in turn would give the first `shared`, and nothing right would be left for the second."""
    first, second = ToolCall("f", {"x": 1, "y": 1}), ToolCall("f", {"x": 1, "y": 2})
    shared, own = ToolCall("f", {"x": 1, "y": 3}), ToolCall("f", {"x": 7, "y": 1})
    names, keys, values = 1, 2, 2
    assert tool_correctness([shared, own], [first, second]) == pytest.approx(6 * (names + keys + values) / 7 - 3)


@given(calls, right_ones, st.randoms())
def test_the_order_of_calls_and_of_arguments_does_not_matter(said: list[ToolCall], gold: list[ToolCall], random: object) -> None:
    def mixed(some: list[ToolCall]) -> list[ToolCall]:
        turned = [ToolCall(call.name, dict(reversed(call.arguments.items()))) for call in some]
        random.shuffle(turned)  # type: ignore[attr-defined]
        return turned

    assert tool_correctness(mixed(said), mixed(gold)) == pytest.approx(tool_correctness(said, gold))


@given(calls, right_ones)
def test_the_right_calls_get_most_and_nothing_gets_less_than_silence(said: list[ToolCall], gold: list[ToolCall]) -> None:
    assert tool_correctness(gold, gold) == pytest.approx(3)
    assert tool_correctness([], gold) == -3 <= tool_correctness(said, gold) <= 3 + 1e-9


@given(calls, right_ones)
def test_the_matching_is_the_best_of_all(said: list[ToolCall], gold: list[ToolCall]) -> None:
    """Against every way to deal the calls to the gold ones."""

    def worth(g: ToolCall, p: ToolCall | None) -> float:
        if p is None or p.name != g.name:
            return 0.0
        union = set(g.arguments) | set(p.arguments)
        same_keys = len(set(g.arguments) & set(p.arguments)) / len(union) if union else 1.0
        return same_keys + len(g.arguments.items() & p.arguments.items())

    dealt = permutations([*said, *[None] * len(gold)], len(gold))
    best = max(sum(worth(g, p) for g, p in zip(gold, deal, strict=True)) for deal in dealt)
    seen, wanted = [p.name for p in said], [g.name for g in gold]
    common = sum(min(seen.count(name), wanted.count(name)) for name in "fg")
    most = 1 + len(gold) + sum(len(g.arguments) for g in gold)
    expected = 6 * (common / (len(seen) + len(wanted) - common) + best) / most - 3
    assert tool_correctness(said, gold) == pytest.approx(expected)


GOOD = "<think>2 and 2</think>\n<tool_call>\n{}\n</tool_call>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD, 1),
        (GOOD + "\n", 1),
        ("Well. " + GOOD, 0),
        (GOOD + " So.", 0),
        (GOOD.replace("\n<tool", " <tool"), 0),
        (GOOD + "\n<tool_call>\n{}\n</tool_call>", 0),
        (GOOD.replace("</think>", ""), 0),
        (GOOD + "\n<response>4</response>", 0),
        ("<tool_call>\n{}\n</tool_call>\n<think>2 and 2</think>", 0),
        ("", 0),
    ],
)
def test_the_format_is_each_field_once_in_order(text: str, expected: float) -> None:
    assert tool_format(text, ["think", "tool_call"]) == expected


def test_the_format_is_that_of_the_fields_of_the_right_answer() -> None:
    assert tool_format("<think>no tool</think>", ["think"]) == 1
    assert tool_format(GOOD + "\n<response>4</response>", ["think", "tool_call", "response"]) == 1
    assert tool_format(GOOD, ["think", "response"]) == 0
