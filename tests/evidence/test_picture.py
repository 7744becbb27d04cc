"""The picture: a line for each arm, the mean of its seeds; held-out success where it was measured on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from sojourn.evidence import picture as drawn
from sojourn.evidence.picture import picture
from sojourn.store import RunFolder
from sojourn.viewer.svg import Series


def run(folder: Path, success: list[float], held_out: dict[int, tuple[float, float]] | None = None) -> RunFolder:
    made = RunFolder(folder)
    for step, value in enumerate(success, 1):
        made.log_step({"step": step, "success": value})
    last = max(held_out or {0: 0})
    for step, values in (held_out or {}).items():
        when = "before" if step == 0 else "after" if step == last else "during"
        shared = {"eval": when, "step": step, "mode": "sampled", "tasks": 1}
        made.log_eval(*({**shared, "level": str(level), "success": value} for level, value in enumerate(values)))
    return made


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[Series]:
    """What was drawn."""
    found: list[Series] = []
    monkeypatch.setattr(drawn, "line_chart", lambda series, **how: found.extend(series) or "<svg>")
    return found


def test_training_success_by_arm_seeds_thin_and_the_mean_thick(tmp_path: Path, lines: list[Series]) -> None:
    runs = {
        "one": {0: run(tmp_path / "0", [0.0, 0.5]), 1: run(tmp_path / "1", [0.5, 1.0])},
        "two": {0: run(tmp_path / "2", [0.25])},
        "not trained": {0: run(tmp_path / "3", [])},
    }
    picture(runs)
    assert [(line.name, line.style, list(line.points)) for line in lines] == [
        ("", "faint", [(1.0, 0.0), (2.0, 0.5)]),
        ("", "faint", [(1.0, 0.5), (2.0, 1.0)]),
        ("one", "line", [(1.0, 0.25), (2.0, 0.75)]),
        ("two", "line", [(1.0, 0.25)]),
    ]


def test_held_out_success_where_it_was_measured_on_the_way(tmp_path: Path, lines: list[Series]) -> None:
    picture({"one": {0: run(tmp_path / "0", [0.9, 0.9, 0.9], {0: (0.0, 0.2), 2: (0.5, 0.5), 3: (1.0, 0.5)})}})
    assert [list(line.points) for line in lines] == [[(0.0, pytest.approx(0.1)), (2.0, 0.5), (3.0, 0.75)]]


def test_no_run_is_no_error(tmp_path: Path) -> None:
    assert picture({}).startswith("<svg")
