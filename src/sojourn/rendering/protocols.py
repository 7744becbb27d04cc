"""Action protocols: how a policy writes a tool call or an answer as text, and how that text is read.

The one idea: a protocol is a small grammar with four faces.  `stop` ends the sampling where an action is complete, `describe`
tells the policy the grammar, `parse` reads what was said and never raises (a malformed call is a fault whose message the
policy sees), and `format` writes an action, so that `parse(format(action))` has its calls and its answer.

Sources: JSON in tags as in Hermes and Qwen 2.5; a tag per tool as in Search-R1 (arXiv 2503.09516); ReAct (arXiv 2210.03629);
fenced code as in CodeAct (arXiv 2402.01030).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from sojourn.core import Action, Failure, FailureKind, ToolCall, ToolSpec

BARE = "input"
"""Name of the argument that holds a call's body where the tool's own name for it is not known."""


class ActionProtocol(Protocol):
    """The grammar of actions.  Edge whitespace of arguments and answers does not count."""

    @property
    def stop(self) -> tuple[str, ...]:
        """Texts that complete an action; sampling ends with them and they are part of the action's text."""
        ...

    def describe(self, tools: Sequence[ToolSpec]) -> str:
        """What the system message says about calling `tools`; empty if there are none."""
        ...

    def parse(self, text: str) -> Action:
        """The action in `text`, any text; what is malformed is a fault of the model."""
        ...

    def format(self, action: Action) -> str:
        """The text of an action: its own text if that says it already, else its text (a thought), then its calls and answer."""
        ...


@dataclass(frozen=True)
class PlainText:
    """No tools: all that is said is the answer."""

    stop: tuple[str, ...] = ()

    def describe(self, tools: Sequence[ToolSpec]) -> str:
        return ""

    def parse(self, text: str) -> Action:
        return Action(text, answer=text.strip())

    def format(self, action: Action) -> str:
        if action.calls:
            raise ValueError(f"plain text cannot call tool '{action.calls[0].name}': choose another action protocol")
        return action.text if _says(self, action) else _lines(action.text, action.answer)


@dataclass(frozen=True)
class JsonTags:
    """`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`; a text without a call is an answer.

    >>> JsonTags().parse('<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>').calls
    (ToolCall(name='add', arguments={'a': 1}),)
    """

    stop: tuple[str, ...] = ("</tool_call>",)

    def describe(self, tools: Sequence[ToolSpec]) -> str:
        if not tools:
            return ""
        rows = [json.dumps({"name": t.name, "description": t.description, "parameters": dict(t.parameters)}) for t in tools]
        form = '<tool_call>{"name": ..., "arguments": {...}}</tool_call>'
        return "\n".join(("Tools:", *rows, f"To call a tool, write {form} and read its result next."))

    def parse(self, text: str) -> Action:
        bodies, unclosed = _tagged(text, ("tool_call",))
        if unclosed:
            return _fault(text, "<tool_call> is not closed by </tool_call>.")
        try:
            calls = tuple(self._call(body) for _, body in bodies)
        except (ValueError, TypeError, RecursionError) as error:
            form = '{"name": "...", "arguments": {...}}'
            return _fault(text, f"<tool_call> must hold one JSON object {form}: {error}")
        return Action(text, calls, None if calls else text.strip())

    def format(self, action: Action) -> str:
        if _says(self, action):
            return action.text
        calls = [_json({"name": call.name, "arguments": dict(call.arguments)}) for call in action.calls]
        return _lines(action.text, *(f"<tool_call>\n{call}\n</tool_call>" for call in calls), action.answer)

    @staticmethod
    def _call(body: str) -> ToolCall:
        call = _object(body)
        name, arguments = call.get("name"), call.get("arguments", {})
        if not isinstance(name, str):
            raise TypeError('"name" must be a string')
        if not isinstance(arguments, dict):
            raise TypeError('"arguments" must be an object')
        return ToolCall(name, arguments)


