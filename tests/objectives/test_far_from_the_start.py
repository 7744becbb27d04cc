"""Log-ratios of any size, and answers that are certain: values and slopes are those of the formula, and finite."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log

import numpy as np
import pytest
import torch
from torch import Tensor

from sojourn.conformance.batches import batch
from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.credit import Columns, KlInReward, TokenReturns, VTrace, columns
from sojourn.objectives import (
    AdvantageWeighted,
    Clip,
    Dpo,
    Dppo,
    GeometricMean,
    Importance,
    Kimi,
    Kl,
    KlCov,
    Kto,
    LossInputs,
    Orpo,
    PolicyGradient,
    Sapo,
    Topr,
    Unclipped,
    Vespo,
)
from sojourn.objectives.kl import estimate

F64 = torch.float64


def moved(nats: float, turns: tuple[tuple[int, ...], ...] = ((1,), (1,)), dtype: torch.dtype = F64) -> LossInputs:
    """Every token `nats` likelier than at the start; one good sequence, one bad."""
    inputs = batch(turns)
    old = inputs.old_logp.to(dtype)
    sign = torch.where(inputs.sequence == 0, 1.0, -1.0).to(dtype)
    logp = (old + nats).detach().requires_grad_()
    fixed = {"old_logp": old, "behaviour_logp": old, "advantage": sign, "entropy": None}
    return replace(inputs, logp=logp, ref_logp=old, **fixed)  # type: ignore[arg-type]


def slope(loss: Tensor, inputs: LossInputs) -> list[float]:
    return torch.autograd.grad(loss, inputs.logp)[0].tolist()  # type: ignore[no-any-return]


def test_kimi_pulls_a_whole_answer_back_however_far_it_went() -> None:
    """0.41 nats over 50 tokens are 20.5: the slope of tau / 2 (sum of l)^2 is 0.1 x 20.5 at each of them."""
    inputs = replace(moved(0.41, ((50,),)), advantage=torch.zeros(50, dtype=F64))
    loss, _ = Kimi(tau=0.1)(inputs.logp - inputs.old_logp, "product", inputs)
    assert loss.tolist() == pytest.approx([0.05 * 20.5**2] * 50)
    assert slope(loss.sum(), inputs) == pytest.approx([2.05] * 50)


@pytest.mark.parametrize(
    ("estimator", "at", "value", "rise"),
    [
        ("k1", 25.0, 25.0, 1.0),
        ("k2", 25.0, 312.5, 25.0),
        ("k3", 25.0, 24.0, 1.0),
        ("k3", -25.0, exp(25) - 26, 1 - exp(25)),
        ("abs", 25.0, 25.0, 1.0),
        ("abs", -25.0, 25.0, -1.0),
    ],
)
def test_a_divergence_has_its_value_and_its_slope_at_any_distance(estimator: str, at: float, value: float, rise: float) -> None:
    logp = torch.tensor([at], dtype=F64, requires_grad=True)
    found = estimate(logp, torch.zeros(1, dtype=F64), estimator)  # type: ignore[arg-type]
    assert found.item() == pytest.approx(value)
    assert torch.autograd.grad(found.sum(), logp)[0].item() == pytest.approx(rise)


@pytest.mark.parametrize("granularity", ["token", "turn", "sequence", "product"])
def test_a_ratio_is_right_at_thirty_nats(granularity: str) -> None:
    inputs = moved(30.0)
    loss, _ = PolicyGradient(granularity=granularity, trust_region=Unclipped())(inputs)  # type: ignore[arg-type]
    assert slope(loss, inputs) == pytest.approx([-exp(30) / 2, exp(30) / 2])


def test_an_off_policy_weight_is_right_at_thirty_nats() -> None:
    inputs = moved(0.0)
    inputs = replace(inputs, behaviour_logp=inputs.old_logp - 30.0)
    assert Importance(high=float("inf"))(inputs).tolist() == pytest.approx([exp(30)] * 2)


REGIONS = [Clip(), Clip(dual=3.0, two_sided=4.0), Unclipped(), Kimi(), Topr(), Vespo(), Sapo(), GeometricMean(), Dppo(), KlCov()]


@pytest.mark.parametrize("nats", [-1e4, -60.0, 60.0, 1e4])
@pytest.mark.parametrize("granularity", ["token", "sequence", "product"])
@pytest.mark.parametrize("region", REGIONS, ids=lambda region: type(region).__name__)
def test_nothing_overflows_in_float32(region: object, granularity: str, nats: float) -> None:
    inputs = moved(nats, ((3,), (2,)), torch.float32)
    objective = PolicyGradient(granularity=granularity, trust_region=region, kl=Kl(unbiased=True))  # type: ignore[arg-type]
    loss, metrics = objective(inputs)
    gradient = torch.tensor(slope(loss, inputs))
    assert torch.isfinite(loss) and torch.isfinite(gradient).all() and torch.isfinite(gradient.square().sum())
    assert all(np.isfinite(value) for value in metrics.values())


def test_a_ratio_beyond_float32_keeps_a_slope() -> None:
    inputs = moved(100.0, dtype=torch.float32)
    first, second = slope(PolicyGradient(trust_region=Unclipped())(inputs)[0], inputs)
    assert first < -1e15 and second > 1e15


def test_weights_of_imitation_end_at_their_limit() -> None:
    inputs = replace(moved(0.0, dtype=torch.float32), advantage=torch.tensor([500.0, -500.0]))
    assert slope(AdvantageWeighted(limit=20.0)(inputs)[0], inputs) == [-10.0, 0.0]
    assert np.isfinite(slope(AdvantageWeighted(limit=float("inf"))(inputs)[0], inputs)).all()


def apart(nats: float) -> Columns:
    c = columns([group([Script([Turn(2)], final=1.0)])])
    assert c.logp_T is not None
    away = np.array([nats, 0.0])
    return replace(c, ref_logp_T=c.logp_T - away, policy_logp_T=c.logp_T + away * 0, value_T=np.zeros(2))


def test_a_divergence_in_the_reward_does_not_overflow() -> None:
    for estimator, paid in (("k1", 25.0), ("k2", 312.5), ("k3", 24.0), ("abs", 25.0)):
        credit = KlInReward(credit=TokenReturns(), coefficient=1.0, estimator=estimator)  # type: ignore[arg-type]
        assert credit(apart(25.0)) == pytest.approx([1 - paid, 1.0])
    far = KlInReward(credit=TokenReturns(), coefficient=1.0, estimator="k3")(apart(-1e4))
    assert np.isfinite(far.astype(np.float32) ** 2).all()


def test_v_trace_without_caps_does_not_overflow() -> None:
    c = apart(0.0)
    assert c.logp_T is not None
    far = replace(c, policy_logp_T=c.logp_T + 1e4)
    assert np.isfinite(VTrace(rho_max=float("inf"), c_max=1.0)(far)).all()


def certain(good: float, bad: float, dtype: torch.dtype = F64) -> LossInputs:
    logp = torch.tensor([good, bad], dtype=dtype, requires_grad=True)
    return replace(batch([[1], [1]]), logp=logp, ref_logp=logp.detach())


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_orpo_of_a_certain_answer_is_its_limit(dtype: torch.dtype) -> None:
    """The loss is log(1 + odds_l / odds_w): 0 at p_w = 1, with slope -odds_l.  Rejected: p_l = 1/4, odds 1/3."""
    inputs = certain(0.0, log(0.25), dtype)
    loss, metrics = Orpo(lam=1.0)(inputs)
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    good, bad = slope(loss, inputs)
    assert good == pytest.approx(-1 - 1 / 3, rel=1e-4) and bad == pytest.approx(0.0, abs=1e-6)
    assert np.isfinite(metrics["margin"]) and metrics["right"] == 1.0


@pytest.mark.parametrize(("good", "bad"), [(0.0, 0.0), (-0.5, 0.0), (-1e-30, -1e-3), (-200.0, -0.1), (-0.1, -200.0)])
@pytest.mark.parametrize("objective", [Orpo(), Dpo(beta=1.0), Kto()], ids=lambda each: type(each).__name__)
def test_preferences_of_certain_answers_are_finite(objective: object, good: float, bad: float) -> None:
    inputs = certain(good, bad, torch.float32)
    inputs = replace(inputs, old_logp=inputs.logp.detach(), ref_logp=torch.tensor([-1e4, 1e4]))
    loss, metrics = objective(inputs)  # type: ignore[operator]
    assert torch.isfinite(loss) and np.isfinite(slope(loss, inputs)).all()
    assert all(np.isfinite(value) for value in metrics.values())


def test_a_batch_without_pairs_has_a_loss_of_nothing() -> None:
    inputs = replace(batch([[1]]), pairs=torch.zeros((0, 2), dtype=torch.int64))
    loss, metrics = Orpo()(inputs)
    assert inputs.counts.pairs == 0 and loss.item() == 0.0 and set(metrics.values()) == {0.0}
