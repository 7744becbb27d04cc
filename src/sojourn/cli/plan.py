"""`sojourn train NAME --dry-run`: the plan of a run, checked, with its memory and its cost, without its model and without a step.

The one idea: everything but the weights is real.  World, held-out tasks, curriculum and parts are made and joined as `train` joins them, to a
tiny random model in place of each that a role names, so what training would refuse is refused here, on any machine.

Bytes of a model of N parameters, b bytes each: b N weights; if all are trained 4 N float32 masters (bfloat16 only), 8 N moments, 4 N gradients;
b N for a frozen reference (4 N for one that moves, none beside adapters); a critic is one more such model.  Arithmetic: 2 N a token read or
written by the engine, 6 N a token and epoch for the learner [Kaplan et al., arXiv 2001.08361, table 1].
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sojourn.training import Experiment, TrainConfig

GIB = 2**30
SIZE = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", re.IGNORECASE)


def plan(config: TrainConfig, experiment: Experiment) -> Iterator[str]:
    """The plan in lines.  Raises `ValueError` for what training would refuse."""
    from sojourn import models
    from sojourn.store.machine import describe_machine
    from sojourn.training import Trainer
    from sojourn.training.roles import cast
    from sojourn.training.world import check_world

    check_world(config, experiment)
    stand_ins = {name: replace(role, model=None) for name, role in experiment.roles.items()}
    alike = replace(config, model="tiny", teacher="tiny" if config.teacher else "", dtype="float32")
    trainer = Trainer(alike, replace(experiment, roles=stand_ins), models.tiny(context=max(2048, config.max_context)))
    yield "world, tasks and parts fit together"
    needed: float | None = 0.0
    for name, role in cast(experiment).items():
        if role.base is not None or role.former is not None:
            yield f"role {name}: on the weights of {role.base or (role.former and role.former.of)}"
            continue
        own, parts = role.config(config), role.experiment(trainer.experiment)
        model = role.model or config.model
        size = parameters(model)
        if size is None:
            yield f"role {name}: {model}, whose size its name does not say, so neither memory nor arithmetic are known"
            needed = None
            continue
        amounts = memory(size, own, parts, trained=role.trained)
        needed = None if needed is None else needed + sum(amounts.values())
        told = ", ".join(f"{what} {amount / GIB:.1f} GiB" for what, amount in amounts.items() if amount)
        yield f"role {name}: {model}, {size / 1e9:g} billion parameters by its name: {told}"
    if needed is not None:
        here = describe_machine()["memory_gib"]
        yield f"memory: {needed / GIB:.1f} GiB, beside activations and the KV cache; this machine has {here} GiB"
    yield from _cost(config, experiment)


def parameters(model: str) -> float | None:
    """What a model's name says of its size.

    >>> [parameters(name) for name in ("smollm2-135m", "Qwen/Qwen2.5-7B-Instruct", "runs/mine")]
    [135000000.0, 7000000000.0, None]
    """
    found = SIZE.search(model)
    return float(found[1]) * {"b": 1e9, "m": 1e6}[found[2].lower()] if found else None


def memory(size: float, config: TrainConfig, experiment: Experiment, *, trained: bool) -> dict[str, float]:
    """Bytes by what they hold."""
    from sojourn.training.setup import precision

    b = precision(config.dtype).itemsize
    kind, adapters = experiment.reference.kind, config.lora_rank > 0
    optimizer = ((4 if b < 4 else 0) + 8 + 4) * size
    full = trained and not adapters
    return {
        "weights": b * size,
        "optimizer": optimizer if full else 0.0,
        "reference": (4 if kind == "average" else b) * size if full and kind != "none" else 0.0,
        "critic": b * size + optimizer if trained and experiment.critic else 0.0,
    }


def _cost(config: TrainConfig, experiment: Experiment) -> Iterator[str]:
    """Episodes and tokens at most; what programs of several contexts sample is not known before."""
    warm = min(config.warmup_steps, config.steps)
    played = (config.steps - warm) * config.groups * config.group_size
    yield f"training: {config.steps} steps of {config.groups} groups of {config.group_size}, {played:,} episodes" + (
        f", after {warm} steps of demonstrations" if warm else ""
    )
    during = (config.steps - 1) // config.eval_every if config.eval_every else 0
    times = (1 + config.eval_before + during) * (1 + config.eval_greedy)
    held_out = config.eval_tasks * len(experiment.tasks.levels)
    yield f"evaluation: {times} times at most {held_out:,} episodes"
    written = played * config.max_turns * config.max_tokens
    read = played * config.max_context
    yield f"tokens of training, at most: {written:,} sampled in contexts of {read:,} in all, where an episode is one context"
    size: Any = parameters(config.model)
    if size is not None:
        yield f"arithmetic of training, at most: {(2 + 6 * config.epochs) * size * read / 1e15:,.1f} PFLOP"
