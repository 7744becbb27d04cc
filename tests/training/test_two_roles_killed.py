"""SIGKILL at random moments of a run with two roles, a league and a curriculum that plays: what goes on is the run that nobody killed.

A moment is the start of any function, so a kill falls anywhere: into sampling, an update, a file that is half written, the start.  The seed
draws the same moments each time.  More of them: SOJOURN_KILLS=20 python -m pytest tests/training/test_two_roles_killed.py
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import two_roles_run
from safetensors.torch import load_file

from sojourn.store import read_episodes
from sojourn.store.files import read_rows
from sojourn.training import checkpoint, train

KILLS = int(os.environ.get("SOJOURN_KILLS", 3))
RANKS = (0, 2)
"""All weights, then adapters, by turns."""
CLOCK = ("seconds", "tokens_per_second")


def run_until(run: Path, model: Path, rank: int, moment: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, two_roles_run.__file__, str(run), str(model), str(rank), str(moment)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def timeless(value: Any) -> Any:
    """Without what a clock says, and tensors as numbers that can be compared."""
    if isinstance(value, dict):
        return {key: timeless(each) for key, each in value.items() if not str(key).startswith(CLOCK)}
    if isinstance(value, (list, tuple)):
        return [timeless(each) for each in value]
    return value.tolist() if isinstance(value, torch.Tensor | np.ndarray) else value


def record(run: Path) -> dict[str, Any]:
    """All that a run left, to the bit: but for its clock and for the list of its starts."""
    path = checkpoint.latest(run / "checkpoints")
    assert path is not None
    found: dict[str, Any] = {
        "files": sorted(
            str(f.relative_to(run)) for f in run.rglob("*") if f.is_file() and f.name[0] != "." and "tfevents" not in f.name
        ),
        "metrics": read_rows(run / "metrics.jsonl"),
        "evals": read_rows(run / "evals.jsonl"),
        "episodes": sorted(read_episodes(run), key=lambda row: (row["phase"], row["step"], row["id"])),
        "weights": load_file(path / "trained.safetensors"),
    }
    found |= {
        file.name: json.loads(file.read_text()) for file in (path / "state.json", run / "league.json", run / "summary.json")
    }
    found |= {file.name: torch.load(file, weights_only=True) for file in path.glob("*.pt")}
    return {name: timeless(each) for name, each in found.items()}


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """By rank: what a run leaves that nobody killed, and how many moments it had."""

    @cache
    def made(rank: int) -> tuple[dict[str, Any], int]:
        run = tmp_path_factory.mktemp("whole") / "run"
        done = run_until(run, model, rank, 0)
        assert done.returncode == 0, done.stderr
        return record(run), int(done.stdout.split()[-1])

    return made


def test_the_run_has_what_could_be_lost(whole: Any) -> None:
    for rank in RANKS:
        left, _ = whole(rank)
        assert left.keys() >= {"proposer.weights.pt", "proposer.optimizer.pt", "reference.pt"}
        assert len(left["past.league.pt"]) == 3 and left["league.json"]["past"]["payoffs"], "former selves were met"
        assert left["state.json"]["curriculum"]["asked"] == 12, "two asks a step"
        assert len(left["state.json"]["kept"]["diary"]) > 100
        for role in ("player", "proposer"):
            assert sum(row[f"{role}/grad_norm"] > 0 for row in left["metrics"]) > 2


@pytest.mark.timeout(180 + 60 * KILLS)
@pytest.mark.parametrize("number", range(KILLS))
def test_killed_at_a_random_moment_it_goes_on_to_the_bit(number: int, whole: Any, model: Path, tmp_path: Path) -> None:
    rank, run = RANKS[number % len(RANKS)], tmp_path / "run"
    expected, moments = whole(rank)
    moment = int(np.random.default_rng(number).integers(1, moments))
    killed = run_until(run, model, rank, moment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    train(two_roles_run.config(run, model, rank), two_roles_run.experiment(rank))
    found = record(run)
    for name, each in expected.items():
        assert found[name] == each, f"{name} differs: killed at moment {moment} of {moments}"
