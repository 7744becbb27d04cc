"""What is paid on top, coefficients that follow a target, groups that are replayed: each through a run, and through a resumed one."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import small
from small_run import config, experiment, few_high_bytes

from sojourn.core import EpisodeGroup
from sojourn.credit import Columns, KlInReward, ZeroSignal, columns, dr_grpo
from sojourn.credit.shaping import overlong
from sojourn.learner import Learner
from sojourn.objectives import EntropyTarget, Importance, Kl, KlTarget, PolicyGradient, Reference, Unclipped
from sojourn.store import RunFolder
from sojourn.training import Experiment, Trainer, train

FROZEN = Reference(kind="frozen")


def spelling(groups: Sequence[EpisodeGroup], table: Columns) -> np.ndarray:
    """A fine on the first token, and an eighth on each token beyond none."""
    first = [episode.tree[episode.actions[0]].tokens[0] % 4 for each in groups for episode in each.episodes]
    return overlong(table.length_E, limit=8, buffer=8) - np.array(first)


def test_shaping_is_paid_on_top_and_seen_by_filters_and_credit(tmp_path: Path) -> None:
    """The world pays everybody 1, so that only fines make a difference."""
    parts = replace(
        experiment(lambda prompt, completion: 1.0), credit=dr_grpo(), filters=(ZeroSignal(),), shaping={"spelling": spelling}
    )
    trainer = Trainer(config(tmp_path, tmp_path, sampling_rounds=2), parts, small())
    groups, metrics = asyncio.run(trainer.train_step())
    table, advantage_T = trainer.last[:2]
    said = [[episode.tree[episode.actions[0]].tokens for episode in played.episodes] for played in groups]
    fine = np.array([[-len(tokens) / 8 - tokens[0] % 4 for tokens in row] for row in said])
    assert metrics["shaping/spelling"] == pytest.approx(fine.mean())
    np.testing.assert_allclose(advantage_T[table.start_S[:-1]], (fine - fine.mean(axis=1, keepdims=True)).flatten(), atol=1e-9)
    assert metrics["trained_tokens"] > 0 and len(groups) == 2, "no group had to be sampled again"
    assert metrics["reward"] == 1.0, "the world's own reward stays what it was"


def test_a_term_that_the_world_pays_is_not_paid_twice(tmp_path: Path) -> None:
    world = experiment(lambda prompt, completion: {"spelling": 1.0})
    with pytest.raises(ValueError, match="the environment pays a term 'spelling' already"):
        asyncio.run(Trainer(config(tmp_path, tmp_path), replace(world, shaping={"spelling": spelling}), small()).train_step())


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The coefficients that updates were made with."""
    seen: list[Any] = []
    update = Learner.update

    def record(learner: Learner, groups: Any, table: Any, advantage_T: Any, objective: Any, **how: Any) -> dict[str, float]:
        seen.append(table.coefficients)
        return update(learner, groups, table, advantage_T, objective, **how)

    monkeypatch.setattr(Learner, "update", record)
    return seen


