"""A run stands wherever a model can: what it trained is what is loaded, adapters included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_run import config, experiment

from sojourn import models
from sojourn.training import Trainer, checkpoint, train, weights

TOKENS = torch.arange(40)[None]


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model(TOKENS).logits.double().numpy()


def trained(run: Path, model: Path | str, **changes: Any) -> str:
    train(config(run, Path(model), steps=1, eval_tasks=0, **changes), experiment())
    return str(run)


@pytest.mark.parametrize("rank", [0, 2])
def test_a_run_is_loaded_as_its_last_policy(tmp_path: Path, model: Path, rank: int) -> None:
    run = trained(tmp_path / "run", model, lora_rank=rank)
    expected = models.load(model).model
    before, names = logits(expected), [name for name, _ in expected.named_parameters()]
    if rank:
        weights.add_adapters(expected, rank, seed=0)
    checkpoint.load_weights(checkpoint.latest(tmp_path / "run/checkpoints"), expected)  # type: ignore[arg-type]
    found = weights.load(run)
    assert not np.allclose(before, logits(expected), atol=1e-6)
    np.testing.assert_allclose(logits(found.model), logits(expected), atol=1e-5)
    assert found.source == f"{run}, step-000001"
    assert [name for name, _ in found.model.named_parameters()] == names


def test_a_run_begins_with_another_runs_policy_which_began_with_a_third(tmp_path: Path, model: Path) -> None:
    first = trained(tmp_path / "first", model, lora_rank=2)
    second = trained(tmp_path / "second", first, lora_rank=1)
    third = Trainer(config(tmp_path / "third", Path(second)), experiment())
    loaded = dict(weights.load(second).model.named_parameters())
    assert all(torch.equal(loaded[name], value) for name, value in third.model.named_parameters())
    assert not np.allclose(logits(weights.load(first).model), logits(weights.load(second).model), atol=1e-6)
    assert weights.base(second) == str(model)


def test_a_run_that_cannot_be_begun_with_is_told(tmp_path: Path, model: Path) -> None:
    (tmp_path / "young").mkdir()
    (tmp_path / "young/config.json").write_text('{"run": "young", "model": "smollm2-135m"}')
    with pytest.raises(ValueError, match="a run without a checkpoint yet: let it train, or name its model, smollm2-135m"):
        weights.load(str(tmp_path / "young"))
    with pytest.raises(ValueError, match="cannot begin with its own weights"):
        Trainer(config(tmp_path / "young", tmp_path / "young"), experiment())


def test_a_model_that_merely_has_a_config_is_a_model(model: Path) -> None:
    assert weights.run_config(model) is None
    assert weights.run_config("smollm2-135m") is None
