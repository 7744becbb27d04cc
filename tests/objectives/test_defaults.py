"""The constants of the papers are the defaults: a changed default is a changed algorithm."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

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
    "Orpo": {"lam": 0.1},  # arXiv 2403.07691
    "Kto": {"beta": 0.1, "good": 1.0, "bad": 1.0},  # arXiv 2402.01306
    "Supervised": {"weight": "plain", "positive_only": False},
    "AdvantageWeighted": {"beta": 1.0, "limit": 20.0},  # official code of AWR
    "ValueLoss": {"warm_up": 0},
    "Reference": {"every": 0, "rate": 1.0},
}


@pytest.mark.parametrize("name", PAPERS)
def test_default_constants(name: str) -> None:
    known = {field.name: field.default for field in fields(getattr(objectives, name))}
    assert {key: known[key] for key in PAPERS[name]} == PAPERS[name]
