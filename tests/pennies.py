"""Matching pennies for two agents, two rounds; and a run of it with roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sojourn.agents import table
from sojourn.core import Action, JointTransition, MultiAgentEnvironment, Observation, Task
from sojourn.credit import dr_grpo
from sojourn.curriculum import Uniform
from sojourn.environments import TaskList
from sojourn.rendering.protocols import PlainText
from sojourn.training import Experiment, Role


class Pennies(MultiAgentEnvironment):
    """Two rounds of matching pennies: `even` wins where they match.  Neither sees the other's choice before the end of a round."""

    agents = ("even", "odd")

    async def reset(self, task: Task, *, seed: int) -> Mapping[str, Observation]:
        self.round = 0
        return {agent: Observation.of(f"You are {agent}. Choose l or r.") for agent in self.agents}

    def acting(self) -> Sequence[str]:
        return self.agents

    def legal(self, agent: str) -> Sequence[str]:
        return ("l", "r")

    async def step(self, actions: Mapping[str, Action]) -> JointTransition:
        self.round += 1
        gain = 1.0 if actions["even"].text == actions["odd"].text else -1.0
        seen = {
            agent: Observation.of(f"It was {actions[other].text}.")
            for agent, other in zip(self.agents, self.agents[::-1], strict=True)
        }
        return JointTransition(seen, {"even": gain, "odd": -gain}, terminated=self.round == 2)


def game(roles: Mapping[str, Role], seats: Mapping[str, str], **parts: Any) -> Experiment:
    tasks = TaskList([Task(str(i), {"number": i}) for i in range(4)], [Task("test", {"number": 9})])
    return Experiment(
        environment=Pennies,
        tasks=tasks,
        protocol=PlainText(),
        curriculum=Uniform(tasks),
        program=table,
        credit=dr_grpo(),
        roles=roles,
        seats=seats,
        **parts,
    )
