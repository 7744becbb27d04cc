"""A run stands wherever a model can: what it trained is what is loaded, adapters included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from helpers import saved, small
from peft import PeftModel
from pennies import game
from small_run import config, experiment

from sojourn import models
from sojourn.learner import OptimizerConfig
from sojourn.training import Former, Role, Trainer, checkpoint, train, weights
from sojourn.training.export import export

TOKENS = torch.arange(40)[None]


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model(TOKENS).logits.double().numpy()


def same(one: Any, other: Any) -> bool:
    mine, yours = dict(one.named_parameters()), dict(other.named_parameters())
    return mine.keys() == yours.keys() and all(torch.equal(mine[name], yours[name]) for name in mine)


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


@pytest.fixture(scope="module")
def game_run(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step: an adapter with its former selves, and a partner that trains all weights of a model of its own."""
    run, other = tmp_path_factory.mktemp("game"), tmp_path_factory.mktemp("other")
    loaded = small("qwen3")
    saved(loaded, other)
    roles = {
        "judge": Role(learns=False),
        "even": Role(lora_rank=2),
        "odd": Role(model=str(other)),
        "past": Role(former=Former(of="even", every=1)),
    }
    parts = game(roles, {"even": "even", "odd": "odd", "nobody": "past"})
    optimizer = OptimizerConfig(learning_rate=0.01)
    train(config(run / "run", model, steps=2, eval_tasks=0, max_context=300, optimizer=optimizer), parts)
    return run / "run"


def test_the_policy_of_each_role_is_loaded_by_its_name(game_run: Path, model: Path, tmp_path: Path) -> None:
    saved = checkpoint.latest(game_run / "checkpoints")
    assert saved is not None
    first, odd = logits(models.load(model).model), torch.load(saved / "odd.weights.pt", weights_only=True)
    found = weights.load(f"{game_run}:odd")
    assert found.model.config.model_type == "qwen3"
    assert all(torch.equal(dict(found.model.named_parameters())[name], value) for name, value in odd.items())
    even = logits(weights.load(f"{game_run}:even").model)
    assert np.array_equal(even, logits(weights.load(str(game_run)).model)), "the first that learns leads the run"
    assert not np.allclose(even, first, atol=1e-4)
    assert np.array_equal(logits(weights.load(f"{game_run}:judge").model), first), "it was frozen"
    assert np.allclose(logits(weights.load(f"{game_run}:past@0").model), first, atol=1e-6), "an adapter begins as nothing"
    middle, newest = (logits(weights.load(f"{game_run}:past{version}").model) for version in ("@1", ""))
    assert not np.allclose(middle, first, atol=1e-4) and not np.allclose(middle, even, atol=1e-4)
    assert np.array_equal(newest, even), "of step 2"
    assert weights.base(f"{game_run}:odd") != weights.base(str(game_run)) == str(model)
    frozen = Trainer(config(tmp_path / "next", Path(f"{game_run}:past@1")), experiment())
    assert same(frozen.model, weights.load(f"{game_run}:past@1").model)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (":nobody", "no role 'nobody', its roles are even, judge, odd, past"),
        (":odd@1", "only former selves have versions"),
        (":past@7", "those of steps 0, 1, 2"),
    ],
)
def test_a_role_that_a_run_does_not_have_is_told(game_run: Path, name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        weights.load(f"{game_run}{name}")


@pytest.mark.parametrize(("role", "merge"), [("even", False), ("even", True), ("odd", False), ("past@1", False)])
def test_each_role_can_be_exported(game_run: Path, tmp_path: Path, role: str, merge: bool) -> None:
    """Read by transformers and peft, it is the role's policy."""
    export(str(game_run), tmp_path / "out", merge=merge, role=role)
    adapter = role != "odd" and not merge
    assert (tmp_path / "out/adapter_model.safetensors").exists() == adapter
    if adapter:
        base = transformers.AutoModelForCausalLM.from_pretrained(weights.base(f"{game_run}:{role}"))
        read = PeftModel.from_pretrained(base, str(tmp_path / "out"))
    else:
        read = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    np.testing.assert_allclose(logits(read), logits(weights.load(f"{game_run}:{role}").model), atol=1e-4)
    assert f"- Role: {role}" in (tmp_path / "out/README.md").read_text()


def test_an_evaluation_plays_with_the_weights_of_all_roles(game_run: Path, model: Path, tmp_path: Path) -> None:
    run = json.loads((game_run / "config.json").read_text())
    roles = {"even": Role(lora_rank=2), "odd": Role(), "past": Role(former=Former(of="even", every=1))}
    seats = {"even": "even", "odd": "past"}
    parts = game({**roles, "odd": Role(model=weights.base(f"{game_run}:odd"))}, seats)
    trainer = Trainer(config(tmp_path, Path(run["model"]), max_context=300), parts)
    assert not same(trainer.players["odd"].model, weights.load(f"{game_run}:odd").model)
    trainer.load_weights(checkpoint.latest(game_run / "checkpoints"))  # type: ignore[arg-type]
    odd, past = trainer.players["odd"], trainer.players["past"]
    assert same(odd.model, weights.load(f"{game_run}:odd").model)
    assert past.league is not None and sorted(past.league.weights) == [0, 1, 2]
    assert past.policy().version == 2, "the newest"
