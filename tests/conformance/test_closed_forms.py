"""Worlds small enough to enumerate: expected gradients are the exact ones, and every on-policy algorithm finds the optimum.

The bandit has three arms; the two-step world pays only for the second action, and only in one of the states the first leads to.
Everything is enumerated, so no test depends on chance.
"""

from __future__ import annotations

from itertools import combinations_with_replacement, permutations, product

import numpy as np
import pytest
import torch
from torch import Tensor

from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.credit import columns
from sojourn.objectives import Denominators, LossInputs
from sojourn.objectives.presets import preset

F64 = torch.float64
ARMS = torch.tensor([1.0, 0.25, 0.0], dtype=F64)
START = torch.tensor([0.3, -0.2, 0.5], dtype=F64)


def bandit_step(name: str, logits: Tensor, groups: list[tuple[int, ...]], chance: np.ndarray) -> Tensor:
    """Expected gradient of an algorithm's loss over groups of arms, each with its chance."""
    algorithm, total = preset(name), torch.zeros(3, dtype=F64)
    for arms, weight in zip(groups, chance, strict=True):
        index = torch.tensor(arms)
        c = columns([group([Script([Turn(1)], final=ARMS[arm].item()) for arm in arms])])
        assert algorithm.credit is not None
        point = logits.clone().requires_grad_()
        logp = point.log_softmax(0)[index]
        sequence, prompt = torch.arange(len(arms)), torch.zeros(len(arms), dtype=torch.int64)
        inputs = LossInputs(
            logp=logp,
            old_logp=logp.detach(),
            behaviour_logp=logp.detach(),
            ref_logp=logp.detach(),
            advantage=torch.tensor(algorithm.credit(c)),
            sequence=sequence,
            turn=sequence,
            prompt=prompt,
            counts=Denominators.count(sequence, prompt),
        )
        loss, _ = algorithm.objective(inputs)
        total += weight * torch.autograd.grad(loss, point)[0]
    return total


GROUPS = list(combinations_with_replacement(range(3), 3))


def chances(logits: Tensor) -> np.ndarray:
    """Chance of each group of three arms, in whatever order."""
    p = logits.softmax(0).numpy()
    return np.array([p[list(arms)].prod() * len(set(permutations(arms))) for arms in GROUPS])


def exact(logits: Tensor) -> Tensor:
    """Gradient of the expected reward."""
    p = logits.softmax(0)
    return p * (ARMS - p @ ARMS)


UNBIASED = {"dr_grpo": 2 / 3 / 3000, "reinforce": 1.0, "magrpo": 2 / 3, "topr": 2 / 3, "kimi": 2 / 3}


@pytest.mark.parametrize("name", UNBIASED)
def test_the_expected_gradient_on_the_bandit_is_the_exact_one(name: str) -> None:
    """Up to the known factor (n - 1) / n of a baseline that holds the sample itself, and the constant length of Dr. GRPO."""
    seen = -bandit_step(name, START, GROUPS, chances(START))
    assert seen.tolist() == pytest.approx((UNBIASED[name] * exact(START)).tolist())


SOLVERS = [
    "reinforce", "grpo", "dr_grpo", "dapo", "gspo", "gmpo", "cispo", "sapo", "topr", "kimi", "vespo", "lite_ppo", "opo", "gpg", "maxrl",
    "reinforce_pp_baseline", "passk_best", "gigpo", "mt_grpo", "arpo", "tree_po", "tree_rpo", "magrpo", "icepop", "dppo", "m2po",
]  # fmt: skip


@pytest.mark.parametrize("name", SOLVERS)
def test_following_the_expected_gradient_solves_the_bandit(name: str) -> None:
    """Ascent with a unit step; the best arm ends above 90 %."""
    logits = START.clone()
    for _ in range(12):
        gradient = bandit_step(name, logits, GROUPS, chances(logits))
        logits = logits - 1.5 * gradient / gradient.abs().max()
    assert logits.softmax(0)[0] > 0.9


FIRST = torch.tensor([[0.2, -0.1]], dtype=F64)
SECOND = torch.tensor([[0.4, 0.0], [-0.3, 0.1]], dtype=F64)
PATHS = list(product(range(2), repeat=2))
PAYS = {(0, 0): 0.0, (0, 1): 1.0, (1, 0): 0.25, (1, 1): 0.25}


def world_gradient(name: str) -> tuple[Tensor, Tensor]:
    """Expected gradient of an algorithm at the logits of the first action and of the second in each state, over pairs of episodes."""
    algorithm = preset(name)
    assert algorithm.credit is not None
    first, second = FIRST.clone().requires_grad_(), SECOND.clone().requires_grad_()
    total = torch.zeros((), dtype=F64)
    for pair in product(PATHS, repeat=2):
        logp = torch.stack([table for a, b in pair for table in (first[0].log_softmax(0)[a], second[a].log_softmax(0)[b])])
        c = columns([group([Script([Turn(1, anchor="start"), Turn(1, anchor=a)], final=PAYS[a, b]) for a, b in pair])])
        sequence = torch.tensor([0, 0, 1, 1])
        inputs = LossInputs(
            logp=logp, old_logp=logp.detach(), behaviour_logp=logp.detach(), ref_logp=logp.detach(),
            advantage=torch.tensor(algorithm.credit(c)), sequence=sequence, turn=torch.arange(4), prompt=torch.zeros(4, dtype=torch.int64),
            counts=Denominators.count(sequence, torch.zeros(4, dtype=torch.int64)),
        )  # fmt: skip
        chance = logp.detach().sum().exp()
        total = total + chance * algorithm.objective(inputs)[0]
    one, two = torch.autograd.grad(total, (first, second))
    return one, two


@pytest.mark.parametrize(("name", "factor"), [("reinforce", 1.0), ("dr_grpo", 0.5 / 3000), ("magrpo", 0.25)])
def test_the_expected_gradient_of_a_two_step_world_is_the_exact_one(name: str, factor: float) -> None:
    """Both actions learn, also the first, whose reward comes later.  Factors: (n - 1) / n = 1/2 of the baseline, times the
    aggregation's (a mean over 2 tokens for each of the sequences, or the constant length)."""
    first, second = FIRST.clone().requires_grad_(), SECOND.clone().requires_grad_()
    value = sum(first[0].softmax(0)[a] * second[a].softmax(0)[b] * PAYS[a, b] for a, b in PATHS)
    expected = torch.autograd.grad(value, (first, second))  # type: ignore[arg-type]
    for seen, right in zip(world_gradient(name), expected, strict=True):
        assert (-seen).flatten().tolist() == pytest.approx((factor * right).flatten().tolist())
