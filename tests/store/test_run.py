"""A killed run and its continuation leave the folder of one clean run."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from sojourn.store import RunFolder, write_episodes


@dataclass(frozen=True)
class Learner:
    lr: float = 2e-5
    betas: tuple[float, float] = (0.9, 0.95)


def log(run: RunFolder, step: int) -> None:
    run.log_step({"step": step, "reward": step / 10})
    run.log_eval({"eval": "during", "step": step, "mode": "sampled", "level": "easy", "success": step / 10, "tasks": 4})
    write_episodes(run.episodes_path("train", step), [])


def record(run: RunFolder) -> tuple[object, ...]:
    return run.metrics(), run.evals(), sorted(file.name for file in (run.path / "episodes").iterdir())


def test_killed_and_continued_equals_never_killed(tmp_path: Path) -> None:
    whole, broken = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "broken")
    for step in range(1, 5):
        log(whole, step)
    for step in range(1, 4):  # killed during step 4; the last checkpoint is of step 2
        log(broken, step)
    with (broken.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "rew')
    again = RunFolder(broken.path)
    again.truncate_after(2)
    for step in range(3, 5):
        log(again, step)
    assert record(again) == record(whole)


def test_repeated_evaluation_counts_once(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    row = {"eval": "during", "step": 4, "mode": "greedy", "level": "easy", "tasks": 8}
    run.log_eval({**row, "success": 0.25})
    run.log_eval({**row, "success": 0.5})
    assert run.evals() == [{**row, "success": 0.5}]


def test_same_config_is_accepted_again(tmp_path: Path) -> None:
    config = {"seed": 1, "learner": Learner(), "levels": ("a", "b"), "out": Path("runs/x")}
    RunFolder(tmp_path).write_config(config)
    RunFolder(tmp_path).write_config(config)
    assert RunFolder(tmp_path).config()["learner"] == {"lr": 2e-5, "betas": [0.9, 0.95]}


def test_other_config_is_refused_with_the_differences(tmp_path: Path) -> None:
    RunFolder(tmp_path).write_config({"seed": 1, "learner": Learner(), "old": None})
    with pytest.raises(ValueError, match="another config") as caught:
        RunFolder(tmp_path).write_config({"seed": 1, "learner": Learner(lr=1e-4), "steps": 5})
    lines = [line.strip() for line in str(caught.value).splitlines()[1:-1]]
    assert lines == ["learner.lr: was 2e-05, now 0.0001", "old: was null, now (not set)", "steps: was (not set), now 5"]
    assert RunFolder(tmp_path).config()["learner"]["lr"] == 2e-5


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(ValueError, match="found a file, expected a folder"):
        RunFolder(tmp_path / "run")


def test_tensorboard_hides_what_was_logged_after_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    seconds = count(1_000_000_000)  # event files are read in the order of their names, which begin with the second of their start
    monkeypatch.setattr("tensorboard.summary.writer.event_file_writer.time", SimpleNamespace(time=lambda: next(seconds)))
    with RunFolder(tmp_path) as run:
        for step in (1, 2, 3):
            run.log_step({"step": step, "reward": float(step), "level": {"band": "wide", "at": 2}})
    with RunFolder(tmp_path) as run:
        run.truncate_after(1)
        run.log_step({"step": 2, "reward": 20.0})
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("reward")] == [(1, 1.0), (2, 20.0)]
    assert set(events.Tags()["scalars"]) == {"reward", "level.at"}


def test_each_start_is_noted(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.log_start(step=0, command="sojourn train x")
    run.log_start(step=7)
    first, second = run.starts()
    assert (first["command"], first["step"], second["step"]) == ("sojourn train x", 0, 7)
    assert first["cores"] >= 1 and "numpy" in first["versions"]
