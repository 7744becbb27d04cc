"""Environments of Gymnasium with a finite set of actions, played in words.

The one idea: an observation becomes a text and an action a word, and everything else is the library's.  A task is a seed; the two splits
take seeds of different halves.  Gymnasium's `terminated` is an end state and its `truncated` a stop with a future, as ours.  An episode
succeeds if its return reaches the environment's `reward_threshold`, where it has one.
Source: Towers et al., arXiv 2407.17032; the package `gymnasium` (extra `envs-gymnasium`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sojourn.core import Action, Environment, Failure, FailureKind, Observation, Split, Task, Transition
from sojourn.environments.answer import answer_text
from sojourn.environments.world import World


def from_gymnasium(name: str, actions: Sequence[str] = (), *, show: Callable[[Any], str] = str, **settings: Any) -> World:
    """The world of one Gymnasium environment; `settings` go to `gymnasium.make`.

    actions: a word for each action, in the environment's order; without, their numbers.  show: an observation as the policy reads it.
    Raises ImportError, with the command that fixes it, if a package is missing, and ValueError if Gymnasium makes no such environment or
    actions are not finitely many.
    """
    try:
        import gymnasium
    except ImportError as error:
        raise ImportError("Gymnasium is not installed: pip install 'sojourn[envs-gymnasium]'") from error
    try:
        with gymnasium.make(name, **settings) as probe:
            space = probe.action_space
    except gymnasium.error.DependencyNotInstalled as error:
        raise ImportError(f"Gymnasium's '{name}' needs more: {error}") from error
    except (gymnasium.error.Error, TypeError, ModuleNotFoundError) as error:
        raise ValueError(f"Gymnasium makes no '{name}'{f' of {settings}' if settings else ''}: {error}") from error
    if not isinstance(space, gymnasium.spaces.Discrete):
        raise ValueError(f"'{name}' has actions in {space}: only a finite set of actions can be said in words")
    words = tuple(actions) or tuple(str(number + space.start) for number in range(space.n))
    if len(words) != space.n:
        raise ValueError(f"'{name}' has {space.n} actions, {len(words)} words were given")
    if len({word.strip() for word in words} - {""}) != len(words):
        raise ValueError(f"'{name}': the words {words} for its actions must differ, and none be empty")
    return World(
        lambda: GymnasiumEnvironment(gymnasium.make(name, **settings), words, int(space.start), show), GymnasiumTasks(name)
    )


class GymnasiumEnvironment(Environment):
    """One episode of a Gymnasium environment; see `from_gymnasium`."""

    def __init__(self, world: Any, words: Sequence[str], first: int, show: Callable[[Any], str]) -> None:
        self._world, self._words, self._first, self._show = world, words, first, show
        self._paid, self._shown = 0.0, ""

    async def reset(self, task: Task, *, seed: int) -> Observation:
        return self._seen(self._world.reset(seed=task.data["seed"])[0])

    def legal_actions(self) -> Sequence[str]:
        return self._words

    async def step(self, action: Action) -> Transition:
        said, known = answer_text(action), [word.strip() for word in self._words]
        if said not in known:
            told = f"Say one of {', '.join(self._words)}."
            return Transition(Observation.of(told), failures=(Failure(FailureKind.MODEL, "action", f"no action '{said}'"),))
        observation, reward, terminated, truncated, _ = self._world.step(known.index(said) + self._first)
        self._paid += float(reward)
        threshold = self._world.spec.reward_threshold
        info = {} if threshold is None else {"success": self._paid >= threshold}
        return Transition(self._seen(observation), float(reward), bool(terminated), bool(truncated), info=info)

    def state_key(self) -> str:
        """What was shown last."""
        return self._shown

    def _seen(self, observation: Any) -> Observation:
        self._shown = self._show(observation)
        return Observation.of(self._shown)

    async def close(self) -> None:
        self._world.close()


@dataclass(frozen=True)
class GymnasiumTasks:
    """Seeds: even ones are for training, odd ones are held out."""

    name: str
    levels: Sequence[str] = ("default",)

    def task(self, split: Split, level: str, index: int) -> Task:
        seed = 2 * index + (split == "test")
        return Task(f"{self.name}/{seed}", {"seed": seed}, level)
