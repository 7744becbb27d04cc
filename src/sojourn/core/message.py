"""Messages: what a policy reads and says, before any tokenizer has seen it.

A conversation is a sequence of `Message`.  A message has a role and parts (text, images); an assistant message may carry
tool calls.  How a message becomes tokens is the business of `sojourn.rendering`.  All text is well-formed (`sojourn.core.text`),
whoever wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sojourn.core.outcome import Failure, FailureKind
from sojourn.core.text import settle

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of text."""

    text: str

    def __post_init__(self) -> None:
        settle(self, "text")


@dataclass(frozen=True, slots=True)
class Image:
    """An encoded image; `mime` says how (`image/png`)."""

    data: bytes
    mime: str = "image/png"


Part = Text | Image


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """What a policy is told about a tool: its name, what it does, and the JSON schema of its arguments."""

    name: str
    description: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settle(self, "name", "description", "parameters")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One structured action: call tool `name` with `arguments`."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settle(self, "name", "arguments")


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool answered.  `error` is True when the call failed through the caller's fault and the text says why.

    kind: of an error: the caller's fault (MODEL), or the tool time that the task allows was used up (BUDGET).
    """

    name: str
    text: str
    error: bool = False
    kind: FailureKind = FailureKind.MODEL

    def __post_init__(self) -> None:
        settle(self, "name", "text")

    @property
    def failure(self) -> Failure | None:
        """The error as a failure of the episode, for `Transition.failures`; None if the call went well."""
        return Failure(self.kind, f"tool '{self.name}'", self.text) if self.error else None

    def message(self) -> Message:
        return Message("tool", (Text(self.text),), name=self.name)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    >>> user("Hello").text
    'Hello'
    """

    role: Role
    parts: tuple[Part, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    name: str | None = None

    def __post_init__(self) -> None:
        settle(self, "name")

    @property
    def text(self) -> str:
        """All text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


def system(text: str) -> Message:
    return Message("system", (Text(text),))


def user(content: str | Sequence[Part]) -> Message:
    return Message("user", (Text(content),) if isinstance(content, str) else tuple(content))


def assistant(text: str, calls: Sequence[ToolCall] = ()) -> Message:
    return Message("assistant", (Text(text),), calls=tuple(calls))


def tool(text: str, name: str | None = None) -> Message:
    return Message("tool", (Text(text),), name=name)
