"""References: teachers, references that move, with and without adapters; and what an experiment is refused for."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import logits_of, saved, small
from small_run import config, experiment

from sojourn.credit import Band, Distillation, Gae, KlInReward, VTrace, grpo
from sojourn.models import LoadedModel, tiny
from sojourn.objectives import Kl, Mix, PolicyGradient, Reference, Supervised, Unclipped, ValueLoss
from sojourn.training import Trainer, checkpoint, train, weights


def distilled(run: Path, teacher: Path | str, **changes: Any) -> Trainer:
    return Trainer(config(run, run, algorithm="distillation", teacher=str(teacher), **changes), experiment(), small())


def another(folder: Path) -> LoadedModel:
    """Another model, saved."""
    loaded = small()
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    saved(loaded, folder)
    return loaded


def test_the_advantage_is_what_the_named_teacher_thinks_likelier(tmp_path: Path) -> None:
    plain = another(tmp_path / "teacher")
    trainer = distilled(tmp_path, tmp_path / "teacher")
    groups, metrics = asyncio.run(trainer.train_step())
    _, advantage_T = trainer.last[:2]
    expected = []
    for played in groups:
        for span in (span for episode in played.episodes for span in episode.actions):
            path, own = played.tree.tokens(span), played.tree[span].tokens
            at = slice(len(path) - len(own) - 1, -1)
            teacher, student = (torch.from_numpy(logits_of(each, path)).log_softmax(-1)[at] for each in (plain, small()))
            expected.append((teacher - student)[torch.arange(len(own)), torch.from_numpy(own)].numpy())
    np.testing.assert_allclose(advantage_T, np.concatenate(expected), atol=1e-4)
    assert np.abs(advantage_T).max() > 0.1
    assert metrics["kl"] > 0.01, "the divergence in the report is from the teacher"


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_a_run_teaches_with_its_last_policy(lora_rank: int, tmp_path: Path, model: Path) -> None:
    run = tmp_path / "run"
    train(config(run, model, steps=2, eval_tasks=0, lora_rank=lora_rank), experiment())
    trained = Trainer(config(tmp_path, model, lora_rank=lora_rank), experiment())
    path = checkpoint.latest(run / "checkpoints")
    assert path is not None
    checkpoint.load_weights(path, trained.model)
    weights.merge_adapters(trained.model)
    teacher = distilled(tmp_path, run).learning.learner.reference
    assert teacher is not None
    taught, last = dict(teacher.named_parameters()), dict(trained.model.named_parameters())
    assert taught.keys() == last.keys() and all(torch.equal(taught[name], last[name]) for name in last)
    first = dict(Trainer(config(tmp_path, model), experiment()).model.named_parameters())
    assert any(not torch.equal(taught[name], first[name]) for name in first)


def test_a_teacher_with_another_tokenizer_is_refused(tmp_path: Path) -> None:
    other = tiny(hidden=32, layers=2, heads=4)
    other.tokenizer.add_tokens(["<one more>"])
    saved(other, tmp_path / "other")
    with pytest.raises(ValueError, match=r"teacher '.*other' .* has another tokenizer than the policy"):
        distilled(tmp_path, tmp_path / "other")


def test_a_run_without_a_checkpoint_teaches_nothing(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"run": "run", "model": "tiny"}')
    with pytest.raises(ValueError, match="is a run without a checkpoint yet"):
        distilled(tmp_path, tmp_path / "run")


def test_a_divergence_within_a_mixed_objective_has_its_reference(tmp_path: Path) -> None:
    mixed = Mix(parts=(PolicyGradient(kl=Kl(coefficient=0.1)), Supervised(positive_only=True)), weights=(1.0, 0.1))
    parts = replace(experiment(), objective=mixed, reference=Reference(kind="frozen"))
    optimizer = replace(config(tmp_path, tmp_path).optimizer, learning_rate=3e-3)
    trainer = Trainer(config(tmp_path, tmp_path, optimizer=optimizer), parts, small())
    kl = [asyncio.run(trainer.train_step())[1]["kl"] for _ in range(2)]
    assert kl[0] == pytest.approx(0.0, abs=1e-6) and kl[1] > 1e-4


@pytest.mark.parametrize("lora_rank", [0, 2])
@pytest.mark.parametrize("reference", [Reference(kind="reset", every=2), Reference(kind="average", every=1, rate=0.25)])
def test_a_reference_follows_the_policy_with_and_without_adapters(reference: Reference, lora_rank: int, tmp_path: Path) -> None:
    parts = replace(experiment(), objective=PolicyGradient(kl=Kl(coefficient=0.1)), reference=reference)
    trainer = Trainer(config(tmp_path, tmp_path, lora_rank=lora_rank), parts, small())
    follower = trainer.learning.learner.reference
    assert follower is not None

    def trained() -> dict[str, torch.Tensor]:
        return {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}

    expected, states = trained(), [trained()]
    for update in (1, 2, 3):
        asyncio.run(trainer.train_step())
        states.append(trained())
        if update % reference.every == 0:
            expected = {name: old + reference.rate * (states[-1][name] - old) for name, old in expected.items()}
        found = dict(follower.named_parameters())
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value)
    assert any(not torch.equal(states[0][name], states[2][name]) for name in expected)


def test_the_average_of_a_bfloat16_policy_is_kept_in_float32(tmp_path: Path) -> None:
    """A hundredth of a step is lost between two numbers of bfloat16."""
    reference = Reference(kind="average", every=1, rate=0.01)
    parts = replace(experiment(), objective=PolicyGradient(kl=Kl(coefficient=0.1)), reference=reference)
    trainer = Trainer(config(tmp_path, tmp_path, dtype="bfloat16"), parts, small())
    follower = trainer.learning.learner.reference
    assert follower is not None and follower.dtype == torch.float32
    before = [p.detach().clone() for p in follower.parameters()]
    asyncio.run(trainer.train_step())
    asyncio.run(trainer.train_step())
    pairs = zip(before, follower.parameters(), trainer.model.parameters(), strict=True)
    moved = [(new - old)[now.float() != old] for old, new, now in pairs]
    assert float((torch.cat(moved) != 0).float().mean()) > 0.99


def test_a_new_optimizer_begins_like_the_first(tmp_path: Path) -> None:
    """After the renewal Adam's first step is the sign of the gradient again: no weight moves further than the learning rate."""
    for new, further in ((True, False), (False, True)):
        reference = Reference(kind="reset", every=2, new_optimizer=new)
        parts = replace(experiment(), objective=PolicyGradient(kl=Kl(coefficient=0.1)), reference=reference)
        trainer = Trainer(config(tmp_path, tmp_path), parts, small())
        for _ in range(2):
            asyncio.run(trainer.train_step())
        remembered = [state["step"].item() for state in trainer.learning.learner.optimizer._adam.state.values()]
        assert remembered == [] if new else set(remembered) == {2.0}
        before = [p.detach().clone() for p in trainer.model.parameters()]
        asyncio.run(trainer.train_step())
        rate = trainer.config.optimizer.learning_rate
        moves = torch.cat([((p - old).abs() / rate).flatten() for p, old in zip(trainer.model.parameters(), before, strict=True)])
        firsts = ((moves > 0.98) | (moves < 1e-6)).double().mean()
        assert (firsts < 0.9) == further


