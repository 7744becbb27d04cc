"""A killed run and its continuation leave the folder of one clean run."""

from __future__ import annotations

import socket
import subprocess
import sys
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from sojourn.store import RunFolder, write_episodes
from sojourn.trackers.tensorboard_ import TensorBoard


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


def test_an_evaluation_is_whole_when_its_rows_are_there(tmp_path: Path) -> None:
    """Episodes without rows are of an evaluation that was not finished: they go, and it is made again."""
    run = RunFolder(tmp_path)
    for mode in ("sampled", "greedy"):
        write_episodes(run.episodes_path(f"eval-before-{mode}", 0), [])
    row = {"eval": "before", "step": 0, "mode": "sampled", "level": "easy", "tasks": 8, "success": 0.5}
    run.log_eval(row, row | {"level": "hard"})
    assert [run.evaluated("before", step, mode) for step, mode in ((0, "sampled"), (0, "greedy"), (1, "sampled"))] == [
        True,
        False,
        False,
    ]
    run.truncate_after(0)
    assert [file.name for file in (tmp_path / "episodes").iterdir()] == ["eval-before-sampled-000000.parquet"]
    run.log_eval(row | {"success": 0.75})
    assert [(each["level"], each["success"]) for each in run.evals()] == [("easy", 0.75), ("hard", 0.5)]


def test_what_killed_writes_left_is_removed(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for name in (".summary.json.tmp", "episodes/.train-000001.parquet.tmp", "checkpoints/.step-000001.tmp/trained.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("torn")
    run.truncate_after(0)
    assert [file.name for file in sorted(tmp_path.rglob("*"))] == ["checkpoints", "episodes"]


def test_a_folder_has_one_writer_until_that_is_killed(tmp_path: Path) -> None:
    code = f"from sojourn.store import RunFolder\nwith RunFolder({str(tmp_path)!r}): print('in', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"in\n"
        with pytest.raises(ValueError, match=rf"process {other.pid} on {socket.gethostname()} has been writing into it since 20"):
            RunFolder(tmp_path).__enter__()
        assert RunFolder(tmp_path).starts() == [], "reading needs no lock"
        other.kill()
        other.wait()
        with RunFolder(tmp_path), RunFolder(tmp_path):
            pass  # the same process may enter again
    with RunFolder(tmp_path):
        pass


def test_same_config_is_accepted_again(tmp_path: Path) -> None:
    config = {"seed": 1, "learner": Learner(), "levels": ("a", "b"), "out": Path("runs/x")}
    RunFolder(tmp_path).write_config(config)
    RunFolder(tmp_path).write_config(config)
    assert RunFolder(tmp_path).config()["learner"] == {"lr": 2e-5, "betas": [0.9, 0.95]}


def test_other_config_is_refused_with_the_differences(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write_config({"seed": 1, "learner": Learner(), "old": None})
    run.log_start(step=0)
    with pytest.raises(ValueError, match="another config") as caught:
        run.write_config({"seed": 1, "learner": Learner(lr=1e-4), "steps": 5})
    lines = [line.strip() for line in str(caught.value).splitlines()[1:-1]]
    assert lines == ["learner.lr: was 2e-05, now 0.0001", "old: was null, now (not set)", "steps: was (not set), now 5"]
    assert run.config()["learner"]["lr"] == 2e-5


def test_a_config_that_nothing_started_with_does_not_bind(tmp_path: Path) -> None:
    RunFolder(tmp_path).write_config({"model": "misspelt"})
    RunFolder(tmp_path).write_config({"model": "spelt"})
    assert RunFolder(tmp_path).config() == {"model": "spelt"}


def test_what_does_not_identify_a_run_may_change_and_the_change_is_noted(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    free = {"steps", "eval"}
    run.write_config({"seed": 1, "steps": 5, "eval": {"tasks": 4}}, free)
    assert run.log_start(step=0) == []
    run.write_config({"seed": 1, "steps": 8, "eval": {"tasks": 4}}, free)  # and killed before the start was noted
    run.write_config({"seed": 1, "steps": 8, "eval": {"tasks": 6}}, free)
    assert run.log_start(step=5) == ["steps: was 5, now 8", "eval.tasks: was 4, now 6"]
    assert run.log_start(step=5) == []
    assert [row["changes"] for row in run.starts()] == [[], ["steps: was 5, now 8", "eval.tasks: was 4, now 6"], []]
    assert [row["config"]["steps"] for row in run.starts()] == [5, 8, 8]
    with pytest.raises(ValueError, match="seed: was 1, now 2"):
        run.write_config({"seed": 2, "steps": 9, "eval": {"tasks": 6}}, free)
    assert run.config()["steps"] == 8


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(ValueError, match="found a file, expected a folder"):
        RunFolder(tmp_path / "run")


def test_tensorboard_hides_what_was_logged_after_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    seconds = count(1_000_000_000)  # event files are read in the order of their names, which begin with the second of their start
    monkeypatch.setattr("tensorboard.summary.writer.event_file_writer.time", SimpleNamespace(time=lambda: next(seconds)))
    with RunFolder(tmp_path) as run:
        run.track(TensorBoard(tmp_path / "tensorboard", 0))
        for step in (1, 2, 3):
            run.log_step({"step": step, "reward": float(step), "level": {"band": "wide", "at": 2}})
    with RunFolder(tmp_path) as run:
        run.truncate_after(1)
        run.track(TensorBoard(tmp_path / "tensorboard", 2))
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
