"""What a user's world hands over, held against what was promised, before anything is made of it.

The one idea: the session and `check_environment` ask the same functions, so the check refuses what training refuses, in the same words:
the method, what it returned, what was expected, how to write it.  Nothing is coerced; a text might be a message, an action or a slip.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from inspect import isawaitable
from typing import Any, NoReturn, TypeVar, get_args

import numpy as np

from sojourn.core.environment import Action, Observation, Transition
from sojourn.core.message import Image, Message, Role, Text, ToolSpec
from sojourn.core.multi_agent import JointTransition
from sojourn.core.outcome import Failure
from sojourn.core.task import Task

T = TypeVar("T")
TEXT = "Observation.of('the text')"
FIELDS = (
    ("terminated", (bool, np.bool_), "True or False"),
    ("truncated", (bool, np.bool_), "True or False"),
    ("info", Mapping, "a dict"),
    ("failures", (tuple, list), "a tuple of Failure"),
)
"""Of a transition: field, kind, and how an error calls it.  Rewards are judged where they are paid (`core.named`)."""


async def settled(answer: T | Awaitable[T]) -> T:
    """What a method gave, awaited if need be: worlds that never wait may be written without `async`."""
    value: T = await answer if isawaitable(answer) else answer
    return value


def observation(found: Any, world: object) -> Observation:
    """What `reset` returned: an observation with something in it."""
    if not isinstance(found, Observation):
        remedy = "return Observation.of(that)" if isinstance(found, (str, Message)) else f"return {TEXT}"
        _refuse(world, "reset returned", found, "an Observation", remedy)
    opening(found.messages, world, "reset returned")
    return found


def transition(found: Any, world: object, method: str = "step") -> Transition:
    """What `step` (or `truncate`) returned."""
    where = f"{method} returned"
    if not isinstance(found, Transition):
        gym = ", not what Gymnasium's step returns" if isinstance(found, tuple) and len(found) in (4, 5) else ""
        remedy = f"return Transition({TEXT}, reward, terminated=..., truncated=...)"
        _refuse(world, where, found, f"a Transition{gym}", remedy)
    _check_fields(found, world, where, ("observation", Observation, "an Observation"), *FIELDS)
    _check_messages(found.observation.messages, world, where)
    return found


def observations(found: Any, world: object, where: str = "reset returned") -> Mapping[str, Observation]:
    """What `reset` of a world with several agents returned: what each sees."""
    if not isinstance(found, Mapping):
        _refuse(world, where, found, "a mapping from agents to observations", f"return {{'a': {TEXT}}}")
    for agent, seen in found.items():
        if not isinstance(seen, Observation):
            _refuse(world, where, seen, f"an Observation for agent '{agent}'", f"write {TEXT}")
        _check_messages(seen.messages, world, where)
    return found


def joint(found: Any, world: object, method: str = "step") -> JointTransition:
    """What `step` (or `truncate`) of a world with several agents returned."""
    where = f"{method} returned"
    if not isinstance(found, JointTransition):
        _refuse(world, where, found, "a JointTransition", "return JointTransition(observations, rewards, terminated=...)")
    _check_fields(found, world, where, ("rewards", Mapping, "a dict"), *FIELDS)
    observations(found.observations, world, where)
    return found


def opening(messages: Any, owner: object, where: str) -> None:
    """What a context opens on: messages, at least one.  where: as in "open got"."""
    _check_messages(messages, owner, where)
    if not messages:
        _refuse(owner, where, messages, "a message at least", f"tell the policy what to do: {TEXT}")


def tools(found: Any, world: object) -> Sequence[ToolSpec]:
    """What a world offers: definitions of tools, each with a name of its own."""
    if not isinstance(found, (tuple, list)):
        _refuse(world, "tools gave", found, "a tuple of ToolSpec", "where there are none, set tools = ()")
    for each in found:
        if not isinstance(each, ToolSpec):
            _refuse(
                world, "tools gave", each, "a ToolSpec", "write ToolSpec(name, description, parameters), or the `spec` of a tool"
            )
    names = [each.name for each in found]
    if len(names) != len(set(names)):
        _refuse(world, "tools gave", names, "names that differ", "give each tool its own")
    return found


def action(found: Any, world: object) -> Action:
    """What `oracle` returned."""
    if not isinstance(found, Action):
        _refuse(world, "oracle returned", found, "an Action", "return Action('the text as the policy would say it')")
    return found


def legal(found: Any, world: object) -> Sequence[str]:
    """What `legal_actions` returned: texts, at least one."""
    if isinstance(found, str) or not isinstance(found, Sequence) or any(not isinstance(each, str) for each in found):
        _refuse(world, "legal_actions returned", found, "a sequence of texts", "return ('left', 'right')")
    if not found or not all(found):
        remedy = "end the episode where there is nothing to do"
        _refuse(world, "legal_actions returned", found, "one text at least, and none empty", remedy)
    return found


def task(found: Any, source: object) -> Task:
    """What a task source returned."""
    if not isinstance(found, Task):
        _refuse(source, "task returned", found, "a Task", "return Task('its id', {...}, level)")
    return found


def _check_fields(found: object, world: object, where: str, *fields: tuple[str, Any, str]) -> None:
    for name, kind, what in fields:
        if not isinstance(value := getattr(found, name), kind):
            _refuse(
                world, where, value, f"{what} as `{name}` of its {type(found).__name__}", f"set {type(found).__name__}.{name}"
            )
        if name == "failures" and (wrong := [each for each in value if not isinstance(each, Failure)]):
            _refuse(world, where, wrong[0], "a Failure in `failures`", "write Failure(FailureKind.MODEL, where, what)")


def _check_messages(messages: Any, owner: object, where: str) -> None:
    if not isinstance(messages, (tuple, list)):
        _refuse(owner, where, messages, "a tuple of Message", "write Observation.of(that)")
    for place, message in enumerate(messages):
        if not isinstance(message, Message):
            remedy = "write user('the text'), or Message('tool', (Text('the text'),))"
            _refuse(owner, where, message, f"a Message as message {place}", remedy)
        if message.role not in get_args(Role):
            _refuse(
                owner, where, message.role, f"one of {', '.join(get_args(Role))} as the role of a message", "set Message.role"
            )
        if not isinstance(message.parts, (tuple, list)) or not all(map(_is_part, message.parts)):
            _refuse(owner, where, message.parts, f"Text or Image as parts of message {place}", "write user('the text')")


def _is_part(part: object) -> bool:
    return isinstance(part, Image) or (isinstance(part, Text) and isinstance(part.text, str))


def _refuse(owner: object, where: str, found: object, expected: str, remedy: str) -> NoReturn:
    shown = repr(found)
    short = shown if len(shown) <= 100 else f"{shown[:100]}..."
    called = "None" if found is None else f"a {type(found).__name__}, {short}"
    raise ValueError(f"{type(owner).__name__}.{where} {called}; expected {expected} ({remedy})")
