"""Tools from functions: what the policy is told, what it is answered, and whose fault an error is."""

import asyncio
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sojourn.core import FailureKind, InfrastructureError, ToolCall, ToolResult
from sojourn.tools import FunctionTool, Tool, ToolError, run_calls, tool
from sojourn.tools.tool import clip

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
json_values = scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.text(max_size=2), scalars, max_size=2)


def call(tool: Tool, **arguments: Any) -> ToolResult:
    return asyncio.run(tool.call(arguments))


@tool
def power(base: int, exponent: int = 2, mode: Literal["exact", "float"] = "exact") -> int:
    """Raise a number to a power.

    Fast for small numbers.

    Args:
        base: the number
        exponent: how often it is multiplied
    """
    return int(base**exponent)


def test_the_spec_is_what_the_hints_and_the_docstring_say() -> None:
    assert power.spec.name == "power"
    assert power.spec.description == "Raise a number to a power.\nFast for small numbers."
    assert power.spec.parameters == {
        "type": "object",
        "properties": {
            "base": {"type": "integer", "description": "the number"},
            "exponent": {"type": "integer", "description": "how often it is multiplied"},
            "mode": {"type": "string", "enum": ["exact", "float"]},
        },
        "required": ["base"],
    }


def test_argument_names_that_pydantic_models_reserve_are_free() -> None:
    def lookup(schema: str, copy: bool, model_dump: int) -> str:
        return f"{schema} {copy} {model_dump}"

    assert call(tool(lookup), schema="s", copy=True, model_dump=1).text == "s True 1"


def test_a_method_is_a_tool_without_its_self() -> None:
    class Counter:
        count = 0

        def add(self, by: int) -> int:
            self.count += by
            return self.count

    add = tool(Counter().add)
    assert list(add.spec.parameters["properties"]) == ["by"]
    assert [call(add, by=2).text, call(add, by=3).text] == ["2", "5"]


def test_an_untyped_argument_is_refused_with_its_name_and_the_fix() -> None:
    def search(query, limit: int) -> str:  # type: ignore[no-untyped-def]
        return ""

    with pytest.raises(ValueError, match=r"tool 'search': argument 'query' has no type hint; write one, such as `query: str`"):
        tool(search)


def takes_any_number(*values: int) -> int:
    return sum(values)


def takes_a_lock(lock: threading.Lock) -> None: ...


def takes_a_function(function: Callable[[], int]) -> None: ...


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (takes_any_number, r"argument '\*values: int' cannot be passed by name"),
        (takes_a_lock, "tool 'takes_a_lock': a type hint has no JSON schema"),
        (takes_a_function, "tool 'takes_a_function': a type hint has no JSON schema"),
    ],
)
def test_arguments_that_a_policy_cannot_send_are_refused(function: Callable[..., Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        tool(function)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "missing argument 'base'"),
        ({"base": 2, "exp": 3}, "unknown argument 'exp'"),
        ({"base": "two"}, "argument 'base': Input should be a valid integer, unable to parse string as an integer, not 'two'"),
        ({"base": 2, "mode": "fast"}, "argument 'mode': Input should be 'exact' or 'float', not 'fast'"),
    ],
)
def test_wrong_arguments_are_explained_to_the_agent(arguments: Mapping[str, Any], said: str) -> None:
    result = asyncio.run(power.call(arguments))
    assert result == ToolResult(
        "power", f"Error: {said}. Expected power(base: integer, exponent?: integer, mode?: string)", error=True
    )


@tool
def describe(base: int, exponent: float = 2.0, mode: list[str] | None = None) -> str:
    return "fine"


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(["base", "exponent", "mode", "other"]), json_values))
def test_no_arguments_whatever_raise(arguments: dict[str, Any]) -> None:
    result = call(describe, **arguments)
    assert result.error == (result.text != "fine")


@pytest.mark.parametrize(
    ("value", "text"),
    [("plain", "plain"), (3, "3"), (True, "true"), (None, "null"), ({"a": [1, "x"]}, '{"a": [1, "x"]}'), ("\ud800", "?")],
)
def test_a_result_is_text_or_json(value: Any, text: str) -> None:
    assert call(tool(lambda: value, name="give")).text == text


async def raises_tool_error() -> None:
    raise ToolError("no such city")


async def runs_over_budget() -> None:
    raise ToolError("too slow", FailureKind.BUDGET)


def divides_by_zero() -> float:
    return 1 / 0


async def raises_its_own_timeout() -> None:
    raise TimeoutError("upstream")


def connects_to_nobody() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    socket.create_connection(("127.0.0.1", port), timeout=5).close()


def opens_nothing() -> None:
    Path("nothing").read_text()


def has_a_bug() -> None:
    None.strip()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("function", "text", "kind"),
    [
        (raises_tool_error, "no such city", FailureKind.MODEL),
        (runs_over_budget, "too slow", FailureKind.BUDGET),
        (divides_by_zero, "Error: ZeroDivisionError: division by zero", FailureKind.MODEL),
        (opens_nothing, "Error: FileNotFoundError: [Errno 2] No such file or directory: 'nothing'", FailureKind.MODEL),
    ],
)
def test_what_an_argument_breaks_is_told_to_the_agent(function: Callable[..., Any], text: str, kind: FailureKind) -> None:
    result = call(tool(function, name="t"))
    assert (result.text, result.error) == (text, True)
    assert result.failure is not None
    assert (result.failure.kind, result.failure.where) == (kind, "tool 't'")


@pytest.mark.parametrize("function", [raises_its_own_timeout, connects_to_nobody])
def test_a_backend_that_is_down_is_the_infrastructure_s_fault(function: Callable[..., Any]) -> None:
    with pytest.raises(InfrastructureError, match=f"tool '{function.__name__}': .*Error"):
        asyncio.run(tool(function).call({}))


