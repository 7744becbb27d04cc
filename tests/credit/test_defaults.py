"""The constants of the papers are the defaults: a changed default is a changed algorithm."""

from __future__ import annotations

from dataclasses import fields
from inspect import signature
from typing import Any

import numpy as np
import pytest
from bounds_of_parts import INF, check_bounds

from sojourn import credit
from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.credit import shaping

PAPERS: dict[str, dict[str, Any]] = {
    "Band": {"low": 0.3, "high": 0.8},  # R-Zero, arXiv 2508.05004
    "TopVariance": {"share": 0.25},  # StarPO-S keeps the upper quarter, arXiv 2504.20073
    "ResampleOnCorrect": {"keep": 16, "flaws": "flaws", "seed": 0},
    "Gae": {"granularity": "token", "gamma": 1.0, "lam": 0.95, "monte_carlo": False, "alpha": None},
    "BiLevelGae": {"gamma_turn": 0.95, "lam_turn": 0.95, "gamma": 1.0, "lam": 0.95},
    "VTrace": {"gamma": 1.0, "lam": 1.0, "rho_max": 1.0, "c_max": 1.0},  # IMPALA, arXiv 1802.01561
    "GiGPO": {"omega": 1.0, "gamma": 0.95},  # official scripts
    "StepRelative": {"gamma": 1.0},
    "MTGRPO": {"kappa": 1.0},
    "ProcessRewards": {"gamma": 1.0},
    "Normaliser": {"mean": "group", "deviation": "group", "leave_one_out": False, "unbiased": True, "epsilon": 1e-6},
    "Whiten": {"centre": True, "epsilon": 1e-8},
    "Bounded": {"limit": 5.0},
    "EntropyBonus": {"alpha": 0.4, "kappa": 2.0},  # arXiv 2506.14758
    "GPG": {"scale": 1.0},
    "MaxRL": {"epsilon": 1e-6},
    "EarlyCalls": {"delta": -2.0, "k": 0.7},
    "ByEntropy": {"floor": 0.1},
    "HardGroups": {"by": "equal", "most": 4.0},
    "PassK": {"k": 4, "scaled": True},
    "PassKBest": {"epsilon": 1e-6},
    "TokenReturns": {"gamma": 1.0},
    "KlInReward": {"coefficient": 0.001, "estimator": "k1"},
}
SHAPING: dict[str, dict[str, Any]] = {
    "length_exact": {"scale": 3000.0},  # L1, arXiv 2503.04697
    "length_max": {"scale": 500.0},
    "shorter_better": {"alpha": 2.0, "beta": 0.001},
    "tool_economy": {"smooth": 1.0},
    "uncertainty": {"scale": 1.0},  # R-Zero, arXiv 2508.05004
}

UNIT = (0.0, 1.0)
BOUNDS: dict[str, dict[str, tuple[float, float]]] = {
    "Normaliser": {"epsilon": (0, INF)},
    "Whiten": {"epsilon": (0, INF)},
    "MaxRL": {"epsilon": (0, INF)},
    "PassKBest": {"epsilon": (0, INF)},
    "GPG": {"scale": (1e-9, INF)},
    "MTGRPO": {"kappa": (0, INF)},
    "TokenReturns": {"gamma": UNIT},
    "KlInReward": {"coefficient": (0, INF)},
    "TopVariance": {"share": UNIT},
    "ResampleOnCorrect": {"keep": (2, INF)},
    "Gae": {"gamma": UNIT, "lam": UNIT, "alpha": (0, INF)},
    "BiLevelGae": {"gamma": UNIT, "lam": UNIT, "gamma_turn": UNIT, "lam_turn": UNIT},
    "EarlyCalls": {"k": UNIT},
    "ByEntropy": {"floor": (1e-9, 1)},
    "HardGroups": {"most": (1, INF)},
    "PassK": {"k": (1, INF)},
    "StepRelative": {"gamma": UNIT},
    "GiGPO": {"omega": (0, INF), "gamma": UNIT},
    "Bounded": {"limit": (0, INF)},
    "EntropyBonus": {"alpha": (0, INF), "kappa": (1e-9, INF)},
    "ProcessRewards": {"gamma": UNIT},
    "VTrace": {"gamma": UNIT, "lam": UNIT, "rho_max": (0, INF), "c_max": (0, INF)},
}


@pytest.mark.parametrize("name", PAPERS)
def test_default_constants(name: str) -> None:
    known = {field.name: field.default for field in fields(getattr(credit, name))}
    assert {key: known[key] for key in PAPERS[name]} == PAPERS[name]


@pytest.mark.parametrize("name", SHAPING)
def test_default_constants_of_shaping(name: str) -> None:
    parameters = signature(getattr(shaping, name)).parameters
    assert {key: parameters[key].default for key in SHAPING[name]} == SHAPING[name]


@pytest.mark.parametrize("name", BOUNDS)
def test_numbers_beyond_the_bounds_are_refused(name: str) -> None:
    others = {"credit": credit.grpo()} if name == "KlInReward" else {}
    check_bounds(getattr(credit, name), BOUNDS[name], **others)


def test_a_sum_has_one_weight_for_each_part() -> None:
    with pytest.raises(ValueError, match="2 parts and 1 weights"):
        credit.Sum(parts=(credit.grpo(), credit.grpo()), weights=(1.0,))


def test_shaping_adds_named_terms_to_the_final_reward() -> None:
    table = credit.columns([group([Script([Turn()], final=1.0), Script([Turn()])])])
    found = credit.shaped([], table, {"half": lambda _, c: c.return_E / 2, "one": lambda _, c: np.ones(len(c.final_E))})
    np.testing.assert_array_equal(found.final_E, [2.5, 1.0])
    np.testing.assert_array_equal(found.terms_E["half"], [0.5, 0.0])
    with pytest.raises(ValueError, match="pays a term 'half' already"):
        credit.shaped([], found, {"half": lambda _, c: c.return_E})
