"""Aggregation, corrections, KL, entropy, batch rules: the other parts of the tuple."""

from dataclasses import replace
from math import exp

import pytest
import torch

from sojourn.conformance.batches import batch
from sojourn.objectives import (
    Aggregation,
    Clip,
    ClipCov,
    Denominators,
    Importance,
    Kl,
    KlCov,
    LossInputs,
    NegativeSequenceMask,
    PolicyGradient,
    SecondMoment,
    TopEntropy,
    Unclipped,
)
from sojourn.objectives.batch_rules import covariance
from sojourn.objectives.kl import estimate

F64 = torch.float64
OVERS = ["tokens", "sequences", "sequence_sums", "constant", "prompts"]
SUM = PolicyGradient(granularity="none", trust_region=Unclipped())


def grad(objective: PolicyGradient, inputs: LossInputs) -> torch.Tensor:
    return torch.autograd.grad(objective(inputs)[0], inputs.logp)[0]


@pytest.mark.parametrize(("over", "expected"), zip(OVERS, [10 / 6, 1.5, 5.0, 0.625, (1 + 2) / 2], strict=True))
def test_aggregation_numbers_of_the_digest(over: str, expected: float) -> None:
    """Losses [1, 1] and [2, 2, 2, 2]; the constant is 8; each row is its own prompt."""
    inputs = batch([[2], [4]], prompts=[0, 1])
    loss = torch.tensor([1.0, 1, 2, 2, 2, 2], dtype=F64)
    weights = Aggregation(over=over, length=8).weights(inputs)  # type: ignore[arg-type]
    assert (weights * loss).sum().item() == pytest.approx(expected)


def test_prompt_mean_counts_every_prompt_the_same() -> None:
    inputs = batch([[2], [4], [1]], prompts=[0, 0, 1])
    assert Aggregation(over="prompts").weights(inputs).tolist() == pytest.approx([1 / 12] * 6 + [1 / 2])


def test_sequences_without_tokens_are_not_counted() -> None:
    counts = Denominators.count(torch.tensor([0, 0, 3]), torch.tensor([1, 1, 4]))
    assert (counts.tokens, counts.sequences, counts.prompts) == (3, 2, 2)


