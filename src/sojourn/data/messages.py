"""Messages as data sets write them (OpenAI's form, which TRL takes) to messages as we have them, with their roles in order.

{"role": "assistant", "content": "...", "tool_calls": [{"type": "function", "function": {"name": ..., "arguments": ...}}]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args

from sojourn.core import Message, Role, Text, ToolCall, ToolSpec

ROLES = get_args(Role)
UNREAD = ("reasoning_content", "reasoning", "thinking", "function_call", "audio", "images")
"""Keys of a message that say something which would be lost."""


Identity = tuple[Any, ...]


def tidy(values: Sequence[Any]) -> list[dict[str, Any]]:
    """Messages of a request as `messages_of` takes them: roles that it knows, no empty fields, a tool's result with the name of its tool."""
    names: dict[str, str] = {}
    found = []
    for value in values:
        message = {key: item for key, item in dict(value).items() if item is not None}
        message["role"] = "system" if message.get("role") == "developer" else message.get("role")
        message.pop("reasoning_content", None)  # the client's copy of what was said; the tokens stand
        message.setdefault("content", "")
        for call in message.get("tool_calls", ()):
            names[call.get("id", "")] = call.get("function", {}).get("name", "")
        if message["role"] == "tool" and message.get("tool_call_id") in names:
            message.setdefault("name", names[message["tool_call_id"]])
        found.append(message)
    return found


def identity(message: Mapping[str, Any]) -> Identity:
    """What makes a message the one that it is.

    >>> identity({"role": "user", "content": " hi "}) == identity({"role": "user", "content": "hi", "name": None})
    True
    """
    calls = tuple(
        (each.get("id"), (function := each.get("function", each)).get("name"), _canonical(function.get("arguments")))
        for each in message.get("tool_calls") or ()
    )
    return message["role"], _text(message.get("content")).strip(), calls, message.get("tool_call_id")


def messages_of(column: str, value: Any) -> tuple[Message, ...]:
    """The messages of a column.  Raises `ValueError` for what is none, naming the column and the message."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(f"'{column}' is a {type(value).__name__}, expected a list of messages")
    return tuple(_message(f"'{column}', message {number}", each) for number, each in enumerate(value, 1))


def in_order(messages: Sequence[Message]) -> None:
    """Raise `ValueError` if the roles come in an order that no conversation has."""
    before: Message | None = None
    for number, message in enumerate(messages, 1):
        wrong = {
            "system": before is not None and "a system message comes first",
            "user": False,
            "assistant": (before is None or before.role in ("system", "assistant")) and "it answers a user or a tool",
            "tool": (before is None or not (before.role == "tool" or before.calls)) and "it answers a message with tool_calls",
        }[message.role]
        if wrong:
            after = f"follows {'an' if before.role == 'assistant' else 'a'} {before.role} message" if before else "comes first"
            raise ValueError(f"roles in a wrong order: message {number} ({message.role}) {after}, but {wrong}")
        before = message


def tools_of(value: Any) -> tuple[ToolSpec, ...]:
    """The tools of a row: a list of JSON schemas, or a JSON text that holds one."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"'tools' is a text that is no JSON ({error})") from error
    if not isinstance(value, Sequence):
        raise ValueError(f"'tools' is a {type(value).__name__}, expected a list")
    return tuple(map(_tool, value))


def _tool(value: Any) -> ToolSpec:
    function = value.get("function", value) if isinstance(value, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise ValueError("'tools' holds an entry without a name; expected {'type': 'function', 'function': {'name': ...}}")
    return ToolSpec(function["name"], function.get("description", ""), function.get("parameters", {}))


def _message(where: str, value: Any) -> Message:
    if not isinstance(value, Mapping) or "role" not in value:
        raise ValueError(f"{where}: found {value!r:.60}, expected an object with role and content")
    if value["role"] not in ROLES:
        raise ValueError(f"{where}: there is no role '{value['role']}'; there is {', '.join(ROLES)}")
    if lost := [key for key in UNREAD if value.get(key)]:
        raise ValueError(f"{where}: '{lost[0]}' is not read yet; write what it says into the content")
    calls = tuple(_call(where, each) for each in value.get("tool_calls", ()))
    text = _content(where, value.get("content", "" if calls else None))
    name = value.get("name") if value["role"] == "tool" else None
    return Message(cast(Role, value["role"]), (Text(text),), calls, name)


def _content(where: str, value: Any) -> str:
    """A text, or parts of type text."""
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence) and all(isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in value):
        return "".join(part["text"] for part in value)
    raise ValueError(f"{where}: its content is {value!r:.60}, expected a text or parts with a text")


def _call(where: str, value: Any) -> ToolCall:
    function = value.get("function", value) if isinstance(value, Mapping) else {}
    name, arguments = function.get("name"), function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError as error:
            raise ValueError(f"{where}: the arguments of its call are no JSON ({error})") from error
    if not isinstance(name, str) or not isinstance(arguments, Mapping):
        raise ValueError(f"{where}: a tool call needs a name and an object of arguments, found {value!r:.60}")
    return ToolCall(name, arguments)


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.get("text", "") for part in content)


def _canonical(arguments: Any) -> str:
    """Arguments, whatever the order of their keys."""
    try:
        value = json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        return str(arguments)
    return json.dumps(value, sort_keys=True)
