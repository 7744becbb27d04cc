"""A whole run with a tiny model: what it writes, and that nothing stops it from going on where it was."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import small_run
import torch
from helpers import small
from safetensors.torch import load_file
from small_run import config, experiment

from sojourn.core import Task
from sojourn.curriculum import Uniform
from sojourn.engine import plan
from sojourn.environments.math.tool_arithmetic import ToolArithmetic, calc
from sojourn.learner import Learner
from sojourn.learner import attention as learner_attention
from sojourn.learner.micro import Micro
from sojourn.objectives import Reference
from sojourn.rendering.protocols import PlainText, XmlTags
from sojourn.store import DiskFullError, RunFolder, read_episodes
from sojourn.training import Experiment, Trainer, checkpoint, train
from sojourn.training.setup import check_contract


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing stopped."""
    run = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        train(config(run, model), experiment())
        torch.set_num_threads(threads)
    return run


TIMES = {"seconds", "tokens_per_second", "seconds/sample", "seconds/train"}


def timeless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def weights(run: Path) -> dict[str, torch.Tensor]:
    path = checkpoint.latest(run / "checkpoints")
    assert path is not None
    return load_file(path / "trained.safetensors")


def assert_same_run(one: Path, other: Path) -> None:
    assert timeless(RunFolder(one).metrics()) == timeless(RunFolder(other).metrics())
    assert RunFolder(one).evals() == RunFolder(other).evals()
    mine, yours = weights(one), weights(other)
    assert all(torch.equal(mine[name], yours[name]) for name in mine)
    assert {f.name for f in (one / "episodes").iterdir()} == {f.name for f in (other / "episodes").iterdir()}


def test_a_run_leaves_everything_behind(whole: Path) -> None:
    folder = RunFolder(whole)
    assert [row["step"] for row in folder.metrics()] == [1, 2, 3, 4, 5]
    assert [(row["eval"], row["step"]) for row in folder.evals()] == [("before", 0), ("during", 2), ("during", 4), ("after", 5)]
    assert {row["episodes"] for row in folder.metrics()} == {8}
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["steps"] == 5
    assert set(summary["success_before"]) == set(summary["success_after"]) == {"default"}
    assert "<html" in (whole / "report.html").read_text()
    assert len(read_episodes(whole, "phase = 'train'")) == 40


def test_a_run_learns(whole: Path, model: Path) -> None:
    before = load_file(model / "model.safetensors")
    assert any(not torch.equal(before[name], new) for name, new in weights(whole).items() if name in before)
    rows = RunFolder(whole).metrics()
    for row in rows:
        assert np.isfinite(row["grad_norm"])
    assert rows[0]["trained_tokens"] > 0