@dataclass(frozen=True)
class XmlTags:
    """A tag per tool, `<calc>12 * 34</calc>`, and a tag for the answer.

    A tag's body is the tool's only argument, if that is a string, or a JSON object of its arguments.  Give the tools as
    `ToolSpec`; of a bare name the argument's name is not known, and its body arrives as `input`.  A text without any tag has
    neither calls nor an answer.  `answer=None`: no tag for the answer, a text without a call is one.

    >>> XmlTags(tools=("calc",)).parse("Let me see. <calc>12 * 34</calc>").calls
    (ToolCall(name='calc', arguments={'input': '12 * 34'}),)
    """

    tools: Sequence[str | ToolSpec] = ()
    answer: str | None = "answer"

    @property
    def stop(self) -> tuple[str, ...]:
        return tuple(f"</{name}>" for name in self._names())

    def describe(self, tools: Sequence[ToolSpec]) -> str:
        """One line a tool, one for the answer: few tokens, for small models."""
        for spec in tools:
            if spec.name not in self._names():
                known = ", ".join(self._names())
                raise ValueError(
                    f"XmlTags knows the tags {known}, the world offers tool '{spec.name}': name it in XmlTags(tools=...)"
                )
        lines = [f"Tool: <{tool.name}>{_usage(tool)}</{tool.name}> {tool.description}".rstrip() for tool in tools]
        return _lines(*lines, f"Answer: <{self.answer}>...</{self.answer}>" if self.answer else None) if tools else ""

    def parse(self, text: str) -> Action:
        bodies, unclosed = _tagged(text, self._names())
        if unclosed:
            return _fault(text, f"<{unclosed}> is not closed by </{unclosed}>.")
        calls, answer = [], None
        for name, body in bodies:
            if name == self.answer:
                answer = body.strip()
                continue
            arguments = _read(body, _find(self.tools, name))
            if arguments is None:
                return _fault(text, f"<{name}> must hold a JSON object of its arguments, not {_short(body)}")
            calls.append(ToolCall(name, arguments))
        if self.answer is None and not calls:
            answer = text.strip()
        return Action(text, tuple(calls), answer)

    def format(self, action: Action) -> str:
        if _says(self, action):
            return action.text
        calls = (f"<{c.name}>{_write(c, _find(self.tools, c.name), f'</{c.name}>')}</{c.name}>" for c in action.calls)
        tagged = f"<{self.answer}>{action.answer}</{self.answer}>" if self.answer and action.answer is not None else action.answer
        return _lines(action.text, *calls, tagged)

    def _names(self) -> tuple[str, ...]:
        names = tuple(tool if isinstance(tool, str) else tool.name for tool in self.tools)
        return (*names, self.answer) if self.answer else names


@dataclass(frozen=True)
class ReAct:
    """`Thought: ...`, then either `Action: calc[12 * 34]` or `Final: 408`.

    The brackets hold what a tag's body holds in `XmlTags`.  Sampling stops where the policy starts to make up an observation.

    >>> ReAct().parse("Thought: easy.\\nFinal: 4").answer
    '4'
    """

    tools: Sequence[str | ToolSpec] = ()
    stop: tuple[str, ...] = ("\nObservation:",)

    def describe(self, tools: Sequence[ToolSpec]) -> str:
        if not tools:
            return ""
        lines = [f"{tool.name}[{_usage(tool)}] {tool.description}".rstrip() for tool in tools]
        form = "Write `Thought: ...`, then `Action: name[argument]` and read its result next, or `Final: ...` with the answer."
        return _lines("Tools:", *lines, form)

    def parse(self, text: str) -> Action:
        said = text.split("\nObservation:")[0]
        move = re.search(r"^(Action|Final)(?: Answer)?:(.*)", said, re.MULTILINE | re.DOTALL)
        if move is None:
            return _fault(text, "Neither an action nor an end: write a line `Action: name[argument]` or `Final: answer`.")
        body = move[2].strip()
        if move[1] == "Final":
            return Action(text, answer=body)
        call = re.fullmatch(r"([\w.-]+)\[(.*)\]", body, re.DOTALL)
        if call is None:
            return _fault(text, f"`Action:` must end with name[argument], not {_short(body)}")
        arguments = _read(call[2], _find(self.tools, call[1]))
        if arguments is None:
            return _fault(text, f"{call[1]}[...] must hold a JSON object of its arguments, not {_short(call[2])}")
        return Action(text, (ToolCall(call[1], arguments),))

    def format(self, action: Action) -> str:
        if _says(self, action):
            return action.text
        if len(action.calls) + (action.answer is not None) > 1:
            raise ValueError("ReAct says one thing at a time: one call or an answer")
        thought = f"Thought: {action.text}" if action.text and not action.text.startswith("Thought:") else action.text
        calls = (f"Action: {c.name}[{_write(c, _find(self.tools, c.name), 'Observation:')}]" for c in action.calls)
        return _lines(thought, *calls, None if action.answer is None else f"Final: {action.answer}")


@dataclass(frozen=True)
class CodeFence:
    """A fenced block of Python is a call of the interpreter; a text without one is an answer.

    tool, argument: the interpreter's name, and its argument that takes the code.
    """

    tool: str = "python"
    argument: str = "code"
    stop: tuple[str, ...] = ("\n```\n",)

    def describe(self, tools: Sequence[ToolSpec]) -> str:
        return "To run Python, write\n```python\n...\n```\nand read its output next." if tools else ""

    def parse(self, text: str) -> Action:
        blocks, unclosed = _blocks(text, r"^```(python|py)[ \t]*$", lambda language: r"^```[ \t]*$")
        if unclosed:
            return _fault(text, "The block ```python is not closed by a line ```.")
        calls = tuple(ToolCall(self.tool, {self.argument: code[1:].removesuffix("\n")}) for _, code in blocks)
        return Action(text, calls, None if calls else text.strip())

    def format(self, action: Action) -> str:
        if _says(self, action):
            return action.text
        blocks = [f"```python\n{call.arguments[self.argument]}\n```\n" for call in action.calls]
        return _lines(action.text, *blocks, action.answer)


