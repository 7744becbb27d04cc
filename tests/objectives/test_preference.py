"""Preference objectives: numbers of the digest, finite differences, invariances."""

from dataclasses import replace
from math import exp, log

import pytest
import torch
from torch import Tensor

from sojourn.conformance.batches import batch
from sojourn.objectives import Denominators, Dpo, Ipo, Kto, LossInputs, Objective, Orpo, SimPo

F64 = torch.float64


def pair(
    good: list[float], bad: list[float], ref_good: list[float] | None = None, ref_bad: list[float] | None = None
) -> LossInputs:
    """One pair with given log-probabilities of its tokens."""
    inputs = batch([[len(good)], [len(bad)]])
    logp = torch.tensor(good + bad, dtype=F64, requires_grad=True)
    ref = torch.tensor((ref_good or good) + (ref_bad or bad), dtype=F64)
    return replace(inputs, logp=logp, ref_logp=ref)


DIGEST = pair([-1.0, -1.0], [-2.0], [-1.3, -1.2], [-1.7])  # D_w = .5, D_l = -.3
AVERAGES = pair([-0.5, -0.7], [-0.8, -0.7, -0.9])  # mean log-probabilities -.6 and -.8


def test_numbers_of_the_digest() -> None:
    assert Dpo(beta=0.1)(DIGEST)[0].item() == pytest.approx(0.653947, abs=1e-6)
    assert Ipo(beta=0.1)(DIGEST)[0].item() == pytest.approx(17.64)
    assert SimPo(beta=2.5, gamma=1.375)(AVERAGES)[0].item() == pytest.approx(1.223445, abs=1e-6)
    assert Orpo(lam=1.0)(AVERAGES)[0].item() - 0.6 == pytest.approx(0.513315, abs=1e-6)
    assert Orpo(lam=0.1)(AVERAGES)[0].item() == pytest.approx(0.6 + 0.0513315)


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def test_the_variants_of_dpo() -> None:
    margin = 0.1 * 0.8
    conservative = -0.8 * log(sigmoid(margin)) - 0.2 * log(sigmoid(-margin))
    assert Dpo(smoothing=0.2)(DIGEST)[0].item() == pytest.approx(conservative)
    assert Dpo(nll=0.5)(DIGEST)[0].item() == pytest.approx(-log(sigmoid(margin)) + 0.5 * 1.0)
    assert Dpo(nll=0.5)(AVERAGES)[0].item() == pytest.approx(log(2) + 0.5 * 0.6)  # the reference is the policy: no margin
    by_length = 0.1 * (0.5 / 2 + 0.3 / 1)
    assert Dpo(by_length=True)(DIGEST)[0].item() == pytest.approx(-log(sigmoid(by_length)))
    assert Ipo(by_length=True)(DIGEST)[0].item() == pytest.approx((0.55 - 5) ** 2)


def test_metrics_say_how_often_and_by_how_much_the_chosen_wins() -> None:
    metrics = Dpo(beta=0.1)(DIGEST)[1]
    assert metrics == pytest.approx({"loss": 0.653947, "right": 1.0, "margin": 0.08}, abs=1e-6)
    assert Ipo()(DIGEST)[1]["margin"] == pytest.approx(0.8)
    swapped = replace(DIGEST, pairs=DIGEST.pairs.flip(1))  # type: ignore[union-attr]
    assert Dpo()(swapped)[1]["right"] == 0.0


PAIRED: list[Objective] = [Dpo(), Dpo(smoothing=0.1, nll=0.7, by_length=True), Ipo(), SimPo(), Orpo(), Kto()]


@pytest.mark.parametrize("objective", PAIRED, ids=lambda o: type(o).__name__)
def test_gradients_agree_with_finite_differences(objective: Objective) -> None:
    inputs = batch(moved=0.3, seed=4)
    if isinstance(objective, Kto):
        inputs = objective.prepare(inputs)
    (gradient,) = torch.autograd.grad(objective(inputs)[0], inputs.logp)
    start, step = inputs.logp.detach(), 1e-6

    def loss(logp: Tensor) -> float:
        return objective(replace(inputs, logp=logp))[0].item()

    rows = torch.eye(len(start), dtype=F64) * step
    expected = [(loss(start + row) - loss(start - row)) / (2 * step) for row in rows]
    assert gradient.tolist() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("objective", PAIRED, ids=lambda o: type(o).__name__)
