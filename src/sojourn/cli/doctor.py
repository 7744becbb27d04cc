"""`sojourn doctor`: what is installed, what is missing and the command that fixes it, and whether the parts agree; of a run, its health.

A finding is `ok`, `note` (works without, or slower) or `bad` (does not work); the exit code is 1 if anything is bad.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from tyro.conf import Positional

from sojourn.cli.table import show

if TYPE_CHECKING:
    from sojourn.models import LoadedModel

State = Literal["ok", "note", "bad"]
STYLE = {"ok": "green", "note": "yellow", "bad": "bold red"}

BASE = (
    *("torch", "transformers", "numpy", "safetensors", "peft", "gguf", "pyarrow", "duckdb"),
    *("pydantic", "docstring_parser", "jinja2", "tyro", "rich", "filelock"),
)
EXTRAS = {
    "tensorboard": ("tensorboard", "TensorBoard events in the run folder"),
    "reasoning-gym": ("envs-reasoning", "the environments reasoning_gym/..."),
    "open_spiel": (
        "envs-several",
        "the environments openspiel/..., pettingzoo/... and textarena/..., the recipe multi_agent/kuhn",
    ),
    "starlette": ("view", "`sojourn view`"),
    "uvicorn": ("view", "`sojourn view`"),
    "gymnasium": ("envs-gymnasium", "the environments gymnasium/..., the recipes cartpole and frozen_lake"),
}
"""Package: the extra that brings it, and what it is for."""
MEMORY_GIB, DISK_GIB = 6.0, 4.0
"""What the quickstart wants: weights, gradients and Adam of 135 million parameters with the KV cache; checkpoints."""


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is, what was found, and the command that fixes it."""

    what: str
    state: State
    found: str
    remedy: str = ""


def doctor(run: Positional[Path | None] = None, contract: bool = True) -> int:
    """Look at this machine and this installation, or at a run.

    Args:
        run: A run folder: its health, as `sojourn view` shows it; fails if something is bad.
        contract: Sample with a model and let the learner score it; takes some seconds for each model on this machine.
    """
    if run is not None:
        return health_of(run)
    table, worst = Table("", "", "found", "what to do", box=None, pad_edge=False), 0
    with Console(stderr=True).status("looking"):
        for finding in findings(contract):
            table.add_row(
                Text(finding.state, STYLE[finding.state]),
                finding.what,
                Text(finding.found, overflow="fold"),
                Text(finding.remedy, overflow="fold"),
            )
            worst = max(worst, finding.state == "bad")
    show(table)
    return int(worst)


def health_of(run: Path) -> int:
    """The health page of a run, in the terminal."""
    from sojourn.viewer.health import findings
    from sojourn.viewer.runs import is_run

    if not is_run(run):
        raise ValueError(f"{run} is no run folder: found neither config.json nor metrics.jsonl (give one, as runs/quickstart)")
    console, found = Console(), findings(run)
    for each in found:
        console.print(Text(f"{each.state:<13}", STYLE.get(each.state, "dim")), Text(each.what, "bold"), Text(each.found))
        if each.state in ("note", "bad"):
            for name, text in (("rule", each.rule), ("means", each.meaning), ("change", each.change)):
                console.print(Padding(Text(f"{name}: {text}"), (0, 0, 0, 14)))
    return int(any(each.state == "bad" for each in found))


def findings(contract: bool) -> Iterator[Finding]:
    """All that can be found out, cheap things first."""
    yield from packages()
    yield from extras()
    yield from machine()
    yield sandbox()
    yield from models()
    if contract:
        yield from agreement()


def packages() -> Iterator[Finding]:
    """Python, Sojourn and what it stands on."""
    yield Finding("python", "ok", platform.python_version())
    for name in ("sojourn", *BASE):
        found = _version(name)
        yield Finding(name, "ok" if found else "bad", found or "not installed", "" if found else f"pip install {name}")


