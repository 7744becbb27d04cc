"""Tools from typed Python functions.

The one idea: the function's hints and docstring are the whole definition.  pydantic makes the JSON schema from them that the
policy reads, and checks what the policy sends against it.  Whose fault an error is decides where it goes: the caller's fault (wrong
arguments, `ToolError`, and what `CALLERS` lists) is a `ToolResult` that the agent sees; what
broke beneath (a refused connection, a full disk) is an `InfrastructureError`, which ends the episode without a reward; any other error is
a bug of the function and is raised as it is, so that it stops the run.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import MethodType
from typing import Annotated, Any, Literal, NotRequired, Protocol, Unpack, get_type_hints, overload, runtime_checkable

from docstring_parser import parse
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema
from typing_extensions import TypedDict

from sojourn.core import WRONG_PATH, FailureKind, InfrastructureError, ToolCall, ToolResult, ToolSpec, broke_beneath

CALLERS = (ValueError, ArithmeticError, LookupError, SystemExit, *WRONG_PATH)
"""What a function raises for arguments that it cannot work with: the caller's fault.  Any other error of its own is its bug."""

OnTimeout = Literal["infrastructure", "budget"]
Function = Callable[..., Any]


class ToolError(Exception):
    """Raise it in a tool to tell the agent what it did wrong; the agent sees the message and nothing else."""

    def __init__(self, message: str, kind: FailureKind = FailureKind.MODEL) -> None:
        super().__init__(message)
        self.kind = kind


@runtime_checkable
class Tool(Protocol):
    """What an environment needs of a tool."""

    @property
    def spec(self) -> ToolSpec:
        """What the policy is told."""
        ...

    async def call(self, arguments: Mapping[str, Any]) -> ToolResult:
        """Run it.  Raises `InfrastructureError` for what broke beneath; an error of the tool's own is raised as it is."""
        ...

    async def close(self) -> None:
        """Give back what the tool holds.  A closed tool may be called again and starts afresh."""
        ...


class Options(TypedDict, total=False):
    """What `tool` may be told; see there."""

    name: str
    timeout_s: float | None
    on_timeout: OnTimeout
    quick: bool
    output_chars: int


class FunctionTool:
    """A tool made from a function; see `tool`.  `function` is the function itself, for use in code."""

    def __init__(
        self,
        function: Function,
        *,
        name: str | None = None,
        timeout_s: float | None = 30.0,
        on_timeout: OnTimeout = "infrastructure",
        quick: bool = False,
        output_chars: int = 10_000,
    ) -> None:
        self.function = function
        self.timeout_s = timeout_s
        self.on_timeout = on_timeout
        self.quick = quick
        self.output_chars = output_chars
        name = name or function.__name__
        self._arguments, self.spec = _definition(function, name)

    async def call(self, arguments: Mapping[str, Any]) -> ToolResult:
        """Check the arguments, run the function, tell what came of it."""
        try:
            checked = self._arguments.validate_python(dict(arguments))
        except ValidationError as error:
            return self._error(f"Error: {_explain(error)}. Expected {_usage(self.spec)}")
        limit = asyncio.timeout(self.timeout_s)
        try:
            async with limit:
                return ToolResult(self.spec.name, clip(_text(await self._run(checked)), self.output_chars))
        except InfrastructureError:
            raise
        except ToolError as error:
            return self._error(str(error), error.kind)
        except (Exception, SystemExit) as error:  # `sys.exit()` in a tool must not end the run
            if limit.expired():
                return self._timed_out()
            said = f"{type(error).__name__}: {error}"
            if broke_beneath(error):
                raise InfrastructureError(f"tool '{self.spec.name}': {said}") from error
            if isinstance(error, CALLERS):
                return self._error(f"Error: {said}")
            raise

    async def close(self) -> None:
        """Nothing is held."""

    async def _run(self, arguments: dict[str, Any]) -> Any:
        direct = self.quick or inspect.iscoroutinefunction(self.function)
        value = self.function(**arguments) if direct else await _in_thread(self.function, arguments)
        return await value if inspect.isawaitable(value) else value

    def _timed_out(self) -> ToolResult:
        if self.on_timeout == "budget":
            return self._error(f"Error: the time limit of {self.timeout_s:g} s was reached", FailureKind.BUDGET)
        raise InfrastructureError(f"tool '{self.spec.name}' gave no answer in {self.timeout_s:g} s (raise its timeout_s)")

    def _error(self, text: str, kind: FailureKind = FailureKind.MODEL) -> ToolResult:
        return ToolResult(self.spec.name, clip(text, self.output_chars), error=True, kind=kind)


