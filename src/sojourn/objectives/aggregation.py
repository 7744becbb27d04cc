"""How token losses become one number.

Every aggregation is a weight for each token, made of global counts; the loss is the weighted sum.  That is why micro-batches and
ranks cannot change the gradient.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from sojourn.credit.ranges import INF, checked, within
from sojourn.objectives.inputs import LossInputs

Over = Literal["tokens", "sequences", "sequence_sums", "constant", "prompts"]


@checked
class Aggregation:
    """Weights of token losses.

        tokens          1 / N                     every token counts the same           [DAPO, arXiv 2503.14476, eq. 8]
        sequences       1 / (B |y_i|)             every sequence counts the same        [GRPO, arXiv 2402.03300, eq. 3]
        sequence_sums   1 / B                     log-probability of whole sequences    [RLOO, arXiv 2402.14740]
        constant        1 / (B L)                 no length bias                        [Dr. GRPO, arXiv 2503.20783, sec. 3.2]
        prompts         1 / (P n_p)               every prompt counts the same

    N tokens, B sequences, |y_i| tokens of sequence i, P prompts, n_p tokens of prompt p.
    """

    over: Over = "tokens"
    """What the mean runs over."""
    length: int = 1024
    """L of `constant`, in tokens; raising it lowers the step size."""

    def __post_init__(self) -> None:
        within(self, length=(1, INF))

    def weights(self, inputs: LossInputs) -> Tensor:
        """Weight of each token's loss, shape (T,)."""
        counts, like = inputs.counts, torch.ones_like(inputs.logp)
        if self.over == "tokens":
            return like / counts.tokens
        if self.over == "sequences":
            return like / (counts.sequences * counts.tokens_per_sequence[inputs.sequence])
        if self.over == "prompts":
            return like / (counts.prompts * counts.tokens_per_prompt[inputs.prompt])
        return like / (counts.sequences * (self.length if self.over == "constant" else 1))