def extras() -> Iterator[Finding]:
    """Packages that are wanted for some things only."""
    for name, (extra, purpose) in EXTRAS.items():
        found = _version(name)
        remedy = "" if found else f"pip install 'sojourn[{extra}]'"
        yield Finding(name, "ok" if found else "note", found or f"not installed: {purpose}", remedy)


def machine() -> Iterator[Finding]:
    """Cores, bfloat16, kernels, accelerator, memory, disk."""
    import torch

    from sojourn.engine.native import kernels
    from sojourn.store.machine import physical_cores
    from sojourn.training.setup import precision

    yield Finding("cores", "ok", f"{physical_cores()}")
    fast = precision("auto") == torch.bfloat16
    yield Finding("bfloat16", "ok" if fast else "note", "in hardware" if fast else "not in this CPU's hardware: float32 is used")
    compiled = kernels(torch.bfloat16 if fast else torch.float32) is not None
    found = "compiled" if compiled else "none: torch's operations are used, and sampling takes about twice as long"
    yield Finding("kernels in C", "ok" if compiled else "note", found, "" if compiled else "apt-get install gcc")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none; the local engine and learner run on the CPU"
    yield Finding("accelerator", "ok", gpu)
    yield _room("memory", _available_gib(), MEMORY_GIB, "close other programs, or train with a smaller --concurrency")
    yield _room("disk", shutil.disk_usage(".").free / 2**30, DISK_GIB, "free some space, or give --run on a larger disk")


def sandbox() -> Finding:
    """How the code that agents write is confined."""
    from sojourn.tools import Sandbox, Unconfined

    try:
        found = Sandbox.best()
    except Unconfined as error:
        return Finding("sandbox", "note", str(error), "" if shutil.which("bwrap") else "apt-get install bubblewrap")
    return Finding("sandbox", "ok", f"{found.kind}, {found.python}")


def models() -> Iterator[Finding]:
    """Which known models are on this machine."""
    from sojourn.cli.play import local_folder
    from sojourn.models import KNOWN

    for name, known in KNOWN.items():
        folder = local_folder(name)
        where = str(folder) if folder else f"not here; downloaded on first use ({known.megabytes} MB)"
        yield Finding(f"model {name}", "ok" if folder else "note", where)


def agreement() -> Iterator[Finding]:
    """Whether engine and learner agree: with a tiny model, and with the default model if it is on this machine."""
    from sojourn.cli.play import local_folder
    from sojourn.models import load, tiny
    from sojourn.training import TrainConfig

    yield _agree("tiny model", tiny)
    name = TrainConfig().model
    if local_folder(name):
        yield _agree(name, lambda: load(name))


def _agree(name: str, make: Callable[[], LoadedModel]) -> Finding:
    from sojourn.curriculum import Uniform
    from sojourn.environments import ToolArithmetic
    from sojourn.rendering import PlainText
    from sojourn.training import Experiment, TrainConfig, Trainer
    from sojourn.training.setup import check_contract

    tasks = ToolArithmetic.tasks()
    parts = Experiment(environment=ToolArithmetic, tasks=tasks, protocol=PlainText(), curriculum=Uniform(tasks))
    what = f"engine = learner, {name}"
    try:
        trainer = Trainer(TrainConfig(), parts, make())
        gap = check_contract(trainer)
    except ValueError as error:
        return Finding(what, "bad", str(error))
    dtype = str(trainer.model.dtype).removeprefix("torch.")
    return Finding(what, "ok", f"log-probabilities differ by {gap:.1g} at most ({dtype})")


def _room(what: str, gib: float | None, wanted: float, remedy: str) -> Finding:
    if gib is None:
        return Finding(what, "note", "not known on this system")
    enough = gib >= wanted
    found = f"{gib:.1f} GiB free; the quickstart wants {wanted:g}"
    return Finding(what, "ok", found) if enough else Finding(what, "note", found, remedy)


def _available_gib() -> float | None:
    info = Path("/proc/meminfo")
    lines = info.read_text().splitlines() if info.exists() else []
    found = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return found[0] / 2**20 if found else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
