"""What a credit declares is filled before it is called, also for a function of one's own; nothing else is."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import small
from small_run import config, experiment

from sojourn.credit import Columns, Then, Whiten, declares
from sojourn.credit.needs import COLUMNS
from sojourn.objectives import Reference, ValueLoss
from sojourn.training import Trainer
from sojourn.training.filling import FILLERS

BEFORE = {"baseline_E", "answer_S"}
"""Filled by the trainer, which plays and asks tasks."""
IN_THE_LOSS = {"ref_logp", "old_logp", "blind_logp"}


def test_every_column_that_can_be_declared_has_who_fills_it() -> None:
    assert FILLERS.keys() | BEFORE | IN_THE_LOSS == COLUMNS.keys()


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_function_gets_what_it_declares(wrapped: bool, tmp_path: Path) -> None:
    seen: list[Columns] = []

    @declares("value_T", "entropy_T", "ref_logp_T", "square_T", "baseline_E")
    def mine(columns: Columns) -> np.ndarray:
        seen.append(columns)
        return columns.spread_episodes(columns.return_E)

    credit = Then(credit=mine, transforms=(Whiten(),)) if wrapped else mine
    parts = replace(experiment(), credit=credit, critic=ValueLoss(), reference=Reference(kind="frozen"))
    trainer = Trainer(config(tmp_path, tmp_path), parts, small())
    asyncio.run(trainer.train_step())
    (columns,) = seen
    tokens = len(columns.row_T)
    for name in ("value_T", "entropy_T", "ref_logp_T", "square_T"):
        assert np.shape(getattr(columns, name)) == (tokens,), name
    assert columns.baseline_E is not None and len(columns.baseline_E) == len(columns.final_E)
    assert columns.entropy_T is not None and (columns.entropy_T > 0).all()
    assert columns.logp_T is not None and columns.ref_logp_T is not None
    np.testing.assert_allclose(columns.ref_logp_T, columns.logp_T, atol=1e-3)  # the first policy is its own reference


def test_what_nobody_declares_is_not_filled(tmp_path: Path) -> None:
    seen: list[Columns] = []

    def mine(columns: Columns) -> np.ndarray:
        seen.append(columns)
        return columns.spread_episodes(columns.return_E)

    asyncio.run(Trainer(config(tmp_path, tmp_path), replace(experiment(), credit=mine), small()).train_step())
    assert [name for name in COLUMNS.keys() - IN_THE_LOSS - {"policy_logp_T"} if getattr(seen[0], name) is not None] == []
