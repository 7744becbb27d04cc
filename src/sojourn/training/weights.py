"""Which weights a name stands for: those of a model, or the last policy of a run.

The one idea: a run can stand wherever a model can (`model`, `teacher`, `sojourn eval`, `sojourn play`), and what it trained is whatever
its last checkpoint holds on top of what its own `model` says, which may be a run again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from sojourn.engine import adapters
from sojourn.engine.adapters import adapted_layers
from sojourn.models import LoadedModel
from sojourn.models import load as load_model
from sojourn.training import checkpoint


def load(name: str) -> LoadedModel:
    """The model of that name in float32, as `sojourn.models.load` finds it; of a run folder the policy of its last checkpoint, with
    adapters merged.  Raises `ValueError` for a run without a checkpoint."""
    run = run_config(name)
    if run is None:
        return load_model(name)
    path = checkpoint.latest(Path(name) / "checkpoints")
    if path is None:
        raise ValueError(f"'{name}' is a run without a checkpoint yet: let it train, or name its model, {run['model']}")
    found = load(run["model"])
    rank = checkpoint.rank(path)
    if rank:
        add_adapters(found.model, rank, run["seed"])
    checkpoint.load_weights(path, found.model)
    if rank:
        merge_adapters(found.model)
    return LoadedModel(found.model, found.tokenizer, name, called(name))


def base(name: str) -> str:
    """The model that a run began with, or, if its model is a run, that one; any other name is its own."""
    run = run_config(name)
    return name if run is None else base(run["model"])


def called(name: str) -> str:
    """What a start says of its model: its name, and of a run the checkpoint, which another start may find to be a later one."""
    path = None if run_config(name) is None else checkpoint.latest(Path(name) / "checkpoints")
    return name if path is None else f"{name}, {path.name}"


def run_config(name: str | Path) -> dict[str, Any] | None:
    """The config of a run folder; None for all else (a model's directory has a `config.json`, too)."""
    file = Path(name) / "config.json"
    config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return config if "run" in config and "model" in config else None


def add_adapters(model: PreTrainedModel, rank: int, seed: int, name: str = "default", *, trained: bool = True) -> None:
    """Put low-rank adapters on all linear layers of the body, beside those that are there, and freeze the weights under them.  The first
    that comes is the active one.  [Hu et al., arXiv 2106.09685]

    Raises `ValueError` for a name that `peft` cannot give.
    """
    from peft import LoraConfig, inject_adapter_in_model

    if "." in name or hasattr(torch.nn.ModuleDict(), name):
        raise ValueError(f"an adapter cannot be called '{name}': torch keeps that name for itself, choose another for the role")
    learning = [p for layer in adapted_layers(model) for p in layer.parameters() if p.requires_grad]
    before = adapters.active(model) or name
    known = [config.target_modules for config in getattr(model, "peft_config", {}).values()]
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=known[0] if known else "all-linear")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model, adapter_name=name)
    model.requires_grad_(False)  # which peft has set for the newest alone
    for parameter in [*learning, *(adapters.trained(model, name).values() if trained else ())]:
        parameter.requires_grad_(True)
    for layer in adapted_layers(model):
        layer._active_adapter = [before]


def drop_adapter(model: PreTrainedModel, name: str) -> None:
    """Take an adapter off, which is not the active one."""
    for layer in adapted_layers(model):
        layer.delete_adapter(name)
    del model.peft_config[name]  # type: ignore[attr-defined, operator, union-attr, index, unused-ignore]


def merge_adapters(model: PreTrainedModel) -> None:
    """Add adapters to the weights that they stand beside, and leave a plain model, all of it trainable."""
    from peft.tuners.lora import LoraLayer

    for name, layer in list(model.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge()
            holder, _, last = name.rpartition(".")
            setattr(model.get_submodule(holder), last, layer.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config
    model.requires_grad_(True)
