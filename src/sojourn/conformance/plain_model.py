"""The gradient of an update as the plain model gives it: what updates of any layout are compared with.

The model runs as `transformers` ships it, once with every branch alone and once with padded rows; the first update's loss is written
out, -sum w A log pi.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sojourn.core import EpisodeGroup

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Gradient = Mapping[str, Tensor]


def of_branches(model: PreTrainedModel, groups: Sequence[EpisodeGroup]) -> list[list[Tensor]]:
    """Log-probabilities of each action's tokens, for each episode; every action is run by itself after what it saw."""

    def one(tree_tokens: NDArray[np.int64], own: int) -> Tensor:
        path = torch.from_numpy(tree_tokens)
        logits: Tensor = model(path[None]).logits[0, -own - 1 : -1]
        return logits.log_softmax(-1).gather(1, path[-own:, None])[:, 0]

    return [
        [one(each.tree.tokens(span), len(each.tree[span].tokens)) for span in episode.actions]
        for each in groups
        for episode in each.episodes
    ]


def of_padded_rows(model: PreTrainedModel, groups: Sequence[EpisodeGroup]) -> list[list[Tensor]]:
    """The same from one batch with a padded row for each leaf; an action that several leaves share is taken from one of them."""
    paths = [each.tree.tokens(leaf) for each in groups for leaf in _last_actions(each)]
    width = max(map(len, paths))
    tokens = torch.stack([torch.from_numpy(np.pad(path, (0, width - len(path)))) for path in paths])
    seen = torch.stack([torch.arange(width) < len(path) for path in paths])
    logp = model(tokens, attention_mask=seen.long()).logits[:, :-1].log_softmax(-1).gather(2, tokens[:, 1:, None])[..., 0]
    place, row = {}, 0
    for number, each in enumerate(groups):
        for leaf in _last_actions(each):
            for span in each.tree.actions(leaf):
                end = len(each.tree.tokens(span)) - 1
                place[number, span] = logp[row, end - len(each.tree[span].tokens) : end]
            row += 1
    return [[place[number, span] for span in episode.actions] for number, each in enumerate(groups) for episode in each.episodes]


def _last_actions(each: EpisodeGroup) -> list[int]:
    """Actions that no other follows on their path."""
    actions = [span for episode in each.episodes for span in episode.actions]
    above = {other for span in actions for other in each.tree.actions(each.tree[span].parent)}
    return [span for span in actions if span not in above]


def by_hand(logp: list[list[Tensor]], advantage: NDArray[np.float64], over: str) -> Tensor:
    """-sum w A log pi, with every action once.  w: 1/N, 1/(B |y|) or 1/B."""
    lengths = [sum(map(len, episode)) for episode in logp]
    each = {"tokens": [sum(lengths)] * len(lengths), "sequences": [len(lengths) * n for n in lengths]}
    weight = [1 / n for n in each.get(over, [len(lengths)] * len(lengths))]
    flat = torch.cat([w * torch.cat(episode) for w, episode in zip(weight, logp, strict=True)])
    return -(torch.from_numpy(advantage).float() * flat).sum()


def gradient_of(loss: Tensor, model: PreTrainedModel) -> Gradient:
    parameters = dict(model.named_parameters())
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))
