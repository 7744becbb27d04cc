"""`sojourn play`: a person in the model's place.

The one idea: the person is an engine.  Tokens go in, are shown as they are, and what is typed goes back as tokens; environment,
chat template, action protocol and agent program are those of training.  So one sees exactly what the model sees.  In a world with several
agents the person takes one seat, and the model the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from rich.console import Console
from rich.text import Text
from tyro.conf import Positional, arg

from sojourn.core import Episode, Floats, Ints, MultiAgentEnvironment, Split, Task, ToolSpec, TrajectoryTree, handover, total
from sojourn.engine import SamplingParams
from sojourn.engine.protocol import Completion

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from sojourn.environments import World
    from sojourn.models import LoadedModel
    from sojourn.rendering import ChatRenderer

HINT = "Type what the model would say. An action ends with its closing tag, or with an empty line. Ctrl-D leaves."


def play(
    environment: Positional[str],
    level: str = "",
    index: int = 0,
    split: Split = "train",
    protocol: Literal["auto", "json", "xml", "react", "code", "text"] = "auto",
    model: str = "smollm2-135m",
    turns: Annotated[int, arg(name="max-turns")] = 8,
    seat: str = "",
) -> None:
    """Play an environment in the terminal and see what the model sees, token for token; where there are several agents, against the model.

    Args:
        environment: A name as in `sojourn envs`.
        level: Of the task; the easiest if not given.
        index: Which task of the level.
        split: Training tasks or held-out ones.
        protocol: How actions are written; auto is tags where there are tools, else plain text.
        model: Whose chat template, a model's or a run's; a tiny model's stands in if this one is not on this machine.
        turns: Actions at most.
        seat: Which of several agents you are; the first if not given.
    """
    from sojourn.environments import find

    console = Console(highlight=False)
    world = find(environment)
    tokenizer, whose = tokenizer_of(model)
    console.print(f"{HINT} Chat template: {whose}.", style="dim")
    task = world.tasks.task(split, level or world.tasks.levels[0], index)
    try:
        if isinstance(world.make(), MultiAgentEnvironment):
            episode = asyncio.run(play_seat(world, task, opponent(model), seat, turns, console, input))
        else:
            episode = asyncio.run(play_task(world, task, tokenizer, protocol, turns, console, input))
    except EOFError:
        console.print("\nleft", style="dim")
    else:
        console.print(outcome(episode))


async def play_task(
    world: World,
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    protocol: str,
    turns: int,
    console: Console,
    read: Callable[[], str],
) -> Episode:
    """Let a person play one episode; `read` gives one typed line a call and raises EOFError at the end."""
    from sojourn.agents import react
    from sojourn.policy import Limits, Policy, Session
    from sojourn.rendering import PROTOCOLS, ChatRenderer

    tools = await _tools(world, task)
    chosen = ("xml" if tools else "text") if protocol == "auto" else protocol
    spoken = PROTOCOLS[chosen](tools)
    renderer = ChatRenderer(tokenizer, spoken)
    policy = Policy("actor", Person(renderer, console, read), renderer, spoken)
    episode, environment = Episode(task.id, task, TrajectoryTree()), world.make()
    try:
        await react(Session(episode, environment, {"actor": policy}, seed=0, limits=Limits(max_turns=turns)))
    finally:
        await environment.close()
    return episode


async def play_seat(
    world: World[MultiAgentEnvironment],
    task: Task,
    model: LoadedModel,
    seat: str,
    turns: int,
    console: Console,
    read: Callable[[], str],
) -> Episode:
    """Let a person play one agent and the model all others, in plain text.  Raises ValueError if there is no agent `seat`."""
    from sojourn.agents import table
    from sojourn.engine.local import LocalEngine
    from sojourn.policy import Limits, Policy, Session
    from sojourn.rendering import PROTOCOLS, ChatRenderer

    environment = world.make()
    seat = seat or environment.agents[0]
    if seat not in environment.agents:
        raise ValueError(f"there is no seat '{seat}': choose one of {', '.join(environment.agents)}")
    spoken = PROTOCOLS["text"](())
    renderer = ChatRenderer(model.tokenizer, spoken)
    engine = LocalEngine(model.model, model.tokenizer, max_context=4096)
    sampling = SamplingParams(max_tokens=256)
    policies = {
        "person": Policy("person", Person(renderer, console, read), renderer, spoken),
        "actor": Policy("actor", engine, renderer, spoken, sampling),
    }
    console.print(f"You are {seat}; {model.name} plays {', '.join(set(environment.agents) - {seat}) or 'nobody'}.", style="dim")
    episode = Episode(task.id, task, TrajectoryTree())
    try:
        await table(Session(episode, environment, policies, seed=0, limits=Limits(max_turns=turns), seats={seat: "person"}))
    finally:
        await environment.close()
        await engine.close()
    for agent in environment.agents:
        console.print(f"{agent} earned {earned(episode, agent):g}")
    return episode


def earned(episode: Episode, agent: str) -> float:
    """What one of several agents was paid."""
    own = [episode.tree[span].reward for span in episode.actions if episode.tree[span].agent == agent]
    return sum(total(terms) for terms in (*own, episode.paid.get(agent, {})))


async def _tools(world: World, task: Task) -> Sequence[ToolSpec]:
    """The tools of a task; some worlds know them only after a reset."""
    environment = world.make()
    try:
        handover.observation(await handover.settled(environment.reset(task, seed=0)), environment)
        return environment.tools
    finally:
        await environment.close()


class Person:
    """An engine that shows a person what is new in the context and takes what is typed as the completion."""

    max_context = 1 << 20
    version = sampled_tokens = computed_tokens = 0

    def __init__(self, renderer: ChatRenderer, console: Console, read: Callable[[], str]) -> None:
        self.renderer = renderer
        self.console = console
        self.read = read
        self._seen: list[int] = []

    async def sample(self, tokens: Ints, params: SamplingParams) -> Completion:
        """Show what is new; a context that was rewritten is shown from the start."""
        now = tokens.tolist()
        known = len(self._seen) if now[: len(self._seen)] == self._seen else 0
        self.console.print(
            Text(str(self.renderer.tokenizer.decode(now[known:], skip_special_tokens=False))), style="cyan", end=""
        )
        said = self.renderer.as_sampled(typed(self.read, params.stop))
        self._seen = now + said
        return Completion(np.asarray(said, np.int64), np.zeros(len(said), np.float32), "stop")

    async def score(self, tokens: Ints, adapter: str | None = None) -> Floats:
        raise NotImplementedError("a person gives no log-probabilities")

    def update(self, version: int) -> None:
        """A person's weights are their own business."""

    async def close(self) -> None:
        """There is nothing to give back."""


