"""Trust regions: numbers of the digest, and gradients against finite differences of the written formula."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sojourn.conformance.batches import batch
from sojourn.objectives import (
    Aggregation,
    Cispo,
    Clip,
    Dppo,
    GeometricMean,
    Kimi,
    LossInputs,
    PolicyGradient,
    Sapo,
    Topr,
    TrustRegion,
    Unclipped,
    Vespo,
)
from sojourn.objectives.ratio import proximal_logp, segment_mean, segment_sum, widen

F64 = torch.float64


def at(ratios: list[float], advantages: list[float]) -> LossInputs:
    """One token for each sequence, with given ratios."""
    inputs = batch([[1]] * len(ratios))
    logp = (inputs.old_logp + torch.tensor(ratios, dtype=F64).log()).detach().requires_grad_()
    return replace(inputs, logp=logp, advantage=torch.tensor(advantages, dtype=F64))


def losses(region: TrustRegion, inputs: LossInputs) -> tuple[list[float], list[bool]]:
    loss, cut = region(inputs.logp - inputs.old_logp, "token", inputs)
    return loss.tolist(), cut.tolist()


def test_clip_numbers_of_the_digest() -> None:
    inputs = at([1.5, 1.5, 0.5, 0.5, 4.0, 1.1], [1, -1, 1, -1, -1, 1])
    loss, cut = losses(Clip(low=0.2, high=0.28, dual=3.0), inputs)
    assert loss == pytest.approx([-1.28, 1.5, -0.5, 0.8, 3.0, -1.1])
    assert cut == [True, False, False, True, True, False]


def test_without_the_dual_bound_a_bad_token_can_weigh_anything() -> None:
    assert losses(Clip(), at([4.0, 1000.0], [-1, -1]))[0] == pytest.approx([4.0, 1000.0])


def test_two_sided_clip_bounds_the_ratio_of_bad_tokens_only() -> None:
    loss, _ = losses(Clip(two_sided=4.0), at([9.0, 9.0, 3.0], [-2, 1, -1]))
    assert loss == pytest.approx([8.0, -1.2, 3.0])


@pytest.mark.parametrize("field", ["dual", "two_sided"])
def test_an_upper_bound_below_the_clip_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match="must lie above 1 \\+ high"):
        Clip(high=0.3, **{field: 1.3})  # type: ignore[arg-type]


def test_sapo_numbers_of_the_digest() -> None:
    loss, _ = losses(Sapo(tau_good=1.0, tau_bad=1.05), at([1.0, 1.2, 1.2], [1, 1, -1]))
    assert loss == pytest.approx([-2.0, -2.199336, 2.104030], abs=1e-6)


def test_gmpo_and_gspo_numbers_of_the_digest() -> None:
    base = batch([[3]])
    for sign, gmpo in ((1.0, 1.0), (-1.0, 1.105171)):
        logp = (base.old_logp + torch.tensor([0.1, -0.5, 0.6], dtype=F64)).requires_grad_()
        inputs = replace(base, logp=logp, advantage=torch.full((3,), sign, dtype=F64))
        loss, _ = GeometricMean()(inputs.logp - inputs.old_logp, "sequence", inputs)
        assert (-sign * loss).tolist() == pytest.approx([gmpo] * 3, abs=1e-6)
        assert widen(inputs.logp - inputs.old_logp, inputs, "sequence").exp().tolist() == pytest.approx([1.068939] * 3, abs=1e-6)


def test_gmpo_says_where_it_clipped() -> None:
    inputs = at([2.0, 2.0, 0.5, 0.5], [1, -1, 1, -1])
    assert losses(GeometricMean(), inputs)[1] == [True, False, False, True]


def test_cispo_and_the_policy_gradient_with_weights_up_to_one() -> None:
    inputs = at([0.3, 0.8, 1.5, 6.0], [1, 1, 1, 1])
    logp = inputs.logp.tolist()
    loss, cut = losses(Cispo(low=1.0, high=0.0), inputs)
    assert [-x / lp for x, lp in zip(loss, logp, strict=True)] == pytest.approx([0.3, 0.8, 1, 1])
    assert cut == [False, False, True, True]
    assert [-x / lp for x, lp in zip(losses(Cispo(), inputs)[0], logp, strict=True)] == pytest.approx([0.3, 0.8, 1.5, 5])


def test_cispo_may_cap_its_weights_below_one() -> None:
    inputs = at([0.3, 0.8, 1.5, 6.0], [1, 1, 1, 1])
    loss, cut = losses(Cispo(low=0.6, high=-0.5), inputs)
    assert [-x / lp for x, lp in zip(loss, inputs.logp.tolist(), strict=True)] == pytest.approx([0.4, 0.5, 0.5, 0.5])
    assert cut == [True] * 4
    with pytest.raises(ValueError, match="must lie at or above 1 - low"):
        Cispo(low=0.4, high=-0.5)


def test_topr_tapers_bad_tokens_only() -> None:
    inputs = at([0.5, 2.0, 0.5, 2.0], [1, 1, -1, -1])
    loss, cut = losses(Topr(), inputs)
    weights = [-x / (lp * a) for x, lp, a in zip(loss, inputs.logp.tolist(), inputs.advantage.tolist(), strict=True)]
    assert weights == pytest.approx([1, 1, 0.5, 1]) and cut == [False, False, False, True]


def test_vespo_weights_are_one_at_ratio_one_and_fall_on_both_sides() -> None:
    inputs = at([1.0, 2.0, 0.5, 1.0, 2.0, 0.5], [1, 1, 1, -1, -1, -1])
    loss, _ = losses(Vespo(), inputs)
    weights = [-x / (lp * a) for x, lp, a in zip(loss, inputs.logp.tolist(), inputs.advantage.tolist(), strict=True)]
    e = torch.e
    assert weights == pytest.approx([1, 4 * e**-3, 0.25 * e**1.5, 1, 8 * e**-2, 0.125 * e])


def test_kimi_pulls_back_to_the_old_policy() -> None:
    inputs = at([2.0], [0.5])
    loss, _ = losses(Kimi(tau=0.2), inputs)
    log2 = torch.log(torch.tensor(2.0, dtype=F64)).item()
    assert loss == pytest.approx([-0.5 * inputs.logp.item() + 0.1 * log2**2])


def test_dppo_drops_tokens_by_probability_not_by_ratio() -> None:
    base = batch([[1]] * 4)
    behaviour = torch.tensor([0.5, 0.01, 0.5, 0.5], dtype=F64).log()
    logp = torch.tensor([0.75, 0.1, 0.25, 0.25], dtype=F64).log().requires_grad_()
    inputs = replace(base, logp=logp, behaviour_logp=behaviour, advantage=torch.tensor([1.0, 1.0, -1.0, 1.0], dtype=F64))
    loss, gone = Dppo()(logp - behaviour, "token", inputs)
    assert gone.tolist() == [True, False, True, False]
    assert loss.tolist() == pytest.approx([0, -10, 0, -0.5])
    assert Dppo(low=0.3, high=0.3)(logp - behaviour, "token", inputs)[1].tolist() == [False] * 4


def gradient(objective: PolicyGradient, inputs: LossInputs) -> Tensor:
    (grad,) = torch.autograd.grad(objective(inputs)[0], inputs.logp)
    return grad


def finite_difference(function: Callable[[Tensor], Tensor], at: Tensor, step: float = 1e-6) -> Tensor:
    """Central differences of a scalar function."""
    rows = torch.eye(len(at), dtype=F64) * step
    return torch.stack([(function(at + row) - function(at - row)) / (2 * step) for row in rows])


def sequence_ratio(inputs: LossInputs, mean: bool) -> Callable[[Tensor], Tensor]:
    segment = segment_mean if mean else segment_sum
    return lambda logp: segment(logp - inputs.old_logp, inputs.sequence).exp()


INPUTS = batch(moved=0.3, stale=0.2, seed=3)
A, OLD, TOKENS = INPUTS.advantage, INPUTS.old_logp, INPUTS.counts.tokens
START = INPUTS.logp.detach()
WRITTEN: dict[str, tuple[PolicyGradient, Callable[[Tensor], Tensor]]] = {
    # the formula of each paper, written out without a stop-gradient (where the paper has one, at the fixed point START)
    "ppo": (
        PolicyGradient(trust_region=Clip(low=0.1, high=0.3)),
        lambda lp: -torch.min((lp - OLD).exp() * A, (lp - OLD).exp().clamp(0.9, 1.3) * A).sum() / TOKENS,
    ),
    "dual": (
        PolicyGradient(trust_region=Clip(dual=1.25)),
        lambda lp: (
            torch.where(
                A < 0,
                torch.min(-torch.min((lp - OLD).exp() * A, (lp - OLD).exp().clamp(0.8, 1.2) * A), -1.25 * A),
                -torch.min((lp - OLD).exp() * A, (lp - OLD).exp().clamp(0.8, 1.2) * A),
            ).sum()
            / TOKENS
        ),
    ),
    "unclipped": (PolicyGradient(trust_region=Unclipped()), lambda lp: -((lp - OLD).exp() * A).sum() / TOKENS),
    "reinforce": (PolicyGradient(granularity="none", trust_region=Unclipped()), lambda lp: -(lp * A).sum() / TOKENS),
    "sequence": (
        PolicyGradient(granularity="sequence", trust_region=Unclipped()),
        lambda lp: -(sequence_ratio(INPUTS, True)(lp) * A).sum() / TOKENS,
    ),
    "turn": (
        PolicyGradient(granularity="turn", trust_region=Unclipped()),
        lambda lp: -(segment_mean(lp - OLD, INPUTS.turn).exp() * A).sum() / TOKENS,
    ),
    "gspo": (
        PolicyGradient(granularity="sequence", trust_region=Clip(low=0.02, high=0.05), aggregation=Aggregation(over="sequences")),
        lambda lp: (
            -sum(
                torch.min(s * a, s.clamp(0.98, 1.05) * a)
                for s, a in ((((lp - OLD)[INPUTS.sequence == i]).mean().exp(), A[INPUTS.sequence == i][0]) for i in range(4))
            )
            / 4
        ),
    ),
    "product": (
        PolicyGradient(granularity="product", trust_region=Unclipped(), aggregation=Aggregation(over="sequence_sums")),
        lambda lp: -sum(((lp - OLD)[INPUTS.sequence == i]).sum().exp() * A[INPUTS.sequence == i][0] for i in range(4)) / 4,
    ),
    "gmpo": (
        PolicyGradient(
            granularity="sequence", trust_region=GeometricMean(low=0.1, high=0.2), aggregation=Aggregation(over="sequences")
        ),
        lambda lp: (
            -sum(
                a * (a.sign() * torch.min(a.sign() * d, a.sign() * d.clamp(-0.1, 0.2))).mean().exp()
                for d, a in (((lp - OLD)[INPUTS.sequence == i], A[INPUTS.sequence == i][0]) for i in range(4))
            )
            / 4
        ),
    ),
    "cispo": (
        PolicyGradient(trust_region=Cispo(low=0.2, high=0.1)),
        lambda lp: -((START - OLD).exp().clamp(0.8, 1.1) * A * lp).sum() / TOKENS,
    ),
    "topr": (
        PolicyGradient(granularity="product", trust_region=Topr()),
        lambda lp: -(torch.where(A < 0, sequence_ratio(INPUTS, False)(START).clamp(max=1), 1.0) * A * lp).sum() / TOKENS,
    ),
    "kimi": (PolicyGradient(trust_region=Kimi(tau=0.4)), lambda lp: (-A * lp + 0.2 * (lp - OLD) ** 2).sum() / TOKENS),
    "sapo": (
        PolicyGradient(trust_region=Sapo(tau_good=1.0, tau_bad=2.0)),
        lambda lp: (
            (
                -torch.where(A > 0, 4 * torch.sigmoid((lp - OLD).exp() - 1), 2 * torch.sigmoid(2 * ((lp - OLD).exp() - 1))) * A
            ).sum()
            / TOKENS
        ),
    ),
    "behaviour": (
        PolicyGradient(trust_region=Unclipped(), centre="behaviour"),
        lambda lp: -((lp - INPUTS.behaviour_logp).exp() * A).sum() / TOKENS,
    ),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_gradients_are_those_of_the_written_formula(name: str) -> None:
    objective, formula = WRITTEN[name]
    assert gradient(objective, INPUTS).tolist() == pytest.approx(finite_difference(formula, START).tolist(), abs=1e-7)


ON_POLICY = batch(seed=5)
REINFORCE = gradient(PolicyGradient(granularity="none", trust_region=Unclipped()), ON_POLICY)
REGIONS: list[TrustRegion] = [
    Clip(), Clip(dual=3.0, two_sided=4.0), Unclipped(), Cispo(), Cispo(low=1.0, high=0.0), Topr(), Kimi(), Sapo(), GeometricMean(),
    Dppo(), Vespo(),
]  # fmt: skip


@pytest.mark.parametrize("region", REGIONS, ids=lambda region: type(region).__name__)
@pytest.mark.parametrize("granularity", ["token", "turn", "sequence", "product"])
def test_at_the_first_update_every_trust_region_has_the_gradient_of_reinforce(region: TrustRegion, granularity: str) -> None:
    objective = PolicyGradient(granularity=granularity, trust_region=region)  # type: ignore[arg-type]
    assert gradient(objective, ON_POLICY).tolist() == pytest.approx(REINFORCE.tolist())
    metrics = objective(ON_POLICY)[1]
    assert (metrics["ratio"], metrics["cut_high"], metrics["cut_low"]) == pytest.approx((1, 0, 0))


def test_a_token_form_ratio_keeps_each_tokens_own_advantage() -> None:
    inputs = batch(moved=0.3, token_advantages=True)
    grad = gradient(PolicyGradient(granularity="sequence", trust_region=Unclipped()), inputs)
    s = segment_mean((inputs.logp - inputs.old_logp).detach(), inputs.sequence).exp()
    assert grad.tolist() == pytest.approx((-s * inputs.advantage / inputs.counts.tokens).tolist())


def test_on_answers_of_one_token_gspo_is_grpo() -> None:
    inputs = batch([[1]] * 6, moved=0.4)
    token, sequence, turn = (PolicyGradient(granularity=g) for g in ("token", "sequence", "turn"))  # type: ignore[arg-type]
    assert gradient(sequence, inputs).tolist() == gradient(token, inputs).tolist() == gradient(turn, inputs).tolist()
    assert token(inputs)[0].item() == sequence(inputs)[0].item()


def test_extreme_log_ratios_stay_finite() -> None:
    inputs = replace(ON_POLICY, logp=(ON_POLICY.old_logp + 500).detach().requires_grad_())
    for granularity in ("token", "turn", "sequence", "product"):
        loss, _ = PolicyGradient(granularity=granularity, trust_region=Unclipped())(inputs)  # type: ignore[arg-type]
        assert torch.isfinite(loss) and loss.abs() > 1


def test_segments_by_id_need_not_be_contiguous() -> None:
    value, ids = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([7, 3, 7, 3])
    assert segment_sum(value, ids).tolist() == [4, 6, 4, 6]
    assert segment_mean(value, ids).tolist() == [2, 3, 2, 3]


def test_proximal_log_probability_is_interpolated_by_version() -> None:
    logp, behaviour = torch.tensor([-1.7, -1.7], requires_grad=True), torch.tensor([-2.0, -2.0])
    proximal = proximal_logp(logp, behaviour, sampled=torch.tensor([7, 10]), proximal=9, current=10)
    assert proximal[0].item() == pytest.approx(-1.8) and not proximal.requires_grad
    fresh = proximal_logp(logp, behaviour, sampled=torch.tensor([10, 10]), proximal=10, current=10)
    assert fresh.tolist() == [-2.0, -2.0]


def test_small_advantages_are_judged_by_their_sign() -> None:
    """+0.5 is good: neither a low ratio nor a probability that fell is cut for it."""
    assert losses(Clip(), at([0.5, 0.5], [0.5, -0.5]))[1] == [False, True]
    assert losses(Topr(), at([1.5, 1.5], [0.5, -0.5]))[1] == [False, True]
    assert losses(Clip(two_sided=1.5), at([3.0], [-1]))[0] == pytest.approx([1.5])
    inputs = replace(
        at([1.0, 1.0], [0.5, -0.5]),
        logp=torch.tensor([0.2, 0.2], dtype=F64).log(),
        behaviour_logp=torch.tensor([0.6, 0.6], dtype=F64).log(),
    )
    assert Dppo()(inputs.logp - inputs.behaviour_logp, "token", inputs)[1].tolist() == [False, True]
