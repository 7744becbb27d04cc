"""Our worlds for several agents as PettingZoo's environments, so that its checkers and its learners run on them.

An action is a number in a list of words; which words are legal now, the mask in the observation says.  What an agent observes is the last
text that it was shown, as UTF-8 bytes with zeros behind (PettingZoo's checker wants arrays), and in `infos` as it is.  Agents who act at
once are asked one after the other by the AEC environment, and hear of each other afterwards.
Source: PettingZoo's AEC and parallel interfaces, arXiv 2009.14471; the package `pettingzoo` (extra `envs-several`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from gymnasium import spaces
from pettingzoo import AECEnv, ParallelEnv

from sojourn.core import Action, JointTransition, MultiAgentEnvironment, Observation, named, total
from sojourn.environments.world import World

T = TypeVar("T")


class _Table:
    """One of our worlds, played synchronously, with what each agent saw last.  Reset without a seed takes the next task."""

    def __init__(self, world: World[MultiAgentEnvironment], words: Sequence[str], longest: int) -> None:
        self.world, self.words, self.longest = world, tuple(words), longest
        self.environment = world.make()
        self.agents = tuple(self.environment.agents)
        seen: dict[str, spaces.Space[Any]] = {
            "observation": spaces.Box(0, 255, (longest,), np.uint8),
            "action_mask": spaces.Box(0, 1, (len(self.words),), np.int8),
        }
        self.observation_spaces = {agent: spaces.Dict(seen) for agent in self.agents}
        self.action_spaces = {agent: spaces.Discrete(len(self.words)) for agent in self.agents}
        self.loop = asyncio.new_event_loop()
        self.index = -1

    def reset(self, seed: int | None) -> None:
        self.index = self.index + 1 if seed is None else seed
        task = self.world.tasks.task("train", self.world.tasks.levels[0], self.index)
        self.environment = self.world.make()
        self.shown = dict.fromkeys(self.agents, "")
        self.over = False
        self._show(self._run(self.environment.reset(task, seed=self.index)))

    def step(self, numbers: Mapping[str, int]) -> JointTransition:
        said = {agent: self.words[int(number)] for agent, number in numbers.items()}
        transition = self._run(self.environment.step({agent: Action(text, answer=text) for agent, text in said.items()}))
        self._show(transition.observations)
        self.over = transition.terminated or transition.truncated
        return transition

    def seen(self, agent: str) -> dict[str, Any]:
        legal = self.environment.legal(agent) if not self.over and agent in self.environment.acting() else ()
        mask = np.asarray([word in legal for word in self.words], np.int8)
        return {"observation": self._bytes(agent), "action_mask": mask}

    def infos(self, agents: Sequence[str]) -> dict[str, dict[str, Any]]:
        return {agent: {"text": self.shown[agent]} for agent in agents}

    def _bytes(self, agent: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
        text = self.shown[agent].encode()
        if len(text) > self.longest:
            raise ValueError(f"{agent} was shown {len(text)} bytes, and an observation holds {self.longest}: raise `longest`")
        return np.frombuffer(text.ljust(self.longest, b"\0"), np.uint8)

    def close(self) -> None:
        if not self.loop.is_closed():
            self._run(self.environment.close())
            self.loop.close()

    def _show(self, observations: Mapping[str, Observation]) -> None:
        self.shown |= {agent: "\n".join(message.text for message in seen.messages) for agent, seen in observations.items()}

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)


def _paid(transition: JointTransition, agents: Sequence[str]) -> dict[str, float]:
    return {agent: total(named(transition.rewards.get(agent, 0.0))) for agent in agents}


class AsAec(AECEnv):  # type: ignore[misc, unused-ignore]
    """A world of ours whose agents are asked one by one.

    words: all texts that may be actions.  longest: bytes of an observation at most.
    """

    metadata = {"name": "sojourn", "render_modes": [], "is_parallelizable": False}

    def __init__(self, world: World[MultiAgentEnvironment], words: Sequence[str], *, longest: int = 1 << 12) -> None:
        super().__init__()
        self.table = _Table(world, words, longest)
        self.possible_agents = list(self.table.agents)
        self.render_mode = None

    def observation_space(self, agent: str) -> Any:
        return self.table.observation_spaces[agent]

    def action_space(self, agent: str) -> Any:
        return self.table.action_spaces[agent]

    def reset(self, seed: int | None = None, options: Any = None) -> None:
        self.table.reset(seed)
        self.agents = list(self.possible_agents)
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = self.table.infos(self.agents)
        self._chosen: dict[str, int] = {}
        self.agent_selection = self.table.environment.acting()[0]

    def observe(self, agent: str) -> dict[str, Any]:
        return self.table.seen(agent)

    def step(self, action: int | None) -> None:
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        self._cumulative_rewards[agent] = 0.0
        self._clear_rewards()
        self._chosen[agent] = int(action)  # type: ignore[arg-type]
        acting = self.table.environment.acting()
        waiting = [each for each in acting if each not in self._chosen]
        if waiting:
            self.agent_selection = waiting[0]
            return
        transition = self.table.step({each: self._chosen[each] for each in acting})
        self._chosen = {}
        self.rewards = _paid(transition, self.agents)
        self.infos = self.table.infos(self.agents)
        self._accumulate_rewards()
        if self.table.over:
            self.terminations = dict.fromkeys(self.agents, transition.terminated)
            self.truncations = dict.fromkeys(self.agents, transition.truncated)
            self.agent_selection = self.agents[0]
        else:
            self.agent_selection = self.table.environment.acting()[0]

    def close(self) -> None:
        self.table.close()


class AsParallel(ParallelEnv):  # type: ignore[misc, unused-ignore]
    """A world of ours whose agents are all asked at once; what is said by who does not act now is not heard."""

    metadata = {"name": "sojourn", "render_modes": []}

    def __init__(self, world: World[MultiAgentEnvironment], words: Sequence[str], *, longest: int = 1 << 12) -> None:
        self.table = _Table(world, words, longest)
        self.possible_agents = list(self.table.agents)
        self.render_mode = None

    def observation_space(self, agent: str) -> Any:
        return self.table.observation_spaces[agent]

    def action_space(self, agent: str) -> Any:
        return self.table.action_spaces[agent]

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.table.reset(seed)
        self.agents = list(self.possible_agents)
        return self._seen(), self.table.infos(self.agents)

    def step(self, actions: Mapping[str, int]) -> tuple[dict[str, Any], ...]:
        heard = {agent: actions[agent] for agent in self.table.environment.acting()}
        transition, agents = self.table.step(heard), self.agents
        observations, rewards = self._seen(), _paid(transition, agents)
        self.agents = [] if self.table.over else agents
        ends = (dict.fromkeys(agents, transition.terminated), dict.fromkeys(agents, transition.truncated))
        return observations, rewards, *ends, self.table.infos(agents)

    def _seen(self) -> dict[str, Any]:
        return {agent: self.table.seen(agent) for agent in self.agents}

    def close(self) -> None:
        self.table.close()