def test_micro_batches_of_whole_pairs_add_up(objective: Objective) -> None:
    whole = batch([[2], [3], [1], [4], [2, 2], [1]], moved=0.3, seed=4)
    if isinstance(objective, Kto):
        whole = objective.prepare(whole)
    loss, metrics = objective(whole)
    parts = [objective(whole.take(whole.sequence // 2 == k)) for k in range(3)]
    assert sum(part.item() for part, _ in parts) == pytest.approx(loss.item())
    for name in metrics:
        assert sum(part[name] for _, part in parts) == pytest.approx(metrics[name])


def test_a_micro_batch_keeps_only_pairs_it_holds() -> None:
    whole = batch([[1], [1], [1], [1]])
    taken = whole.take(whole.sequence != 1)
    assert taken.pairs is not None and taken.pairs.tolist() == [[2, 3]]


def test_pairs_may_share_a_sequence() -> None:
    inputs = replace(batch([[1], [2], [1]]), pairs=torch.tensor([[0, 1], [0, 2]]))
    inputs = replace(inputs, counts=replace(inputs.counts, pairs=2))
    single = [SimPo()(replace(inputs, pairs=inputs.pairs[k : k + 1]))[0].item() for k in range(2)]  # type: ignore[index]
    assert SimPo()(inputs)[0].item() == pytest.approx(sum(single))


def test_step_dpo_is_dpo_with_action_spans_as_sequences() -> None:
    """Sibling actions: only their own tokens count, whatever the rest of the episodes says."""
    inputs = batch([[2, 1], [2, 3]], seed=1)
    steps = replace(
        inputs, sequence=inputs.turn, counts=Denominators.count(inputs.turn, inputs.prompt, pairs=1), pairs=torch.tensor([[1, 3]])
    )
    loss = Dpo(beta=0.4)(steps)[0]
    gradient = torch.autograd.grad(loss, inputs.logp)[0]
    assert (gradient != 0).tolist() == [False, False, True, False, False, True, True, True]


def test_kto_by_hand() -> None:
    """Two good and one bad sequence; z0 is the batch's mean, floored at 0."""
    inputs = batch([[1], [1], [1]])
    ref = inputs.logp.detach() - torch.tensor([3.0, 2.0, 1.0], dtype=F64)
    inputs = replace(inputs, ref_logp=ref, advantage=torch.tensor([1.0, 1.0, -1.0], dtype=F64))
    z = 0.5 * 2
    expected = (2 * (1 - sigmoid(1.5 - z)) + 2 * (1 - sigmoid(1.0 - z)) + 3 * (1 - sigmoid(z - 0.5))) / 3
    loss, metrics = Kto(beta=0.5, good=2.0, bad=3.0)(inputs)
    assert loss.item() == pytest.approx(expected) and metrics["loss"] == pytest.approx(expected)
    assert metrics["value"] == pytest.approx(0.0)
    below = replace(inputs, ref_logp=inputs.logp.detach() + 5)
    estimate = Kto().prepare(below).estimate
    assert estimate is not None and estimate.item() == 0.0
    assert Kto(beta=0.1)(below)[1]["value"] == pytest.approx(-0.5)


def test_kto_judges_a_sequence_by_its_summed_advantage() -> None:
    inputs = batch([[2]])
    flat = replace(inputs, advantage=torch.tensor([2.0, -1.0], dtype=F64), ref_logp=inputs.logp.detach())
    assert Kto(good=1.0, bad=9.0)(flat)[0].item() == pytest.approx(0.5)
    assert Kto(good=1.0, bad=9.0)(replace(flat, advantage=-flat.advantage))[0].item() == pytest.approx(4.5)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="needs inputs.pairs"):
        SimPo()(replace(batch(), pairs=None))
    with pytest.raises(ValueError, match="needs a reference policy"):
        Dpo()(replace(batch(), ref_logp=None))


def test_two_pairs_are_averaged() -> None:
    """The mean over pairs of what each would give alone: the loss, how often the chosen wins, and the margin."""
    first, second = DIGEST, pair([-3.0], [-1.0, -0.5, -0.5], [-1.0], [-1.5, -1.0, -0.5])  # D_w = -2, D_l = 1
    logp = torch.cat([first.logp, second.logp]).detach().requires_grad_()
    both = batch([[2], [1], [1], [3]])
    both = replace(both, logp=logp, ref_logp=torch.cat([first.ref_logp, second.ref_logp]))  # type: ignore[list-item]
    for objective in (Dpo(), Dpo(by_length=True), Ipo(by_length=True)):
        alone = [objective(each) for each in (first, second)]
        loss, metrics = objective(both)
        assert loss.item() == pytest.approx(sum(each.item() for each, _ in alone) / 2)
        assert metrics["right"] == 0.5
        assert metrics["margin"] == pytest.approx(sum(each["margin"] for _, each in alone) / 2)
    assert Dpo(by_length=True)(second)[0].item() == pytest.approx(-log(sigmoid(0.1 * (-2 - 1 / 3))))
    assert Ipo(by_length=True)(second)[0].item() == pytest.approx((-2 - 1 / 3 - 5) ** 2)
