"""A rule speaks where its disease is planted, and is silent where it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from viewed import decode

from sojourn.cli import main
from sojourn.core import ROOT, Episode, Kind, Span, Task, TrajectoryTree
from sojourn.store import RunFolder, to_row, write_episodes
from sojourn.viewer.health import findings, repetition

WELL = {
    "zero_signal": 0.2, "cut": 0.02, "failures/model": 1.0, "turns": 2.0, "episodes": 20.0, "failed": 0.0, "entropy": 1.0, "kl": 0.01,
    "ratio": 1.001, "cut_high": 0.01, "cut_low": 0.01, "mismatch_k3": 1e-6, "length": 100.0, "reward": 0.5, "grad_norm": 1.0, "loss": 0.1,
}  # fmt: skip


def run_of(path: Path, *rows: dict[str, Any]) -> Path:
    run = RunFolder(path)
    for number, row in enumerate(rows, 1):
        run.log_step({"step": number, **WELL, **row})
    run.close()
    return path


def states(path: Path) -> dict[str, str]:
    return {finding.what: finding.state for finding in findings(path)}


def test_a_run_that_is_well_has_no_note(tmp_path: Path) -> None:
    found = states(run_of(tmp_path, *[{}] * 12))
    assert found.pop("repeated text") == "not measured"  # it has no episodes
    assert set(found.values()) == {"ok"} and len(found) == 10


@pytest.mark.parametrize(
    ("what", "ill", "state"),
    [
        ("groups without signal", {"zero_signal": 0.6}, "note"),
        ("groups without signal", {"zero_signal": 0.9}, "bad"),
        ("cut answers", {"cut": 0.4}, "bad"),
        ("parse failures", {"failures/model": 6.0}, "note"),  # 6 of 40 actions
        ("no valid result", {"failed": 1.0}, "note"),  # 1 of 21
        ("no valid result", {"failed": 5.0}, "bad"),
        ("entropy", {"entropy": 0.01}, "bad"),
        ("entropy", {"entropy": 0.15}, "note"),
        ("entropy", {"entropy": 2.5}, "note"),
        ("KL to the reference", {"kl": 0.5}, "note"),
        ("importance ratio", {"ratio": 1.3}, "bad"),
        ("importance ratio", {"cut_high": 0.3}, "note"),
        ("engine against learner", {"mismatch_k3": -0.005}, "note"),
        ("pay per token", {"length": 200.0}, "note"),
        ("pay per token", {"length": 400.0}, "bad"),
        ("pay per token", {"length": 400.0, "reward": 0.9}, "ok"),
        ("finite numbers", {"grad_norm": float("nan")}, "bad"),
    ],
)
def test_a_planted_disease_is_found_and_no_other(tmp_path: Path, what: str, ill: dict[str, float], state: str) -> None:
    found = states(run_of(tmp_path, *[{}] * 10, *[ill] * 10))
    assert found.pop(what) == state
    found.pop("repeated text")
    assert set(found.values()) == {"ok"}


def test_a_jump_of_kl_is_told_though_the_mean_is_low(tmp_path: Path) -> None:
    assert states(run_of(tmp_path, *[{}] * 12, {"kl": 0.2}))["KL to the reference"] == "note"


def test_of_several_roles_each_has_its_findings(tmp_path: Path) -> None:
    row = {"step": 1, "roles": ["a", "b"], "a/entropy": 1.0, "b/entropy": 0.001, "a/loss": 0.1}
    run = RunFolder(tmp_path)
    run.log_step(row)
    run.close()
    found = states(tmp_path)
    assert (found["a: entropy"], found["b: entropy"]) == ("ok", "bad") and "entropy" not in found


def test_repetition_counts_what_was_there_before() -> None:
    assert repetition([7] * 20) == pytest.approx(16 / 17)  # 17 runs of four, all equal
    assert repetition(list(range(50))) == 0.0


def test_looping_text_is_found_in_the_last_step(tmp_path: Path) -> None:
    run = RunFolder(run_of(tmp_path, {}))
    for step, tokens in ((1, np.arange(40)), (2, np.full(40, 65))):
        tree = TrajectoryTree()
        action = tree.add(Span(ROOT, tokens, Kind.ACTION, np.zeros(40, np.float32)))
        episode = Episode("e", Task("t"), tree, [action], [action])
        write_episodes(run.episodes_path("train", step), [to_row(episode, "g", decode, step=step)])
    (finding,) = [each for each in findings(run.path) if each.what == "repeated text"]
    assert finding.state == "bad" and "of step 2" in finding.found and "97.3%" in finding.found  # 36 of 37


def test_doctor_prints_what_the_page_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(run_of(tmp_path / "run", {"cut": 0.5}))]) == 1
    told = " ".join(capsys.readouterr().out.split())
    for finding in findings(tmp_path / "run"):
        assert f"{finding.state} {finding.what}" in told
        assert (finding.change in told) == (finding.state in ("note", "bad"))


def test_doctor_of_a_run_that_is_well_succeeds(tmp_path: Path) -> None:
    assert main(["doctor", str(run_of(tmp_path / "run", {}))]) == 0


def test_doctor_of_no_run_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(tmp_path)]) == 2
    assert "no run folder" in capsys.readouterr().err
