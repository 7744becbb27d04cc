"""The evaluation before the first step is taken over from a run that began the same way, and from no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_run import config, experiment

from sojourn.store import RunFolder, read_episodes
from sojourn.store.files import read_rows, write_rows
from sojourn.training import Evaluation, Trainer, train

PARTS = replace(experiment(), evaluations={"tries": Evaluation(repetitions=2, count=1)})


def settings(run: Path, model: Path, **changes: Any) -> Any:
    return config(run, model, **{"steps": 1, "eval_every": 0, **changes})


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """A run that was evaluated before its first step."""
    run = tmp_path_factory.mktemp("first") / "run"
    train(settings(run, model), PARTS)
    return run


def before(run: Path) -> list[dict[str, Any]]:
    return [row for row in RunFolder(run).evals() if row["eval"] == "before"]


def test_it_is_what_the_run_would_have_measured_itself(
    first: Path, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played: list[int] = []
    evaluate = Trainer.evaluate

    async def counted(trainer: Trainer, *what: Any, **how: Any) -> Any:
        played.append(trainer.step)
        return await evaluate(trainer, *what, **how)

    monkeypatch.setattr(Trainer, "evaluate", counted)
    own, taken = tmp_path / "own", tmp_path / "taken"
    train(settings(own, model, group_size=2), PARTS)
    summary = train(settings(taken, model, group_size=2, eval_before_of=str(first)), PARTS)
    assert played == [0, 0, 1, 1, 1, 1], "the second run plays after its step alone"
    assert before(taken) == [{**row, "taken_from": str(first)} for row in before(own)]
    assert {row["mode"] for row in before(taken)} == {"sampled", "tries"}
    where = "phase like 'eval-before%'"
    timeless = [[row | {"seconds": 0} for row in read_episodes(run, where)] for run in (first, taken)]
    assert timeless[0] == timeless[1] and timeless[0]
    assert summary["success_before"] == RunFolder(own).summary()["success_before"]

    again = tmp_path / "again"
    train(settings(again, model, eval_before_of=str(taken)), PARTS)
    assert {row["taken_from"] for row in before(again)} == {str(first)}, "who measured is named, however often it is handed on"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 1}, "seed: was 0, now 1"),
        ({"temperature": 0.5}, "config.temperature: was 1.0, now 0.5"),
        ({"eval_tasks": 1}, "config.eval_tasks: was 2, now 1"),
        ({"eval_greedy": True}, "no evaluation before the first step that is greedy"),
    ],
    ids=["seed", "sampling", "tasks", "mode"],
)
def test_what_differs_is_refused_by_name(first: Path, tmp_path: Path, model: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        train(settings(tmp_path / "run", model, eval_before_of=str(first), **changes), PARTS)
    assert not before(tmp_path / "run")


@pytest.mark.parametrize(("what", "now"), [("code", {"recipe.py": "0" * 64}), ("package", "0" * 64)])
def test_other_code_is_refused(first: Path, tmp_path: Path, model: Path, what: str, now: Any) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in ("config.json", "evals.jsonl"):
        (other / name).write_bytes((first / name).read_bytes())
    write_rows(other / "starts.jsonl", [row | {what: now} for row in read_rows(first / "starts.jsonl")])
    with pytest.raises(ValueError, match=f'{what}.*: was "00000000"'):
        train(settings(tmp_path / "run", model, eval_before_of=str(other)), PARTS)


def test_it_needs_a_run(tmp_path: Path, model: Path) -> None:
    with pytest.raises(ValueError, match="eval_before_of: 'nowhere' is no run folder"):
        train(settings(tmp_path / "run", model, eval_before_of="nowhere"), PARTS)
    assert not Path("nowhere").exists()
