"""Figures of a run: success by task from its episodes, other metrics and cost from its rows, and the recipe's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from sojourn.core import Episode, Failure, FailureKind, Task, TrajectoryTree
from sojourn.evidence.measured import keep_own, measured, own_code
from sojourn.store import RunFolder, to_row, write_episodes


def episode(task: str, level: str, solved: bool, *, broken: bool = False) -> Episode:
    failures = [Failure(FailureKind.INFRASTRUCTURE, "world", "gone")] if broken else []
    return Episode(task, Task(task, level=level), TrajectoryTree(), info={"success": solved}, failures=failures)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Evaluated after two steps: two levels, two tries of each task, one of which broke."""
    folder = RunFolder(tmp_path)
    folder.write_config({"run": "r"})
    folder.log_start(step=0, command="c")
    for step in (1, 2):
        folder.log_step(
            {"step": step, "action_tokens": 100.0, "a/trained_tokens": 10.0, "b/trained_tokens": 20.0, "episodes": 4.0}
        )
    tries = [
        *(episode("e1", "easy", solved) for solved in (True, False)),
        *(episode("e2", "easy", solved) for solved in (True, True)),
        episode("h1", "hard", False),
        episode("h1", "hard", True, broken=True),
    ]
    rows = [to_row(each, each.task.id, lambda ids: "", phase="eval-after-tries", step=2) for each in tries]
    write_episodes(folder.episodes_path("eval-after-tries", 2), rows)
    shared = {"eval": "after", "step": 2, "mode": "tries", "tasks": 2}
    folder.log_eval({**shared, "level": "easy", "success": 0.75, "pass@2": 1.0}, {**shared, "level": "hard", "success": 0.0})
    folder.write_summary({"steps": 2, "seconds": 12.5})
    return folder


def test_success_is_a_mean_over_tasks_of_their_valid_tries(run: RunFolder) -> None:
    figures = measured("a", 0, run).figures
    assert dict(figures["after/tries/easy"].tasks) == {"e1": 0.5, "e2": 1.0}
    assert dict(figures["after/tries/hard"].tasks) == {"h1": 0.0}
    assert figures["after/tries/easy"].value == 0.75
    assert figures["after/tries"].value == 0.5, "a mean over the three tasks"
    assert figures["after/tries/easy/pass@2"].value == 1.0


def test_cost_is_summed_over_steps_and_roles(run: RunFolder) -> None:
    figures = measured("a", 0, run).figures
    names = ("steps", "seconds", "sampled_tokens", "trained_tokens", "episodes")
    assert [figures[f"cost/{name}"].value for name in names] == [2, 12.5, 200, 60, 8]


def test_the_recipes_own_figures_are_numbers_or_numbers_by_task(run: RunFolder) -> None:
    assert own_code(run.path) == ""
    keep_own(run, {"exploitability": 0.2, "calls": {"e1": 1, "e2": 4}}, "digest")
    figures = measured("a", 0, run).figures
    assert figures["exploitability"].value == 0.2
    assert (figures["calls"].value, dict(figures["calls"].tasks)) == (2.5, {"e1": 1, "e2": 4})
    assert own_code(run.path) == "digest"
    for wrong in ({"calls": "many"}, {"calls": {}}, {"calls": {"e1": None}}):
        with pytest.raises(ValueError, match="figures gave 'calls'"):
            keep_own(run, wrong, "digest")  # type: ignore[arg-type]
