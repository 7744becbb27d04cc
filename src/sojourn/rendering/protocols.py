"""Action protocols: how a policy writes a tool call or an answer as text, and how that text is read.

The one idea: a protocol is a small grammar with four faces.  `stop` ends the sampling where an action is complete, `describe`
tells the policy the grammar, `parse` reads what was said and never raises (a malformed call is a fault whose message the
policy sees), and `format` writes an action, so that `parse(format(action))` has its calls and its answer.

What stands in the thinking part is a draft: it neither stops nor acts.

Sources: JSON in tags as in Hermes and Qwen 2.5; a tag per tool as in Search-R1 (arXiv 2503.09516); ReAct (arXiv 2210.03629);
fenced code as in CodeAct (arXiv 2402.01030).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sojourn.core import Action, ToolCall, ToolSpec
from sojourn.rendering.arguments import (
    find,
    object_or_none,
    read_arguments,
    read_object,
    usage,
    write_arguments,
    write_json,
)
from sojourn.rendering.reading import THINKING, Marks, answered, fault, quoted, read, tags


class ActionProtocol(Protocol):
    """The grammar of actions.  Edge whitespace of arguments and answers does not count."""

    @property
    def stop(self) -> tuple[str, ...]:
        """Texts that complete an action; sampling ends with them and they are part of the action's text."""
        ...

    @property
    def thinking(self) -> Marks | None:
        """Texts that open and close the thinking part; None if there is none."""
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
    thinking: Marks | None = THINKING

    def describe(self, tools: Sequence[ToolSpec]) -> str:
        return ""

    def parse(self, text: str) -> Action:
        return answered(text, read(text, self.thinking).spoken.strip())

    def format(self, action: Action) -> str:
        if action.calls:
            raise ValueError(f"plain text cannot call tool '{action.calls[0].name}': choose another action protocol")
        return action.text if _says(self, action) else _lines(_thought(self, action), action.answer)


@dataclass(frozen=True)
class JsonTags:
    """`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`; a text without a call is an answer.

    >>> JsonTags().parse('<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>').calls
    (ToolCall(name='add', arguments={'a': 1}),)
    """

    stop: tuple[str, ...] = ("</tool_call>",)
    thinking: Marks | None = THINKING

    def describe(self, tools: Sequence[ToolSpec]) -> str:
        if not tools:
            return ""
        rows = [json.dumps({"name": t.name, "description": t.description, "parameters": dict(t.parameters)}) for t in tools]
        form = '<tool_call>{"name": ..., "arguments": {...}}</tool_call>'
        return "\n".join(("Tools:", *rows, f"To call a tool, write {form} and read its result next."))

    def parse(self, text: str) -> Action:
        found = tags(text, ("tool_call",), self.thinking, lambda name, body: object_or_none(body) is not None)
        if found.unclosed and not found.blocks:
            return fault(text, "the tag tool_call was opened and not closed.")
        try:
            calls = tuple(self._call(body) for _, body in found.blocks)
        except (ValueError, TypeError, RecursionError) as error:
            form = '{"name": "...", "arguments": {...}}'
            return fault(text, f"the tag tool_call must hold one JSON object {form}: {error}")
        return Action(text, calls) if calls else answered(text, found.spoken.strip())

    def format(self, action: Action) -> str:
        if _says(self, action):
            return action.text
        calls = [write_json({"name": call.name, "arguments": dict(call.arguments)}, "<tool_call>") for call in action.calls]
        return _lines(_thought(self, action), *(f"<tool_call>\n{call}\n</tool_call>" for call in calls), action.answer)

    @staticmethod
    def _call(body: str) -> ToolCall:
        call = read_object(body)
        name, arguments = call.get("name"), call.get("arguments", {})
        if not isinstance(name, str):
            raise TypeError('"name" must be a string')
        if isinstance(arguments, str):
            arguments = object_or_none(arguments)
        if not isinstance(arguments, dict):
            raise TypeError('"arguments" must be an object')
        return ToolCall(name, arguments)


