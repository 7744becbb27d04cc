"""Three policies: the one that sampled, the one at the start of the update, the one being trained.  Who reads which, and what it costs."""

from __future__ import annotations

import asyncio
import copy
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import logits_of, small
from small_run import config, experiment

from sojourn.core import EpisodeGroup
from sojourn.credit import Columns
from sojourn.learner import Learner
from sojourn.models import LoadedModel
from sojourn.objectives import Importance, Mix, Objective, PolicyGradient, Supervised, Unclipped
from sojourn.training import Trainer, train

SHIFT = 0.25
"""Nats by which the engine of these tests reports every token as less likely than it was."""


@pytest.fixture
def wrong_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = Trainer._sample

    async def shifted(trainer: Trainer, *arguments: Any) -> list[EpisodeGroup]:
        groups = await sample(trainer, *arguments)
        for span in (group.tree[span] for group in groups for episode in group.episodes for span in episode.actions):
            assert span.logprobs is not None
            span.logprobs = span.logprobs - np.float32(SHIFT)
        return groups

    monkeypatch.setattr(Trainer, "_sample", shifted)


@pytest.fixture
def scorings(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One entry for each forward pass without gradients over a rollout."""
    seen: list[None] = []
    scored = Learner.scored

    def counted(learner: Learner, *arguments: Any) -> Any:
        seen.append(None)
        return scored(learner, *arguments)

    monkeypatch.setattr(Learner, "scored", counted)
    return seen


@pytest.mark.parametrize("name", ["tis", "icepop", "m2po", "decoupled_ppo", "seq_mask_tis"])
@pytest.mark.parametrize(("epochs", "minibatches"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_corrections_see_the_engine_s_error_in_every_update(
    name: str, epochs: int, minibatches: int, tmp_path: Path, wrong_engine: None
) -> None:
    """The metric is k3 of log(pi_old / pi_behaviour), which is the shift for every token, whatever the weights have become."""
    settings = config(tmp_path, tmp_path, algorithm=name, epochs=epochs, minibatches=minibatches)
    _, metrics = asyncio.run(Trainer(settings, experiment(), small()).train_step())
    assert metrics["mismatch_k3"] == pytest.approx(np.exp(SHIFT) - 1 - SHIFT, rel=1e-3)


@pytest.mark.parametrize("epochs", [1, 2])
def test_m2po_drops_what_the_engine_got_wrong_in_every_update(epochs: int, tmp_path: Path, wrong_engine: None) -> None:
    """SHIFT squared is above tau = 0.04 for every token, so none is left."""
    trainer = Trainer(config(tmp_path, tmp_path, algorithm="m2po", epochs=epochs), experiment(), small())
    before = [p.detach().clone() for p in trainer.model.parameters()]
    _, metrics = asyncio.run(trainer.train_step())
    assert metrics["trained_tokens"] > 0
    assert all(torch.equal(old, new) for old, new in zip(before, trainer.model.parameters(), strict=True))


@pytest.mark.filterwarnings("ignore:.*granularity 'none'")
@pytest.mark.parametrize(
    ("name", "updates", "expected"),
    [
        ("m2po", 1, 1),
        ("tis", 1, 0),
        ("tis", 2, 1),
        ("tis", 3, 1),
        ("dr_grpo", 3, 0),
        ("deepseek_v32", 3, 0),
        ("ppo_plain", 3, 0),
        ("impala", 3, 0),
    ],
)
def test_the_start_is_scored_once_and_only_where_it_is_read(
    name: str, updates: int, expected: int, tmp_path: Path, scorings: list[None]
) -> None:
    trainer = Trainer(config(tmp_path, tmp_path, algorithm=name, epochs=updates), experiment(), small())
    asyncio.run(trainer.train_step())
    assert len(scorings) == expected


NONE = PolicyGradient(granularity="none", trust_region=Unclipped(), corrections=(Importance(),))


@pytest.mark.parametrize(
    ("objective", "updates", "warned"),
    [
        (NONE, {"epochs": 2}, True),
        (NONE, {"minibatches": 3}, True),
        (Mix(parts=(Supervised(), NONE), weights=(1.0, 1.0)), {"epochs": 2}, True),
        (NONE, {}, False),
        (PolicyGradient(), {"epochs": 2, "minibatches": 2}, False),
        (Supervised(), {"epochs": 2}, False),
    ],
)
def test_several_updates_without_a_ratio_are_said_to_be_off_policy(
    objective: Objective, updates: dict[str, int], warned: bool, tmp_path: Path
) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        Trainer(config(tmp_path, tmp_path, **updates), replace(experiment(), objective=objective), small())
    about = [str(each.message) for each in said if "granularity 'none'" in str(each.message)]
    assert len(about) == warned
    assert all(
        text.startswith("this experiment: ") and f"{max(updates.values())} updates of each rollout" in text for text in about
    )


def moved_from(model: Path) -> tuple[LoadedModel, LoadedModel]:
    """Two equal models, some way from the one in the folder."""
    loaded = small()
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return loaded, LoadedModel(copy.deepcopy(loaded.model), loaded.tokenizer, "copy")


def by_the_plain_model(plain: LoadedModel, groups: Sequence[EpisodeGroup], table: Columns) -> np.ndarray:
    """Log-probability of every action token, (T,), one sequence at a time."""
    tree_of = [group.tree for group in groups for _ in group.episodes]
    found = []
    for episode, span in zip(table.episode_S.tolist(), table.span_S.tolist(), strict=True):
        path, own = tree_of[episode].tokens(span), tree_of[episode][span].tokens
        logp = torch.from_numpy(logits_of(plain, path)).log_softmax(-1)[len(path) - len(own) - 1 : -1]
        found.append(logp[torch.arange(len(own)), torch.from_numpy(own)].numpy())
    return np.concatenate(found)


@pytest.mark.parametrize("name", ["impala", "ppo", "distillation", "tis"])
def test_on_stored_episodes_the_policy_is_the_learner_s_own(name: str, tmp_path: Path, model: Path) -> None:
    train(config(tmp_path / "first", model, steps=1, eval_tasks=0), experiment())
    loaded, plain = moved_from(model)
    settings = config(tmp_path, model, algorithm=name, learn_from=str(tmp_path / "first"))
    settings = replace(settings, teacher=str(model) if name == "distillation" else "")
    trainer = Trainer(settings, experiment(), loaded)
    groups, _ = asyncio.run(trainer.train_step())
    table, _ = trainer.last[:2]
    expected = by_the_plain_model(plain, groups, table)
    np.testing.assert_allclose(table.policy_logp_T, expected, atol=1e-4)
    assert np.abs(expected - table.logp_T).max() > 0.1, "these are other weights than those that sampled"


@pytest.mark.parametrize(("name", "against_what_sampled"), [("dr_grpo", True), ("ppo_plain", True), ("tis", False)])
def test_the_ratio_on_stored_episodes(name: str, against_what_sampled: bool, tmp_path: Path, model: Path) -> None:
    """Without a correction it is the importance weight of the data; with one, the correction is, and the ratio begins at 1."""
    train(config(tmp_path / "first", model, steps=1, eval_tasks=0), experiment())
    loaded, plain = moved_from(model)
    trainer = Trainer(config(tmp_path, model, algorithm=name, learn_from=str(tmp_path / "first")), experiment(), loaded)
    groups, metrics = asyncio.run(trainer.train_step())
    table, advantage_T = trainer.last[:2]
    assert table.logp_T is not None
    weight = np.exp(by_the_plain_model(plain, groups, table) - table.logp_T)[advantage_T != 0]
    assert metrics["ratio"] == pytest.approx(weight.mean() if against_what_sampled else 1.0, rel=1e-3)
    assert abs(weight.mean() - 1) > 0.01