@pytest.mark.parametrize("over", OVERS)
@pytest.mark.parametrize("granularity", ["token", "turn", "sequence", "product"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_micro_batches_add_up_to_the_batch(over: str, granularity: str, size: int) -> None:
    whole = batch(moved=0.3, stale=0.1, seed=2)
    corrections = (Importance(action="mask", low=0.5, high=1.5, granularity="sequence"), Importance())
    objective = PolicyGradient(
        granularity=granularity,  # type: ignore[arg-type]
        corrections=corrections,
        kl=Kl(coefficient=0.1),
        aggregation=Aggregation(over=over),  # type: ignore[arg-type]
        entropy=0.05,
    )
    loss, metrics = objective(whole)
    parts = [objective(whole.take((whole.sequence // size) == k)) for k in range(4) if ((whole.sequence // size) == k).any()]
    assert sum(part.item() for part, _ in parts) == pytest.approx(loss.item())
    for name, value in metrics.items():
        assert sum(part[name] for _, part in parts) == pytest.approx(value), name
    summed = torch.autograd.grad(sum(part for part, _ in parts), whole.logp)[0]
    assert summed.tolist() == pytest.approx(grad(objective, whole).tolist())


def test_the_order_of_tokens_does_not_matter() -> None:
    whole = batch(moved=0.3)
    order = torch.randperm(whole.counts.tokens, generator=torch.Generator().manual_seed(1))
    for granularity in ("token", "turn", "sequence"):
        objective = PolicyGradient(granularity=granularity)  # type: ignore[arg-type]
        assert objective(whole.take(order))[0].item() == pytest.approx(objective(whole)[0].item())


def rho(values: list[float]) -> LossInputs:
    inputs = batch([[1]] * len(values))
    return replace(inputs, behaviour_logp=inputs.old_logp - torch.tensor(values, dtype=F64).log())


def test_off_policy_weights_of_the_digest() -> None:
    inputs = rho([0.3, 0.8, 1.5, 6.0])
    assert Importance(high=2.0)(inputs).tolist() == pytest.approx([0.3, 0.8, 1.5, 2])
    assert Importance(action="both", low=0.5, high=5.0)(inputs).tolist() == pytest.approx([0, 0.8, 1.5, 0])
    assert Importance(action="mask", low=0.5, high=5.0)(inputs).tolist() == [0, 1, 1, 0]
    assert Importance(low=0.0, high=1.0)(inputs).tolist() == pytest.approx([0.3, 0.8, 1, 1])
    assert Importance(low=0.5, high=2.0)(inputs).tolist() == pytest.approx([0.5, 0.8, 1.5, 2])


def test_levels_of_the_off_policy_weight() -> None:
    inputs = batch([[2], [1]])
    inputs = replace(inputs, behaviour_logp=inputs.old_logp - torch.tensor([4.0, 0.25, 3.0], dtype=F64).log())
    wide = {"low": 0.0, "high": 99.0}
    assert Importance(granularity="sequence", **wide)(inputs).tolist() == pytest.approx([1, 1, 3])  # type: ignore[arg-type]
    assert Importance(granularity="product", **wide)(inputs).tolist() == pytest.approx([1, 1, 3])  # type: ignore[arg-type]
    inputs = replace(inputs, behaviour_logp=inputs.old_logp - torch.tensor([4.0, 1.0, 3.0], dtype=F64).log())
    assert Importance(granularity="sequence", **wide)(inputs).tolist() == pytest.approx([2, 2, 3])  # type: ignore[arg-type]
    assert Importance(granularity="product", **wide)(inputs).tolist() == pytest.approx([4, 4, 3])  # type: ignore[arg-type]


def test_off_policy_weights_multiply_the_gradient_and_carry_none() -> None:
    inputs = batch(stale=0.5)
    weight = (inputs.old_logp - inputs.behaviour_logp).exp().clamp(max=1.2)
    plain = PolicyGradient(trust_region=Unclipped())
    weighed = PolicyGradient(trust_region=Unclipped(), corrections=(Importance(high=1.2),))
    assert grad(weighed, inputs).tolist() == pytest.approx((grad(plain, inputs) * weight).tolist())


def test_without_staleness_the_decoupled_objective_is_ppo() -> None:
    inputs = batch(moved=0.3)
    for correction in (Importance(), Importance(action="both", low=0.5), Importance(action="mask", low=0.5), SecondMoment()):
        decoupled = PolicyGradient(corrections=(correction,))
        assert grad(decoupled, inputs).tolist() == grad(PolicyGradient(), inputs).tolist()
    coupled = PolicyGradient(centre="behaviour")
    assert grad(coupled, inputs).tolist() == grad(PolicyGradient(), inputs).tolist()


def test_rejected_tokens_do_not_inflate_the_others() -> None:
    inputs = replace(rho([1.0, 9.0]), advantage=torch.ones(2, dtype=F64))
    masked = PolicyGradient(trust_region=Unclipped(), corrections=(Importance(action="mask", low=0.5, high=2.0),))
    assert grad(masked, inputs).tolist() == pytest.approx([-0.5, 0.0])


def test_second_moment_of_the_digest_drops_two_tokens() -> None:
    log = torch.tensor([0.01, -0.02, 0.5, -1.2, 0.03], dtype=F64)
    inputs = batch([[1]] * 5)
    inputs = replace(inputs, behaviour_logp=inputs.old_logp - log)
    prepared = PolicyGradient(trust_region=Unclipped(), corrections=(SecondMoment(tau=0.04),)).prepare(inputs)
    assert prepared.weight is not None and prepared.weight.tolist() == [1, 1, 0, 0, 1]
    # means of what remains, largest squares first: .33828, .06285, .000467; a looser bound drops one
    looser = PolicyGradient(trust_region=Unclipped(), corrections=(SecondMoment(tau=0.07),)).prepare(inputs)
    assert looser.weight is not None and looser.weight.tolist() == [1, 1, 1, 0, 1]


@pytest.mark.parametrize(("dropped", "mean"), enumerate([0.33828, 0.06285, 0.000467, 0.00025, 0.0001]))
def test_second_moments_of_what_remains(dropped: int, mean: float) -> None:
    """M2PO, arXiv 2510.01161: the means of the squares 1.44, .25, .0009, .0004, .0001 from each on; a bound just above keeps the rest."""
    inputs = batch([[1]] * 5)
    inputs = replace(inputs, behaviour_logp=inputs.old_logp - torch.tensor([0.01, -0.02, 0.5, -1.2, 0.03], dtype=F64))
    for tau, gone in ((1.002 * mean, dropped), (0.998 * mean, dropped + 1)):
        weight = SecondMoment(tau=tau).prepare(inputs).weight
        assert weight is not None and (weight == 0).sum() == gone


def test_a_negative_sequence_that_the_policy_left_is_dropped() -> None:
    inputs = batch([[2], [2], [2]])
    left = torch.tensor([-0.8, -0.4, -0.8, -0.4, -0.5, -0.1], dtype=F64)
    inputs = replace(
        inputs, logp=(inputs.behaviour_logp + left).requires_grad_(), advantage=torch.tensor([-1.0, -1, 1, 1, -1, -1], dtype=F64)
    )
    assert NegativeSequenceMask(delta=0.5)(inputs).tolist() == [0, 0, 1, 1, 1, 1]


def test_kl_numbers_of_the_digest() -> None:
    logp, ref = torch.tensor([-1.0], dtype=F64), torch.tensor([-1.5], dtype=F64)
    values = [estimate(logp, ref, kind).item() for kind in ("k1", "k2", "k3", "abs")]  # type: ignore[arg-type]
    assert values == pytest.approx([0.5, 0.125, 0.106531, 0.5], abs=1e-6)
    assert estimate(ref, logp, "abs").item() == 0.5


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [("k1", [0, 0, 0]), ("k2", [0.02244, -0.17942, 0.15698]), ("k3", [0.05921, -0.22472, 0.16552])],
)
def test_gradients_of_kl_losses_on_policy_are_the_enumerated_ones(estimator: str, expected: list[float]) -> None:
    """k2 is the gradient of KL(pi || ref), k3 that of KL(ref || pi), k1 vanishes."""
    logits = torch.tensor([0.3, -0.2, 0.5], dtype=F64, requires_grad=True)
    logp, ref = logits.log_softmax(0), torch.tensor([0.0, 0.4, -0.1], dtype=F64).log_softmax(0)
    loss = (logp.detach().exp() * estimate(logp, ref, estimator)).sum()  # type: ignore[arg-type]
    assert torch.autograd.grad(loss, logits)[0].tolist() == pytest.approx(expected, abs=1e-5)


def test_kl_values_average_to_the_divergence() -> None:
    p, q = torch.tensor([0.5, 0.3, 0.2], dtype=F64), torch.tensor([0.2, 0.2, 0.6], dtype=F64)
    exact = (p * (p / q).log()).sum().item()
    for kind in ("k1", "k3"):
        assert (p * estimate(p.log(), q.log(), kind)).sum().item() == pytest.approx(exact)  # type: ignore[arg-type]


def test_kl_enters_the_loss_with_its_coefficient_and_aggregation() -> None:
    inputs = batch(moved=0.1)
    with_kl = PolicyGradient(kl=Kl(coefficient=0.3, estimator="k2"), aggregation=Aggregation(over="sequences"))
    without = PolicyGradient(aggregation=Aggregation(over="sequences"))
    assert inputs.ref_logp is not None
    extra = (without.aggregation.weights(inputs) * 0.3 * (inputs.logp - inputs.ref_logp) ** 2 / 2).sum()
    assert with_kl(inputs)[0].item() == pytest.approx((without(inputs)[0] + extra).item())
    metric = with_kl(inputs)[1]["kl"]
    assert metric == pytest.approx(((inputs.logp - inputs.ref_logp) ** 2 / 2).mean().item())


def test_the_unbiased_kl_has_the_exact_gradient_on_samples_of_any_policy() -> None:
    """Summed over all three outcomes with the chances q that sampled them: value KL(pi || ref), gradient pi (log pi / ref - KL)."""
    theta = torch.tensor([0.3, -0.7, 1.1], dtype=F64, requires_grad=True)
    q, ref = torch.tensor([0.6, 0.3, 0.1], dtype=F64), torch.tensor([0.2, 0.5, 0.3], dtype=F64)
    logp = theta.log_softmax(0)
    inputs = replace(batch([[1]] * 3), logp=logp, old_logp=q.log(), behaviour_logp=q.log(), ref_logp=ref.log())
    expected = (q * Kl(coefficient=1.0, unbiased=True)(inputs)).sum()
    pi = logp.detach().exp()
    divergence = (pi * (pi / ref).log()).sum()
    assert expected.item() == pytest.approx(divergence.item())
    (gradient,) = torch.autograd.grad(expected, theta)
    assert gradient.tolist() == pytest.approx((pi * ((pi / ref).log() - divergence)).tolist())


def test_the_entropy_bonus_lowers_the_loss_where_the_policy_is_random() -> None:
    inputs = batch()
    assert inputs.entropy is not None
    (grad_entropy,) = torch.autograd.grad(PolicyGradient(entropy=0.5)(inputs)[0], inputs.entropy)
    assert grad_entropy.tolist() == pytest.approx([-0.5 / 14] * 14)
    assert PolicyGradient()(inputs)[1]["entropy"] == pytest.approx(inputs.entropy.mean().item())


def test_metrics_tell_the_clipped_sides_apart() -> None:
    inputs = batch([[1]] * 5)
    logp = inputs.old_logp + torch.tensor([1.5, 1.5, 0.5, 0.5, 0.5], dtype=F64).log()
    inputs = replace(inputs, logp=logp.requires_grad_(), advantage=torch.tensor([1.0, -1, -1, 1, -2], dtype=F64))
    metrics = PolicyGradient(trust_region=Clip())(inputs)[1]
    assert (metrics["cut_high"], metrics["cut_low"]) == pytest.approx((0.2, 0.4))
    assert metrics["ratio"] == pytest.approx((1.5 * 2 + 0.5 * 3) / 5) and metrics["advantage"] == pytest.approx(6 / 5)
    assert metrics["loss"] == pytest.approx(PolicyGradient(trust_region=Clip())(inputs)[0].item())


def test_the_mismatch_of_engine_and_learner_is_reported_as_k3() -> None:
    metrics = SUM(rho([2.0, 1.0]))[1]
    assert metrics["mismatch_k3"] == pytest.approx((2 - 1 - torch.log(torch.tensor(2.0)).item()) / 2)


def covarying() -> LossInputs:
    """Advantages and old log-probabilities whose products about the means are 4, 0.25, 0.25, 4 (and -0 in the middle)."""
    inputs = batch([[1]] * 5)
    logp = torch.tensor([-4.0, -2.5, -2.0, -1.5, -0.0], dtype=F64) - 0.5
    return replace(
        inputs,
        old_logp=logp,
        logp=logp.clone().requires_grad_(),
        behaviour_logp=logp,
        advantage=torch.tensor([-2.0, -0.5, 0, 0.5, 2.0], dtype=F64),
    )


def test_clip_cov_mutes_tokens_in_the_band_only() -> None:
    for seed in range(6):
        objective = PolicyGradient(trust_region=ClipCov(share=0.2, low=0.1, high=1.0, seed=seed))
        weight = objective.prepare(covarying()).weight
        assert weight is not None and weight.sum() == 4 and set(torch.nonzero(weight == 0).flatten().tolist()) <= {1, 3}
    muted = grad(PolicyGradient(trust_region=ClipCov(share=0.5, low=0.1, high=1.0)), covarying())
    assert (muted == 0).tolist() == [False, True, True, True, False]
    with pytest.raises(ValueError, match="no covariance can lie between them"):
        ClipCov(low=5.0, high=1.0)


def test_clip_cov_still_clips_and_mutes_at_least_one_token() -> None:
    inputs = covarying()
    inputs = replace(inputs, logp=(inputs.old_logp + 1.0).requires_grad_())
    objective = PolicyGradient(trust_region=ClipCov(clip=Clip(high=0.1), share=1e-9, low=0.1, high=1.0))
    assert objective(inputs)[1]["cut_high"] == pytest.approx(0.4)
    weight = objective.prepare(inputs).weight
    assert weight is not None and (weight == 0).sum() == 1


def test_kl_cov_holds_back_the_tokens_of_highest_covariance() -> None:
    inputs = covarying()
    moved = replace(inputs, logp=(inputs.old_logp - 0.25).requires_grad_())
    objective = PolicyGradient(trust_region=KlCov(share=0.4, coefficient=2.0))
    plain = PolicyGradient(trust_region=Unclipped())
    assert objective(moved)[0].item() == pytest.approx(plain(moved)[0].item() + 2 * 2.0 * 0.25 / 5)
    assert objective.prepare(moved).marked.tolist() == [True, False, False, False, True]  # type: ignore[union-attr]
    assert PolicyGradient(trust_region=KlCov(share=1e-9)).prepare(moved).marked.sum() == 1  # type: ignore[union-attr]


def test_top_entropy_trains_the_most_uncertain_tokens() -> None:
    inputs = replace(batch([[5]]), entropy=torch.tensor([0.1, 0.9, 0.2, 0.8, 0.3], dtype=F64))
    focused = PolicyGradient(granularity="none", trust_region=Unclipped(), focus=TopEntropy(share=0.4))
    expected = grad(SUM, inputs) * torch.tensor([0, 1, 0, 1, 0])
    assert grad(focused, inputs).tolist() == expected.tolist()
    assert grad(replace(focused, focus=TopEntropy(share=1e-9)), inputs).count_nonzero() == 1
    with pytest.raises(ValueError, match="TopEntropy needs the entropy"):
        focused(replace(inputs, entropy=None))


def test_a_rule_of_the_whole_batch_survives_micro_batching() -> None:
    whole = batch(seed=8, moved=0.2, stale=0.4)
    objective = PolicyGradient(
        trust_region=KlCov(share=0.2), focus=TopEntropy(share=0.5), corrections=(SecondMoment(tau=0.02), Importance())
    )
    prepared = objective.prepare(whole)
    assert prepared.weight is not None and 0 < prepared.weight.sum() < 7
    parts = [objective(prepared.take(whole.sequence == k))[0] for k in range(4)]
    assert sum(part.item() for part in parts) == pytest.approx(objective(whole)[0].item())


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"corrections": (Importance(), Importance())}, "applied twice"),
        ({"corrections": (Importance(),), "centre": "behaviour"}, "applied twice"),
        ({"granularity": "none"}, "no ratio for Clip to bound"),
    ],
)
def test_contradictions_are_refused(parts: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        PolicyGradient(**parts)


def test_masks_may_accompany_one_weight() -> None:
    PolicyGradient(corrections=(Importance(action="mask", low=0.5), NegativeSequenceMask(), SecondMoment(), Importance()))
    PolicyGradient(corrections=(Importance(action="mask", low=0.5),), centre="behaviour")
    PolicyGradient(granularity="none", trust_region=Unclipped(), corrections=(Importance(),), centre="behaviour")


def test_what_is_missing_is_named() -> None:
    bare = replace(batch(), ref_logp=None, entropy=None)
    with pytest.raises(ValueError, match=r"kl.coefficient is 0.1 but there is no reference policy"):
        PolicyGradient(kl=Kl(coefficient=0.1))(bare)
    with pytest.raises(ValueError, match=r"entropy bonus 0.01 needs the entropy"):
        PolicyGradient(entropy=0.01)(bare)
    with pytest.raises(ValueError, match="k1 has no gradient"):
        Kl(estimator="k1")
    for low, high in ((2.0, 1.0), (1.5, 2.0), (0.5, 0.1)):
        with pytest.raises(ValueError, match="the band must hold 1"):
            Importance(low=low, high=high)


def test_covariance_is_taken_around_both_means() -> None:
    """Advantages 1, 2, 6 and log-probabilities -1, -2, -6: deviations -2, -1, 3 and 2, 1, -3."""
    logp = torch.tensor([-1.0, -2.0, -6.0], dtype=F64)
    inputs = replace(batch([[1]] * 3), logp=logp, old_logp=logp, advantage=-logp)
    assert covariance(inputs).tolist() == [-4.0, -1.0, -9.0]


def test_kl_cov_follows_the_advantage() -> None:
    """Ratio e^0.25 and advantages 1 and 3, nothing held back but one token: (-4 e^0.25 + 0.25) / 2."""
    logp = torch.tensor([-1.0, -2.0], dtype=F64)
    inputs = replace(
        batch([[1]] * 2), old_logp=logp, logp=(logp + 0.25).requires_grad_(), advantage=torch.tensor([1.0, 3.0], dtype=F64)
    )
    loss, _ = PolicyGradient(trust_region=KlCov(share=0.5))(inputs)
    assert loss.item() == pytest.approx((-4 * exp(0.25) + 0.25) / 2)


def test_only_negative_advantages_are_masked_where_the_policy_has_left() -> None:
    inputs = batch([[1]] * 3)
    inputs = replace(inputs, behaviour_logp=inputs.logp.detach() + 1.0, advantage=torch.tensor([0.5, 0.0, -0.5], dtype=F64))
    assert NegativeSequenceMask()(inputs).tolist() == [1.0, 1.0, 0.0]
    near = replace(inputs, behaviour_logp=inputs.logp.detach() - 1.0)
    assert NegativeSequenceMask()(near).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("action", ["truncate", "mask", "both"])
def test_bounds_of_importance_hold_1_between_them(action: str) -> None:
    for low, high in ((1.0, 1.0), (1.5, 2.0), (0.0, 0.0)):
        with pytest.raises(ValueError, match="Importance"):
            Importance(low=low, high=high, action=action)  # type: ignore[arg-type]
    Importance(low=0.5, high=1.0, action=action)  # type: ignore[arg-type]


def test_a_truncated_weight_may_end_below_1_and_a_mask_may_not() -> None:
    """Weights 0.3, 0.8, 1.5 and 6, cut to [0.4, 0.7]."""
    assert Importance(low=0.4, high=0.7)(rho([0.3, 0.8, 1.5, 6.0])).tolist() == pytest.approx([0.4, 0.7, 0.7, 0.7])
    for action in ("mask", "both"):
        with pytest.raises(ValueError, match="only the high of action 'truncate' may lie below 1"):
            Importance(low=0.4, high=0.7, action=action)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("objective", "reach"),
    [
        (PolicyGradient(), "token"),
        (PolicyGradient(granularity="turn"), "turn"),
        (PolicyGradient(granularity="product", trust_region=Unclipped()), "sequence"),
        (PolicyGradient(corrections=(NegativeSequenceMask(),)), "sequence"),
        (PolicyGradient(trust_region=KlCov()), None),
        (PolicyGradient(kl=Kl()), None),
        (PolicyGradient(entropy=0.01), None),
    ],
)
def test_how_far_an_advantage_works(objective: PolicyGradient, reach: str | None) -> None:
    assert objective.reach() == reach


def test_the_default_is_dapo_s_clip() -> None:
    assert PolicyGradient().trust_region == Clip(low=0.2, high=0.28)
