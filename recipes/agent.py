"""Train an agent of your own, unchanged: sojourn train agent --agent FILE.py:function --data prompts.jsonl --reward FILE.py:function.

The one idea: the agent asks a gateway in place of OpenAI, and what it was answered is learned from (docs/serve.md).  It is a function of a
`sojourn.serve.Seat`, or a command that is run for each episode; what it returns is paid by the reward functions, a number is the reward itself.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Annotated

from sojourn.core import NotEmpty, Range
from sojourn.curriculum import Uniform
from sojourn.data import load_function, prompt_world, read
from sojourn.rendering import JsonTags
from sojourn.serve import Outside
from sojourn.training import Experiment, TrainConfig


@dataclass(frozen=True, kw_only=True)
class Config(TrainConfig):
    """The numbers of a run with an agent from outside."""

    agent: Annotated[str, NotEmpty()]
    """FILE.py:function, or a command: "python agent.py"."""
    data: Annotated[str, NotEmpty()]
    """Prompts: JSONL, JSON, Parquet, or a data set of the Hugging Face hub."""
    reward: tuple[str, ...] = ()
    """Functions that pay an answer, FILE.py:function each, in TRL's signature; none where the agent returns its reward."""
    eval_data: str = ""
    """Prompts of the evaluation, a data set like `data`; none for no evaluation."""
    eval_tasks: int = 0
    """Prompts of `eval_data` that are played before and after training; 0 for no evaluation."""
    agent_seconds: Annotated[float, Range(0, above=True)] = 600.0
    """An agent that has not ended by then has no result.  Raise it for agents that work long."""
    called: tuple[str, ...] = ()
    """Names of models that are written into the agent; all of them are the policy."""
    run: str = "runs/agent"
    """Run folder.  An existing one is resumed."""


def experiment(config: Config) -> Experiment:
    """The parts: a world of the prompts, played by the agent."""
    held_out = read(config.eval_data, ("prompt",)) if config.eval_data else None
    if config.eval_tasks and held_out is None:
        raise ValueError(f"eval_tasks is {config.eval_tasks}: say which prompts with --eval-data")
    world = prompt_world(read(config.data, ("prompt",)), tuple(map(load_function, config.reward)), held_out)
    file = config.agent.rpartition(":")[0].endswith(".py")
    agent = load_function(config.agent) if file else shlex.split(config.agent)
    aliases = dict.fromkeys(config.called, "actor")
    return Experiment(
        environment=world.make,
        tasks=world.tasks,
        protocol=JsonTags(),
        curriculum=Uniform(world.tasks, seed=config.seed),
        program=Outside(agent, seconds=config.agent_seconds, aliases=aliases),
    )
