"""Supervised objectives, mixtures, the critic's loss, controllers."""

from dataclasses import replace
from math import exp

import pytest
import torch

from sojourn.conformance.batches import batch
from sojourn.objectives import (
    AdvantageWeighted,
    Aggregation,
    CriticInputs,
    EntropyTarget,
    KlTarget,
    Kto,
    Mix,
    PolicyGradient,
    Reference,
    Supervised,
    Unclipped,
    ValueLoss,
)

F64 = torch.float64
INPUTS = replace(
    batch([[2], [1]]),
    logp=torch.tensor([0.5, 0.25, 0.8], dtype=F64).log().requires_grad_(),
    advantage=torch.tensor([1.0, 1.0, -2.0], dtype=F64),
)


def grad(objective: object) -> list[float]:
    return torch.autograd.grad(objective(INPUTS)[0], INPUTS.logp)[0].tolist()  # type: ignore[operator]


def test_weights_of_supervised_tokens() -> None:
    assert grad(Supervised()) == pytest.approx([-1 / 3] * 3)
    assert grad(Supervised(weight="probability")) == pytest.approx([-0.5 / 3, -0.25 / 3, -0.8 / 3])
    assert grad(Supervised(weight="uncertainty")) == pytest.approx([-0.25 / 3, -0.1875 / 3, -0.16 / 3])
    assert grad(Supervised(positive_only=True)) == pytest.approx([-1 / 3, -1 / 3, 0])
    assert grad(Supervised(aggregation=Aggregation(over="sequences"))) == pytest.approx([-0.25, -0.25, -0.5])


def test_supervised_reports_the_plain_likelihood() -> None:
    loss, metrics = Supervised(weight="probability")(INPUTS)
    assert metrics["nll"] == pytest.approx(-INPUTS.logp.mean().item())
    assert metrics["loss"] == pytest.approx(loss.item()) != metrics["nll"]
    assert Supervised()(INPUTS)[0].item() == pytest.approx(metrics["nll"])


def test_better_actions_are_imitated_more() -> None:
    assert grad(AdvantageWeighted(beta=2.0)) == pytest.approx([-exp(0.5) / 3, -exp(0.5) / 3, -exp(-1) / 3])
    assert grad(AdvantageWeighted(beta=0.1, limit=5.0)) == pytest.approx([-5 / 3, -5 / 3, -exp(-20) / 3])


def test_a_mixture_adds_losses_and_gradients() -> None:
    parts = (PolicyGradient(granularity="none", trust_region=Unclipped()), Supervised(positive_only=True))
    mix = Mix(parts=parts, weights=(0.9, 0.1))
    expected = [0.9 * a + 0.1 * b for a, b in zip(grad(parts[0]), grad(parts[1]), strict=True)]
    assert grad(mix) == pytest.approx(expected)
    loss, metrics = mix(INPUTS)
    assert metrics["loss"] == pytest.approx(loss.item()) and {"ratio", "nll"} <= metrics.keys()


def test_a_mixture_prepares_each_part_on_the_whole_batch() -> None:
    from sojourn.objectives import SecondMoment

    whole = batch(stale=0.4, seed=8)
    part = PolicyGradient(trust_region=Unclipped(), corrections=(SecondMoment(tau=0.02),))
    mix = Mix(parts=(part, Supervised()), weights=(1.0, 0.0))
    prepared = mix.prepare(whole)
    pieces = [mix(prepared.take(whole.sequence == k))[0].item() for k in range(4)]
    assert sum(pieces) == pytest.approx(part(whole)[0].item())


def critic(value: list[float], old: list[float], target: list[float], tokens: int | None = None) -> CriticInputs:
    tensors = [torch.tensor(x, dtype=F64) for x in (value, old, target)]
    return CriticInputs(value=tensors[0].requires_grad_(), old_value=tensors[1], target=tensors[2], tokens=tokens or len(value))


def test_the_value_loss_is_half_the_squared_error() -> None:
    loss, metrics = ValueLoss()(critic([1.0, 3.0], [0.0, 0.0], [2.0, 0.0]))
    assert loss.item() == pytest.approx(0.5 * (1 + 9) / 2)
    assert metrics == pytest.approx({"value_loss": 2.5, "value_error": 2.0})


def test_the_clipped_value_loss_takes_the_worse_of_the_two() -> None:
    inputs = critic([1.0, 0.1, -1.0], [0.0, 0.0, 0.0], [2.0, 2.0, 0.0])
    loss, _ = ValueLoss(clip=0.2)(inputs)
    assert loss.item() == pytest.approx(0.5 * (1.8**2 + 1.9**2 + 1.0) / 3)
    (gradient,) = torch.autograd.grad(loss, inputs.value)
    assert gradient.tolist() == pytest.approx([0, -1.9 / 3, -1 / 3])