WEIGHED = PolicyGradient()
UNWEIGHED = PolicyGradient(granularity="none", trust_region=Unclipped())


@pytest.mark.parametrize(
    ("parts", "settings", "reason"),
    [
        ({"critic": ValueLoss()}, {}, "this experiment: a critic is trained but its credit never reads a value"),
        ({"credit": Gae()}, {}, "reads values but there is no critic; add one"),
        ({"objective": PolicyGradient(kl=Kl())}, {}, "Kl needs a reference policy; set reference.kind 'frozen'"),
        ({"credit": KlInReward(credit=grpo())}, {}, "KlInReward needs a reference policy"),
        ({"credit": VTrace(), "critic": ValueLoss(), "objective": WEIGHED}, {}, "applies it twice; use granularity 'none'"),
        ({"filters": (Band(low=0.3, high=0.4),)}, {"group_size": 2}, "no group of 2 .*; widen the band, or raise the group size"),
        ({}, {"group_size": 1}, "a group of one has no baseline"),
        ({"credit": Distillation(), "objective": UNWEIGHED, "reference": Reference(kind="frozen")}, {}, "needs a teacher"),
        ({}, {"teacher": "smollm2-135m"}, "but nothing reads a reference; drop the teacher"),
        ({"reference": Reference(kind="reset", every=1)}, {"teacher": "tiny"}, "'reset', which follows the policy"),
        ({}, {"algorithm": "grpo", "group_size": 1}, "algorithm 'grpo': a group of one"),
    ],
)
def test_an_experiment_of_one_s_own_is_refused_like_a_named_algorithm(
    parts: dict[str, Any], settings: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=reason):
        Trainer(config(tmp_path, tmp_path, **settings), replace(experiment(), **parts), small())


def test_a_reference_for_the_report_alone_is_no_contradiction(tmp_path: Path) -> None:
    parts = replace(experiment(), reference=Reference(kind="frozen"))
    _, metrics = asyncio.run(Trainer(config(tmp_path, tmp_path), parts, small()).train_step())
    assert metrics["kl"] == pytest.approx(0.0, abs=1e-5)
