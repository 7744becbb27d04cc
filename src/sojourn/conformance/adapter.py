"""How an implementation is held against the checks.

An adapter answers questions in its implementation's own code: which advantages do these episode groups get, what is the loss of these
rows, which gradient does a model get from an update, and how likely is each token when it is sampled with these parameters.
Algorithms are named as in `sojourn.objectives.presets`.  What an implementation does not offer raises `NotOffered` with the reason;
the check is then skipped, which is neither passed nor failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, TypeVar, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sojourn.conformance.rows import Rows
from sojourn.core import EpisodeGroup
from sojourn.credit.columns import Floats
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


class Given(TypedDict, total=False):
    """What is known of a batch beside its episodes.  T action tokens, S actions, E episodes, in the order of groups and sampling."""

    value: float | Floats
    """What a critic says of the state before each action token, (T,), or of every state; 0 if nothing is given."""
    after: float
    """What it says of the state after an episode's last action."""
    token_reward: Floats
    """Rewards paid on single action tokens, (T,)."""
    policy_logp: Floats
    """Log-probabilities under the learner's policy, (T,); if not given, the policy is the one that sampled."""
    ref_logp: Floats
    """Under the reference, or the teacher, (T,); if not given, it is the one that sampled."""
    square: Floats
    """Sums of the squared probabilities of the policy's distribution, (T,); if not given, the vocabulary has two tokens."""
    entropy: Floats
    """Entropies of that distribution, (T,); if not given, the vocabulary has two tokens."""
    rollout_value: Floats
    """Mean return of fresh rollouts from before each action, (S,)."""
    baseline: Floats
    """Return of another rollout of the same task, the greedy one, (E,)."""
    answer: Floats
    """Mean log-probability of the right answer's tokens in the place of each action, (S,)."""


class Adapter(Protocol):
    """An implementation under test.  A class that inherits from this one may leave out what its implementation does not offer."""

    name: str

    def advantages(self, algorithm: str, groups: Sequence[EpisodeGroup], **given: Unpack[Given]) -> Floats:
        """Advantages of all action tokens, in the order of groups, episodes, actions; shape (T,)."""
        raise NotOffered("no advantages")

    def gae(
        self,
        groups: Sequence[EpisodeGroup],
        *,
        granularity: Literal["token", "turn"],
        gamma: float,
        lam: float,
        value: Floats,
        after: float,
    ) -> Floats:
        """Generalised advantages with tokens or turns as steps, shape (T,).  value: of the state before each action token, (T,)."""
        raise NotOffered("no values")

    def targets(self, algorithm: str, groups: Sequence[EpisodeGroup], **given: Unpack[Given]) -> Floats:
        """What the critic of this algorithm should predict before each action token, shape (T,)."""
        raise NotOffered("no critic")

    def trained(self, algorithm: str, groups: Sequence[EpisodeGroup]) -> NDArray[np.bool_]:
        """Which episodes the algorithm's filters leave to be trained, shape (E,)."""
        raise NotOffered("no filters")

    def pairs(
        self, groups: Sequence[EpisodeGroup], *, between: Literal["episodes", "actions"], margin: float, most: int
    ) -> NDArray[np.int64]:
        """Chosen and rejected: rows of episodes, or of actions after the same prefix, shape (P, 2).

        The best of a group (of siblings) against the worst, the second against the second worst, `most` of each at most; their returns
        must differ by more than `margin`.
        """
        raise NotOffered("no pairs")

    def formula(self, name: str, **given: Any) -> Floats:
        """One of `algorithms.FORMULAS`, of arguments with the names that it gives there."""
        raise NotOffered(f"no {name}")

    def loss(
        self, algorithm: str, rows: Rows, micro_batches: Sequence[Sequence[int]], *, aggregation: Over | None = None
    ) -> Tensor:
        """Loss of the batch, computed in micro-batches of the given rows and put together as the implementation does.

        aggregation: takes the place of the algorithm's own; the length of "constant" is `algorithms.LENGTH`.
        Where `torch.distributed` is initialised, `rows` are this rank's, and the batch's loss is the sum over the ranks.
        """
        raise NotOffered("no losses")

    def reported(self, algorithm: str, rows: Rows) -> Mapping[str, float]:
        """Of what the implementation reports: "ratio", the mean over tokens, and "clipped", the share of tokens that were cut."""
        raise NotOffered("no reports")

    def value_loss(self, value: Tensor, old_value: Tensor, target: Tensor, *, clip: float | None, scale: float = 1.0) -> Tensor:
        """A critic's loss; tensors of shape (T,).  clip: how far a value may move from `old_value`.  scale: the size of returns."""
        raise NotOffered("no critic")

    def model_gradient(
        self,
        algorithm: str,
        model: PreTrainedModel,
        groups: Sequence[EpisodeGroup],
        advantage: Floats,
        *,
        budget: int,
    ) -> Mapping[str, Tensor]:
        """Gradient at the model's parameters in the first update after sampling.  The model itself stays as it is.

        advantage: (T,).  budget: tokens of a micro-batch.
        """
        raise NotOffered("no updates")

    def sampled_logprobs(self, logits: Tensor, *, temperature: float, top_p: float, legal: Sequence[int] | None) -> Tensor:
        """Log-probabilities of the distribution that is really sampled from, given raw logits; both of shape (V,)."""
        raise NotOffered("no sampling")


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
