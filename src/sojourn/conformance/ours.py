"""Our own implementation under the checks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sojourn.conformance.adapter import Given, NotOffered
from sojourn.conformance.algorithms import LENGTH
from sojourn.conformance.ranks import of_all_ranks
from sojourn.conformance.rows import Rows
from sojourn.core import EpisodeGroup
from sojourn.credit import (
    Columns,
    Credit,
    Gae,
    InformationGain,
    KlInReward,
    PositiveOnly,
    ProcessRewards,
    Sum,
    Then,
    TokenReturns,
    action_pairs,
    columns,
    critic_targets,
    dr_grpo,
    episode_pairs,
    grpo,
    keep,
    shaping,
)
from sojourn.credit.columns import Floats
from sojourn.engine import SamplingParams
from sojourn.engine.sampling import restrict
from sojourn.objectives import (
    AdvantageWeighted,
    Aggregation,
    BatchRule,
    Clip,
    CriticInputs,
    Denominators,
    EntropyTarget,
    Importance,
    KlTarget,
    LossInputs,
    Objective,
    PolicyGradient,
    Reference,
    ValueLoss,
    proximal_logp,
)
from sojourn.objectives.aggregation import Over
from sojourn.objectives.inputs import compares
from sojourn.objectives.presets import preset

if TYPE_CHECKING:
    from transformers import PreTrainedModel


PPO = PolicyGradient(trust_region=Clip(low=0.2, high=0.2))
VARIANTS: dict[str, tuple[Credit | None, Objective]] = {
    "returns_k1": (KlInReward(credit=TokenReturns(), coefficient=0.5), PPO),
    "returns_k2": (KlInReward(credit=TokenReturns(), coefficient=0.5, estimator="k2"), PPO),
    "returns_k3": (KlInReward(credit=TokenReturns(), coefficient=0.5, estimator="k3"), PPO),
    "returns_abs": (KlInReward(credit=TokenReturns(), coefficient=0.5, estimator="abs"), PPO),
    "igpo_probability": (InformationGain(credit=ProcessRewards(turn_terms=("information",)), measure="probability"), PPO),
    "discounted_returns": (TokenReturns(gamma=0.9), PPO),
    "weighted_sum": (Sum(parts=(dr_grpo(), TokenReturns()), weights=(0.5, 2.0)), PPO),
    "positive_only": (Then(credit=dr_grpo(), transforms=(PositiveOnly(),)), PPO),
    "awr_half": (dr_grpo(), AdvantageWeighted(beta=0.5)),
    "product_tis": (grpo(), replace(PPO, corrections=(Importance(granularity="product"),))),
}
"""Those of `algorithms.VARIANTS`."""


def _averaged(reference: float, policy: float, rate: float) -> float:
    moved = torch.tensor([reference])
    Reference(kind="average", every=1, rate=rate).renew([moved], [torch.tensor([policy])])
    return float(moved)


def _proximal(logp: Floats, behaviour_logp: Floats, sampled: Floats, proximal: int, current: int) -> Tensor:
    now, before, version = (torch.from_numpy(each) for each in (logp, behaviour_logp, sampled))
    return proximal_logp(now, before, sampled=version, proximal=proximal, current=current)


SMALL: dict[str, Callable[..., Any]] = {
    "overlong": lambda length, **k: shaping.overlong(length, **k),
    "length_exact": lambda length, target, correct, scale: shaping.length_exact(length, target, correct, scale=scale),
    "length_max": lambda length, budget, correct, scale: shaping.length_max(length, budget, correct, scale=scale),
    "shorter_better": lambda length, correct, group, **k: shaping.shorter_better(length, correct, group, **k),
    "fewest_calls": lambda calls, correct, group: shaping.fewest_calls(calls, correct, group),
    "tool_economy": lambda calls, fewest, smooth: shaping.tool_economy(calls, fewest, smooth=smooth),
    "uncertainty": lambda agreement, scale: shaping.uncertainty(agreement, scale=scale),
    "learnability": lambda success, valid: shaping.learnability(success, valid),
    "kl_coefficient": lambda before, kl, target, samples, horizon: KlTarget(nats=target, horizon=horizon).next(
        before, kl, samples=samples
    ),
    "entropy_coefficient": lambda before, entropy, target, step: EntropyTarget(nats=target, step=step).next(before, entropy),
    "entropy_applied": lambda coefficient, entropy, target: EntropyTarget(nats=target).applied(coefficient, entropy),
    "averaged_reference": _averaged,
    "proximal_logp": _proximal,
}
"""Those of `algorithms.FORMULAS`."""


class Ours:
    """`sojourn.credit`, `sojourn.objectives` and `sojourn.learner`."""

    name = "sojourn"

    def advantages(self, algorithm: str, groups: Sequence[EpisodeGroup], **given: Unpack[Given]) -> Floats:
        credit = named(algorithm)[0]
        if credit is None:
            raise NotOffered(f"{algorithm} reads no advantage")
        return credit(_known(columns(groups), given))

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
        c = columns(groups)
        return Gae(granularity=granularity, gamma=gamma, lam=lam)(
            replace(c, value_T=value, after_S=np.full(len(c.span_S), after))
        )

    def targets(self, algorithm: str, groups: Sequence[EpisodeGroup], **given: Unpack[Given]) -> Floats:
        return critic_targets(named(algorithm)[0], _known(columns(groups), given))

    def trained(self, algorithm: str, groups: Sequence[EpisodeGroup]) -> NDArray[np.bool_]:
        return keep(preset(algorithm).filters, columns(groups))[1]

    def pairs(
        self, groups: Sequence[EpisodeGroup], *, between: Literal["episodes", "actions"], margin: float, most: int
    ) -> NDArray[np.int64]:
        return (episode_pairs if between == "episodes" else action_pairs)(columns(groups), margin=margin, most=most)

    def formula(self, name: str, **given: Any) -> Floats:
        return np.asarray(SMALL[name](**given), np.float64)

    def loss(
        self, algorithm: str, rows: Rows, micro_batches: Sequence[Sequence[int]], *, aggregation: Over | None = None
    ) -> Tensor:
        objective = named(algorithm)[1]
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
        _, metrics = named(algorithm)[1](flatten(rows, algorithm)[0])
        return {"ratio": metrics["ratio"], "clipped": metrics["cut_high"] + metrics["cut_low"]}

    def value_loss(self, value: Tensor, old_value: Tensor, target: Tensor, *, clip: float | None, scale: float = 1.0) -> Tensor:
        return ValueLoss(clip=clip, scale=scale)(
            CriticInputs(value=value, old_value=old_value, target=target, tokens=len(value))
        )[0]

    def model_gradient(
        self,
        algorithm: str,
        model: PreTrainedModel,
        groups: Sequence[EpisodeGroup],
        advantage: Floats,
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


def named(algorithm: str) -> tuple[Credit | None, Objective]:
    """Credit and objective of a preset or of a variant."""
    return VARIANTS[algorithm] if algorithm in VARIANTS else (preset(algorithm).credit, preset(algorithm).objective)


def _known(c: Columns, given: Given) -> Columns:
    """Columns with all that is known beside the episodes."""
    assert c.logp_T is not None
    p, rows = np.exp(c.logp_T), len(c.span_S)
    value = np.asarray(given.get("value", 0.0), np.float64)
    entropy = -p * c.logp_T - (1 - p) * np.log(np.maximum(1 - p, 1e-300))
    return replace(
        c,
        value_T=np.broadcast_to(value, p.shape),
        value_S=given.get("rollout_value", np.full(rows, value.flat[0])),
        after_S=np.full(rows, given.get("after", 0.0)),
        penalty_T=given.get("token_reward"),
        policy_logp_T=given.get("policy_logp", c.logp_T),
        ref_logp_T=given.get("ref_logp", c.logp_T),
        square_T=given.get("square", p**2 + (1 - p) ** 2),
        entropy_T=given.get("entropy", entropy),
        baseline_E=given.get("baseline"),
        answer_S=given.get("answer"),
    )


def flatten(rows: Rows, algorithm: str) -> tuple[LossInputs, Tensor]:
    """The action tokens of all rows, and the row of each.  What is compared may be rows, or their first actions (Step-DPO)."""
    row = torch.arange(len(rows.mask))[:, None].expand_as(rows.mask)[rows.mask]
    turn, prompt = rows.turn[rows.mask], rows.prompt[row]
    actions = compares(named(algorithm)[1]) == "actions"
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