PROTOCOLS: dict[str, Callable[[Sequence[str | ToolSpec]], ActionProtocol]] = {
    "json": lambda tools: JsonTags(),
    "xml": lambda tools: XmlTags(tuple(tools)),
    "react": lambda tools: ReAct(tuple(tools)),
    "code": lambda tools: CodeFence(),
    "text": lambda tools: PlainText(),
}
"""Protocols by short name; each is made for the tools of a world."""


def _says(protocol: ActionProtocol, action: Action) -> bool:
    """Whether the action's text says all of it already."""
    read = protocol.parse(action.text)
    return read.calls == action.calls and action.answer in (None, read.answer)


def _fault(text: str, message: str) -> Action:
    return Action(text, fault=Failure(FailureKind.MODEL, "action", message))


def _lines(*parts: str | None) -> str:
    """The parts that say something, one under the other."""
    said = [part for part in parts if part]
    return "".join(part if part.endswith("\n") or part is said[-1] else part + "\n" for part in said)


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _tagged(text: str, names: Sequence[str]) -> tuple[list[tuple[str, str]], str | None]:
    """The (name, body) of each `<name>body</name>`, and the name of the first tag that is not closed."""
    if not names:
        return [], None
    return _blocks(text, rf"<({'|'.join(map(re.escape, names))})>", lambda name: re.escape(f"</{name}>"))


def _blocks(text: str, opening: str, closing: Callable[[str], str]) -> tuple[list[tuple[str, str]], str | None]:
    """The (name, body) of each block, and the name of the first one that is not closed.  Linear in any text.

    opening: a pattern whose first group is the name.  closing: the pattern that closes a block of that name.
    """
    blocks: list[tuple[str, str]] = []
    begins, at = re.compile(opening, re.MULTILINE), 0
    while begin := begins.search(text, at):
        end = re.compile(closing(begin[1]), re.MULTILINE).search(text, begin.end())
        if end is None:
            return blocks, begin[1]
        blocks.append((begin[1], text[begin.end() : end.start()]))
        at = end.end()
    return blocks, None


def _find(tools: Sequence[str | ToolSpec], name: str) -> ToolSpec | None:
    return next((tool for tool in tools if isinstance(tool, ToolSpec) and tool.name == name), None)


def _parameters(tool: ToolSpec) -> Mapping[str, Any]:
    properties: Mapping[str, Any] = tool.parameters.get("properties", {})
    return properties


def _body_argument(tool: ToolSpec | None) -> str | None:
    """The argument that a body is: the only one, if it is a string; `input` where the tool is not known."""
    if tool is None:
        return BARE
    only = list(_parameters(tool).items())
    return only[0][0] if len(only) == 1 and only[0][1].get("type") == "string" else None


def _read(body: str, tool: ToolSpec | None) -> dict[str, Any] | None:
    """The arguments that a body means; None if it means none."""
    body, name = body.strip(), _body_argument(tool)
    if not body and name is None:
        return {}
    try:
        arguments = _object(body)
    except (ValueError, TypeError, RecursionError):
        return {name: body} if name else None
    fits = name is None or tool is None or arguments.keys() <= _parameters(tool).keys()
    return arguments if fits else {str(name): body}


def _write(call: ToolCall, tool: ToolSpec | None, end: str) -> str:
    """A body that `_read` reads as the call's arguments and that does not contain `end`."""
    arguments, name = dict(call.arguments), _body_argument(tool)
    plain = arguments.get(name) if name else None
    if isinstance(plain, str) and end not in plain and _read(plain, tool) == arguments:
        return plain
    return _json(arguments) if arguments or name else ""


def _usage(tool: ToolSpec) -> str:
    """What stands in the body, for `describe`."""
    name = _body_argument(tool)
    if name:
        return name
    fields = (f'"{key}": {schema.get("type", "...")}' for key, schema in _parameters(tool).items())
    return "{" + ", ".join(fields) + "}" if _parameters(tool) else ""


def _object(text: str) -> dict[str, Any]:
    """A JSON object; raises ValueError, TypeError, or RecursionError when nested too deeply."""
    value = json.loads(text, parse_constant=_no_constant)
    if not isinstance(value, dict):
        raise TypeError("it is not an object")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _json(value: object) -> str:
    """JSON that no closing tag can end: `</` is written `<\\/`, which means the same."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("</", "<\\/")