def test_micro_batches_of_the_critic_add_up() -> None:
    whole = ValueLoss(clip=0.5)(critic([1.0, 3.0, 2.0], [0.0] * 3, [2.0, 0.0, 1.0]))
    first = ValueLoss(clip=0.5)(critic([1.0], [0.0], [2.0], tokens=3))
    rest = ValueLoss(clip=0.5)(critic([3.0, 2.0], [0.0] * 2, [0.0, 1.0], tokens=3))
    assert first[0].item() + rest[0].item() == pytest.approx(whole[0].item())
    assert first[1]["value_error"] + rest[1]["value_error"] == pytest.approx(whole[1]["value_error"])


def test_the_unit_of_returns_does_not_matter_where_its_scale_is_given() -> None:
    """All numbers fifty times as large, the clip too: the same loss, and an error in units of return."""
    small, large = ([1.0, 0.1, -1.0], [0.0, 0.2, 0.0], [2.0, 2.0, 0.0]), 50.0
    expected, metrics = ValueLoss(clip=0.2)(critic(*small))
    loss, scaled = ValueLoss(clip=0.2 * large, scale=large)(critic(*([large * x for x in row] for row in small)))
    assert loss.item() == pytest.approx(expected.item())
    assert scaled["value_error"] == pytest.approx(large * metrics["value_error"])


def test_the_policy_waits_for_the_critic() -> None:
    assert [ValueLoss(warm_up=2).policy_learns(k) for k in range(4)] == [False, False, True, True]


def test_the_kl_coefficient_follows_its_target_within_bounds() -> None:
    target = KlTarget(nats=6.0, horizon=1000)
    found = [target.next(0.1, kl, samples=100) for kl in (6.6, 600.0, 0.0)]
    assert found == pytest.approx([0.1 * 1.01, 0.1 * 1.02, 0.1 * 0.98])


def test_the_entropy_coefficient_follows_its_target_and_stays_positive() -> None:
    target = EntropyTarget(nats=0.2)
    assert [target.next(0.01, entropy) for entropy in (0.1, 0.2)] == pytest.approx([0.015, 0.005])
    assert target.next(0.001, 0.3) == 0.0
    assert [target.applied(0.01, entropy) for entropy in (0.1, 0.2, 0.3)] == [0.01, 0.01, 0.0]


def test_references_are_renewed_when_due() -> None:
    assert [Reference(kind="reset", every=3).due(k) for k in range(1, 7)] == [False, False, True, False, False, True]
    assert not Reference(kind="frozen", every=1).due(1) and Reference(kind="average", every=1).due(1)
    old, new = [torch.tensor([0.0, 2.0])], [torch.tensor([1.0, 1.0], requires_grad=True)]
    Reference(kind="average", every=1, rate=0.25).renew(old, new)
    assert old[0].tolist() == [0.25, 1.75] and not old[0].requires_grad
    Reference(kind="reset", every=1).renew(old, new)
    assert old[0].tolist() == [1.0, 1.0]


def test_the_clip_holds_a_value_near_its_old_one() -> None:
    """Old 1, moved to 2 and to -1, clip 0.5: near is 1.5 and 0.5; targets 3 and 2."""
    loss, _ = ValueLoss(clip=0.5)(critic([2.0, -1.0], [1.0, 1.0], [3.0, 2.0]))
    assert loss.item() == pytest.approx(0.5 * (1.5**2 + 3.0**2) / 2)
    loss, _ = ValueLoss(clip=0.5)(critic([-1.0], [1.0], [-3.0]))
    assert loss.item() == pytest.approx(0.5 * 3.5**2)


def test_a_reference_may_be_renewed_after_every_update_and_only_as_a_whole() -> None:
    assert Reference(kind="reset", every=1).due(1)
    with pytest.raises(ValueError, match="zip"):
        Reference(kind="reset", every=1).renew([torch.zeros(1), torch.zeros(1)], [torch.ones(1)])


def test_a_mixture_takes_one_set_of_marks() -> None:
    policy, inner = PolicyGradient(), Mix(parts=(PolicyGradient(),), weights=(1.0,))
    both = "PolicyGradient and PolicyGradient"
    for parts, named in (
        ((policy, policy), both),
        ((policy, policy, inner), both),
        ((Kto(), Supervised(), inner), "Kto and Mix"),
    ):
        with pytest.raises(ValueError, match=f"Mix: {named} both .* keep one of them"):
            Mix(parts=parts, weights=(1.0,) * len(parts))
    assert not Mix(parts=(Supervised(),), weights=(1.0,)).prepare(INPUTS).prepared
