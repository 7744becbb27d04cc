"""PettingZoo's environments with finitely many actions as worlds for several agents.

The one idea: an observation becomes a text and an action a word, and everything else is the library's.  Who acts in turn is played through its
AEC interface, who acts at once through its parallel one.  A task is a seed; even seeds are for training, odd ones are held out.
Source: Terry et al., arXiv 2009.14471; the package `pettingzoo` (extra `envs-several`).  `as_pettingzoo` goes the other way.

    tictactoe     acting() == ("player_1",)                      legal: where its action mask is 1
    rps           acting() == ("player_0", "player_1")           legal: all
"""

from __future__ import annotations

import pkgutil
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from sojourn.core import Action, Failure, FailureKind, JointTransition, MultiAgentEnvironment, Observation, Split, Task
from sojourn.environments.tools import answer_text
from sojourn.environments.world import World

Show = Callable[[Any], str]
"""What an agent reads, of its observation without the action mask."""
FAMILIES = ("classic", "butterfly", "sisl")


def from_pettingzoo(
    source: str | Callable[[], Any], actions: Sequence[str] = (), *, show: Show = str, name: str = "", **settings: Any
) -> World[MultiAgentEnvironment]:
    """The world of one environment.

    source: a name, with its version ("tictactoe_v3") or without for the newest ("tictactoe"), or what makes an AEC or a parallel environment;
    `settings` go to it.  actions: a word for each action, in the environment's order; without, their numbers.
    Raises ImportError, with the command that helps, if a package is missing, and ValueError if there is no such environment, or if its
    actions are not finitely many.
    """
    make = _maker(source) if isinstance(source, str) else source
    probe = make(**settings)
    spaces = [probe.action_space(agent) for agent in probe.possible_agents]
    parallel, count = hasattr(probe, "aec_env") or not hasattr(probe, "agent_iter"), getattr(spaces[0], "n", 0)
    probe.close()
    if any(getattr(space, "n", None) != count or getattr(space, "start", 0) for space in spaces):
        raise ValueError(
            f"'{source}' has actions in {spaces}: all agents need the same finite set, {count or 'some'} numbers from 0"
        )
    words = tuple(actions) or tuple(map(str, range(count)))
    if len(words) != count:
        raise ValueError(f"'{source}' has {count} actions, {len(words)} words were given")
    kind = AtOnce if parallel else InTurn
    return World(lambda: kind(make(**settings), words, show), PettingZooTasks(name or str(source)))


def _maker(name: str) -> Callable[..., Any]:
    """What makes the environment of that name: the parallel one where there is one."""
    try:
        found = [
            f"{each.__name__}.{module.name}" for each in map(_family, FAMILIES) for module in pkgutil.iter_modules(each.__path__)
        ]
    except ImportError as error:
        raise ImportError("PettingZoo is not installed: pip install 'sojourn[envs-several]'") from error
    short = {path.rpartition(".")[2]: path for path in sorted(found, key=_version)}
    fitting = [each for each in short if name in (each, each.rpartition("_v")[0])]
    if not fitting:
        known = ", ".join(sorted(each for each in short if "_v" in each))
        raise ValueError(f"PettingZoo has no environment '{name}': choose one of {known}")
    module = import_module(short[fitting[-1]])
    make: Callable[..., Any] = getattr(module, "parallel_env", None) or module.env
    return make


def _family(name: str) -> Any:
    return import_module(f"pettingzoo.{name}")


def _version(path: str) -> int:
    number = path.rpartition("_v")[2]
    return int(number) if number.isdigit() else -1