def test_a_bug_of_a_tool_is_raised_as_it_is() -> None:
    with pytest.raises(AttributeError, match="strip"):
        asyncio.run(tool(has_a_bug).call({}))


@pytest.mark.parametrize("error", [StopIteration(3), asyncio.CancelledError(), GeneratorExit()])
def test_what_a_tool_raises_in_its_thread_is_not_waited_for(error: BaseException) -> None:
    def raises() -> None:
        raise error

    expected = RuntimeError if isinstance(error, StopIteration) else type(error)
    with pytest.raises(expected) as caught:
        asyncio.run(tool(raises, timeout_s=5.0).call({}))
    assert caught.type is expected  # and not the InfrastructureError of a missed deadline, which is a RuntimeError, too


def test_a_result_that_is_no_error_is_no_failure() -> None:
    assert call(power, base=3).failure is None


@pytest.mark.parametrize("quick", [False, True])
def test_infrastructure_errors_pass_through(quick: bool) -> None:
    def broken() -> None:
        raise InfrastructureError("the server is gone")

    with pytest.raises(InfrastructureError, match="the server is gone"):
        call(tool(broken, quick=quick))


async def hangs() -> None:
    await asyncio.Event().wait()


def hangs_in_a_thread() -> None:
    threading.Event().wait()


def leaves() -> None:
    sys.exit(3)


@pytest.mark.parametrize("quick", [False, True])
def test_a_tool_that_leaves_ends_nothing(quick: bool) -> None:
    result = call(tool(leaves, quick=quick))
    assert (result.text, result.error) == ("Error: SystemExit: 3", True)


@pytest.mark.parametrize("function", [hangs, hangs_in_a_thread])
def test_a_tool_that_hangs_is_the_infrastructures_fault(function: Callable[[], Any]) -> None:
    with pytest.raises(InfrastructureError, match=f"tool '{function.__name__}' gave no answer in 0.01 s"):
        call(tool(function, timeout_s=0.01))


def test_tool_time_that_the_task_allows_is_a_budget() -> None:
    result = call(tool(hangs, timeout_s=0.01, on_timeout="budget"))
    assert result == ToolResult("hangs", "Error: the time limit of 0.01 s was reached", error=True, kind=FailureKind.BUDGET)


def test_tools_run_beside_each_other() -> None:
    meeting = threading.Barrier(2, timeout=30)

    @tool
    def meet() -> str:
        meeting.wait()
        return "met"

    results = asyncio.run(run_calls([meet], [ToolCall("meet"), ToolCall("meet")]))
    assert [result.text for result in results] == ["met", "met"]


def test_results_come_in_the_order_of_the_calls() -> None:
    async def play() -> list[ToolResult]:
        second_is_done = asyncio.Event()

        @tool
        async def first() -> str:
            await second_is_done.wait()
            return "1"

        @tool
        async def second() -> str:
            second_is_done.set()
            return "2"

        return await run_calls([first, second], [ToolCall("first"), ToolCall("second")])

    assert [result.text for result in asyncio.run(play())] == ["1", "2"]


def test_an_unknown_tool_is_answered_with_the_names_there_are() -> None:
    result = asyncio.run(run_calls([power, tool(hangs)], [ToolCall("pow", {"base": 2})]))
    assert result == [ToolResult("pow", "Error: there is no tool 'pow'. Tools: power, hangs", error=True)]


def test_an_infrastructure_error_waits_for_the_other_calls() -> None:
    done = []

    @tool
    def breaks() -> None:
        raise InfrastructureError("gone")

    @tool
    async def works() -> None:
        for _ in range(10):
            await asyncio.sleep(0)
        done.append(True)

    with pytest.raises(InfrastructureError, match="gone"):
        asyncio.run(run_calls([breaks, works], [ToolCall("breaks"), ToolCall("works")]))
    assert done == [True]


def test_a_long_result_loses_its_middle() -> None:
    result = call(tool(lambda: "a" * 50 + "b" * 10**6 + "c" * 50, name="long", output_chars=100))
    assert result.text == f"{'a' * 50}\n... [1000000 characters left out] ...\n{'c' * 50}"


@given(st.text(), st.integers(0, 40))
def test_clipping_keeps_what_fits_and_both_ends_of_what_does_not(text: str, limit: int) -> None:
    head, _, tail = clip(text, limit).partition(f"\n... [{len(text) - limit} characters left out] ...\n")
    if len(text) <= limit:
        assert clip(text, limit) == text
    else:
        assert text.startswith(head) and text.endswith(tail) and len(head) + len(tail) == limit


def test_a_tool_is_what_an_environment_asks_for() -> None:
    tools: list[Tool] = [power]
    assert isinstance(tools[0], FunctionTool)
    closing: Coroutine[Any, Any, None] = power.close()
    asyncio.run(closing)


class Shelf:
    def __init__(self, label: str) -> None:
        self.label = label

    def find(self, book: str) -> str:
        """Look for a book."""
        return f"{book} on {self.label}"


class Cellar:
    def find(self, wine: int) -> int:
        """Look for a wine."""
        return wine


def test_methods_of_two_objects_share_their_definition_and_nothing_else() -> None:
    left, right = (tool(Shelf(label).find) for label in ("left", "right"))
    assert left.spec is right.spec and left.spec.description == "Look for a book."
    assert [call(each, book="Emma").text for each in (left, right)] == ["Emma on left", "Emma on right"]
    assert list(tool(Cellar().find).spec.parameters["properties"]) == ["wine"]
    assert tool(Shelf("left").find, name="seek").spec.name == "seek"
