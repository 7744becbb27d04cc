"""A batch of rows in plain numpy, and the weights of means over it: what the formulas of `loss_formulas` are written in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sojourn.conformance.algorithms import LENGTH
from sojourn.conformance.rows import Rows
from sojourn.credit.columns import Floats
from sojourn.objectives.aggregation import Over

Bools = NDArray[np.bool_]


class Numbers:
    """A batch of rows in numpy, (B, L), with 0 off the mask: l = log pi - log pi_old, s = log pi_old - log pi_behaviour,
    d = log pi - log pi_ref, a the advantage, n the tokens of each row, (B, 1)."""

    def __init__(self, rows: Rows) -> None:
        self.mask: Bools = rows.mask.numpy()
        logp, old, behaviour, ref = (
            each.detach().numpy() for each in (rows.logp, rows.old_logp, rows.behaviour_logp, rows.ref_logp)
        )
        self.logp, self.old = logp, old
        self.l, self.s, self.d = (self.on(x) for x in (logp - old, old - behaviour, logp - ref))
        self.old_d = self.on(old - ref)
        self.a: Floats = self.on(rows.advantage.numpy())
        self.pi: Floats = np.exp(logp)
        self.entropy: Floats = rows.entropy.detach().numpy()
        self.n = self.mask.sum(1, keepdims=True)
        self.tokens, self.rows = int(self.mask.sum()), len(self.mask)
        self.turn, self.prompt, self.pairs = rows.turn.numpy(), rows.prompt.numpy(), rows.pairs.numpy()

    def on(self, x: Floats) -> Floats:
        return np.where(self.mask, x, 0.0)

    def row_mean(self, x: Floats) -> Floats:
        return np.broadcast_to(self.on(x).sum(1, keepdims=True) / self.n, x.shape)

    def row_sum(self, x: Floats) -> Floats:
        return np.broadcast_to(self.on(x).sum(1, keepdims=True), x.shape)

    def turn_mean(self, x: Floats) -> Floats:
        mean = np.zeros_like(x)
        for turn in np.unique(self.turn[self.mask]):
            mean[self.turn == turn] = x[self.turn == turn].mean()
        return mean


def sigmoid(x: Floats | float) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))


def weights(mask: Bools, over: Over, prompt: NDArray[np.int64]) -> Floats:
    """Weight of each token: 1/N, 1/(B |y|), 1/B, 1/(B L) or 1/(P n_p), 0 off the mask."""
    rows, length = len(mask), mask.sum(1, keepdims=True)
    of_prompt = np.array([[mask[prompt == each].sum()] for each in prompt])
    below = {
        "tokens": mask.sum(), "sequences": rows * length, "sequence_sums": rows, "constant": rows * LENGTH,
        "prompts": len(np.unique(prompt)) * of_prompt,
    }  # fmt: skip
    return np.asarray(mask / below[over], np.float64)
