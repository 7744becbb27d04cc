"""Numbers by hand for the losses of the rest of the survey's table."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log

import pytest
import torch

from sojourn.conformance.batches import batch
from sojourn.objectives import BetaDpo, Dpo, LossInputs, Mix, Mpo, Orpo, Perception, PolicyGradient
from sojourn.objectives.inputs import compares
from sojourn.objectives.presets import explain, preset

F64 = torch.float64
NAMES = (
    "pf_ppo", "psgpo", "beta_dpo", "lcpo", "posterior_grpo", "step_grpo", "srpo", "greso", "ghpo", "skywork_r1v2", "aspo", "edge_grpo",
    "dars", "papo",
)  # fmt: skip


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def pairs(margins: list[float]) -> LossInputs:
    """One pair for each margin: D_w = half of it, D_l = minus half; single tokens, the policy not yet moved."""
    inputs = batch([[1]] * (2 * len(margins)))
    ahead = torch.tensor([sign * margin / 2 for margin in margins for sign in (1, -1)], dtype=F64)
    return replace(inputs, ref_logp=inputs.old_logp - ahead, logp=inputs.old_logp.clone().requires_grad_())


def test_beta_dpo_follows_the_margins_and_leaves_the_strangest_pair_out() -> None:
    """Margins 0, 1, 2, 3 and 14, mean 4: 14 goes.  The others' mean is 1.5, so beta is 0.1 (1 + 0.6 x 1.5) = 0.19."""
    inputs = pairs([0.0, 1.0, 14.0, 2.0, 3.0])
    objective = BetaDpo()
    ruled = objective.prepare(inputs)
    assert ruled.pairs is not None and ruled.pairs.tolist() == [[0, 1], [2, 3], [6, 7], [8, 9]] and ruled.counts.pairs == 4
    assert ruled.estimate is not None and ruled.estimate.item() == pytest.approx(0.19)
    loss, metrics = objective(inputs)
    assert loss.item() == pytest.approx(-sum(log(sigmoid(0.19 * m)) for m in (0, 1, 2, 3)) / 4)
    assert metrics["margin"] == pytest.approx(0.19 * 1.5)
    slope = torch.autograd.grad(loss, inputs.logp)[0]
    assert not slope[4:6].any() and slope[2].item() == pytest.approx(-0.19 * sigmoid(-0.19) / 4)


def test_beta_dpo_is_dpo_where_it_follows_nothing_and_its_beta_stays_positive() -> None:
    inputs = batch(moved=0.2)
    assert BetaDpo(a=0.0, share=1.0)(inputs)[0].item() == pytest.approx(Dpo()(inputs)[0].item())
    estimate = BetaDpo(m0=1000.0).prepare(inputs).estimate
    assert estimate is not None and estimate.item() == pytest.approx(1e-3)
    none = replace(batch([[1]]), pairs=torch.zeros((0, 2), dtype=torch.int64))
    assert BetaDpo()(none)[0].item() == 0.0


def test_beta_dpo_is_decided_before_the_batch_is_cut() -> None:
    whole = BetaDpo().prepare(pairs([0.0, 1.0, 14.0, 2.0, 3.0]))
    parts = [BetaDpo()(whole.take(whole.sequence // 2 == number))[0].item() for number in range(5)]
    assert sum(parts) == pytest.approx(BetaDpo()(whole)[0].item()) and parts[2] == 0.0


def test_mpo_is_preference_quality_and_likelihood() -> None:
    """D_w = 0.5, D_l = -0.3, beta 0.1, shift 0.2, and a chosen answer of two tokens at -1 each."""
    inputs = batch([[2], [1]])
    inputs = replace(
        inputs,
        logp=torch.tensor([-1.0, -1.0, -2.0], dtype=F64, requires_grad=True),
        ref_logp=torch.tensor([-1.3, -1.2, -1.7], dtype=F64),
    )
    expected = -0.8 * log(sigmoid(0.08)) - 0.2 * (log(sigmoid(0.05 - 0.2)) + log(sigmoid(0.2 + 0.03))) + 1.0
    assert Mpo(shift=0.2)(inputs)[0].item() == pytest.approx(expected)
    assert Mpo(preference=1.0, quality=0.0, likelihood=0.5)(inputs)[0].item() == pytest.approx(Dpo(nll=0.5)(inputs)[0].item())


def test_skywork_r1v2_adds_mpo_to_grpo() -> None:
    inputs, hybrid = batch(moved=0.1), preset("skywork_r1v2").objective
    grpo = preset("grpo").objective
    assert hybrid(inputs)[0].item() == pytest.approx(grpo(inputs)[0].item() + Mpo()(inputs)[0].item())
    assert compares(hybrid) == "episodes"


def test_papo_pushes_away_from_what_is_said_without_looking() -> None:
    """One token of two: l = log 2 and 0, so k3 = 1/2 - 1 + log 2 and 0; entropies 0.4, 0.6 and 1.0, 0.2."""
    logp = torch.tensor([-1.0, -2.0], dtype=F64, requires_grad=True)
    blind = torch.tensor([-1.0 - log(2), -2.0], dtype=F64)
    inputs = replace(
        batch([[1], [1]]),
        logp=logp,
        blind_logp=blind,
        entropy=torch.tensor([0.4, 0.6], dtype=F64),
        blind_entropy=torch.tensor([1.0, 0.2], dtype=F64),
    )
    loss, metrics = Perception(gamma=0.5, eta=0.25)(inputs)
    divergence = (log(2) - 0.5) / 2
    assert loss.item() == pytest.approx(0.25 * 2.2 / 2 - 0.5 * divergence) and metrics["perception"] == pytest.approx(divergence)
    assert torch.autograd.grad(loss, logp)[0].tolist() == pytest.approx([-0.5 * 0.5 / 2, 0.0])
    with pytest.raises(ValueError, match="behind a corrupted observation"):
        Perception()(replace(inputs, blind_logp=None))


def test_lcpo_balances_likelihood_and_odds() -> None:
    """Chosen at probability 1/2 (odds 1), rejected at 1/4 (odds 1/3): -log(1/2) - log s(log 3)."""
    inputs = replace(batch([[1], [1]]), logp=torch.tensor([0.5, 0.25], dtype=F64).log().requires_grad_())
    objective = preset("lcpo").objective
    assert objective(inputs)[0].item() == pytest.approx(log(2) - log(3 / 4))
    assert isinstance(objective, Orpo) and compares(objective) == "lengths"


def test_greso_and_srpo_are_their_curricula_beside_known_losses() -> None:
    assert preset("greso").objective == preset("dapo").objective and preset("srpo").objective == preset("lite_ppo").objective
    assert isinstance(preset("papo").objective, Mix) and isinstance(preset("ghpo").objective, PolicyGradient)


@pytest.mark.parametrize("name", NAMES)
def test_each_explains_itself_and_says_what_a_recipe_brings(name: str) -> None:
    text = explain(name)
    assert text.startswith(f"{name}: ") and "note      " in text and "constant  " in text
