"""`sojourn train NAME --dry-run`: a plan is checked and told without its model; scales are begun with; memory by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sojourn import Experiment, PlainText, TrainConfig, Uniform, from_function
from sojourn.cli.plan import memory
from sojourn.objectives import Reference, ValueLoss

RECIPE = '''"""Planned."""
from __future__ import annotations
from dataclasses import dataclass
from sojourn import Experiment, PlainText, TrainConfig, Uniform, from_function
from sojourn.objectives import Reference

@dataclass(frozen=True, kw_only=True)
class Config(TrainConfig):
    letter: str = "a"
    """What is rewarded."""

def experiment(config: Config) -> Experiment:
    world = from_function(lambda p, c: float(config.letter in c), ["one", "two"], test=["three"])
    parts = {"environment": world.make, "tasks": world.tasks, "protocol": PlainText(), "curriculum": Uniform(world.tasks)}
    return Experiment(**parts, reference=Reference(kind="none"))

SCALES = {"paper": {"model": "no-such/model-7B", "dtype": "float32", "steps": 100, "groups": 10, "group_size": 4, "max_context": 8000}}
'''

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def mine(here: Path) -> Path:
    path = here / "recipes/mine.py"
    path.parent.mkdir()
    path.write_text(RECIPE)
    return path


def test_a_plan_is_told_without_its_model_and_nothing_is_left(mine: Path, sojourn: Run) -> None:
    """7e9 x 4 bytes are 26.1 GiB, and 12 bytes for moments and gradients 78.2; 100 x 10 x 4 episodes of 8,000 tokens are 32 million, at 8 x 7e9."""
    code, out, err = sojourn("train", "mine", "--scale", "paper", "--dry-run", "--run", "r")
    assert code == 0, err
    assert "role actor: no-such/model-7B, 7 billion parameters by its name: weights 26.1 GiB, optimizer 78.2 GiB" in out
    assert "memory: 104.3 GiB" in out
    assert "100 steps of 10 groups of 4, 4,000 episodes" in out
    assert "in contexts of 32,000,000 in all" in out
    assert "arithmetic of training, at most: 1,792.0 PFLOP" in out
    assert not Path("r").exists()


def test_options_come_before_what_a_scale_says(mine: Path, sojourn: Run) -> None:
    code, out, err = sojourn("train", "mine", "--scale", "paper", "--steps", "3", "--model", "a/model", "--dry-run")
    assert code == 0, err
    assert "3 steps of 10 groups of 4" in out
    assert "a/model, whose size its name does not say" in out
    assert "memory:" not in out and "PFLOP" not in out


def test_what_training_would_refuse_is_refused(mine: Path, sojourn: Run) -> None:
    mine.write_text(RECIPE.replace(', test=["three"]', ""))
    assert "set eval_tasks=0" in sojourn("train", "mine", "--dry-run")[2]
    mine.write_text(RECIPE)
    code, _, err = sojourn("train", "mine", "--dry-run", "--algorithm", "distillation")
    assert code == 2 and "distillation needs a teacher" in err
    code, _, err = sojourn("train", "mine", "--scale", "papre")
    assert code == 2 and "declares no scale 'papre'; did you mean 'paper'?" in err


def test_a_scale_is_trained_with(mine: Path, sojourn: Run, few_steps: list[str]) -> None:
    code, _, err = sojourn("train", "mine", "--scale", "paper", *few_steps, "--max-context", "200", "--run", "r")
    assert code == 0, err
    assert '"dtype": "float32"' in Path("r/config.json").read_text()


WORLD = from_function(lambda p, c: 0.0, ["one"], test=["two"])
PARTS = Experiment(environment=WORLD.make, tasks=WORLD.tasks, protocol=PlainText(), curriculum=Uniform(WORLD.tasks))
BFLOAT = TrainConfig(dtype="bfloat16")


@pytest.mark.parametrize(
    ("config", "parts", "trained", "bytes_a_parameter"),
    [
        (TrainConfig(dtype="float32"), replace(PARTS, reference=Reference(kind="none")), True, (4, 12, 0, 0)),
        (BFLOAT, replace(PARTS, reference=Reference(kind="frozen")), True, (2, 16, 2, 0)),
        (BFLOAT, replace(PARTS, reference=Reference(kind="average", every=1)), True, (2, 16, 4, 0)),
        (BFLOAT, replace(PARTS, reference=Reference(kind="none"), critic=ValueLoss()), True, (2, 16, 0, 18)),
        (replace(BFLOAT, lora_rank=8), replace(PARTS, reference=Reference(kind="frozen")), True, (2, 0, 0, 0)),
        (BFLOAT, PARTS, False, (2, 0, 0, 0)),
    ],
    ids=["float32", "bfloat16", "average", "critic", "adapter", "frozen"],
)
def test_memory_by_hand(config: TrainConfig, parts: Experiment, trained: bool, bytes_a_parameter: tuple[int, ...]) -> None:
    assert tuple(memory(1e9, config, parts, trained=trained).values()) == tuple(each * 1e9 for each in bytes_a_parameter)
