"""What an option may be is said once, beside its type, and holds for subclasses, nested parts and the command line."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from sojourn.core import NotEmpty, Range, check
from sojourn.engine import SamplingParams
from sojourn.learner import OptimizerConfig
from sojourn.policy import Limits
from sojourn.training import Evaluation, Rollout, TrainConfig
from sojourn.training.roles import Role

NAN, INF = float("nan"), float("inf")


@dataclass(frozen=True, kw_only=True)
class Recipe(TrainConfig):
    """A recipe's config, with a new default for a field of ours and with fields of its own."""

    groups: int = 4
    """Annotated anew, without the range."""
    progress: Annotated[float, Range(0, 1)] = 0.5
    mode: Literal["sampled", "greedy"] = "sampled"
    weights: tuple[Annotated[float, Range(0)], ...] = ()
    names: Annotated[tuple[str, ...], NotEmpty()] = ("a",)
    cap: Annotated[float, Range(0)] | None = None
    weights_of: Mapping[str, Annotated[float, Range(0)]] | None = None


WRONG: list[tuple[type, str, Any, str]] = [
    (TrainConfig, "steps", -1, "at least 0"),
    (TrainConfig, "steps", 2.5, "a whole number, at least 0"),
    (TrainConfig, "steps", True, "a whole number"),
    (TrainConfig, "max_minutes", -1.0, "at least 0"),
    (TrainConfig, "max_minutes", INF, "at least 0"),
    (TrainConfig, "max_tokens", -5, "at least 1"),
    (TrainConfig, "max_turns", 0, "at least 1"),
    (TrainConfig, "temperature", NAN, "a number, at least 0"),
    (Role, "temperature", -0.5, "at least 0"),
    (Role, "learns", "no", "True or False"),
    (TrainConfig, "epochs", 0, "at least 1"),
    (TrainConfig, "minibatches", 0, "at least 1"),
    (TrainConfig, "eval_tasks", -1, "at least 0"),
    (TrainConfig, "checkpoint_every", -1, "at least 0"),
    (TrainConfig, "run", "", "non-empty"),
    (TrainConfig, "run", " ", "non-empty"),
    (TrainConfig, "concurrency", 0, "at least 1"),
    (TrainConfig, "groups", 0, "at least 1"),
    (TrainConfig, "group_size", 0, "at least 1"),
    (TrainConfig, "dtype", "float31", "did you mean 'float32'"),
    (TrainConfig, "profile", "yes", "True or False"),
    (Recipe, "groups", 0, "at least 1"),
    (Recipe, "progress", 1.5, "at least 0 and at most 1"),
    (Recipe, "mode", "greed", "one of sampled, greedy; did you mean 'greedy'"),
    (Recipe, "weights", (1.0, -1.0), "at least 0"),
    (Recipe, "weights", 1.0, "must be a tuple"),
    (Recipe, "names", (), "non-empty"),
    (Recipe, "cap", -1.0, "at least 0"),
    (Recipe, "weights_of", {"a": -1.0}, "a: must be at least 0"),
    (Recipe, "weights_of", "a", "a mapping"),
    (OptimizerConfig, "learning_rate", -1e-5, "at least 0"),
    (OptimizerConfig, "betas", (0.9, 1.0), "at least 0 and below 1"),
    (OptimizerConfig, "betas", (0.9,), "2 items"),
    (SamplingParams, "top_p", 0.0, "above 0 and at most 1"),
    (SamplingParams, "min_p", 1.5, "at least 0 and at most 1"),
    (Limits, "step_seconds", 0.0, "above 0"),
    (TrainConfig, "optimizer", None, "must be a OptimizerConfig"),
    (Evaluation, "count", 0, "at least 1"),
    (Evaluation, "repetitions", 0, "at least 1"),
    (Evaluation, "ks", (0,), "at least 1"),
]


@pytest.mark.parametrize(("kind", "field", "value", "expected"), WRONG, ids=lambda each: str(getattr(each, "__name__", each)))
def test_a_field_out_of_its_range_is_refused_with_field_value_and_range(
    kind: type, field: str, value: Any, expected: str
) -> None:
    with pytest.raises(ValueError) as caught:
        kind(**{field: value})
    assert f"{kind.__name__}({field}={value!r}): " in str(caught.value)
    assert expected in str(caught.value)


def test_numbers_of_numpy_are_numbers() -> None:
    assert TrainConfig(steps=np.int64(3), temperature=np.float32(0.5)).steps == 3  # type: ignore[arg-type]


def test_a_config_that_is_changed_is_checked_again() -> None:
    with pytest.raises(ValueError, match=r"groups=0"):
        replace(Recipe(), groups=0)


@pytest.mark.parametrize(
    "kind", [TrainConfig, OptimizerConfig, SamplingParams, Limits, Role, Evaluation, Rollout], ids=lambda kind: kind.__name__
)
def test_every_number_has_a_range(kind: type) -> None:
    free = {"seed"} if kind is SamplingParams else set()  # hashes are of any size
    plain = {field.name for field in fields(kind) if field.type in ("int", "float", int, float)}
    assert plain == free


def test_fields_without_rules_are_left_alone() -> None:
    @dataclass(frozen=True)
    class Free:
        anything: object = None
        text: str | None = None

        def __post_init__(self) -> None:
            check(self)

    assert Free(anything=3, text=None)
