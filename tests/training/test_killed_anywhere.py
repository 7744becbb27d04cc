"""Killed at any write, a run goes on as one that was never killed.

Nothing here learns language: a stub in place of the trainer makes a step so cheap that a run can be killed at each of its writes in turn.
A kill is an error that no handler expects; what it finds half done stays half done, as with a real one.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_run import config as small_config

from sojourn.core import ROOT, Episode, EpisodeGroup, Kind, Span, StopReason, Task, TrajectoryTree
from sojourn.store import RunFolder, read_episodes, tables
from sojourn.store import files as store_files
from sojourn.store import run as store_run
from sojourn.training import TrainConfig, checkpoint, loop, train
from sojourn.training.evaluations import GREEDY, Evaluation
from sojourn.training.run import MAY_CHANGE

LEVELS = ("easy", "hard")


class StubTrainer:
    """Weights that each step moves by what the curriculum dealt; an evaluation is a function of the weights."""

    def __init__(self, config: TrainConfig, experiment: Any) -> None:
        self.config, self.step, self.dealt = config, 0, 0
        self.model = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(self.model.weight)
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.learning = SimpleNamespace(learner=SimpleNamespace(model=self.model, adapter=None, optimizer=optimizer))
        self.tokenizers = {"actor": SimpleNamespace(decode=lambda tokens: "x" * len(tokens))}
        self.ledgers = {"actor": "all trained"}
        self.experiment, self.group_size = SimpleNamespace(evaluations={}, seats={}, callback=None), config.group_size
        self.stored, self.players = None, {}

    def state(self) -> dict[str, Any]:
        return {"curriculum": {"dealt": self.dealt}, "replay": []}

    def load_state(self, state: dict[str, Any]) -> None:
        self.step, self.dealt = state["step"], state["curriculum"]["dealt"]

    def advice(self) -> None:
        return None

    async def train_step(self, done: Callable[[Episode], None]) -> tuple[list[EpisodeGroup], dict[str, Any]]:
        self.dealt += 1
        await asyncio.sleep(0)
        self.model.weight.grad = torch.full((1, 1), float(self.dealt))
        self.learning.learner.optimizer.step()
        self.step += 1
        metrics = {"step": self.step, "weight": self.model.weight.item(), "seconds/sample": 0.0, "seconds/train": 0.0}
        return [self._group(f"train/{self.dealt}", "easy")], metrics

    def held_out(self, count: int) -> list[Task]:
        return [Task(f"test/{level}/{index}", {}, level) for level in LEVELS for index in range(count)]

    async def evaluate(self, tasks: list[Task], how: Evaluation, *, done: Callable[[Episode], None]) -> list[EpisodeGroup]:
        await asyncio.sleep(0)
        return [self._group(task.id, task.level, scale=2.0 if how is GREEDY else 1.0) for task in tasks]

    def advantages(self, groups: list[EpisodeGroup]) -> list[dict[int, Any]]:
        return [{} for _ in groups]

    def others(self) -> dict[str, Any]:
        return {}

    def _group(self, name: str, level: str, scale: float = 1.0) -> EpisodeGroup:
        tree, task = TrajectoryTree(), Task(name, {}, level)
        leaf = tree.add(Span(ROOT, np.array([1]), Kind.ACTION, reward={"r": scale * self.model.weight.item()}))
        group = EpisodeGroup(name, task, tree)
        group.episodes = [Episode(name, task, tree, [leaf], [leaf], stop=StopReason.TERMINATED)]
        return group


@pytest.fixture(scope="module", autouse=True)
def stub_trainer() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "Trainer", StubTrainer)
        patch.setattr(loop, "_track", lambda *run: None)
        patch.setattr(loop, "check_world", lambda config, experiment: None)
        patch.setattr(loop.setup, "check_contract", lambda trainer: None)
        patch.setattr("sojourn.viewer.report.write_report", lambda folder: None)
        patch.setattr(store_run, "describe_machine", lambda command: {})
        patch.setattr(store_files.os, "fsync", lambda file: None)  # a kill, unlike a power cut, loses nothing that was written
        yield


def config(run: Path, **changes: Any) -> TrainConfig:
    return small_config(run, Path("model"), **({"steps": 4, "eval_greedy": True} | changes))


def run_of(settings: TrainConfig) -> dict[str, Any]:
    return train(settings, None)  # type: ignore[arg-type]


def record(run: Path) -> dict[str, Any]:
    """All that a run left, but for what its starts and its clock say."""

    def timeless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]

    path = checkpoint.latest(run / "checkpoints")
    assert path is not None
    state = json.loads((path / "state.json").read_text())
    return {
        "files": sorted(str(f.relative_to(run)) for f in run.rglob("*") if f.name not in (".lock", ".writer.json")),
        "metrics": timeless(store_files.read_rows(run / "metrics.jsonl")),
        "evals": store_files.read_rows(run / "evals.jsonl"),
        "episodes": [(row["phase"], row["step"], row["id"], row["total"]) for row in read_episodes(run)],
        "weights": {name: value.tolist() for name, value in load_file(path / "trained.safetensors").items()},
        "state": timeless([state]),
        "summary": timeless([RunFolder(run).summary()]),
    }


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Killer:
    """Counts what changes the disk, and ends the process at the n-th: before it, or half way through."""

    left: float = np.inf
    seen: int = 0

    def strikes(self) -> bool:
        self.seen += 1
        self.left -= 1
        return self.left == 0


@contextmanager
def killing(killer: Killer) -> Iterator[None]:
    """Every call that changes the disk asks the killer first; some are struck half way.  After one is before the next."""

    def before(owner: Any, name: str, half: Callable[..., object] = lambda *a, **k: None) -> None:
        original = getattr(owner, name)

        def wrapped(*arguments: Any, **how: Any) -> Any:
            if killer.strikes():
                half(*arguments, **how)
                raise Killed
            return original(*arguments, **how)

        patch.setattr(owner, name, wrapped)

    def torn_line(path: Path, row: Any) -> None:
        with path.open("a") as file:
            file.write('{"step": 1, "to')

    def torn_folder(path: Path, **how: Any) -> None:
        (path / "optimizer.pt").unlink(missing_ok=True)

    with pytest.MonkeyPatch.context() as patch:
        before(Path, "replace")
        before(Path, "unlink")
        before(shutil, "rmtree", torn_folder)
        before(checkpoint, "save_file")
        before(tables.pq, "write_table", lambda table, path, **how: path.write_bytes(b"PAR1"))
        before(store_files, "_write_text", lambda path, text: path.write_text(text[: len(text) // 2]))
        before(store_run, "append_row", torn_line)
        yield


def killed(settings: TrainConfig, at: int) -> None:
    with killing(Killer(left=at)), pytest.raises(Killed):
        run_of(settings)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run leaves that nobody killed."""
    run = tmp_path_factory.mktemp("whole") / "run"
    run_of(config(run))
    return record(run)