def typed(read: Callable[[], str], stop: tuple[str, ...]) -> str:
    """Lines until a stop text completes an action, or until an empty line; the first line where nothing stops."""
    lines = [read()]
    while stop and lines[-1] and not any(mark.strip() in lines[-1] for mark in stop):
        lines.append(read())
    return "\n".join(lines).rstrip("\n")


def outcome(episode: Episode) -> str:
    """What the episode came to."""
    stop = episode.stop.value if episode.stop else "?"
    terms = ", ".join(f"{name} {value:g}" for name, value in episode.rewards.items())
    failures = "".join(f"\n{failure.kind.value} fault in {failure.where}: {failure.message}" for failure in episode.failures)
    return f"\n{stop} after {len(episode.actions)} actions; {'solved' if episode.success else 'not solved'}; {terms}{failures}"


def opponent(name: str) -> LoadedModel:
    """The model of that name, or a run's, where it is on this machine, else a tiny model of random weights."""
    from sojourn import models
    from sojourn.training import weights

    return models.tiny() if local_folder(weights.base(name)) is None else weights.load(name)


def tokenizer_of(name: str) -> tuple[PreTrainedTokenizerBase, str]:
    """The tokenizer of a model that is on this machine, or of a run's model, else a tiny model's; and whose it is."""
    from transformers import AutoTokenizer

    from sojourn import models
    from sojourn.training.weights import base

    name = base(name)
    folder = local_folder(name)
    if folder is None:
        return models.tiny().tokenizer, f"a tiny model's ({name} is not on this machine)"
    return AutoTokenizer.from_pretrained(folder), name


def local_folder(name: str) -> Path | None:
    """Where a model lies on this machine; None if it does not."""
    from sojourn.models import KNOWN, cache_folder, hub

    if (Path(name) / "config.json").is_file():
        return Path(name)
    if (cache_folder() / name / "config.json").is_file():
        return cache_folder() / name
    return hub.cached(KNOWN[name].hub if name in KNOWN else name)