@dataclass(frozen=True)
class XmlTags:
    """A tag per tool, `<calc>12 * 34</calc>`, and a tag for the answer, of which the last counts.

    A tag's body is the tool's only argument, if that is a string, or a JSON object of its arguments.  Give the tools as
    `ToolSpec`; of a bare name the argument's name is not known, and its body arrives as `input`.  A text without any tag has
    neither calls nor an answer.  `answer=None`: no tag for the answer, a text without a call is one.

    >>> XmlTags(tools=("calc",)).parse("Let me see. <calc>12 * 34</calc>").calls
    (ToolCall(name='calc', arguments={'input': '12 * 34'}),)
    """

    tools: Sequence[str | ToolSpec] = ()
    answer: str | None = "answer"
    thinking: Marks | None = THINKING

    def __post_init__(self) -> None:
        if self.thinking and self.thinking[0] in {f"<{name}>" for name in self._names()}:
            object.__setattr__(self, "thinking", None)  # the tag is a tool's: what stands in it is a call

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
        lines = [f"Tool: <{tool.name}>{usage(tool)}</{tool.name}> {tool.description}".rstrip() for tool in tools]
        return _lines(*lines, f"Answer: <{self.answer}>...</{self.answer}>" if self.answer else None) if tools else ""

    def parse(self, text: str) -> Action:
        found = tags(text, self._names(), self.thinking, self._whole)
        if found.unclosed and not found.blocks:
            return fault(text, f"the tag {found.unclosed} was opened and not closed.")
        calls, answer = [], None
        for name, body in found.blocks:
            if name == self.answer:
                answer = body.strip()
                continue
            arguments = read_arguments(body, find(self.tools, name))
            if arguments is None:
                return fault(text, f"the tag {name} must hold a JSON object of its arguments, not {quoted(body)}")
            calls.append(ToolCall(name, arguments))
        if self.answer is None and not calls:
            return answered(text, found.spoken.strip())
        return Action(text, tuple(calls), answer)

    def format(self, action: Action) -> str:
        if _says(self, action):
            return action.text
        tagged = f"<{self.answer}>{action.answer}</{self.answer}>" if self.answer and action.answer is not None else action.answer
        return _lines(_thought(self, action), *map(self._written, action.calls), tagged)

    def _whole(self, name: str, body: str) -> bool:
        """Whether a body that holds its own opening is data."""
        return name != self.answer and object_or_none(body) is not None

    def _written(self, call: ToolCall) -> str:
        opening, closing = f"<{call.name}>", f"</{call.name}>"
        return opening + write_arguments(call, find(self.tools, call.name), closing, opening) + closing

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
    thinking: Marks | None = THINKING

    def describe(self, tools: Sequence[ToolSpec]) -> str:
        if not tools:
            return ""
        lines = [f"{tool.name}[{usage(tool)}] {tool.description}".rstrip() for tool in tools]
        form = "Write `Thought: ...`, then `Action: name[argument]` and read its result next, or `Final: ...` with the answer."
        return _lines("Tools:", *lines, form)

    def parse(self, text: str) -> Action:
        found = read(
            text, self.thinking, r"^(Action|Final|(?<=\n)Observation)(?: Answer)?:", lambda name: r"\n(?=Observation:)|\Z"
        )
        move, body = found.blocks[0] if found.blocks else ("", "")
        body = body.strip()
        if move == "Final":
            return Action(text, answer=re.split(r"^Final(?: Answer)?:", body, flags=re.MULTILINE)[-1].strip())
        if move != "Action":
            return fault(text, "neither an action nor an end: write a line `Action: name[argument]` or `Final: answer`.")
        call = re.fullmatch(r"([\w.-]+)\[(.*)\]", body, re.DOTALL)
        if call is None:
            return fault(text, f"`Action:` must end with name[argument], not {quoted(body)}")
        arguments = read_arguments(call[2], find(self.tools, call[1]))
        if arguments is None:
            return fault(text, f"{call[1]}[...] must hold a JSON object of its arguments, not {quoted(call[2])}")
        return Action(text, (ToolCall(call[1], arguments),))

    def format(self, action: Action) -> str:
        if _says(self, action):
            return action.text
        if len(action.calls) + (action.answer is not None) > 1:
            raise ValueError("ReAct says one thing at a time: one call or an answer")
        thought = _thought(self, action)
        thought = f"Thought: {thought}" if thought and not thought.startswith("Thought:") else thought
        calls = (f"Action: {c.name}[{write_arguments(c, find(self.tools, c.name), 'Observation:')}]" for c in action.calls)
        return _lines(thought, *calls, None if action.answer is None else f"Final: {action.answer}")


@dataclass(frozen=True)
class CodeFence:
    """A fenced block of Python is a call of the interpreter; a text without one is an answer.

    tool, argument: the interpreter's name, and its argument that takes the code.
    """

    tool: str = "python"
    argument: str = "code"
    stop: tuple[str, ...] = ("\n```\n",)
    thinking: Marks | None = THINKING

    def describe(self, tools: Sequence[ToolSpec]) -> str:
        return "To run Python, write\n```python\n...\n```\nand read its output next." if tools else ""

    def parse(self, text: str) -> Action:
        found = read(text, self.thinking, r"^```(python|py)[ \t]*$", lambda language: r"^```[ \t]*$")
        if found.unclosed and not found.blocks:
            return fault(text, "the block of Python was not closed by a line of three backticks.")
        calls = tuple(ToolCall(self.tool, {self.argument: code[1:].removesuffix("\n")}) for _, code in found.blocks)
        return Action(text, calls) if calls else answered(text, found.spoken.strip())

    def format(self, action: Action) -> str:
        if _says(self, action):
            return action.text
        if foreign := [call for call in action.calls if self.argument not in call.arguments]:
            raise ValueError(f"a block of code cannot call tool '{foreign[0].name}': choose another action protocol")
        blocks = [f"```python\n{call.arguments[self.argument]}\n```\n" for call in action.calls]
        return _lines(_thought(self, action), *blocks, action.answer)


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
    said = protocol.parse(action.text)
    return said.calls == action.calls and action.answer in (None, said.answer)


def _thought(protocol: ActionProtocol, action: Action) -> str:
    """The action's text, with an end to its thinking, so that what follows is no draft."""
    return (
        action.text + protocol.thinking[1] if protocol.thinking and read(action.text, protocol.thinking).thinking else action.text
    )


def _lines(*parts: str | None) -> str:
    """The parts that say something, one under the other."""
    said = [part for part in parts if part]
    return "".join(part if part.endswith("\n") or part is said[-1] else part + "\n" for part in said)
