"""What the small worlds share: a world whose whole state is one value, tasks drawn from their address, made-up names.

The one idea: a world's state is one immutable, hashable value.  Then a snapshot is that value, restoring is an assignment, the value
itself is the key of the state, and nothing that an action changes can be forgotten.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Generic, TypeVar

from sojourn.core import Action, Failure, FailureKind, Message, Observation, Split, Task, TaskSource, Transition, assistant, named
from sojourn.environments.tools import ToolEnvironment
from sojourn.rendering.protocols import ActionProtocol
from sojourn.tools import Tool

S = TypeVar("S", bound=Hashable)
TEST_SHARE = 1 / 4
ATTEMPTS = 2000
CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"


class SmallWorld(ToolEnvironment, Generic[S]):
    """A world with one value as its state.  A subclass writes `start`, `prompt`, `answer`, `oracle` and its task source `tasks`.

    `task.data["limit"]` is the number of actions after which the world truncates the episode; `truncate` says what then stands.

    example: shows one solved task of the easiest level first, written in this protocol; None shows none.
    """

    state: S

    def __init__(self, tools: Sequence[Tool] = (), *, example: ActionProtocol | None = None) -> None:
        super().__init__(tools)
        self._example = example

    @abstractmethod
    def start(self, task: Task) -> S:
        """The state at the start of an episode."""

    @abstractmethod
    def prompt(self) -> str:
        """What the policy reads first."""

    @abstractmethod
    def oracle(self) -> Action:
        """A right next action."""

    @staticmethod
    @abstractmethod
    def tasks() -> TaskSource:
        """The tasks with their default settings."""

    async def reset(self, task: Task, *, seed: int) -> Observation:
        shown = await self._play_example(self.example_task(task)) if self._example else []
        self.task, self.seed, self.turns, self.tool_calls, self._faults = task, seed, 0, 0, 0
        self.state = self.start(task)
        return Observation.of([*shown, *Observation.of(self.prompt()).messages])

    async def step(self, action: Action) -> Transition:
        self.turns += 1
        transition = await super().step(action)
        if self.turns >= self.task.data["limit"] and not transition.terminated:
            stands = await self.truncate()
            reward = {**(named(transition.reward) if transition.reward else {}), **named(stands.reward)}
            transition = replace(transition, reward=reward, truncated=True, info={**transition.info, **stands.info})
        return replace(transition, info={"success": False, **transition.info})

    def snapshot(self) -> object:
        return self.task, self.seed, self.state, self.turns, self.tool_calls, self._faults

    def restore(self, snapshot: object) -> None:
        self.task, self.seed, self.state, self.turns, self.tool_calls, self._faults = snapshot  # type: ignore[misc]

    def state_key(self) -> Hashable:
        return self.task.id, self.state

    def example_task(self, task: Task) -> Task:
        """The task that is shown solved before this one: a training task of the easiest level that no run is likely to meet."""
        source = self.tasks()
        return source.task("train", source.levels[0], 10**9)

    async def _play_example(self, task: Task) -> list[Message]:
        """The world plays itself: what the oracle would read and say."""
        protocol, self._example = self._example, None
        assert protocol is not None
        messages = list((await self.reset(task, seed=0)).messages)
        while True:
            action = self.oracle()
            transition = await self.step(action)
            messages += [assistant(protocol.format(action), action.calls), *transition.observation.messages]
            if transition.terminated or transition.truncated:
                self._example = protocol
                return messages


@dataclass(frozen=True)
class DrawnTasks:
    """An endless source: a task is drawn again until a hash of its content says that it belongs to the split.

    draw: a task's data from a random generator and a level.  content: what makes two tasks the same problem, with a stable `repr`
    (no sets); tasks of equal content are in one split, whatever their level.
    """

    name: str
    levels: Sequence[str]
    draw: Callable[[Random, str], Mapping[str, Any]]
    content: Callable[[Mapping[str, Any]], object]

    def task(self, split: Split, level: str, index: int) -> Task:
        check_level(self.name, level, self.levels)
        rng = Random(f"{self.name}/{split}/{level}/{index}")
        for _ in range(ATTEMPTS):
            data = self.draw(rng, level)
            if split_of(self.content(data)) == split:
                return Task(f"{self.name}/{split}/{level}/{index}", data, level)
        raise ValueError(f"{self.name}: no {split} task of level '{level}' in {ATTEMPTS} draws: widen its settings")


def check_level(name: str, level: str, levels: Sequence[str]) -> None:
    if level not in levels:
        raise ValueError(f"{name} has no level '{level}': choose one of {', '.join(levels)}")


def split_of(content: object) -> Split:
    """The split that owns this content: a quarter of all is for tests."""
    return "test" if Random(f"split {content!r}").random() < TEST_SHARE else "train"


def made_up(rng: Random, count: int, syllables: int = 2) -> list[str]:
    """So many different names that mean nothing.

    >>> made_up(Random(0), 3)
    ['Zovo', 'Bipo', 'Mini']
    """
    names: dict[str, None] = {}
    while len(names) < count:
        names["".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(syllables)).capitalize()] = None
    return list(names)


def say(text: str) -> Action:
    """An action that is a plain text."""
    return Action(text, answer=text)


def refuse(text: str) -> Transition:
    """The action was no valid one; the policy reads why, and has lost a turn."""
    return Transition(Observation.of(text), failures=(Failure(FailureKind.MODEL, "action", text),))


def listed(parts: Sequence[str]) -> str:
    return ", ".join(parts) or "nothing"


def counted(items: Mapping[str, int]) -> str:
    """`2 wood, 1 saw`."""
    return listed([f"{count} {item}" for item, count in items.items()])
