"""The body of a call, as a tag or brackets hold it: the tool's only argument, if that is a string, or a JSON object of its arguments."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from sojourn.core import ToolCall, ToolSpec
from sojourn.core.text import well_formed_values

BARE = "input"
"""Name of the argument that holds a call's body where the tool's own name for it is not known."""


def find(tools: Sequence[str | ToolSpec], name: str) -> ToolSpec | None:
    """The tool of that name, where more than its name is known."""
    return next((tool for tool in tools if isinstance(tool, ToolSpec) and tool.name == name), None)


def read_arguments(body: str, tool: ToolSpec | None) -> dict[str, Any] | None:
    """The arguments that a body means; None if it means none."""
    body, name = body.strip(), _body_argument(tool)
    if not body and name is None:
        return {}
    arguments = object_or_none(body)
    if arguments is None:
        return {name: body} if name else None
    fits = name is None or tool is None or arguments.keys() <= _parameters(tool).keys()
    return arguments if fits else {str(name): body}


def write_arguments(call: ToolCall, tool: ToolSpec | None, *marks: str) -> str:
    """A body that `read_arguments` reads as the call's arguments and that holds none of `marks`."""
    arguments, name = dict(call.arguments), _body_argument(tool)
    plain = arguments.get(name) if name else None
    if isinstance(plain, str) and not any(mark in plain for mark in marks) and read_arguments(plain, tool) == arguments:
        return plain
    return write_json(arguments, *marks) if arguments or name else ""


def usage(tool: ToolSpec) -> str:
    """What stands in the body, for a description."""
    name = _body_argument(tool)
    if name:
        return name
    fields = (f'"{key}": {schema.get("type", "...")}' for key, schema in _parameters(tool).items())
    return "{" + ", ".join(fields) + "}" if _parameters(tool) else ""


def read_object(text: str) -> dict[str, Any]:
    """A JSON object, or a JSON text that holds one; strings may have raw newlines.  Raises ValueError, TypeError, or RecursionError
    when nested too deeply."""
    value = json.loads(text, parse_constant=_no_constant, strict=False)
    if isinstance(value, str):
        value = json.loads(value, parse_constant=_no_constant, strict=False)
    if not isinstance(value, dict):
        raise TypeError("it is not an object")
    return well_formed_values(value)


def object_or_none(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is, if it is one."""
    try:
        return read_object(text)
    except (ValueError, TypeError, RecursionError):
        return None


def write_json(value: object, *marks: str) -> str:
    """JSON that no closing tag can end and that holds none of `marks`: `</` is written `<\\/`, and a mark's first letter as its code,
    which means the same."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False).replace("</", "<\\/")
    for mark in marks:
        text = text.replace(mark, f"\\u{ord(mark[0]):04x}{mark[1:]}")
    return text


def _parameters(tool: ToolSpec) -> Mapping[str, Any]:
    properties: Mapping[str, Any] = tool.parameters.get("properties", {})
    return properties


def _body_argument(tool: ToolSpec | None) -> str | None:
    """The argument that a body is: the only one, if it is a string; `input` where the tool is not known."""
    if tool is None:
        return BARE
    only = list(_parameters(tool).items())
    return only[0][0] if len(only) == 1 and only[0][1].get("type") == "string" else None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
