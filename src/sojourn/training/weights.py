"""Which weights a name stands for: those of a model, or the last policy of a run.

The one idea: a run can stand wherever a model can (`model`, `teacher`, `sojourn eval`, `sojourn play`), and what it trained is whatever
its last checkpoint holds on top of what its own `model` says, which may be a run again.

    runs/game              the role that a run's checkpoint leads with: the only one, or the first that learns
    runs/game:solver       another role; of a frozen one the model that it was
    runs/game:past         of former selves the newest; runs/game:past@20 is that of step 20
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel

from sojourn.engine import adapters
from sojourn.engine.adapters import adapted_layers
from sojourn.models import LoadedModel
from sojourn.models import load as load_model
from sojourn.training import checkpoint


class Origin(NamedTuple):
    """Where the weights of a run's role are from.

    model: what they stand on.  rank: of their adapter; 0 for a whole model's.  seed: of the adapter.  saved: the checkpoint, None where
    there is none yet.  file: in it; "" for a role that does not learn.  version: of a former self; None for all else.
    """

    model: str
    rank: int
    seed: int
    saved: Path | None
    file: str = checkpoint.LEAD
    version: int | None = None


def load(name: str) -> LoadedModel:
    """The model of that name in float32, as `sojourn.models.load` finds it; of a run folder the policy of its last checkpoint, with
    adapters merged.  Raises `ValueError` for a run without a checkpoint."""
    found = origin(name)
    if found is None:
        return load_model(name)
    loaded = stands_on(name, found)
    if found.rank:
        merge_adapters(loaded.model)
    return LoadedModel(loaded.model, loaded.tokenizer, name, called(name))


def stands_on(name: str, found: Origin, adapter: str = "default") -> LoadedModel:
    """The model of a run's policy, with the adapter that was trained still beside its weights, if it was one."""
    if found.saved is None:
        raise ValueError(f"'{name}' is a run without a checkpoint yet: let it train, or name its model, {found.model}")
    loaded = load(found.model)
    if found.rank:
        form = Lora.of(run_config(split(name)[0]) or {}, found.rank)
        add_adapters(loaded.model, form, found.seed, adapter)
    if found.file:
        checkpoint.load_weights(found.saved, loaded.model, file=found.file, version=found.version)
    return loaded


def base(name: str) -> str:
    """The model that a run began with, or, if its model is a run, that one; any other name is its own."""
    found = origin(name)
    return name if found is None else base(found.model)


def called(name: str) -> str:
    """What a start says of its model: its name, and of a run the checkpoint, which another start may find to be a later one."""
    found = origin(name)
    return name if found is None or found.saved is None else f"{name}, {found.saved.name}"


def origin(name: str | Path) -> Origin | None:
    """Where the weights are from that a run's name, or RUN:ROLE, stands for; None for all else.

    Raises `ValueError` for a role, or a former self, that the run does not have.
    """
    run, role = split(name)
    config = run_config(run)
    if config is None:
        return None
    saved = checkpoint_of(run)
    known: dict[str, dict[str, Any]] = checkpoint.roles(saved) if saved else {}
    role, _, version = role.partition("@")
    if not known:  # not saved yet, or by a version that kept no list of roles
        if role:
            raise ValueError(
                f"'{name}': run {run} says nothing of a role '{role}' yet; give it without the role, or let it train"
            )
        rank = checkpoint.rank(saved) if saved else config.get("lora_rank", 0)
        return Origin(config["model"], rank, config.get("seed", 0), saved)
    facts = known.get(role or next(iter(known)))
    if facts is None:
        raise ValueError(f"'{name}': run {run} has no role '{role}', its roles are {', '.join(known)}")
    found = Origin(facts["model"], facts["lora_rank"], config.get("seed", 0), saved, facts["file"])
    if "versions" not in facts:
        if version:
            raise ValueError(f"'{name}': only former selves have versions, and '{role}' is none")
        return found
    kept = facts["versions"]
    if version and version not in map(str, kept):
        raise ValueError(f"'{name}': the former selves that are kept are those of steps {', '.join(map(str, kept))}")
    return found._replace(version=int(version) if version else max(kept))


