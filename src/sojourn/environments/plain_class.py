"""A plain class whose public methods are tools, as a world.

class Vault:
    "Open the vault.  The code is a number from 1 to 100."

    def __init__(self, code: int):
        self.code, self.open = code, False

    def turn(self, number: int) -> str:
        "Try a number."
        self.open = number == self.code
        return "open" if self.open else "higher" if number < self.code else "lower"

    @property
    def done(self) -> bool:
        return self.open

    def reward(self) -> float:
        return float(self.open)

world = from_class(Vault, [{"code": n} for n in range(1, 81)], test=[{"code": n} for n in range(81, 101)])
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sojourn.core import Action, Observation, Reward, Task, ToolCall, ToolResult, Transition
from sojourn.environments.tools import ToolEnvironment, answer_text
from sojourn.environments.world import TaskList, World
from sojourn.tools import tool

RESERVED = ("prompt", "reward", "done", "close")
REMEDY = {
    "reward": "add a method or attribute `reward` that says what the episode earned",
    "prompt": "give it a docstring, or a method or attribute `prompt`, that says what to do",
}


def from_class(
    cls: Callable[..., Any], train: Sequence[Mapping[str, Any]] = ({},), *, test: Sequence[Mapping[str, Any]] = ()
) -> World:
    """A world of a class.  Each episode makes one object, with the task's data as keyword arguments, and `seed` if it takes one.

    - Its public methods are the tools: typed arguments, a docstring for the policy.
    - `prompt` (text, property or method), else the class docstring, is what the policy is asked.
    - `reward` (number or named terms; an attribute, property or method; as a method it may take the policy's answer) is paid once,
      at the end, also where a limit of turns or tokens is the end.
    - `close()`, if there is one, is called when the episode is over.
    - The episode ends when the policy answers without a call, or, after a call, when `done` (optional property or method) is true.

    train, test: keyword arguments of each task's object.
    """
    for split, given in (("train", train), ("test", test)):
        _check_arguments(cls, split, given)
    tasks = TaskList(
        [Task(f"train/{i}", dict(data)) for i, data in enumerate(train)],
        [Task(f"test/{i}", dict(data)) for i, data in enumerate(test)],
    )
    return World(lambda: ClassEnvironment(cls), tasks)


def _check_arguments(cls: Callable[..., Any], split: str, given: Sequence[Mapping[str, Any]]) -> None:
    """Raise `ValueError` for keyword arguments of a task that `cls` does not take."""
    if isinstance(given, (str, Mapping)) or not all(isinstance(data, Mapping) for data in given):
        raise ValueError(f"from_class got {split}={given!r:.100}: give a list with the keyword arguments of each task's object")
    signature = inspect.signature(cls)
    for index, data in enumerate(given):
        seed = {"seed": 0} if "seed" in signature.parameters and "seed" not in data else {}
        try:
            signature.bind(**data, **seed)
        except TypeError as error:
            name = getattr(cls, "__name__", repr(cls))
            raise ValueError(
                f"from_class: {split} task {index} gives {dict(data)}, but {name} takes {signature}: {error}"
            ) from error


class ClassEnvironment(ToolEnvironment):
    """One object of the class a time; see `from_class`."""

    def __init__(self, cls: Callable[..., Any]) -> None:
        super().__init__()
        self._cls = cls
        self._object: Any = None

    async def reset(self, task: Task, *, seed: int) -> Observation:
        takes_seed = "seed" in inspect.signature(self._cls).parameters and "seed" not in task.data
        self._object = self._cls(**task.data, **({"seed": seed} if takes_seed else {}))
        self.equip([tool(getattr(self._object, name)) for name in public_methods(self._cls)])
        self.tool_calls = 0
        prompt = await self._value("prompt", inspect.getdoc(self._cls))
        for name, found in (("reward", hasattr(self._object, "reward")), ("prompt", prompt)):
            if not found:
                raise ValueError(f"class {type(self._object).__name__} has no {name}: {REMEDY[name]}")
        return Observation.of(str(prompt))

    async def run(self, calls: Sequence[ToolCall]) -> Sequence[ToolResult]:
        """One after another: they share the object."""
        results: list[ToolResult] = []
        for call in calls:
            results += await super().run([call])
        return results

    async def observe(self, results: Sequence[ToolResult]) -> Transition:
        transition = await super().observe(results)
        if not await self._value("done", False):
            return transition
        return Transition(transition.observation, await self._earned(""), terminated=True, failures=transition.failures)

    async def answer(self, action: Action) -> Transition:
        return Transition(reward=await self._earned(answer_text(action)), terminated=True)

    async def truncate(self) -> Transition:
        """At a limit of turns or tokens the object is asked what it is worth as it stands."""
        return Transition(reward=await self._earned(""), truncated=True)

    async def _earned(self, answer: str) -> float | Reward:
        earned: float | Reward = await self._value("reward", 0.0, answer)
        return earned

    async def close(self) -> None:
        await super().close()
        await self._value("close", None)

    async def _value(self, name: str, default: Any, *arguments: Any) -> Any:
        """The object's attribute, called if it can be, with as many of `arguments` as it takes, awaited if need be."""
        value = getattr(self._object, name, default)
        if callable(value):
            value = value(*arguments[: len(inspect.signature(value).parameters)])
        return await value if inspect.isawaitable(value) else value


def public_methods(cls: Any) -> list[str]:
    """Names of the methods that are tools, in alphabetical order."""
    found = inspect.getmembers(cls, lambda member: inspect.isfunction(member) or inspect.ismethod(member))
    return [name for name, _ in found if not name.startswith("_") and name not in RESERVED]
