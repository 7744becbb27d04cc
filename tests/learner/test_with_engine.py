"""Engine and learner share one model: they agree on probabilities, and what one learns the other says."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import ARCHITECTURES, engine_for, prompt, sample_all, small

from sojourn.core import ROOT, Episode, EpisodeGroup, Kind, Span, Task, TrajectoryTree, user
from sojourn.credit import columns, dr_grpo
from sojourn.engine import SamplingParams
from sojourn.engine.local import LocalEngine
from sojourn.learner import Learner, OptimizerConfig
from sojourn.models import LoadedModel
from sojourn.objectives import Dpo, PolicyGradient
from sojourn.policy import Policy
from sojourn.rendering import ChatRenderer
from sojourn.rendering.protocols import PlainText
from sojourn.training.weights import add_adapters


def sampled_group(engine: LocalEngine, size: int = 4, temperature: float = 1.0) -> EpisodeGroup:
    """A group of answers to one prompt, every second one paid."""
    tree = TrajectoryTree()
    group = EpisodeGroup("g", Task("g"), tree)
    root = tree.add(Span(ROOT, prompt(40), Kind.OBSERVATION))
    params = [SamplingParams(max_tokens=12, seed=seed, temperature=temperature) for seed in range(size)]
    for number, completion in enumerate(sample_all(engine, [(prompt(40), each) for each in params])):
        span = Span(root, completion.tokens, Kind.ACTION, logprobs=completion.logprobs, policy="actor", temperature=temperature)
        group.episodes.append(Episode(f"g/{number}", group.task, tree, [tree.add(span)], reward={"r": float(number % 2)}))
    return group


def learn(learner: Learner, group: EpisodeGroup) -> dict[str, float]:
    table = columns([group])
    return learner.update([group], table, dr_grpo()(table), PolicyGradient())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_they_agree_at_the_first_update(architecture: str, temperature: float) -> None:
    loaded = small(architecture)
    engine, learner = engine_for(loaded), Learner(loaded.model, OptimizerConfig())
    metrics = learn(learner, sampled_group(engine, temperature=temperature))
    assert metrics["ratio"] == pytest.approx(1.0, abs=1e-6)
    assert metrics["mismatch_k3"] < 1e-8  # half the mean square of the difference: 1e-4 nats
    assert metrics["loss"] == pytest.approx(loss_at_ratio_one(engine, temperature), abs=1e-4)
    assert metrics["cut_low"] == metrics["cut_high"] == 0


def loss_at_ratio_one(engine: LocalEngine, temperature: float) -> float:
    """- mean of the advantages, which are +-1/2, over tokens."""
    lengths = [len(e.tree[e.actions[0]].tokens) for e in sampled_group(engine, temperature=temperature).episodes]
    return float(-sum((0.5 if i % 2 else -0.5) * n for i, n in enumerate(lengths)) / sum(lengths))


def test_metrics_of_pairs_are_means_over_pairs() -> None:
    """One pair of four answers: DPO's loss is log(1 + exp(-margin))."""
    loaded = small()
    group = sampled_group(engine_for(loaded))
    for number, episode in enumerate(group.episodes):
        episode.reward = {"r": float(number == 3)} if number in (0, 3) else {}
    learner = Learner(loaded.model, OptimizerConfig(), reference=small(seed=1).model)
    table = columns([group])
    table = replace(table, valid_E=table.valid_E & np.array([True, False, False, True]))
    table = replace(table, ref_logp_T=learner.reference_logp([group], table, np.ones(len(table.row_T), bool)))
    metrics = learner.update([group], table, np.zeros(len(table.row_T)), Dpo())
    assert metrics["loss"] == pytest.approx(np.log1p(np.exp(-metrics["margin"])), rel=1e-5)
    assert metrics["right"] == float(metrics["margin"] > 0)


def test_a_step_makes_what_was_paid_likelier_and_the_engine_says_so() -> None:
    loaded = small()
    engine, learner = engine_for(loaded), Learner(loaded.model, OptimizerConfig(learning_rate=1e-3))
    group = sampled_group(engine)
    learn(learner, group)
    engine.update(1)
    after = score(engine, group)
    before = [float(e.tree[e.actions[0]].logprobs.sum()) for e in group.episodes]
    assert after[1] - before[1] > 0 > after[0] - before[0]


def score(engine: LocalEngine, group: EpisodeGroup) -> list[float]:
    """Log-probability of each answer, by the engine."""
    import asyncio

    async def one(span: int) -> float:
        return float((await engine.score(group.tree.tokens(span)))[40:].sum())

    return [asyncio.run(one(episode.actions[0])) for episode in group.episodes]


def test_adapters_alone_are_trained_and_the_engine_uses_them() -> None:
    loaded, plain = small(), small()
    add_adapters(loaded.model, 2, seed=0)
    engine, learner = engine_for(loaded), Learner(loaded.model, OptimizerConfig(learning_rate=1e-2))
    group = sampled_group(engine)
    untouched = score(engine_for(plain), group)
    np.testing.assert_allclose(score(engine, group), untouched, atol=1e-3)  # an adapter begins as nothing
    for _ in range(2):
        learn(learner, group)
    engine.update(1)
    weights = dict(plain.model.named_parameters())
    for name, parameter in loaded.model.named_parameters():
        if "lora_" not in name:
            assert torch.equal(parameter, weights[name.replace(".base_layer", "")]), name
    moved = [name for name, p in loaded.model.named_parameters() if "lora_B" in name and p.abs().max() > 0]
    assert len(moved) == 7 * 2  # all seven projections of both layers
    assert max(abs(a - b) for a, b in zip(score(engine, group), untouched, strict=True)) > 0.1


def test_bfloat16_trains_through_its_masters() -> None:
    loaded: LoadedModel = small()
    loaded.model.bfloat16()
    engine, learner = engine_for(loaded), Learner(loaded.model, OptimizerConfig(learning_rate=1e-3))
    group = sampled_group(engine)
    for _ in range(3):
        learn(learner, group)
    before = [float(e.tree[e.actions[0]].logprobs.sum()) for e in group.episodes]
    after = score(engine, group)
    assert after[1] - before[1] > 0 > after[0] - before[0]


@pytest.mark.parametrize("how", [{"top_k": 5}, {"top_p": 0.9}, {"min_p": 0.05}])
def test_what_was_sampled_from_some_of_the_tokens_is_not_trained(how: dict[str, float]) -> None:
    loaded = small()
    whole, protocol = SamplingParams(max_tokens=4), PlainText()
    policy = Policy("actor", engine_for(loaded), ChatRenderer(loaded.tokenizer, protocol), protocol, whole)
    group = EpisodeGroup("g", Task("g"), TrajectoryTree())
    start = group.tree.new_context([user("Say.")], renderer=policy.renderer)
    learner = Learner(loaded.model, OptimizerConfig())
    for number, params in enumerate((whole, whole, replace(whole, **how))):
        child, _ = asyncio.run(replace(policy, sampling=params).act(start, seed=number))
        group.episodes.append(Episode(f"g/{number}", group.task, group.tree, [child.span], reward={"r": float(number)}))
        if params is whole:
            learn(learner, group)
    with pytest.raises(ValueError, match=r"top_k, top_p or min_p, whose distribution the learner does not score"):
        learn(learner, group)