def test_killed_in_the_middle_of_a_step_it_goes_on_as_if_it_had_not_been(
    whole: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed in step 4, after step 3 was logged and step 2 saved: steps 3 and 4 are done again, bit for bit."""
    run, before_during_and_three_steps = tmp_path / "run", 2 + 2 + 3 * 8
    killed = subprocess.run(
        [sys.executable, small_run.__file__, str(run), str(model), str(before_during_and_three_steps + 3)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [row["step"] for row in RunFolder(run).metrics()] == [1, 2, 3]
    train(config(run, model), experiment())
    said = capsys.readouterr()
    assert "after step 2" in said.out + said.err
    assert [row["step"] for row in RunFolder(run).starts()] == [0, 2]
    assert_same_run(run, whole)


def test_killed_before_the_first_checkpoint_it_says_so_and_starts_again(
    whole: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, update = tmp_path / "run", Learner.update
    monkeypatch.setattr(Learner, "update", Mock(side_effect=RuntimeError("power cut")))
    with pytest.raises(RuntimeError, match="power cut"):
        train(config(run, model), experiment())
    before = RunFolder(run).evals()
    assert [row["eval"] for row in before] == ["before"]
    monkeypatch.setattr(Learner, "update", update)
    train(config(run, model), experiment())
    said = capsys.readouterr()
    assert "has no checkpoint yet" in said.out + said.err
    assert_same_run(run, whole)


def warming_up(folder: Path, algorithm: str, steps: int) -> Trainer:
    """On a world with an oracle."""
    arithmetic = ToolArithmetic.tasks()
    parts = Experiment(
        environment=ToolArithmetic,
        tasks=arithmetic,
        protocol=XmlTags(tools=(calc.spec,)),
        curriculum=Uniform(arithmetic, ("1",)),
        reference=Reference(kind="frozen"),
    )
    settings = config(folder, folder, warmup_steps=steps, max_context=1000, max_turns=3, algorithm=algorithm)
    return Trainer(settings, parts, small())


@pytest.mark.parametrize("algorithm", ["", "ppo_plain", "igpo", "remax"])
def test_warm_up_imitates_the_oracle_and_then_learns_from_reward(algorithm: str, tmp_path: Path) -> None:
    trainer = warming_up(tmp_path, algorithm, steps=2)
    played, rows = zip(*(asyncio.run(trainer.train_step()) for _ in range(3)), strict=True)
    assert [row["oracle/success"] for row in rows[:2]] == [1.0, 1.0], "the oracle knows"
    assert [("success" in row, "zero_signal" in row) for row in rows] == [(False, False), (False, False), (True, True)]
    assert [len(group.episodes) for groups in played for group in groups] == [1, 1, 1, 1, 4, 4], (
        "demonstrations of a task are all equal"
    )
    assert rows[1]["nll"] < rows[0]["nll"]
    assert ["entropy" in row for row in rows] == [False, False, True]
    assert ["kl" in row for row in rows] == [False, False, True]


def test_the_critic_warms_up_after_the_imitation(tmp_path: Path) -> None:
    """Steps that imitate train no critic, so they are none of those that it has for itself."""
    trainer = warming_up(tmp_path, "vapo", steps=1)
    parts = trainer.lead.experiment
    assert parts.critic is not None
    trainer.lead.experiment = replace(parts, critic=replace(parts.critic, warm_up=1))
    rows = [asyncio.run(trainer.train_step())[1] for _ in range(3)]
    assert ["loss" in row for row in rows] == [True, False, True]
    assert ["value_loss" in row for row in rows] == [False, True, True]


@pytest.mark.parametrize(
    ("one", "all_of_them", "agrees"),
    [(0.0, 0.0, True), (9e-4, 0.0, True), (2e-3, 0.0, False), (0.0, 3e-4, True), (0.0, 5e-4, False)],
)
def test_a_learner_that_disagrees_with_the_engine_is_refused(
    one: float, all_of_them: float, agrees: bool, model: Path, tmp_path: Path
) -> None:
    trainer = Trainer(config(tmp_path, model), experiment(), small())
    score = trainer.learning.learner.score

    def shifted(micro: Micro) -> tuple[torch.Tensor, torch.Tensor]:
        logp, entropy = score(micro)
        logp += all_of_them
        logp[0] += one
        return logp, entropy

    trainer.learning.learner.score = shifted  # type: ignore[assignment, method-assign]
    if agrees:
        assert check_contract(trainer) == pytest.approx(max(one, all_of_them), abs=5e-5)
    else:
        with pytest.raises(ValueError, match="engine and learner disagree by"):
            check_contract(trainer)


def test_a_fault_that_engine_and_learner_share_is_found(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They agree to 1e-6 when both leave the sinks out; the model's own attention says otherwise."""
    trainer = Trainer(config(tmp_path, model), experiment(), small("gpt_oss"))
    assert check_contract(trainer) < 1e-4
    trainer.engine.update(0)
    for user in (plan, learner_attention):
        monkeypatch.setattr(user, "sink", lambda out, lse, sinks: out)
    with pytest.raises(ValueError, match="engine and transformers disagree by .*gpt_oss"):
        check_contract(trainer)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"protocol": PlainText}, r"protocol=PlainText\): that is a class; make one, PlainText"),
        ({"tasks": [Task("a")]}, "tasks=list.: that is no source of tasks; give `world.tasks`"),
    ],
)
def test_parts_that_are_none_are_refused_when_an_experiment_is_made(part: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(experiment(), **part)


def test_another_config_is_refused(whole: Path, model: Path) -> None:
    with pytest.raises(ValueError, match="groups: was 2, now 3"):
        train(config(whole, model, groups=3), experiment())


def test_a_finished_run_started_again_changes_nothing(whole: Path, model: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    summary = RunFolder(run).summary()
    assert train(config(run, model), experiment()) == summary == RunFolder(run).summary()
    assert_same_run(run, whole)
    assert (run / "evals.jsonl").read_text() == (whole / "evals.jsonl").read_text()


def test_stopped_by_ctrl_c_and_extended_it_is_the_same_run(whole: Path, model: Path, tmp_path: Path) -> None:
    """Asked for 4 steps and stopped while it plays step 3, it is asked for 5 when it goes on."""
    run, left = tmp_path / "run", 2 + 2 * 8 + 2 + 3

    def interrupted(prompt: str, completion: str) -> float:
        nonlocal left
        left -= 1
        if left == 0:
            signal.raise_signal(signal.SIGINT)
        return small_run.few_high_bytes(prompt, completion)

    with pytest.raises(KeyboardInterrupt):
        train(config(run, model, steps=4, checkpoint_every=0), experiment(interrupted))
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-000002"]
    train(config(run, model), experiment())
    assert RunFolder(run).starts()[-1]["changes"] == ["steps: was 4, now 5", "checkpoint_every: was 0, now 2"]
    assert_same_run(run, whole)


def test_an_evaluation_plays_no_task_twice(whole: Path, model: Path, tmp_path: Path) -> None:
    """There are two held-out tasks: asked for 64, it is the run that asked for two."""
    run = tmp_path / "run"
    train(config(run, model, eval_tasks=64), experiment())
    assert {row["tasks"] for row in RunFolder(run).evals()} == {2}
    assert_same_run(run, whole)


@pytest.mark.parametrize("broken", ["trained.safetensors", "optimizer.pt", "state.json"])
@pytest.mark.parametrize("how", ["empty", "torn", "gone"])
def test_a_checkpoint_that_cannot_be_read_is_told_in_a_sentence(
    whole: Path, model: Path, tmp_path: Path, broken: str, how: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    path = checkpoint.latest(run / "checkpoints")
    assert path is not None
    file = path / broken
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2] if how == "torn" else b"")
    if how == "gone":
        file.unlink()
    trainer = Trainer(config(run, model), experiment(), small())
    with pytest.raises(ValueError, match=r"checkpoint .*step-000005 cannot be read: .*remove this folder"):
        checkpoint.load(path, trainer.learning.learner, {})


def test_a_disk_that_fills_up_costs_no_checkpoint(
    whole: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, save = tmp_path / "run", checkpoint.save_file

    def full_at_step_four(tensors: Any, path: Path) -> None:
        if "000004" in str(path):
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full_at_step_four)
    with pytest.raises(DiskFullError, match="same command again"):
        train(config(run, model), experiment())
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-000002"]
    monkeypatch.setattr(checkpoint, "save_file", save)
    train(config(run, model), experiment())
    assert_same_run(run, whole)


def test_a_task_that_is_too_long_is_an_episode_without_actions(model: Path, tmp_path: Path) -> None:
    """One of two tasks does not fit: its episodes run out of budget and count as they score, 0."""
    run = tmp_path / "run"
    train(config(run, model, steps=1), experiment(prompts=["Say a.", "long " * 60]))
    (row,) = RunFolder(run).metrics()
    assert (row["episodes"], row["failed"]) == (8, 0)
    stops = sorted(row["stop"] for row in read_episodes(run, "phase = 'train'"))
    assert stops == ["terminated"] * 4 + ["token_limit"] * 4


def test_when_all_tasks_are_too_long_it_says_what_to_raise(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_context"):
        train(config(tmp_path / "run", model, max_context=100), experiment(prompts=["long " * 60]))


def test_adapters_are_saved_alone_and_resumed(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, twin = tmp_path / "run", tmp_path / "twin"
    settings = {"lora_rank": 2, "eval_every": 0, "checkpoint_every": 1}
    train(config(twin, model, steps=2, **settings), experiment())
    assert all("lora_" in name for name in weights(twin))

    update = Learner.update

    def power_cut(learner: Learner, *arguments: Any, **how: bool) -> dict[str, float]:
        if learner.optimizer.steps == 1:
            raise RuntimeError("power cut")
        return update(learner, *arguments, **how)

    monkeypatch.setattr(Learner, "update", power_cut)
    with pytest.raises(RuntimeError, match="power cut"):
        train(config(run, model, steps=2, **settings), experiment())
    monkeypatch.setattr(Learner, "update", update)
    train(config(run, model, steps=2, **settings), experiment())
    assert_same_run(run, twin)
