"""Every part of credit and objectives refuses a word that is no choice of its own, and what is no number, when it is made."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest

import sojourn.credit
import sojourn.objectives
from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.credit import GPG, Bounded, KlInReward, MaxRL, PassK, Sum, columns, grpo, rloo, shaping
from sojourn.objectives import Aggregation, Clip, Kl, Mix, PolicyGradient, Supervised
from sojourn.objectives.controllers import EntropyTarget, KlTarget
from sojourn.objectives.presets import Preset

DATA = {"Columns", "LossInputs", "Denominators", "CriticInputs"}
"""What is handed around, not chosen."""
NEEDED: dict[str, dict[str, Any]] = {
    "Sum": {"parts": (GPG(), MaxRL()), "weights": (1.0, 0.5)},
    "Then": {"credit": GPG(), "transforms": (Bounded(),)},
    "KlInReward": {"credit": GPG()},
    "InformationGain": {"credit": GPG()},
    "GatedTurns": {"credit": GPG()},
    "Mix": {"parts": (Supervised(), Supervised()), "weights": (1.0, 0.5)},
    "KlTarget": {"nats": 1.0},
    "EntropyTarget": {"nats": 1.0},
    "Preset": {"title": "mine", "paper": "none", "credit": grpo(), "objective": PolicyGradient()},
}
"""Fields without a default."""


def parts() -> Iterator[type]:
    for room in (sojourn.credit, sojourn.objectives):
        for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            for kind in vars(importlib.import_module(module.name)).values():
                if isinstance(kind, type) and is_dataclass(kind) and kind.__module__ == module.name and kind.__name__ not in DATA:
                    yield kind


PARTS = sorted(set(parts()), key=lambda kind: kind.__name__)


def wrong(annotation: Any) -> list[Any]:
    """Values that a field of this annotation may not have."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return [value for each in inner for value in wrong(each)]
    if origin is Literal:
        misspelt = [inner[-1] + "s", inner[-1][:-1], inner[-1].upper(), "", 0]
        return [value for value in misspelt if value not in inner]
    if origin is tuple:
        return [[], *((value,) for value in wrong(inner[0]))]
    if origin is Mapping:
        return [{"term": value} for value in wrong(inner[1])]
    return {float: [float("nan"), "1", True], int: [2.5, float("nan"), True], bool: ["no", 2]}.get(annotation, [])


def test_there_are_parts() -> None:
    names = {kind.__name__ for kind in PARTS}
    assert len(names) > 60 and {"Normaliser", "Aggregation", "Preset", "Reference", "Band", "Gae"} <= names
    for kind in PARTS:
        assert {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING} == NEEDED.get(
            kind.__name__, {}
        ).keys()


@pytest.mark.parametrize("kind", PARTS, ids=lambda kind: kind.__name__)
def test_no_part_is_made_of_a_wrong_option(kind: type) -> None:
    needed, hints = NEEDED.get(kind.__name__, {}), get_type_hints(kind)
    kind(**needed)
    for field in fields(kind):  # type: ignore[arg-type]
        for value in wrong(hints[field.name]):
            with pytest.raises(ValueError, match=rf"{kind.__name__}\(.*{field.name}"):
                kind(**needed | {field.name: value})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Aggregation(over="token"), r"Aggregation\(over='token'\): must be one of tokens, .*did you mean 'tokens'\?"),
        (lambda: PolicyGradient(granularity="tokens"), "did you mean 'token'"),
        (lambda: sojourn.credit.Gae(granularity="turns"), "did you mean 'turn'"),
        (lambda: Kl(estimator="k4"), "must be one of k1, k2, k3, abs"),
        (lambda: KlInReward(credit=grpo(), estimator="k4"), "must be one of k1, k2, k3, abs"),
        (lambda: sojourn.credit.ProcessRewards(turn_terms="tool"), r"must be a tuple; for one item write \(item,\)"),
        (lambda: PassK(k=2.5), r"PassK\(k=2.5\): must be a whole number"),
        (lambda: GPG(scale=0.0), "must lie at or above 1e-09"),
        (lambda: sojourn.credit.Extremes(seed=-1), "must lie at or above 0"),
        (lambda: sojourn.objectives.ClipCov(seed=-1), "must lie at or above 0"),
        (lambda: sojourn.objectives.Reference(every=-1), "must lie at or above 0"),
        (lambda: PolicyGradient(kl=0.04), "kl=0.04.: must be a Kl"),  # type: ignore[arg-type]
        (lambda: MaxRL(epsilon=-1e-6), "must lie at or above 0"),
        (lambda: Sum(parts=(grpo(), rloo()), weights=(float("nan"), 1.0)), "must be a number"),
        (lambda: Mix(parts=(Supervised(),), weights=(float("inf"),)), "must be finite"),
        (lambda: sojourn.credit.GDPO(weights={"style": float("nan")}), "style: must be a number"),
        (lambda: sojourn.objectives.Vespo(good=(-1.0, 2.0)), "k and lambda must lie at or above 0"),
    ],
)
def test_the_error_names_the_field_and_the_nearest_choice(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_what_is_right_is_left_alone() -> None:
    """Whole numbers for fractions, numbers of numpy, None where it is allowed, infinity for no bound."""
    Clip(low=0, high=np.float32(0.5), dual=None)
    PassK(k=np.int64(3))
    sojourn.objectives.Importance(high=float("inf"))
    KlTarget(nats=1), EntropyTarget(nats=0)
    Preset(title="mine", paper="none", credit=lambda columns: columns.reward_T, objective=PolicyGradient())


@pytest.mark.parametrize(
    ("function", "argument"),
    [("overlong", "buffer"), ("length_exact", "scale"), ("length_max", "scale"), ("tool_economy", "smooth")],
)
def test_shaping_divides_by_nothing_that_is_zero(function: str, argument: str) -> None:
    ones, rest = np.ones(2, np.int64), {"limit": 8} if function == "overlong" else {}
    arguments = {"overlong": (ones,), "tool_economy": (ones, ones)}.get(function, (ones, ones, ones > 0))
    for number in (0, -1, float("nan")):
        with pytest.raises(ValueError, match=rf"{function}\({argument}={number}\): must lie above 0"):
            getattr(shaping, function)(*arguments, **rest, **{argument: number})


def test_max_rl_refuses_a_group_whose_mean_is_negative() -> None:
    c = columns([group([Script([Turn()], final=-1.0), Script([Turn()])])])
    with pytest.raises(ValueError, match="a group has the mean return -0.5"):
        MaxRL()(c)
    flat = columns([group([Script([Turn()], final=-1.0), Script([Turn()], final=-1.0)])])
    assert MaxRL(epsilon=1.0)(flat).tolist() == [0.0, 0.0]


def test_equal_returns_have_no_best() -> None:
    c = columns([group([Script([Turn()], final=1.0), Script([Turn()], final=1.0)])])
    assert sojourn.credit.PassKBest(epsilon=0.0)(c).tolist() == [0.0, 0.0]
