"""Adapters in the learner: what `peft` computes with the one that is named, and nothing else moves."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from helpers import paths_of, small
from numpy.typing import NDArray

from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.credit import columns, dr_grpo
from sojourn.engine.adapters import activated, trained
from sojourn.learner import Critic, Learner, OptimizerConfig
from sojourn.models import LoadedModel
from sojourn.objectives import Kl, PolicyGradient, ValueLoss
from sojourn.training.weights import add_adapters

GROUPS = [
    group([Script([Turn(5), Turn(3)], final=1.0), Script([Turn(4)]), Script([Turn(6), Turn(2)])], key="a"),
    group([Script([Turn(12, observation=1), Turn(9)], final=1.0), Script([Turn(20)])], key="b", seed=1),
]
TABLE = columns(GROUPS)
ALL = np.ones(len(TABLE.row_T), bool)
ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma3")


def adapted(architecture: str = "llama") -> LoadedModel:
    """A tiny model with the adapters "coder" and "tester", which are no longer nothing."""
    loaded = small(architecture)
    for name, rank in (("coder", 2), ("tester", 3)):
        add_adapters(loaded.model, rank, 0, name)
    draw = torch.Generator().manual_seed(1)
    for name, parameter in loaded.model.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=draw)
    return loaded


def by_peft(loaded: LoadedModel, adapter: str) -> torch.Tensor:
    """Log-probability of every action token (T,), each path run alone."""
    found = []
    spans = [each.tree[span] for each in GROUPS for episode in each.episodes for span in episode.actions]
    paths = [path for each in GROUPS for path in paths_of(each)]
    with activated(loaded.model, adapter):
        for span, path in zip(spans, paths, strict=True):
            ids = torch.from_numpy(path)
            logp = loaded.model(ids[None]).logits[0, :-1].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
            found.append(logp[-len(span.tokens) :])
    return torch.cat(found)


def learner_for(loaded: LoadedModel, adapter: str | None, **parts: Any) -> Learner:
    return Learner(loaded.model, OptimizerConfig(learning_rate=1e-2), adapter=adapter, **parts)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("adapter", ["coder", "tester"])
def test_log_probabilities_and_gradients_are_those_of_peft(architecture: str, adapter: str) -> None:
    ours, plain = adapted(architecture), adapted(architecture)
    learner, weight = learner_for(ours, adapter), torch.linspace(-1, 1, len(ALL))
    for micro in learner.cut(GROUPS, TABLE, ALL):
        (learner.score(micro)[0] * weight[torch.from_numpy(micro.batch.row)]).sum().backward()
    np.testing.assert_allclose(learner.scored(GROUPS, TABLE, ALL)[0], by_peft(plain, adapter).detach(), atol=1e-5)
    (by_peft(plain, adapter) * weight).sum().backward()
    expected = {name: p.grad for name, p in plain.model.named_parameters()}
    for name, parameter in ours.model.named_parameters():
        if f".{adapter}." in name:
            torch.testing.assert_close(parameter.grad, expected[name], atol=1e-5, rtol=1e-4)
        else:
            assert parameter.grad is None, name


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_training_one_adapter_changes_no_bit_of_the_other_and_of_the_base(architecture: str) -> None:
    loaded = adapted(architecture)
    before = {name: p.detach().clone() for name, p in loaded.model.named_parameters()}
    learner, other = learner_for(loaded, "coder"), learner_for(loaded, "tester")
    learner.update(GROUPS, TABLE, dr_grpo()(TABLE), PolicyGradient())
    moved = {name for name, p in loaded.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved and all(".coder." in name for name in moved)
    other.update(GROUPS, TABLE, dr_grpo()(TABLE), PolicyGradient())
    moved = {name for name, p in loaded.model.named_parameters() if not torch.equal(p, before[name])}
    assert {name.split(".")[-2] for name in moved} == {"coder", "tester"}


def test_two_on_one_base_learn_what_each_would_learn_alone() -> None:
    together = adapted()
    for adapter in ("coder", "tester"):
        learner_for(together, adapter).update(GROUPS, TABLE, dr_grpo()(TABLE), PolicyGradient())
        alone = adapted()
        learner_for(alone, adapter).update(GROUPS, TABLE, dr_grpo()(TABLE), PolicyGradient())
        now, expected = trained(together.model, adapter), trained(alone.model, adapter)
        assert now.keys() == expected.keys() and all(torch.equal(now[name], expected[name]) for name in expected)


def test_the_model_without_adapters_is_its_own_reference() -> None:
    def divergences(reference: LoadedModel, adapter: str | None, loaded: LoadedModel) -> NDArray[np.float64]:
        learner = learner_for(loaded, "coder", reference=reference.model, reference_adapter=adapter)
        return learner.reference_logp(GROUPS, TABLE, ALL)

    shared = adapted()
    bare = divergences(shared, "", shared)
    np.testing.assert_allclose(bare, divergences(small(), None, adapted()), atol=1e-5)
    assert np.abs(bare - learner_for(shared, "coder").scored(GROUPS, TABLE, ALL)[0]).max() > 0.01
    learner = learner_for(shared, "coder", reference=shared.model, reference_adapter="")
    learner.update(GROUPS, TABLE, dr_grpo()(TABLE), PolicyGradient(kl=Kl(coefficient=0.1)))
    assert np.array_equal(divergences(shared, "", shared), bare), "it does not move with the adapter"


def test_a_critic_begins_as_the_role_whose_adapter_it_copies() -> None:
    """Its states are those of the adapter: a head of ones sums them, for each of the two another sum."""
    loaded, sums = adapted(), []
    for adapter in ("coder", "tester"):
        critic = Critic(copy.deepcopy(loaded.model), OptimizerConfig(), ValueLoss(), adapter=adapter)
        torch.nn.init.ones_(critic.head.weight)
        found = critic.valued(GROUPS, TABLE).value_T
        assert found is not None
        with activated(loaded.model, adapter), torch.no_grad():
            path = paths_of(GROUPS[0])[0]
            hidden = loaded.model.base_model(torch.from_numpy(path)[None]).last_hidden_state[0]
        own = len(GROUPS[0].tree[GROUPS[0].episodes[0].actions[0]].tokens)
        np.testing.assert_allclose(found[:own], hidden.sum(-1)[len(path) - own - 1 : -1], atol=1e-4)
        sums.append(found)
    assert np.abs(sums[0] - sums[1]).max() > 0.01
