"""A plain function `reward(prompt, completion)` as a world of horizon 1: one prompt, one answer, one reward."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence

from sojourn.core import Action, Environment, Observation, Reward, Task, Transition
from sojourn.environments.tools import answer_text
from sojourn.environments.world import TaskList, World

RewardFunction = Callable[[str, str], float | Reward | Awaitable[float | Reward]]


def from_function(reward: RewardFunction, prompts: Sequence[str], *, test: Sequence[str] = ()) -> World:
    """A world that asks one of `prompts` and pays `reward(prompt, completion)`, a number or named terms; it may be async.

    completion: the answer field if the action protocol has one and the policy used it, else all that it said, without edge
    whitespace.  test: held-out prompts.

    >>> world = from_function(lambda prompt, completion: float(completion == prompt[::-1]), ["abc"])
    >>> world.tasks.task("train", "default", 0).data["prompt"]
    'abc'
    """
    for name, texts in (("prompts", prompts), ("test", test)):
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"from_function got {name}={texts!r:.100}: give a list of texts")
    if not prompts:
        raise ValueError("from_function got no prompts: give at least one")
    _check_takes_two(reward)
    train, held_out = ([_task(split, i, p) for i, p in enumerate(texts)] for split, texts in (("train", prompts), ("test", test)))
    return World(lambda: FunctionEnvironment(reward), TaskList(train, held_out))


class FunctionEnvironment(Environment):
    """One prompt (`task.data["prompt"]`), one answer; see `from_function`."""

    def __init__(self, reward: RewardFunction) -> None:
        self._reward = reward
        self._prompt = ""

    async def reset(self, task: Task, *, seed: int) -> Observation:
        self._prompt = task.data["prompt"]
        return Observation.of(self._prompt)

    async def step(self, action: Action) -> Transition:
        paid = self._reward(self._prompt, answer_text(action))
        if inspect.isawaitable(paid):
            paid = await paid
        failures = (action.fault,) if action.fault else ()
        return Transition(reward=paid, terminated=True, failures=failures)

    def snapshot(self) -> object:
        return self._prompt

    def restore(self, snapshot: object) -> None:
        self._prompt = str(snapshot)


def _check_takes_two(reward: RewardFunction) -> None:
    if not callable(reward):
        raise ValueError(f"from_function got {reward!r:.100} as reward: give a function of (prompt, completion)")
    try:
        signature = inspect.signature(reward)
    except ValueError:  # a function in C may have none
        return
    try:
        signature.bind("prompt", "completion")
    except TypeError as error:
        name = getattr(reward, "__name__", type(reward).__name__)
        raise ValueError(f"from_function got {name}{signature}, expected a function of (prompt, completion): {error}") from error


def _task(split: str, index: int, prompt: str) -> Task:
    return Task(f"{split}/{index}", {"prompt": prompt})
