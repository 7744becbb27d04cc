"""Prompts of a data set as a world of one turn, paid by reward functions in TRL's signature.

    def reward(completions, answer, **kwargs) -> list[float | None]

The one idea: a function is called with keywords, `prompts`, `completions` and every column of the data set, each a list with an entry for
each answer.  Ours come one at a time, so the lists have one entry.  None means that the function does not judge this row.  It may be async.
An answer is a list of messages where the prompt is one, else a text.  [huggingface.co/docs/trl/grpo_trainer, "Using a custom reward function"]
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sojourn.core import Action, Environment, Message, Observation, Task, Transition, user
from sojourn.data.records import Data, Record, Said
from sojourn.environments import TaskList, World, answer_text

RewardFunction = Callable[..., Any]
"""`function(*, prompts, completions, **columns)` to a list of numbers or None, or an awaitable of one."""
NOT_OURS = {"completion_ids": "token ids", "trainer_state": "TRL's trainer state"}


def prompt_world(data: Data, rewards: Sequence[RewardFunction] = (), held_out: Data | None = None) -> World:
    """A world that asks the prompts of `data` and pays what `rewards` say, each a term of its own name.

    held_out: prompts of the evaluation.  Raises `ValueError` for a function that asks for what no column has, for two of one name, and for
    prompts with tools.
    """
    names = [_name(function) for function in rewards]
    if len(set(names)) < len(names):
        raise ValueError(
            f"two reward functions have one name ({', '.join(names)}); rename one, since each pays a term of its name"
        )
    for record in data.records if rewards else ():
        if record.tools:
            raise ValueError(
                f"data {data.source}: {record.where} has tools, which nothing runs: write an environment that has them"
            )
        for function in rewards:
            _arguments(function, record, "")
    tasks = TaskList(*([_task(record) for record in each.records] if each else [] for each in (data, held_out)))
    return World(partial(PromptEnvironment, tuple(rewards)), tasks)


class PromptEnvironment(Environment):
    """One prompt (`task.data["prompt"]`), one answer."""

    def __init__(self, rewards: Sequence[RewardFunction] = ()) -> None:
        self._rewards = rewards

    async def reset(self, task: Task, *, seed: int) -> Observation:
        self._where, self._prompt, self._columns = task.id, task.data["prompt"], task.data["columns"]
        return Observation.of(list(as_messages(self._prompt)))

    async def step(self, action: Action) -> Transition:
        said = answer_text(action)
        terms = {}
        for function in self._rewards:
            paid = await _paid(function, Record(self._where, self._prompt, columns=self._columns), said)
            if paid is not None:
                terms[_name(function)] = paid
        if not terms:
            judged = "no reward function judged it (all returned None)" if self._rewards else "there is no reward function"
            raise ValueError(f"{self._where} cannot be paid: {judged}")
        return Transition(reward=terms, terminated=True, failures=(action.fault,) if action.fault else ())


def as_messages(prompt: Said) -> tuple[Message, ...]:
    """A prompt as a conversation: a text is what a user says."""
    return (user(prompt),) if isinstance(prompt, str) else prompt


async def _paid(function: RewardFunction, record: Record, said: str) -> float | None:
    """What a function pays for one answer.  Raises `ValueError` for what is no list of one number or None."""
    paid = function(**_arguments(function, record, said))
    if inspect.isawaitable(paid):
        paid = await paid
    if not isinstance(paid, Sequence) or len(paid) != 1:
        raise ValueError(f"reward {_name(function)} returned {paid!r:.80} for one answer, expected a list of one number or None")
    return None if paid[0] is None else paid[0]


def _arguments(function: RewardFunction, record: Record, said: str) -> dict[str, Any]:
    """The keywords of a call: all that the function can take."""
    text = isinstance(record.prompt, str)
    completion: Any = said if text else [{"role": "assistant", "content": said}]
    prompt: Any = (
        record.prompt if text else [{"role": m.role, "content": m.text} for m in record.prompt if isinstance(m, Message)]
    )
    given = {**{name: [value] for name, value in record.columns.items()}, "prompts": [prompt], "completions": [completion]}
    parameters = inspect.signature(function).parameters.values()
    for parameter in parameters:
        must = (
            parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) and parameter.default is parameter.empty
        )
        if must and parameter.name not in given:
            what = NOT_OURS.get(parameter.name)
            found = f"that is {what}, which Sojourn does not give" if what else f"{record.where} has {', '.join(given)}"
            raise ValueError(
                f"reward {_name(function)} asks for '{parameter.name}', but {found}; give it a default, or add the column"
            )
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return given
    return {parameter.name: given[parameter.name] for parameter in parameters if parameter.name in given}


def _task(record: Record) -> Task:
    return Task(record.where, {"prompt": record.prompt, "columns": dict(record.columns)})


def _name(function: RewardFunction) -> str:
    function = function.func if isinstance(function, partial) else function
    return getattr(function, "__name__", type(function).__name__)
