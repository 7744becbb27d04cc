"""The constants of the papers are the defaults: a changed default is a changed algorithm."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from bounds_of_parts import INF, check_bounds

from sojourn import objectives

PAPERS: dict[str, dict[str, Any]] = {
    "PolicyGradient": {"granularity": "token", "centre": "old", "corrections": (), "kl": None, "entropy": 0.0, "focus": None},
    "Aggregation": {"over": "tokens", "length": 1024},
    "Clip": {"low": 0.2, "high": 0.2, "dual": None, "two_sided": None},  # PPO, arXiv 1707.06347
    "Dppo": {"low": 0.2, "high": 0.2},
    "GeometricMean": {"low": 0.4, "high": 0.4},  # GMPO clips at e^+-0.4, arXiv 2507.20673
    "Sapo": {"tau_good": 1.0, "tau_bad": 1.05},  # arXiv 2511.20347
    "Cispo": {"low": 1.0, "high": 4.0},
    "Kimi": {"tau": 0.1},
    "ClipCov": {"share": 2e-4, "low": 1.0, "high": 5.0, "seed": 0},  # arXiv 2505.22617
    "KlCov": {"share": 2e-4, "coefficient": 1.0},  # arXiv 2505.22617
    "TopEntropy": {"share": 0.2},  # a fifth of the tokens, arXiv 2506.01939
    "Importance": {"low": 0.0, "high": 2.0},
    "SecondMoment": {"tau": 0.04},  # M2PO
    "NegativeSequenceMask": {"delta": 0.5},
    "Kl": {"coefficient": 0.001, "unbiased": False},
    "Dpo": {"beta": 0.1, "smoothing": 0.0, "nll": 0.0, "by_length": False, "compares": "episodes"},
    "Ipo": {"beta": 0.1, "by_length": False},
    "SimPo": {"beta": 2.5, "gamma": 1.375},  # gamma 0.55 beta, arXiv 2405.14734
    "BetaDpo": {"beta": 0.1, "a": 0.6, "m0": 0.0, "share": 0.8},
    "Mpo": {"beta": 0.1, "preference": 0.8, "quality": 0.2, "likelihood": 1.0, "shift": 0.0},
    "Perception": {"gamma": 0.01, "eta": 0.03},
    "Orpo": {"lam": 0.1},  # arXiv 2403.07691
    "Kto": {"beta": 0.1, "good": 1.0, "bad": 1.0},  # arXiv 2402.01306
    "Supervised": {"weight": "plain", "positive_only": False},
    "AdvantageWeighted": {"beta": 1.0, "limit": 20.0},  # official code of AWR
    "ValueLoss": {"scale": 1.0, "warm_up": 0},
    "Reference": {"every": 0, "rate": 1.0, "new_optimizer": False},
    "KlTarget": {"horizon": 10000},  # Ziegler et al., arXiv 1909.08593
}

UP, UNIT = (0.0, INF), (0.0, 1.0)
BOUNDS: dict[str, dict[str, tuple[float, float]]] = {
    "Aggregation": {"length": (1, INF)},
    "ClipCov": {"share": UNIT},
    "KlCov": {"share": UNIT, "coefficient": UP},
    "TopEntropy": {"share": UNIT},
    "KlTarget": {"nats": (1e-9, INF), "horizon": (1, INF)},
    "EntropyTarget": {"nats": UP, "step": UP},
    "Reference": {"rate": UNIT},
    "NegativeSequenceMask": {"delta": UP},
    "SecondMoment": {"tau": (1e-9, INF)},
    "ValueLoss": {"clip": UP, "scale": (1e-9, INF), "warm_up": (0, INF)},
    "Kl": {"coefficient": UP},
    "Kto": {"beta": UP, "good": UP, "bad": UP},
    "PolicyGradient": {"entropy": UP},
    "Dpo": {"beta": UP, "smoothing": (0, 0.5), "nll": UP},
    "Ipo": {"beta": (1e-9, INF)},
    "SimPo": {"beta": UP, "gamma": UP},
    "BetaDpo": {"beta": UP, "a": UP, "share": UNIT},
    "Mpo": {"beta": UP, "preference": UP, "quality": UP, "likelihood": UP},
    "Perception": {"gamma": UP, "eta": UP},
    "Orpo": {"lam": UP},
    "Sapo": {"tau_good": (1e-9, INF), "tau_bad": (1e-9, INF)},
    "GeometricMean": {"low": UP, "high": UP},
    "Dppo": {"low": UNIT, "high": UNIT},
    "AdvantageWeighted": {"beta": (1e-9, INF), "limit": UP},
    "Clip": {"low": UP, "high": UP},
    "Cispo": {"low": UNIT, "high": UP},
    "Kimi": {"tau": UP},
}


@pytest.mark.parametrize("name", PAPERS)
def test_default_constants(name: str) -> None:
    known = {field.name: field.default for field in fields(getattr(objectives, name))}
    assert {key: known[key] for key in PAPERS[name]} == PAPERS[name]


@pytest.mark.parametrize("name", BOUNDS)
def test_numbers_beyond_the_bounds_are_refused(name: str) -> None:
    check_bounds(getattr(objectives, name), BOUNDS[name])


def test_a_mix_has_one_weight_for_each_part() -> None:
    with pytest.raises(ValueError, match="1 parts and 2 weights"):
        objectives.Mix(parts=(objectives.Supervised(),), weights=(1.0, 1.0))


def test_who_reads_the_policy_at_the_start_of_the_update() -> None:
    """Only for these is it scored."""
    for part in (objectives.Importance(), objectives.SecondMoment(), objectives.Kto()):
        assert "old_logp" in part.reads
    assert not objectives.NegativeSequenceMask().reads
