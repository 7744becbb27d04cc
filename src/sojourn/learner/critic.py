"""The critic: a copy of the model with a head of one number, the value of the state before each action token.

It reads the same TreeBatch as the learner, so a shared prefix is valued once.  The head starts at 0.
[PPO for language models: Ouyang et al., arXiv 2203.02155, appendix C]
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from sojourn.core import EpisodeGroup
from sojourn.credit import Columns
from sojourn.engine.attention import attach
from sojourn.learner.batch import Part, TreeBatch, build, cut
from sojourn.learner.learner import hidden_states
from sojourn.learner.optimizer import AdamW, OptimizerConfig
from sojourn.objectives.critic import CriticInputs, ValueLoss
from sojourn.phases import phase


class Critic:
    """Values of states, learned by `loss`.  `token_budget` and `adapter`, of the model that is copied, as in `Learner`."""

    def __init__(
        self,
        model: PreTrainedModel,
        optimizer: OptimizerConfig,
        loss: ValueLoss,
        *,
        token_budget: int = 4096,
        adapter: str | None = None,
    ) -> None:
        attach(model)
        self.model = copy.deepcopy(model).requires_grad_(True)
        self.model.get_output_embeddings().requires_grad_(self.model.config.tie_word_embeddings)  # else it has no gradient
        self.head = nn.Linear(self.model.config.get_text_config().hidden_size, 1, bias=False)
        nn.init.zeros_(self.head.weight)
        self.loss, self.adapter = loss, adapter
        self.optimizer = AdamW(nn.ModuleList([self.model, self.head]), optimizer)
        self.token_budget = token_budget

    def valued(self, groups: Sequence[EpisodeGroup], columns: Columns) -> Columns:
        """`columns` with `value_T`, and with `after_S` at the leaves of episodes that were cut."""
        tokens = len(columns.row_T)
        value, after = np.zeros(tokens), np.zeros(len(columns.span_S))
        with torch.no_grad(), phase("forward"):
            ends_S = columns.leaf_S & columns.bootstraps_E[columns.episode_S]
            for batch in self._batches(groups, columns, np.ones(len(ends_S), bool), ends_S):
                found = self._values(batch).double().numpy()
                own = batch.row < tokens
                value[batch.row[own]] = found[own]
                after[batch.row[~own] - tokens] = found[~own]
        return replace(columns, value_T=value, after_S=after)

    def update(self, groups: Sequence[EpisodeGroup], columns: Columns, target_T: NDArray[np.float64]) -> dict[str, float]:
        """One step towards the targets of the trained tokens of `columns`, which `valued` has filled."""
        assert columns.value_T is not None, "values come first"
        target, old = (torch.from_numpy(each).float() for each in (target_T, columns.value_T))
        kept_S = columns.valid_E[columns.episode_S] & columns.trained_S
        tokens, sums = int(kept_S[columns.row_T].sum()), dict[str, float]()
        if not tokens:
            return sums
        for batch in self._batches(groups, columns, kept_S, np.zeros_like(kept_S)):
            with phase("forward"):
                loss, parts = self.loss(
                    CriticInputs(value=self._values(batch), old_value=old[batch.row], target=target[batch.row], tokens=tokens)
                )
            with phase("backward"):
                loss.backward()
            sums = {name: sums.get(name, 0.0) + part for name, part in parts.items()}
        with phase("optimizer"):
            self.optimizer.step()
        return sums

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "head": self.head.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _values(self, batch: TreeBatch) -> Tensor:
        """Value before each entry's token, (T,), float32."""
        values: Tensor = self.head(hidden_states(self.model, batch, self.adapter)[torch.from_numpy(batch.query)].float())[:, 0]
        return values * self.loss.scale

    def _batches(
        self, groups: Sequence[EpisodeGroup], columns: Columns, chosen_S: NDArray[np.bool_], ends_S: NDArray[np.bool_]
    ) -> list[TreeBatch]:
        """The states before tokens of the chosen actions, numbered on the T axis, and those after the actions `ends_S` among them,
        numbered by their row after that."""
        tree_of = [group.tree for group in groups for _ in group.episodes]
        bounds, parts = columns.start_S.tolist(), list[Part]()
        for row in np.flatnonzero(chosen_S).tolist():
            after = [len(columns.row_T) + row] if ends_S[row] else []
            rows = np.asarray([*range(bounds[row], bounds[row + 1]), *after], np.int64)
            parts.append((tree_of[columns.episode_S[row]], int(columns.span_S[row]), rows))
        return [build(each) for each in cut(parts, columns.episode_S[chosen_S].tolist(), self.token_budget)]
