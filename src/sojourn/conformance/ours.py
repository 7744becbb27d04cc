"""Our own implementation under the checks."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sojourn.conformance.adapter import NotOffered
from sojourn.conformance.algorithms import LENGTH
from sojourn.conformance.ranks import of_all_ranks
from sojourn.conformance.rows import Rows
from sojourn.core import EpisodeGroup
from sojourn.credit import Gae, columns
from sojourn.engine import SamplingParams
from sojourn.engine.sampling import restrict
from sojourn.objectives import Aggregation, BatchRule, CriticInputs, Denominators, LossInputs, PolicyGradient, ValueLoss
from sojourn.objectives.aggregation import Over
from sojourn.objectives.inputs import compares
from sojourn.objectives.presets import preset

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Ours:
    """`sojourn.credit`, `sojourn.objectives` and `sojourn.learner`."""

    name = "sojourn"

    def advantages(
        self,
        algorithm: str,
        groups: Sequence[EpisodeGroup],
        *,
        value: float = 0.0,
        after: float = 0.0,
        token_reward: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        credit = preset(algorithm).credit
        if credit is None:
            raise NotOffered(f"{algorithm} reads no advantage")
        c = columns(groups)
        assert c.logp_T is not None
        p, rows = np.exp(c.logp_T), len(c.span_S)
        q = 1 - p
        return credit(
            replace(
                c,
                value_T=np.full(len(p), value),
                value_S=np.full(rows, value),
                after_S=np.full(rows, after),
                penalty_T=token_reward,
                policy_logp_T=c.logp_T,
                ref_logp_T=c.logp_T,
                square_T=p**2 + q**2,
                entropy_T=-p * c.logp_T - q * np.log(np.maximum(q, 1e-300)),
            )
        )

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
        c = columns(groups)
        return Gae(level=level, gamma=gamma, lam=lam)(replace(c, value_T=value, after_S=np.full(len(c.span_S), after)))

    def loss(
        self, algorithm: str, rows: Rows, micro_batches: Sequence[Sequence[int]], *, aggregation: Over | None = None
    ) -> Tensor:
        objective = preset(algorithm).objective
        if aggregation is not None:
            if not isinstance(objective, PolicyGradient):
                raise NotOffered(f"{algorithm} has no aggregation of token losses")
            objective = replace(objective, aggregation=Aggregation(over=aggregation, length=LENGTH))
        everyone, first = of_all_ranks(rows)
        whole, row = flatten(everyone, algorithm)
        if isinstance(objective, BatchRule):
            whole = objective.prepare(whole)
        own = [torch.tensor(micro) + first for micro in micro_batches]
        return torch.stack([objective(whole.take(torch.isin(row, micro)))[0] for micro in own]).sum()

    def reported(self, algorithm: str, rows: Rows) -> Mapping[str, float]:
        _, metrics = preset(algorithm).objective(flatten(rows, algorithm)[0])
        return {"ratio": metrics["ratio"], "clipped": metrics["cut_high"] + metrics["cut_low"]}

    def value_loss(self, value: Tensor, old_value: Tensor, target: Tensor, *, clip: float | None) -> Tensor:
        return ValueLoss(clip=clip)(CriticInputs(value=value, old_value=old_value, target=target, tokens=len(value)))[0]

    def model_gradient(
        self,
        algorithm: str,
        model: PreTrainedModel,
        groups: Sequence[EpisodeGroup],
        advantage: NDArray[np.float64],
        *,
        budget: int,
    ) -> Mapping[str, Tensor]:
        from sojourn.learner import Learner, OptimizerConfig  # here, because transformers take seconds to import

        trained = copy.deepcopy(model)
        learner = Learner(trained, OptimizerConfig(), token_budget=budget)
        learner.optimizer.step = lambda: 0.0  # type: ignore[method-assign]
        learner.update(groups, columns(groups), advantage, preset(algorithm).objective)
        return {name: p.grad for name, p in trained.named_parameters() if p.grad is not None}

    def sampled_logprobs(self, logits: Tensor, *, temperature: float, top_p: float, legal: Sequence[int] | None) -> Tensor:
        params = SamplingParams(temperature=temperature, top_p=top_p)
        return restrict(logits[None].clone(), [params], [legal])[0].log_softmax(-1)


def flatten(rows: Rows, algorithm: str) -> tuple[LossInputs, Tensor]:
    """The action tokens of all rows, and the row of each.  What is compared may be rows, or their first actions (Step-DPO)."""
    row = torch.arange(len(rows.mask))[:, None].expand_as(rows.mask)[rows.mask]
    turn, prompt = rows.turn[rows.mask], rows.prompt[row]
    actions = compares(preset(algorithm).objective) == "actions"
    first = torch.stack([each[each >= 0][0] for each in rows.turn])
    sequence = turn if actions else row
    inputs = LossInputs(
        logp=rows.logp[rows.mask],
        old_logp=rows.old_logp[rows.mask],
        behaviour_logp=rows.behaviour_logp[rows.mask],
        ref_logp=rows.ref_logp[rows.mask],
        advantage=rows.advantage[rows.mask],
        entropy=rows.entropy[rows.mask],
        sequence=sequence,
        turn=turn,
        prompt=prompt,
        counts=Denominators.count(sequence, prompt, pairs=len(rows.pairs)),
        pairs=first[rows.pairs] if actions else rows.pairs,
    )
    return inputs, row
