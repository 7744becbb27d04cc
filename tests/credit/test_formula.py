"""Formulas: every credit carries one, they follow the knobs, and parts made of parts put them together."""

from __future__ import annotations

from dataclasses import is_dataclass

import numpy as np
import pytest

from sojourn import credit
from sojourn.credit import GPG, Bounded, Columns, Gae, KlInReward, MaxRL, Normaliser, PassK, StepRelative, Sum, Then, formula

COMPOSED = {
    "GivenBaseline": "A = R - b,",
    "Sum": "A_t = 1 A^1 + 0.5 A^2",
    "Then": "A = alpha (R",
    "KlInReward": "r_t <- r_t - beta l_t",
    "InformationGain": "r_s <- r_s + I_s",
    "GatedTurns": "r_s <- 0",
}
PARTS = {"Sum": {"parts": (GPG(), MaxRL()), "weights": (1.0, 0.5)}, "Then": {"credit": GPG(), "transforms": (Bounded(),)}}
PARTS["KlInReward"] = PARTS["InformationGain"] = PARTS["GatedTurns"] = {"credit": GPG()}
OTHERS = ("Columns", "Normaliser", "Band", "Extremes", "Kept", "Overlong", "ResampleOnCorrect", "TopVariance", "ZeroSignal")
NAMES = [name for name in credit.__all__ if is_dataclass(getattr(credit, name)) and name[0].isupper() and name not in OTHERS]


@pytest.mark.parametrize("name", NAMES)
def test_every_credit_and_transform_carries_a_formula(name: str) -> None:
    lines = formula(getattr(credit, name)(**PARTS.get(name, {}))).splitlines()
    assert lines[0].startswith(COMPOSED.get(name, "A"))
    assert all(" = " in line or " <- " in line for line in lines)


@pytest.mark.parametrize(
    ("normaliser", "text"),
    [
        (Normaliser(mean="none", deviation="none"), "R"),
        (Normaliser(deviation="none"), "R - mean(R | group)"),
        (Normaliser(deviation="none", leave_one_out=True), "R - mean(R | the others in the group)"),
        (Normaliser(mean="batch", deviation="batch"), "(R - mean(R | batch)) / (std(R | batch) + epsilon)"),
        (Normaliser(mean="none", deviation="batch"), "R / (std(R | batch) + epsilon)"),
    ],
)
def test_a_normaliser_writes_what_it_is_set_to(normaliser: Normaliser, text: str) -> None:
    assert normaliser.formula("R") == text


def test_a_formula_follows_the_knobs() -> None:
    assert "A_{s+1}" in formula(Gae(granularity="turn")) and "A_{t+1}" in formula(Gae())
    assert formula(Gae(alpha=0.05)).endswith("lambda = 1 - 1 / (alpha l_i)")
    assert formula(Gae(granularity="turn", monte_carlo=True)).endswith("V = mean return of fresh rollouts")
    assert "sigma" in formula(PassK()) and "sigma" not in formula(PassK(scaled=False))
    assert "exp(-l_t) - 1 + l_t" in formula(KlInReward(credit=GPG(), estimator="k3"))
    assert "mean(G | state)" in formula(StepRelative(bucket="state"))


def test_a_sum_names_its_parts() -> None:
    assert formula(Sum(parts=(GPG(), MaxRL()), weights=(1.0, 0.5))).splitlines() == [
        "A_t = 1 A^1 + 0.5 A^2",
        f"A^1: {GPG.formula}",
        f"A^2: {MaxRL.formula}",
    ]


def test_functions_of_your_own_are_written_as_calls() -> None:
    def mine(columns: Columns) -> np.ndarray:
        return columns.reward_T

    def halved(columns: Columns, advantage_T: np.ndarray) -> np.ndarray:
        return advantage_T / 2

    assert formula(Then(credit=mine, transforms=(halved, Bounded()))).splitlines() == [
        "A = mine(columns)",
        "A = halved(columns, A)",
        "A_t <- clip(A_t, -limit, limit)",
    ]
