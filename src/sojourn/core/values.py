"""Python values as JSON text, and back as they were.

The one idea: what JSON has is written as it is, so that SQL can read it; what JSON lacks becomes an object with one key that begins with
`$`.  The store writes values so, and worlds in other processes speak so.  A task that is played again from the store is then the task
that was played: its tuples are no lists, its keys no texts, and its arrays have their type.  Dataclasses of `core` come back as
themselves, with every field that they have.

    (1, 2)                     {"$tuple": [1, 2]}
    {3: "a"}                   {"$map": [[3, "a"]]}
    Text("hi")                 {"$Text": {"text": "hi"}}

Not kept: other dataclasses come back as dicts, tensors as lists, any other object as its text.
"""

from __future__ import annotations

import dataclasses
import json
import math
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sojourn.core.environment import Action, Observation, Transition
from sojourn.core.message import Image, Message, Text, ToolCall, ToolResult, ToolSpec
from sojourn.core.outcome import Failure, FailureKind, Standing, StopReason
from sojourn.core.task import Task
from sojourn.core.text import well_formed

KNOWN: dict[str, type[Any]] = {
    f"${known.__name__}": known
    for known in (
        Action, Failure, FailureKind, Image, Message, Observation, Standing, StopReason, Task, Text, ToolCall, ToolResult, ToolSpec,
        Transition,
    )
}  # fmt: skip
"""What comes back as itself, by tag."""

DEEPEST = 64
"""Values inside values; below, a text says that something was left out.  A policy can write a call that Python cannot walk through."""

_WRITER = json.JSONEncoder(ensure_ascii=False)

PLAIN_ARRAYS = "biufcSU"
"""Kinds of arrays whose type and bytes say everything."""


def to_json(value: object) -> str:
    """`value` as JSON text.

    >>> to_json({"answer": 4, "moves": ("up", "down")})
    '{"answer": 4, "moves": {"$tuple": ["up", "down"]}}'
    """
    return _WRITER.encode(_encoded(value, DEEPEST))


def from_json(text: str) -> Any:
    """What `to_json` wrote.  A text that is no JSON is given back: older files hold the `repr` of state keys.

    >>> from_json('{"answer": 4, "moves": {"$tuple": ["up", "down"]}}')
    {'answer': 4, 'moves': ('up', 'down')}
    """
    try:
        return _decoded(json.loads(text))
    except json.JSONDecodeError:
        return text


def is_exact_key(value: object) -> bool:
    """Whether a hashable value comes back equal to all that it was equal to, and to nothing else."""
    if isinstance(value, (tuple, frozenset)):
        return all(map(is_exact_key, value))
    return value is None or isinstance(value, (bool, int, float, str, bytes))


def _encoded(value: Any, depth: int) -> Any:
    if depth == 0:
        return f"(nested deeper than {DEEPEST})"

    def inner(item: Any) -> Any:
        return _encoded(item, depth - 1)

    tag = f"${type(value).__name__}"
    if KNOWN.get(tag) is type(value):
        return {tag: value.value if isinstance(value, Enum) else {f.name: inner(getattr(value, f.name)) for f in _fields(value)}}
    match value:
        case None | bool():
            return value
        case str():
            return well_formed(value)
        case int():
            return int(value)
        case float():
            return float(value) if math.isfinite(value) else {"$float": str(float(value))}
        case bytes():
            return {"$bytes": b64encode(value).decode()}
        case list():
            return [inner(item) for item in value]
        case tuple():
            return {"$tuple": [inner(item) for item in value]}
        case set() | frozenset():
            items = sorted((inner(item) for item in value), key=json.dumps)
            return {"$frozenset" if isinstance(value, frozenset) else "$set": items}
        case Mapping():
            if all(isinstance(key, str) and not key.startswith("$") for key in value):
                return {well_formed(key): inner(item) for key, item in value.items()}
            return {"$map": [[inner(key), inner(item)] for key, item in value.items()]}
        case np.ndarray() if value.dtype.kind in PLAIN_ARRAYS:
            return {"$array": [value.dtype.str, list(value.shape), b64encode(value.tobytes()).decode()]}
    if hasattr(value, "tolist"):  # numbers of numpy, other arrays, tensors
        return inner(value.tolist())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: inner(getattr(value, f.name)) for f in _fields(value)}
    return well_formed(str(value))


def _fields(value: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(value)


def _decoded(value: Any) -> Any:
    """The value that JSON stands for: a mapping with one key that is a tag is what the tag says."""
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    tag, held = next(iter(value.items())) if len(value) == 1 else ("", None)
    if tag in KNOWN:
        return KNOWN[tag](**_decoded(held)) if isinstance(held, dict) else KNOWN[tag](held)
    if tag in TAGS:
        return TAGS[tag](_decoded(held))
    return {key: _decoded(item) for key, item in value.items()}


def _array(held: list[Any]) -> NDArray[Any]:
    dtype, shape, data = held
    return np.frombuffer(b64decode(data), dtype).reshape(shape).copy()


TAGS: dict[str, Callable[[Any], Any]] = {
    "$float": float,
    "$bytes": b64decode,
    "$tuple": tuple,
    "$set": set,
    "$frozenset": frozenset,
    "$map": dict,
    "$array": _array,
}
