"""Kuhn poker's recipe: what it measures is the exploitability of the policy as it is, by name in its claims."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sojourn.cli.recipe import load
from sojourn.environments.several.exploitability import exploitability, tabular
from sojourn.evidence.measured import measured
from sojourn.store import RunFolder
from sojourn.training import Trainer, train

pytest.importorskip("pyspiel")
RECIPE = Path(__file__).parents[2] / "recipes/multi_agent/kuhn.py"


@pytest.mark.parametrize("opponent", ["league", "self", "fixed"])
def test_exploitability_is_that_of_the_policy(tmp_path: Path, opponent: str) -> None:
    recipe: Any = load(str(RECIPE))
    config = recipe.config(run=str(tmp_path / "run"), opponent=opponent, steps=0, groups=2, group_size=2)
    train(config, recipe.experiment(config))
    trainer = Trainer(config, recipe.experiment(config))
    world = trainer.experiment.environment()
    direct = exploitability(world.game, asyncio.run(tabular(world, trainer.lead.policy())))
    assert measured("league", 0, RunFolder(tmp_path / "run")).figures[recipe.module.END].value == pytest.approx(direct, abs=1e-6)