def split(name: str | Path) -> tuple[str, str]:
    """A run and the role that is meant, "" where none is said.

    >>> split("no/such/run:solver")
    ('no/such/run:solver', '')
    """
    run, colon, role = str(name).rpartition(":")
    return (run, role) if colon and run_config(run) is not None and run_config(name) is None else (str(name), "")


def run_config(name: str | Path) -> dict[str, Any] | None:
    """The config of a run folder, or of the run that a checkpoint is of; None for all else (a model's directory has a `config.json`,
    too)."""
    file = run_folder(name) / "config.json"
    config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return config if "run" in config and "model" in config else None


def run_folder(name: str | Path) -> Path:
    """The run folder that `name` is, or that the checkpoint `name` lies in (`RUN/checkpoints/best`)."""
    path = Path(name)
    return path.parent.parent if path.parent.name == "checkpoints" and (path / "state.json").exists() else path


def checkpoint_of(name: str | Path) -> Path | None:
    """Of a run folder the last checkpoint; a checkpoint itself."""
    if run_folder(name) != Path(name):
        return Path(name).resolve()
    return checkpoint.latest(Path(name) / "checkpoints")


class Lora(NamedTuple):
    """The form of an adapter.  alpha: 0 is twice the rank.  targets: last names of layers, none for all."""

    rank: int
    alpha: int = 0
    targets: tuple[str, ...] = ()
    dropout: float = 0.0

    @classmethod
    def of(cls, config: Mapping[str, Any], rank: int | None = None) -> Lora:
        """As a run's config says, with the `rank` that was really found."""
        own = config["lora_rank"] if rank is None else rank
        targets = tuple(config.get("lora_targets", ()))
        return cls(own, config.get("lora_alpha", 0), targets, config.get("lora_dropout", 0.0))


def add_adapters(model: PreTrainedModel, form: Lora | int, seed: int, name: str = "default", *, trained: bool = True) -> None:
    """Put low-rank adapters on linear layers of the body, beside those that are there, and freeze the weights under them.  The first
    that comes is the active one.  `form` may be the rank alone.  [Hu et al., arXiv 2106.09685]

    Raises `ValueError` for a name that `peft` cannot give, or for targets that the model lacks.
    """
    form = Lora(form) if isinstance(form, int) else form
    from peft import LoraConfig, inject_adapter_in_model

    if "." in name or hasattr(torch.nn.ModuleDict(), name):
        raise ValueError(f"an adapter cannot be called '{name}': torch keeps that name for itself, choose another for the role")
    learning = [p for layer in adapted_layers(model) for p in layer.parameters() if p.requires_grad]
    before = adapters.active(model) or name
    known = [config.target_modules for config in getattr(model, "peft_config", {}).values()]
    config = LoraConfig(
        r=form.rank,
        lora_alpha=form.alpha or 2 * form.rank,
        lora_dropout=form.dropout,
        target_modules=known[0] if known else _targets(model, form.targets),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model, adapter_name=name)
    model.requires_grad_(False)  # which peft has set for the newest alone
    for parameter in [*learning, *(adapters.trained(model, name).values() if trained else ())]:
        parameter.requires_grad_(True)
    for layer in adapted_layers(model):
        layer._active_adapter = [before]


def _targets(model: PreTrainedModel, names: Sequence[str]) -> str | list[str]:
    """What `peft` calls them."""
    layers = [name for name, module in model.base_model.named_modules() if isinstance(module, torch.nn.Linear)]
    there = sorted({name.rpartition(".")[2] for name in layers})
    for name in names:
        if name not in there:
            near = get_close_matches(name, there, 1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"lora_targets: the model has no linear layer '{name}'{hint}  It has {', '.join(there)}")
    return list(names) or "all-linear"


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
