"""Preference objectives: from pairs (chosen w, rejected l) of sequences.

D = log pi(y) - log pi_ref(y), summed over the sequence's ACTION tokens only, in both policies; m = D_w - D_l; a bar divides by
length.

    DPO      -log s(beta m)                                                  [arXiv 2305.18290, eq. 7]
    cDPO     -(1 - e) log s(beta m) - e log s(-beta m)                       [Mitchell 2023]
    RPO      DPO + a (-log pi-bar(w))                                        [arXiv 2404.19733, eq. 1]
    IPO      (m - 1 / (2 beta))^2                                            [arXiv 2310.12036, eq. 17]
    SimPO    -log s(beta (lp-bar_w - lp-bar_l) - gamma)                      [arXiv 2405.14734, eq. 6]
    ORPO     -lp-bar_w - lambda log s(log odds_w - log odds_l)               [arXiv 2403.07691, eq. 6 and 7]

The ids in `inputs.pairs` are ids of `inputs.sequence`.  `compares` says what a sequence is: an episode, or an action (Step-DPO).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from sojourn.credit.ranges import INF, checked, within
from sojourn.objectives.inputs import Compares, LossInputs, Metrics

CERTAIN = 1e-7
"""An answer whose mean log-probability lies nearer to 0 is taken to lie here."""


def sides(value_T: Tensor, inputs: LossInputs, *, by_length: bool) -> tuple[Tensor, Tensor]:
    """A token value of the chosen and of the rejected sequence of each pair, summed or averaged, shapes (P,)."""
    if inputs.pairs is None:
        raise ValueError("a preference objective needs inputs.pairs; make them with sojourn.credit.episode_pairs")
    size = len(inputs.counts.tokens_per_sequence)
    total = torch.zeros(size, dtype=value_T.dtype, device=value_T.device).index_add(0, inputs.sequence, value_T)
    if by_length:
        total = total / inputs.counts.tokens_per_sequence.clamp(min=1).to(value_T.dtype)
    chosen, rejected = inputs.pairs.unbind(1)
    return total[chosen], total[rejected]


def against_reference(inputs: LossInputs) -> Tensor:
    if inputs.ref_logp is None:
        raise ValueError("this preference objective needs a reference policy (ref_logp); configure one, or use SimPO or ORPO")
    return inputs.logp - inputs.ref_logp


def no_pair(size: int) -> str:
    """What refuses groups of one, for an objective that compares the episodes of a group."""
    return "a group of one has no pair to compare; raise the group size to 2 or more" if size < 2 else ""


def finish(loss_P: Tensor, margin_P: Tensor, inputs: LossInputs) -> tuple[Tensor, Metrics]:
    """The mean over pairs, and what to say of them."""
    pairs = max(inputs.counts.pairs, 1)  # a batch without any has a loss of 0
    loss = loss_P.sum() / pairs
    right = (margin_P.detach() > 0).to(loss.dtype).sum() / pairs
    return loss, {"loss": float(loss.detach()), "right": float(right), "margin": float(margin_P.detach().sum() / pairs)}


@checked
class Dpo:
    """DPO; with `smoothing` cDPO, with `nll` RPO, with `by_length` length-normalised DPO."""

    traits: ClassVar[frozenset[str]] = frozenset({"imitates"})

    beta: float = 0.1
    """Raising it keeps the policy nearer to the reference."""
    smoothing: float = 0.0
    """Share of pairs taken to be labelled wrongly, below 0.5."""
    nll: float = 0.0
    """Weight of the chosen answer's mean negative log-likelihood."""
    by_length: bool = False
    """Divide log-ratios by length."""
    compares: Compares = "episodes"
    """Episodes of a group by their returns, its right ones by their lengths, or actions after the same prefix by what followed
    (Step-DPO)."""
    reads: ClassVar[frozenset[str]] = frozenset({"ref_logp_T"})

    def __post_init__(self) -> None:
        within(self, beta=(0, INF), smoothing=(0, 0.5), nll=(0, INF))

    def refuses(self, size: int) -> str:
        return "" if self.compares == "actions" else no_pair(size)

    def __call__(self, inputs: LossInputs) -> tuple[Tensor, Metrics]:
        good, bad = sides(against_reference(inputs), inputs, by_length=self.by_length)
        margin = self.beta * (good - bad)
        loss = -(1 - self.smoothing) * logsigmoid(margin) - self.smoothing * logsigmoid(-margin)
        if self.nll:
            loss = loss - self.nll * sides(inputs.logp, inputs, by_length=True)[0]
        return finish(loss, margin, inputs)


@checked
class Ipo:
    """A squared distance to a fixed margin: does not overfit where preferences are certain."""

    traits: ClassVar[frozenset[str]] = frozenset({"imitates"})
    compares: ClassVar[Compares] = "episodes"
    reads: ClassVar[frozenset[str]] = frozenset({"ref_logp_T"})

    beta: float = 0.1
    """Raising it lowers the margin that is asked for, 1 / (2 beta) nats."""
    by_length: bool = False
    """Divide log-ratios by length."""

    def __post_init__(self) -> None:
        within(self, beta=(1e-9, INF))

    def refuses(self, size: int) -> str:
        return no_pair(size)

    def __call__(self, inputs: LossInputs) -> tuple[Tensor, Metrics]:
        good, bad = sides(against_reference(inputs), inputs, by_length=self.by_length)
        return finish((good - bad - 1 / (2 * self.beta)).square(), good - bad, inputs)


@checked
class SimPo:
    """Length-normalised log-probabilities with a margin, and no reference."""

    traits: ClassVar[frozenset[str]] = frozenset({"imitates"})
    compares: ClassVar[Compares] = "episodes"

    beta: float = 2.5
    """Scale of the log-probability for each token."""
    gamma: float = 1.375
    """Margin that is asked for; the paper gives it as 0.55 beta."""

    def __post_init__(self) -> None:
        within(self, beta=(0, INF), gamma=(0, INF))

    def refuses(self, size: int) -> str:
        return no_pair(size)

    def __call__(self, inputs: LossInputs) -> tuple[Tensor, Metrics]:
        good, bad = sides(inputs.logp, inputs, by_length=True)
        margin = self.beta * (good - bad) - self.gamma
        return finish(-logsigmoid(margin), margin, inputs)


def log_odds(logp: Tensor) -> Tensor:
    """log(p / (1 - p)) of probabilities given as logarithms, any shape.

    Float32 cannot tell a probability above 1 - 1e-7 from 1, where the odds have no end; there it stays, with its slope, which is finite.
    """
    kept = logp - (logp.detach() + CERTAIN).clamp(min=0)
    return kept - (-torch.expm1(kept)).log()


@checked
class Orpo:
    """Supervised fine-tuning on the chosen answer plus the odds ratio; one stage, no reference."""

    traits: ClassVar[frozenset[str]] = frozenset({"imitates"})

    lam: float = 0.1
    """Weight of the odds-ratio part."""
    compares: Compares = "episodes"
    """Episodes of a group by their returns, or its right ones by their lengths (LCPO)."""

    def __post_init__(self) -> None:
        within(self, lam=(0, INF))

    def refuses(self, size: int) -> str:
        return no_pair(size)

    def __call__(self, inputs: LossInputs) -> tuple[Tensor, Metrics]:
        good, bad = sides(inputs.logp, inputs, by_length=True)
        margin = log_odds(good) - log_odds(bad)
        return finish(-good - self.lam * logsigmoid(margin), margin, inputs)