@overload
def tool(function: Function, /, **options: Unpack[Options]) -> FunctionTool: ...
@overload
def tool(**options: Unpack[Options]) -> Callable[[Function], FunctionTool]: ...
def tool(function: Function | None = None, /, **options: Unpack[Options]) -> FunctionTool | Callable[[Function], FunctionTool]:
    """Make a tool from a function, sync or async; also a decorator, with or without options.

    name: what the policy calls it by; else the function's name.
    timeout_s: deadline of one call in seconds.  None for a function that keeps its own.
    on_timeout: whose fault a missed deadline is.  "infrastructure": something beneath hangs, the episode ends without a reward.
        "budget": the time depends on what the agent asks for, and the agent is told.
    quick: run a sync function directly.  Without it, it gets a thread of its own, so that others go on and the deadline holds;
        what runs directly must be quick, nothing can interrupt it.
    output_chars: characters of the result at most; the middle of a longer one is left out.

    Raises ValueError if an argument has no type hint or cannot be passed by name.

    >>> @tool
    ... def add(a: int, b: int) -> int:
    ...     "Add two numbers."
    ...     return a + b
    >>> asyncio.run(add.call({"a": 2, "b": "3"}))
    ToolResult(name='add', text='5', error=False, kind=<FailureKind.MODEL: 'model'>)
    >>> asyncio.run(add.call({"a": 2})).text
    "Error: missing argument 'b'. Expected add(a: integer, b: integer)"
    """
    if function is None:
        return lambda function: FunctionTool(function, **options)
    return FunctionTool(function, **options)


async def run_calls(tools: Sequence[Tool], calls: Sequence[ToolCall]) -> list[ToolResult]:
    """Run all calls of one action concurrently; the results come in the order of the calls.

    A call of an unknown tool is an error result that names the tools there are.  Raises `InfrastructureError` after all calls
    have come to an end, so that none is left running.
    """
    by_name = {tool.spec.name: tool for tool in tools}

    async def run(call: ToolCall) -> ToolResult:
        if call.name in by_name:
            return await by_name[call.name].call(call.arguments)
        names = ", ".join(by_name) or "none"
        return ToolResult(call.name, f"Error: there is no tool '{clip(call.name, 80)}'. Tools: {names}", error=True)

    results = await asyncio.gather(*map(run, calls), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if isinstance(result, ToolResult)]


def clip(text: str, limit: int) -> str:
    """At most `limit` characters of `text`, and a note where the middle was left out.  Always encodable as UTF-8.

    >>> clip("abcdefgh", 4)
    'ab\\n... [4 characters left out] ...\\ngh'
    """
    if len(text) > limit:
        tail = limit // 2
        head = limit - tail
        text = f"{text[:head]}\n... [{len(text) - limit} characters left out] ...\n{text[len(text) - tail :]}"
    return text.encode("utf-8", "replace").decode()


class _Schema(GenerateJsonSchema):
    """JSON schema without the titles that pydantic makes up: a small policy pays for every token."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _definition(function: Function, name: str) -> tuple[TypeAdapter[dict[str, Any]], ToolSpec]:
    """What a tool is, without the object that it belongs to.  A method's is kept: worlds make their tools anew for each episode."""
    if inspect.ismethod(function):
        return _definition_of_method(function.__func__, name)
    checker, schema = _checker(function, name)
    return checker, ToolSpec(name, _description(function), schema)


