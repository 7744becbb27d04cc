"""How an implementation is held against the checks.

An adapter answers questions in its implementation's own code: which advantages do these episode groups get, what is the loss of these
rows, which gradient does a model get from an update, and how likely is each token when it is sampled with these parameters.
Algorithms are named as in `sojourn.objectives.presets`.  What an implementation does not offer raises `NotOffered` with the reason;
the check is then skipped, which is neither passed nor failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sojourn.conformance.rows import Rows
from sojourn.core import EpisodeGroup
from sojourn.objectives.aggregation import Over

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class NotOffered(Exception):
    """The implementation has no such algorithm, or its interface cannot express the question."""


Question = TypeVar("Question")


def answerable(questions: Iterable[Question], ask: Callable[[Question], object]) -> list[Question]:
    """Those of the questions that get an answer.  Raises NotOffered if none does."""
    reasons, kept = [], []
    for question in questions:
        try:
            ask(question)
            kept.append(question)
        except NotOffered as reason:
            reasons.append(str(reason))
    if not kept:
        raise NotOffered(reasons[0])
    return kept


class Adapter(Protocol):
    """An implementation under test."""

    name: str

    def advantages(
        self,
        algorithm: str,
        groups: Sequence[EpisodeGroup],
        *,
        value: float = 0.0,
        after: float = 0.0,
        token_reward: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """Advantages of all action tokens, in the order of groups, episodes, actions; shape (T,).

        value: what a critic says of every state; after: of the state after an episode's last action.  token_reward: rewards paid on
        single action tokens, shape (T,).  The policy is the one that sampled, and so is the reference; its vocabulary has two tokens.
        """
        ...

    def gae(
        self,
        groups: Sequence[EpisodeGroup],
        *,
        level: Literal["token", "turn"],
        gamma: float,
        lam: float,
        value: NDArray[np.float64],
        after: float,
    ) -> NDArray[np.float64]:
        """Generalised advantages with tokens or turns as steps, shape (T,).  value: of the state before each action token, (T,)."""
        ...

    def loss(
        self, algorithm: str, rows: Rows, micro_batches: Sequence[Sequence[int]], *, aggregation: Over | None = None
    ) -> Tensor:
        """Loss of the batch, computed in micro-batches of the given rows and put together as the implementation does.

        aggregation: takes the place of the algorithm's own; the length of "constant" is `algorithms.LENGTH`.
        Where `torch.distributed` is initialised, `rows` are this rank's, and the batch's loss is the sum over the ranks.
        """
        ...

    def reported(self, algorithm: str, rows: Rows) -> Mapping[str, float]:
        """Of what the implementation reports: "ratio", the mean over tokens, and "clipped", the share of tokens that were cut."""
        ...

    def value_loss(self, value: Tensor, old_value: Tensor, target: Tensor, *, clip: float | None) -> Tensor:
        """A critic's loss; tensors of shape (T,).  clip: how far a value may move from `old_value`."""
        ...

    def model_gradient(
        self,
        algorithm: str,
        model: PreTrainedModel,
        groups: Sequence[EpisodeGroup],
        advantage: NDArray[np.float64],
        *,
        budget: int,
    ) -> Mapping[str, Tensor]:
        """Gradient at the model's parameters in the first update after sampling.  The model itself stays as it is.

        advantage: (T,).  budget: tokens of a micro-batch.
        """
        ...

    def sampled_logprobs(self, logits: Tensor, *, temperature: float, top_p: float, legal: Sequence[int] | None) -> Tensor:
        """Log-probabilities of the distribution that is really sampled from, given raw logits; both of shape (V,)."""
        ...


def gradient(
    adapter: Adapter,
    algorithm: str,
    rows: Rows,
    micro_batches: Sequence[Sequence[int]] | None = None,
    *,
    aggregation: Over | None = None,
) -> Tensor:
    """Gradient of the loss at `rows.logp`, shape (B, L)."""
    whole = [list(range(len(rows.mask)))]
    loss = adapter.loss(algorithm, rows, micro_batches or whole, aggregation=aggregation)
    (grad,) = torch.autograd.grad(loss, rows.logp)
    return grad