def writes_of(settings: TrainConfig) -> int:
    """How often a run can be killed."""
    with killing(killer := Killer()):
        run_of(settings)
    return killer.seen


def test_what_is_recorded_is_what_was_asked_for(whole: dict[str, Any]) -> None:
    made = [(row["eval"], row["step"], row["mode"], row["level"]) for row in whole["evals"]]
    whens = [("before", 0), ("during", 2), ("after", 4)]
    assert made == [(when, step, mode, level) for when, step in whens for mode in ("sampled", "greedy") for level in LEVELS]
    assert [row["step"] for row in whole["metrics"]] == [1, 2, 3, 4]
    assert whole["state"] == [{"step": 4, "curriculum": {"dealt": 4}, "replay": []}]


def test_killed_at_any_write_it_goes_on_as_if_it_had_not_been(whole: dict[str, Any], tmp_path: Path) -> None:
    writes = writes_of(config(tmp_path / "counted"))
    assert writes > 50
    for at in range(1, writes + 1):
        settings = config(tmp_path / str(at))
        killed(settings, at)
        run_of(settings)
        assert record(tmp_path / str(at)) == whole, f"killed at write {at} of {writes}"


def test_killed_twice_it_goes_on_as_if_it_had_not_been(whole: dict[str, Any], tmp_path: Path) -> None:
    for at in range(12, 50, 5):
        settings = config(tmp_path / str(at))
        killed(settings, at)
        killed(settings, 9)
        run_of(settings)
        assert record(tmp_path / str(at)) == whole, f"killed at write {at}, and again"


