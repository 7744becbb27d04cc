"""What the tests under `tests/programs` share: play one group with a tiny model, and train on it for a step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import torch
from helpers import engine_for, small

from sojourn.core import Environment, EpisodeGroup, Task
from sojourn.credit import Credit, columns, dr_grpo
from sojourn.engine import SamplingParams
from sojourn.engine.local import LocalEngine
from sojourn.learner import Learner, OptimizerConfig
from sojourn.models import LoadedModel
from sojourn.objectives import PolicyGradient
from sojourn.policy import Policy, Program
from sojourn.rendering import ChatRenderer
from sojourn.rendering.protocols import PlainText
from sojourn.training import Rollout


@dataclass
class Played:
    """A group, and who played it."""

    group: EpisodeGroup
    actor: LoadedModel
    engine: LocalEngine


@dataclass
class Learned:
    """What one optimizer step said and moved."""

    metrics: dict[str, float]
    gain: list[float]
    """Change of the log-probability of each episode's actions of the actor."""


TASK = Task("t")


def policy(name: str, loaded: LoadedModel, engine: LocalEngine, *, temperature: float = 1.0) -> Policy:
    protocol = PlainText()
    params = SamplingParams(max_tokens=6, temperature=temperature)
    return Policy(name, engine, ChatRenderer(loaded.tokenizer, protocol), protocol, params)


def played(
    environment: Callable[[], Environment], program: Program, *partners: Policy, size: int = 4, task: Task = TASK, seed: int = 0
) -> Played:
    """One group; a fresh actor."""
    actor = small()
    engine = engine_for(actor, max_context=400, max_batch=8)
    policies = {each.name: each for each in (policy("actor", actor, engine), *partners)}
    (group,) = asyncio.run(Rollout(environment, program, policies).groups([task], size=size, seed=seed))
    assert all(episode.valid for episode in group.episodes), [e.failures for e in group.episodes]
    return Played(group, actor, engine)


async def likelihoods(run: Played) -> list[float]:
    """Log-probability of what the actor said in each episode, by its engine."""
    totals = []
    for episode in run.group.episodes:
        own = [span for span in episode.actions if episode.tree[span].policy == "actor"]
        scores = [(await run.engine.score(episode.tree.tokens(span)))[-len(episode.tree[span].tokens) :] for span in own]
        totals.append(float(sum(score.sum() for score in scores)))
    return totals


async def trained(run: Played, credit: Credit | None = None) -> Learned:
    """One step on the group: engine and learner agree before it, and the weights move.  The default credit is dr_grpo."""
    learner = Learner(run.actor.model, OptimizerConfig(learning_rate=1e-3))
    before, weights = await likelihoods(run), [p.detach().clone() for p in run.actor.model.parameters()]
    table = columns([run.group], trained=("actor",))
    metrics = learner.update([run.group], table, (credit or dr_grpo())(table), PolicyGradient())
    run.engine.update(1)
    assert metrics["mismatch_k3"] < 1e-8, "engine and learner disagree"
    assert any(not torch.equal(p, old) for p, old in zip(run.actor.model.parameters(), weights, strict=True))
    return Learned(metrics, [b - a for a, b in zip(before, await likelihoods(run), strict=True)])
