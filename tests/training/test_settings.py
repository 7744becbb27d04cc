"""Settings around the training: the form of adapters, which checkpoints stay, when it ends early, who hears of it, template arguments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import small
from small_run import config, experiment

from sojourn.engine.adapters import adapted_layers, dropping, multiplied
from sojourn.engine.attention import plain
from sojourn.store import RunFolder
from sojourn.training import Trainer, checkpoint, train, weights
from sojourn.training.config import Told, TrainConfig
from sojourn.training.weights import Lora, add_adapters

TOKENS = torch.arange(40)[None]


def logits(model: Any) -> Any:
    with torch.no_grad(), plain(model):
        return model(TOKENS).logits.double().numpy()


def layer_of(model: Any, name: str) -> Any:
    return next(each for path, each in model.named_modules() if path.endswith(name) and hasattr(each, "lora_A"))


def filled(form: Lora) -> tuple[Any, Any]:
    """A tiny model with an adapter that is not nothing, and one of its layers."""
    model = small().model
    add_adapters(model, form, seed=0)
    layer = layer_of(model, "q_proj")
    with torch.no_grad():
        layer.lora_B["default"].weight.normal_(generator=torch.Generator().manual_seed(1))
    return model, layer


@pytest.mark.parametrize(("alpha", "scale"), [(0, 2.0), (3, 0.75)])
def test_an_adapter_adds_alpha_over_rank_times_its_product(alpha: int, scale: float) -> None:
    _, layer = filled(Lora(4, alpha))
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        added = layer(x) - layer.base_layer(x)
        product = x @ layer.lora_A["default"].weight.T @ layer.lora_B["default"].weight.T
    torch.testing.assert_close(added, scale * product)


def test_dropout_drops_an_adapters_inputs_in_an_update_and_nowhere_else() -> None:
    model, layer = filled(Lora(4, dropout=0.5))
    model.eval()
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        plain = layer(x)
        with dropping(model, seed=7):
            found = multiplied(layer, x, "default")
        with torch.random.fork_rng():
            torch.manual_seed(7)
            dropped = torch.nn.functional.dropout(x, 0.5)
        product = dropped @ layer.lora_A["default"].weight.T @ layer.lora_B["default"].weight.T
    torch.testing.assert_close(found, layer.base_layer(x) + 2 * product)
    assert torch.equal(multiplied(layer, x, "default").detach(), plain)


def test_only_the_named_layers_get_adapters() -> None:
    model = small().model
    add_adapters(model, Lora(2, targets=("q_proj", "up_proj")), seed=0)
    names = {path.rpartition(".")[2] for path, each in model.named_modules() if each in adapted_layers(model)}
    assert names == {"q_proj", "up_proj"}


def test_a_layer_that_the_model_lacks_is_refused_by_name(tmp_path: Path, model: Path) -> None:
    with pytest.raises(ValueError, match=r"has no linear layer 'q_prog'; did you mean 'q_proj'\?"):
        Trainer(config(tmp_path, model, lora_rank=2, lora_targets=("q_prog",)), experiment())


def test_a_run_with_adapters_of_another_form_is_loaded_as_it_was_trained(tmp_path: Path, model: Path) -> None:
    form = {"lora_rank": 2, "lora_alpha": 7, "lora_targets": ("q_proj", "down_proj")}
    settings = config(tmp_path / "run", model, steps=2, eval_tasks=0, **form)
    train(settings, experiment())  # `check_contract` has compared engine, learner and transformers
    again = Trainer(settings, experiment())
    checkpoint.load_weights(checkpoint.latest(tmp_path / "run/checkpoints"), again.model)  # type: ignore[arg-type]
    found = weights.load(str(tmp_path / "run")).model
    np.testing.assert_allclose(logits(found), logits(again.model), atol=1e-5)
    assert not np.allclose(logits(found), logits(weights.load(str(model)).model), atol=1e-6)


def rows(path: Path) -> str:
    lines = [{"messages": [{"role": "user", "content": f"Say {c}."}, {"role": "assistant", "content": c * 3}]} for c in "abcdef"]
    path.write_text("\n".join(map(json.dumps, lines)))
    return str(path)


def test_with_dropout_a_run_that_was_stopped_and_continued_is_the_run_that_was_not(tmp_path: Path, model: Path) -> None:
    data = {
        "algorithm": "sft",
        "learn_from": rows(tmp_path / "rows.jsonl"),
        "eval_tasks": 0,
        "lora_rank": 2,
        "checkpoint_every": 1,
    }

    def run(name: str, steps: int, dropout: float = 0.3) -> dict[str, torch.Tensor]:
        train(config(tmp_path / name, model, steps=steps, lora_dropout=dropout, **data), experiment())
        return dict(weights.load(str(tmp_path / name)).model.named_parameters())

    whole = run("whole", 4)
    run("parts", 2)
    parts = run("parts", 4)
    without = run("without", 4, dropout=0.0)
    assert all(torch.equal(parts[name], value) for name, value in whole.items())
    assert not all(torch.equal(without[name], value) for name, value in whole.items())


def test_dropout_is_refused_where_ratios_would_be_of_two_policies(tmp_path: Path, model: Path) -> None:
    with pytest.raises(ValueError, match="lora_dropout is 0.1, but nothing was dropped when the answers were sampled"):
        Trainer(config(tmp_path, model, lora_rank=2, lora_dropout=0.1), experiment())


def scores(run: Path, values: dict[int, float]) -> Any:
    """A callback that writes what each evaluation during training shall have measured."""

    def callback(told: Told) -> None:
        if told.kind == "evaluation" and told.values[0]["eval"] != "before":  # type: ignore[index, call-overload]
            RunFolder(run).log_eval(*({**row, "success": values[told.step]} for row in told.values))  # type: ignore[dict-item]

    return callback


def parts(callback: Any) -> Any:
    from dataclasses import replace

    return replace(experiment(), callback=callback)


def steps_kept(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_the_last_n_checkpoints_and_the_best_stay(tmp_path: Path, model: Path) -> None:
    run = tmp_path / "run"
    settings = config(run, model, steps=6, checkpoint_every=1, keep_checkpoints=2, eval_every=2, best_by="sampled")
    summary = train(settings, parts(scores(run, {2: 0.9, 4: 0.5, 6: 0.7})))
    assert steps_kept(run) == ["best", "step-000002", "step-000005", "step-000006"]
    assert checkpoint.best(run / "checkpoints") == run / "checkpoints/step-000002"
    assert summary["best"] == {"step": 2, "sampled": 0.9}


def test_the_best_checkpoint_stands_where_a_model_can(tmp_path: Path, model: Path) -> None:
    run = tmp_path / "run"
    train(config(run, model, steps=4, checkpoint_every=0, eval_every=2, best_by="sampled"), parts(scores(run, {2: 0.9, 4: 0.5})))
    best, last = str(run / "checkpoints/best"), str(run)
    again = Trainer(config(tmp_path / "again", model), experiment())
    checkpoint.load_weights(run / "checkpoints/step-000002", again.model)
    np.testing.assert_allclose(logits(weights.load(best).model), logits(again.model), atol=1e-6)
    assert not np.allclose(logits(weights.load(best).model), logits(weights.load(last).model), atol=1e-7)
    assert weights.base(best) == str(model)
    assert Trainer(config(tmp_path / "next", Path(best)), experiment()).model is not None


def test_patience_stops_after_so_many_evaluations_without_a_better_one(tmp_path: Path, model: Path) -> None:
    run = tmp_path / "run"
    values = {1: 0.2, 2: 0.4, 3: 0.4, 4: 0.3, 5: 0.9}
    settings = config(run, model, steps=9, eval_every=1, best_by="sampled", patience=2)
    summary = train(settings, parts(scores(run, values)))
    assert summary["steps"] == 4 and summary["best"] == {"step": 2, "sampled": 0.4}
    assert train(settings, experiment()) == summary, "a run that has stopped stays so"


def test_a_callback_hears_of_steps_and_evaluations_and_may_end_the_run(tmp_path: Path, model: Path) -> None:
    heard: list[tuple[str, int]] = []

    def callback(told: Told) -> bool:
        heard.append((told.kind, told.step))
        return told.kind == "step" and told.step == 3

    settings = config(tmp_path, model, steps=5, eval_every=2)
    summary = train(settings, parts(callback))
    assert heard == [
        ("evaluation", 0), ("step", 1), ("step", 2), ("evaluation", 2), ("step", 3), ("evaluation", 3),
    ]  # fmt: skip
    assert summary["steps"] == 3
    assert train(settings, experiment()) == summary, "it stays ended"
    assert train(config(tmp_path, model, steps=6, eval_every=2), experiment())["steps"] == 6, "and may be given more"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"best_by": "sampled", "eval_every": 0}, "nothing is evaluated during training: set eval_every"),
        ({"patience": 2}, "nothing says what is better: set best_by"),
        ({"lora_dropout": 0.1}, "there are no adapters: set lora_rank"),
        ({"lora_rank": 2, "lora_dropout": 1.0}, "must be at least 0 and below 1"),
        ({"keep_checkpoints": 0}, "must be at least 1"),
        ({"lora_alpha": -1}, "must be at least 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(tmp_path: Path, model: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config(tmp_path, model, **changes)


def test_a_best_that_nothing_measures_is_refused(tmp_path: Path, model: Path) -> None:
    with pytest.raises(ValueError, match="best_by is 'greedy', but the evaluations are sampled"):
        Trainer(config(tmp_path, model, best_by="greedy"), experiment())


def test_template_arguments_are_options_on_the_command_line() -> None:
    import tyro

    read = tyro.cli(TrainConfig, args=["--template", "enable_thinking", "False", "style", "short"])
    assert read.template == {"enable_thinking": False, "style": "short"}