def test_a_finished_run_that_is_started_again_is_what_it_was(whole: dict[str, Any], tmp_path: Path) -> None:
    summary = run_of(config(tmp_path))
    assert run_of(config(tmp_path)) == summary
    assert record(tmp_path) == whole


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_run_that_was_extended_is_a_longer_run(whole: dict[str, Any], tmp_path: Path, steps: int) -> None:
    """Its end is no end any more: where one evaluation is due at that step it is made, and the one after the end goes."""
    run_of(config(tmp_path, steps=steps))
    run_of(config(tmp_path))
    assert record(tmp_path) == whole
    assert RunFolder(tmp_path).starts()[-1]["changes"] == [f"steps: was {steps}, now 4"]


def test_a_run_killed_while_it_is_extended_goes_on(whole: dict[str, Any], tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    run_of(config(begun, steps=2))
    shutil.copytree(begun, tmp_path / "counted")
    for at in range(1, writes_of(config(tmp_path / "counted")) + 1, 2):
        run = tmp_path / str(at)
        shutil.copytree(begun, run)
        killed(config(run), at)
        run_of(config(run))
        assert record(run) == whole, f"killed at write {at}"


def test_no_checkpoint_but_the_last(whole: dict[str, Any], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        saved: list[int] = []
        save = checkpoint.save
        patch.setattr(
            checkpoint, "save", lambda folder, step, *rest, **named: (saved.append(step), save(folder, step, *rest, **named))
        )
        run_of(config(tmp_path, checkpoint_every=0))
    assert saved == [4]
    assert record(tmp_path) == whole


def test_a_run_that_its_time_ended_stays_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the stub's clock a step takes a minute; what came after the last step does not count on another start."""
    now = [0.0]
    monkeypatch.setattr("sojourn.training.run.time", SimpleNamespace(monotonic=lambda: now[0], perf_counter=lambda: now[0]))
    step = StubTrainer.train_step

    async def slow(trainer: StubTrainer, done: Callable[[Episode], None]) -> Any:
        now[0] += 61
        return await step(trainer, done)

    monkeypatch.setattr(StubTrainer, "train_step", slow)
    for _ in range(2):
        assert run_of(config(tmp_path, max_minutes=2.0))["steps"] == 2


def test_what_may_change_are_fields_and_what_identifies_a_run_may_not(tmp_path: Path) -> None:
    assert {field.name for field in fields(TrainConfig)} > MAY_CHANGE
    run_of(config(tmp_path, steps=1))
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    changed = config(
        moved, steps=2, max_minutes=9.0, concurrency=3, token_budget=99, eval_tasks=1, eval_every=1, checkpoint_every=0
    )
    run_of(replace(changed, keep_episodes_every=0, eval_greedy=False, profile=True))
    with pytest.raises(ValueError, match="seed: was 0, now 1"):
        run_of(config(moved, seed=1))


def test_stopped_by_ctrl_c_it_saves_the_last_finished_step(
    whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the middle of sampling step 4, for which the curriculum has dealt already; by its cadence it saved step 2."""
    step = StubTrainer.train_step

    async def stopped(trainer: StubTrainer, done: Callable[[Episode], None]) -> Any:
        if trainer.step == 3:
            signal.raise_signal(signal.SIGINT)
        return await step(trainer, done)

    with monkeypatch.context() as patch:
        patch.setattr(StubTrainer, "train_step", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_of(config(tmp_path))
    assert "stopped after step 3" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000003"]
    run_of(config(tmp_path))
    assert [row["step"] for row in RunFolder(tmp_path).starts()] == [0, 3]
    assert record(tmp_path) == whole