@pytest.mark.parametrize("place", ["loss", "reward"])
def test_the_kl_coefficient_follows_its_target(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ziegler et al., sec. 2.2, written out: 8 episodes a step, a horizon of 40, an error of at most 0.2 either way."""
    seen, target = recorded(monkeypatch), 1e-4
    objective = PolicyGradient(kl=Kl(coefficient=0.1)) if place == "loss" else PolicyGradient()
    credit = dr_grpo() if place == "loss" else KlInReward(credit=dr_grpo(), coefficient=0.1)
    parts = replace(
        experiment(), credit=credit, objective=objective, reference=FROZEN, kl_target=KlTarget(nats=target, horizon=40)
    )
    optimizer = replace(config(tmp_path, tmp_path).optimizer, learning_rate=3e-3)
    trainer = Trainer(config(tmp_path, tmp_path, optimizer=optimizer), parts, small())
    beta, moves = 0.1, set()
    for _ in range(4):
        _, metrics = asyncio.run(trainer.train_step())
        assert metrics["kl_coefficient"] == pytest.approx(beta)
        if place == "loss":
            assert seen[-1]["kl_coefficient"] == pytest.approx(beta)
        error = np.clip(metrics["kl"] / target - 1, -0.2, 0.2)
        moves.add(float(np.sign(error)))
        beta *= 1 + error * 8 / 40
    assert moves == {-1.0, 1.0}, "too near at first, then too far"


def test_the_entropy_bonus_follows_its_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = recorded(monkeypatch)
    for nats, bonuses in ((9.0, [0.01, 0.015, 0.02]), (1.0, [0.0, 0.0, 0.0])):
        parts = replace(experiment(), objective=PolicyGradient(entropy=0.01), entropy_target=EntropyTarget(nats=nats))
        trainer = Trainer(config(tmp_path, tmp_path), parts, small())
        seen.clear()
        rows = [asyncio.run(trainer.train_step())[1] for _ in range(3)]
        assert all(4 < row["entropy"] < 6 for row in rows), "of 5 or so nats"
        assert [each["entropy_coefficient"] for each in seen] == pytest.approx(bonuses)
        expected = [0.01, 0.015, 0.02] if nats == 9.0 else [0.01, 0.005, 0.0]
        assert [row["entropy_coefficient"] for row in rows] == pytest.approx(expected)


def only_a(prompt: str, completion: str) -> float:
    """The second question pays nobody."""
    return few_high_bytes(prompt, completion) if prompt == "Say a." else 0.0


def with_replay(**parts: Any) -> Experiment:
    """Two questions in turn, of which the first carries a signal."""
    return replace(experiment(only_a, prompts=("Say a.", "Say b.")), credit=dr_grpo(), **parts)


@pytest.mark.parametrize("corrections", [(), (Importance(high=50.0),)])
def test_a_group_without_signal_is_replaced_by_one_of_before(corrections: tuple[Importance, ...], tmp_path: Path) -> None:
    """Step 2 learns from the group of step 1, with the importance weight of what has been learned since."""
    optimizer = replace(config(tmp_path, tmp_path).optimizer, learning_rate=3e-3)
    settings = config(tmp_path, tmp_path, groups=1, replay=4, optimizer=optimizer)
    trainer = Trainer(settings, with_replay(objective=PolicyGradient(corrections=corrections)), small())
    first, metrics = asyncio.run(trainer.train_step())
    assert metrics["replayed"] == 0
    _, then_T = trainer.last[:2]
    between = copy.deepcopy(trainer.model)
    second, metrics = asyncio.run(trainer.train_step())
    assert (metrics["replayed"], metrics["zero_signal"], metrics["reward"]) == (1, 1.0, 0.0)
    assert [group.task.data["prompt"] for group in second] == ["Say b."], "what is reported is what was sampled"
    assert len(trainer.advantages(second)) == 1
    table, advantage_T = trainer.last[:2]
    again = (table.group_S == 1)[table.row_T]
    np.testing.assert_allclose(advantage_T[again], then_T)
    assert not advantage_T[~again].any()
    plain = Learner(between, trainer.config.optimizer)
    older = columns(first)
    assert older.logp_T is not None and table.logp_T is not None
    np.testing.assert_array_equal(table.logp_T[again], older.logp_T)
    now, _ = plain.scored(first, older, np.ones(len(older.row_T), bool))
    weight = np.exp(now - older.logp_T)[then_T != 0]
    assert np.abs(weight - 1).max() > 0.05
    if corrections:
        assert metrics["mismatch_k3"] == pytest.approx(np.mean(weight - 1 - np.log(weight)), rel=1e-2)
    else:
        assert metrics["ratio"] == pytest.approx(weight.mean(), rel=1e-3)


def test_replay_without_anything_that_weighs_older_samples_is_refused(tmp_path: Path) -> None:
    reinforce = PolicyGradient(granularity="none", trust_region=Unclipped())
    with pytest.raises(ValueError, match="neither a ratio nor a correction accounts for that; choose"):
        Trainer(config(tmp_path, tmp_path, replay=2), replace(experiment(), objective=reinforce), small())
    weighed = replace(reinforce, corrections=(Importance(),))
    Trainer(config(tmp_path, tmp_path, replay=2), replace(experiment(), objective=weighed), small())


def test_a_resumed_run_remembers_its_groups_and_coefficients(tmp_path: Path, model: Path) -> None:
    parts: dict[str, Any] = {
        "objective": PolicyGradient(kl=Kl(coefficient=0.1), entropy=0.01),
        "reference": FROZEN,
        "kl_target": KlTarget(nats=1e-4, horizon=40),
        "entropy_target": EntropyTarget(nats=9.0),
    }
    for run, steps in (("whole", (5,)), ("stopped", (3, 5))):
        for count in steps:
            settings = config(tmp_path / run, model, steps=count, groups=1, replay=2, eval_every=0, checkpoint_every=1)
            train(settings, with_replay(**parts))
    names = ("loss", "grad_norm", "replayed", "kl_coefficient", "entropy_coefficient")
    whole, stopped = (
        [[row[name] for name in names] for row in RunFolder(tmp_path / run).metrics()] for run in ("whole", "stopped")
    )
    assert whole == stopped
    assert [row[2] for row in whole] == [0, 1, 0, 1, 0]
    assert len({row[3] for row in whole}) == len({row[4] for row in whole}) == 5


def test_targets_without_a_term_to_move_are_refused(tmp_path: Path) -> None:
    for parts, reason in (
        ({"kl_target": KlTarget(nats=0.1)}, "a KL target, but no KL term"),
        (
            {"entropy_target": EntropyTarget(nats=0.1), "objective": max},
            "an entropy target, but no objective with an entropy bonus",
        ),
    ):
        with pytest.raises(ValueError, match=reason):
            Trainer(config(tmp_path, tmp_path), replace(experiment(), **parts), small())


def test_a_named_algorithm_brings_its_target(tmp_path: Path) -> None:
    trainer = Trainer(config(tmp_path, tmp_path, algorithm="skywork_or1"), experiment(), small())
    assert trainer.learning.coefficients.now == {"entropy_coefficient": 0.01}