@lru_cache(maxsize=1024)
def _definition_of_method(function: Function, name: str) -> tuple[TypeAdapter[dict[str, Any]], ToolSpec]:
    bound = MethodType(function, object())  # so that `self` is no argument
    checker, schema = _checker(bound, name)
    return checker, ToolSpec(name, _description(bound), schema)


def _checker(function: Function, name: str) -> tuple[TypeAdapter[dict[str, Any]], dict[str, Any]]:
    """The checker of the function's arguments, and their JSON schema."""
    config = with_config(ConfigDict(extra="forbid"))
    try:
        checker: TypeAdapter[dict[str, Any]] = TypeAdapter(config(TypedDict(name, _fields(function, name))))  # type: ignore[operator]
        schema = checker.json_schema(schema_generator=_Schema)
    except PydanticUserError as error:
        raise ValueError(f"tool '{name}': a type hint has no JSON schema ({error.message}); use JSON's types") from error
    return checker, {key: value for key, value in schema.items() if key not in ("title", "additionalProperties")}


def _fields(function: Function, name: str) -> dict[str, Any]:
    """The type of each argument, with what the docstring says of it."""
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError as error:
        raise ValueError(f"tool '{name}': a type hint cannot be resolved ({error}); define the type at module level") from error
    texts = {param.arg_name: param.description for param in parse(inspect.getdoc(function) or "").params}
    fields: dict[str, Any] = {}
    for argument, parameter in inspect.signature(function).parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ValueError(f"tool '{name}': argument '{parameter}' cannot be passed by name; use plain named arguments")
        if argument not in hints:
            raise ValueError(f"tool '{name}': argument '{argument}' has no type hint; write one, such as `{argument}: str`")
        hint: Any = hints[argument]
        if argument in texts:
            hint = Annotated[hint, Field(description=texts[argument])]
        fields[argument] = hint if parameter.default is parameter.empty else NotRequired[hint]
    return fields


def _description(function: Function) -> str:
    parsed = parse(inspect.getdoc(function) or "")
    return "\n".join(part for part in (parsed.short_description, parsed.long_description) if part)


def _usage(spec: ToolSpec) -> str:
    """How to call the tool, in one line: `add(a: integer, b: integer)`."""
    required = spec.parameters.get("required", ())
    properties = spec.parameters.get("properties", {}).items()
    shown = (f"{key}{'' if key in required else '?'}: {value.get('type', 'any')}" for key, value in properties)
    return f"{spec.name}({', '.join(shown)})"


def _explain(error: ValidationError) -> str:
    """What is wrong with the arguments, in the words of someone who has to fix them."""
    sentences = []
    for detail in error.errors(include_url=False)[:3]:
        where = ".".join(map(str, detail["loc"]))
        known = {"missing": f"missing argument '{where}'", "extra_forbidden": f"unknown argument '{where}'"}
        sentences.append(known.get(detail["type"], f"argument '{where}': {detail['msg']}, not {clip(repr(detail['input']), 80)}"))
    return "; ".join(sentences)


def _text(value: Any) -> str:
    """A result as the policy reads it: a text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _in_thread(function: Function, arguments: dict[str, Any]) -> asyncio.Future[Any]:
    """Run in a daemon thread.  Not in the loop's executor: that one is joined at exit, and a hanging tool would hang the exit."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(value)
        elif isinstance(error, StopIteration):  # no future can hold one
            future.set_exception(RuntimeError(f"the tool raised {error!r}"))
        else:
            future.set_exception(error)

    def work() -> None:
        value: Any = None
        failure: BaseException | None = None
        try:
            value = function(**arguments)
        except BaseException as error:  # whatever it is, somebody waits for it
            failure = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, value, failure)

    threading.Thread(target=work, name=f"tool-{function.__name__}", daemon=True).start()
    return future