class PettingZooEnvironment(MultiAgentEnvironment):
    """One episode.  An action that is no legal word moves nothing: its agent is told, and acts again."""

    def __init__(self, world: Any, words: Sequence[str], show: Show) -> None:
        self.agents = tuple(world.possible_agents)
        self.world, self._words, self._show = world, words, show
        self._chosen: dict[str, int] = {}

    async def step(self, actions: Mapping[str, Action]) -> JointTransition:
        told, wrong = {}, []
        for agent in self.acting():
            legal, said = self.legal(agent), answer_text(actions[agent])
            if said in legal:
                self._chosen[agent] = self._words.index(said)
            else:
                told[agent] = Observation.of(f"Say one of {', '.join(legal)}.")
                wrong.append(Failure(FailureKind.MODEL, "action", f"{agent}: no action '{said}'"))
        if wrong:
            return JointTransition(told, failures=tuple(wrong))
        chosen, self._chosen = self._chosen, {}
        return self._move(chosen)

    @abstractmethod
    def _move(self, chosen: Mapping[str, int]) -> JointTransition:
        """Take legal actions of all who act now."""

    @abstractmethod
    def _given(self, agent: str) -> tuple[Any, Mapping[str, Any]]:
        """The observation and the info of an agent."""

    def legal(self, agent: str) -> Sequence[str]:
        observation, info = self._given(agent)
        mask = observation.get("action_mask") if isinstance(observation, Mapping) else None
        mask = info.get("action_mask") if mask is None else mask
        return self._words if mask is None else tuple(self._words[i] for i in np.flatnonzero(mask).tolist())

    def _seen(self, agents: Sequence[str]) -> dict[str, Observation]:
        return {agent: Observation.of(self.look(agent)) for agent in agents}

    def look(self, agent: str) -> str:
        """What an agent reads now."""
        observation, _ = self._given(agent)
        masked = isinstance(observation, Mapping) and "observation" in observation
        return self._show(observation["observation"] if masked else observation)

    async def close(self) -> None:
        self.world.close()


class InTurn(PettingZooEnvironment):
    """Through the AEC interface."""

    async def reset(self, task: Task, *, seed: int) -> Mapping[str, Observation]:
        self.world.reset(seed=task.data["seed"])
        self._cut = False
        return self._seen(self.acting())

    def acting(self) -> Sequence[str]:
        return (self.world.agent_selection,) if self.world.agents else ()

    def _given(self, agent: str) -> tuple[Any, Mapping[str, Any]]:
        return self.world.observe(agent), self.world.infos[agent]

    def _move(self, chosen: Mapping[str, int]) -> JointTransition:
        world = self.world
        world.step(next(iter(chosen.values())))
        rewards = {agent: float(reward) for agent, reward in world.rewards.items()}
        while world.agents and (world.terminations[world.agent_selection] or world.truncations[world.agent_selection]):
            self._cut |= world.truncations[world.agent_selection]
            world.step(None)  # who is out leaves the table
        over = not world.agents
        return JointTransition(
            self._seen(self.acting()), rewards, terminated=over and not self._cut, truncated=over and self._cut
        )


class AtOnce(PettingZooEnvironment):
    """Through the parallel interface."""

    async def reset(self, task: Task, *, seed: int) -> Mapping[str, Observation]:
        self._observations, self._infos = self.world.reset(seed=task.data["seed"])
        self._cut = False
        return self._seen(self.acting())

    def acting(self) -> Sequence[str]:
        return tuple(agent for agent in self.world.agents if agent not in self._chosen)

    def _given(self, agent: str) -> tuple[Any, Mapping[str, Any]]:
        return self._observations[agent], self._infos[agent]

    def _move(self, chosen: Mapping[str, int]) -> JointTransition:
        self._observations, paid, _, truncations, self._infos = self.world.step(dict(chosen))
        self._cut |= any(truncations.values())
        over = not self.world.agents
        rewards = {agent: float(reward) for agent, reward in paid.items()}
        return JointTransition(
            self._seen(self.acting()), rewards, terminated=over and not self._cut, truncated=over and self._cut
        )


@dataclass(frozen=True)
class PettingZooTasks:
    """Seeds: even ones are for training, odd ones are held out."""

    name: str
    levels: Sequence[str] = ("default",)

    def task(self, split: Split, level: str, index: int) -> Task:
        seed = 2 * index + (split == "test")
        return Task(f"{self.name}/{seed}", {"seed": seed}, level)
