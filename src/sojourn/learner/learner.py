"""The learner: a batch of episodes and their advantages become one optimizer step.

It shares the model with the local engine, so new weights are there the moment the step is done.  A micro-batch is a TreeBatch of
at most `token_budget` unique tokens; all denominators are counted over the whole batch first, so how it is cut changes no
gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from sojourn.core import ROOT, EpisodeGroup, Ints, Kind, Span, TrajectoryTree
from sojourn.credit import Columns, action_pairs, episode_pairs, length_pairs, reads
from sojourn.credit.dense import capped_exp
from sojourn.engine.adapters import activated, active, dropping, trained
from sojourn.engine.attention import attach, using, windows_of
from sojourn.engine.cache import Shape
from sojourn.learner.attention import TreePlan
from sojourn.learner.batch import Part, TreeBatch, build, cut
from sojourn.learner.head import legal_log_probabilities, log_probabilities, squares
from sojourn.learner.llama import fused_states, kernels_for
from sojourn.learner.micro import Micro, micro_batches, temperature_of
from sojourn.learner.optimizer import AdamW, OptimizerConfig
from sojourn.objectives import Denominators, LossInputs, Mix, Objective, imitates
from sojourn.objectives.batch_rules import BatchRule
from sojourn.objectives.inputs import compares, reach
from sojourn.phases import phase

Rows = NDArray[np.int64]


def hidden_states(model: PreTrainedModel, batch: TreeBatch, adapter: str | None = None) -> Tensor:
    """The last hidden states (N, D) of all tokens of a batch.  adapter: as in `Learner`."""
    group = model.config.get_text_config().num_attention_heads // Shape.of(model).kv_heads
    plan = TreePlan(batch, group, windows_of(model), model.dtype)
    if own := kernels_for(model):
        return fused_states(model, batch, plan, own, active(model) if adapter is None else adapter)
    with using(plan), activated(model, adapter):
        states: Tensor = model.base_model(
            input_ids=torch.from_numpy(batch.token)[None], position_ids=torch.from_numpy(batch.position)[None], use_cache=False
        ).last_hidden_state[0]
    return states


class Learner:
    """Trains `model` in place.

    token_budget: unique tokens in a micro-batch; raising it is faster until memory runs out (about 1.5 MB a token for a model
    of 135 M parameters).  reference: a frozen model for KL terms.
    adapter: which of the model's adapters is trained, and no other weight; None trains all that has a gradient, with the adapter that is
    active.  reference_adapter: which of the reference's adapters it has, "" for none: so the model itself, bare, can be the reference.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        optimizer: OptimizerConfig,
        *,
        token_budget: int = 4096,
        reference: PreTrainedModel | None = None,
        adapter: str | None = None,
        reference_adapter: str | None = None,
    ) -> None:
        for each in (model, reference):
            if each is not None:
                attach(each)
        self.model = model
        self.reference = reference
        self.adapter, self.reference_adapter = adapter, reference_adapter
        self.token_budget = token_budget
        self.optimizer = AdamW(nn.ParameterList(trained(model, adapter).values()), optimizer)

    def update(
        self,
        groups: Sequence[EpisodeGroup],
        columns: Columns,
        advantage_T: NDArray[np.float64],
        objective: Objective,
        *,
        fresh: bool = True,
        blind: Sequence[TrajectoryTree] = (),
    ) -> dict[str, float]:
        """One optimizer step.  `columns` and `advantage_T` are those of `groups`.

        fresh: the weights are still those that sampled, so every ratio to the old policy is exactly 1.  Else the old policy is
        `columns.policy_logp_T` for an objective with off-policy corrections, and for any other the policy that sampled, so that the
        ratio itself is the importance weight of the data, stored episodes too.
        blind: the groups' trees with other observations, for an objective that reads `blind_logp`.

        Returns the objective's metrics as means over the tokens that were scored (those that no advantage reaches need no pass),
        the `loss`, and costs.  Without anything to train the weights stay as they are.
        """
        trained_T = (columns.trained_S & columns.valid_E[columns.episode_S])[columns.row_T]
        with phase("packing"):
            whole = self._prepared(columns, advantage_T, trained_T, objective)
            needed_T = trained_T & self._matters(columns, advantage_T, objective, whole)
            micros = self.cut(groups, columns, needed_T, whole_groups=whole.pairs is not None, blind=blind)
        sums: dict[str, float] = {}
        tokens = entries = 0
        with dropping(self.model, self.optimizer.steps):
            for micro in micros:
                with phase("forward"):
                    inputs = self.inputs(micro, whole, objective, fresh=fresh)
                    loss, parts = objective(inputs)
                with phase("backward"):
                    loss.backward()
                tokens += len(micro.batch)
                entries += len(micro.batch.row)
                for name, value in parts.items():
                    sums[name] = sums.get(name, 0.0) + value
        with phase("optimizer"):
            norm = self.optimizer.step() if entries else 0.0
        scored = int(trained_T.sum()) / max(1, entries)
        metrics = {name: value if name == "loss" or whole.pairs is not None else value * scored for name, value in sums.items()}
        return metrics | {"grad_norm": norm, "trained_tokens": float(entries), "unique_tokens": float(tokens)}

    def cut(
        self,
        groups: Sequence[EpisodeGroup],
        columns: Columns,
        needed_T: NDArray[np.bool_],
        *,
        whole_groups: bool = False,
        blind: Sequence[TrajectoryTree] = (),
    ) -> list[Micro]:
        """Micro-batches of whole episodes, or of whole groups, of at most `token_budget` unique tokens each where one of them allows
        it."""
        return micro_batches(groups, columns, needed_T, self.token_budget, whole_groups=whole_groups, blind=blind)

    def inputs(self, micro: Micro, whole: LossInputs, objective: Objective, *, fresh: bool = True) -> LossInputs:
        """What the objective reads of one micro-batch: one forward pass with gradients, and one of the reference for a KL term.
        `whole` are the inputs of all T tokens before the update; `fresh` as in `update`."""
        row = torch.from_numpy(micro.batch.row)
        logp, entropy = self.score(micro)
        part = replace(whole.take(row), logp=logp, entropy=entropy)
        if fresh:
            part = replace(part, old_logp=logp.detach())
        if self.reference is not None and whole.ref_logp is None and "ref_logp" in reads(objective):
            part = replace(part, ref_logp=self.score(micro, self.reference)[0])
        if micro.blind is not None:
            behind = self.score(Micro(micro.blind, micro.temperature))
            part = replace(part, blind_logp=behind[0], blind_entropy=behind[1])
        return part

    def score(self, micro: Micro, model: PreTrainedModel | None = None) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy (T,) of a micro-batch's entries; by the reference, if it is given, without gradients."""
        with torch.no_grad() if model is not None else nullcontext():
            adapter = self.adapter if model is None else self.reference_adapter
            model = model or self.model
            return self._log_probabilities(hidden_states(model, micro.batch, adapter), micro, model)

    def _log_probabilities(self, hidden: Tensor, micro: Micro, model: PreTrainedModel) -> tuple[Tensor, Tensor]:
        """Of each entry, under the distribution that was sampled: of all tokens, or of the legal ones."""
        batch, (weight, softcap) = micro.batch, _head(model)
        target = torch.from_numpy(batch.target)
        free = np.setdiff1d(np.arange(len(batch.row)), list(batch.legal))
        place, where = np.unique(batch.query[free], return_inverse=True)
        logp, entropy = log_probabilities(
            hidden[torch.from_numpy(place)],
            weight,
            torch.from_numpy(where),
            target[free],
            temperature=micro.temperature,
            softcap=softcap,
        )
        if not batch.legal:
            return logp, entropy
        bound = list(batch.legal)
        among = legal_log_probabilities(
            hidden[batch.query[bound]],
            weight,
            target[bound],
            list(batch.legal.values()),
            temperature=micro.temperature,
            softcap=softcap,
        )
        back = torch.from_numpy(np.argsort(np.concatenate([free, bound])))
        return torch.cat([logp, among[0]])[back], torch.cat([entropy, among[1]])[back]

    def _prepared(
        self, columns: Columns, advantage_T: NDArray[np.float64], trained_T: NDArray[np.bool_], objective: Objective
    ) -> LossInputs:
        """The inputs of all T tokens, with what rules over the whole batch decide about the trained ones."""
        assert columns.logp_T is not None, "the engine reports log-probabilities"
        episode_T = columns.episode_S[columns.row_T]
        behaviour = torch.from_numpy(columns.logp_T).float()
        start = columns.policy_logp_T if "old_logp" in reads(objective) else None
        what = compares(objective)
        pairs = {"episodes": episode_pairs, "actions": action_pairs, "lengths": length_pairs}[what](columns) if what else None
        sequence = torch.from_numpy(columns.row_T if what == "actions" else episode_T)
        prompt = torch.from_numpy(columns.group_E[episode_T])
        trained = torch.from_numpy(trained_T)
        forced = None if columns.forced_S is None else torch.from_numpy(columns.forced_S[columns.row_T])
        some = forced is not None and bool(forced[trained].any())
        said = trained & ~forced if forced is not None else trained
        whole = LossInputs(
            logp=behaviour,
            old_logp=behaviour if start is None else torch.from_numpy(start).float(),
            behaviour_logp=behaviour,
            advantage=torch.from_numpy(advantage_T).float(),
            sequence=sequence,
            turn=torch.from_numpy(columns.row_T),
            prompt=prompt,
            counts=Denominators.count(sequence[trained], prompt[trained], pairs=0 if pairs is None else len(pairs)),
            pairs=None if pairs is None else torch.from_numpy(pairs),
            ref_logp=None if columns.ref_logp_T is None else torch.from_numpy(columns.ref_logp_T).float(),
            entropy=None if columns.entropy_T is None else torch.from_numpy(columns.entropy_T).float(),
            forced=forced if some else None,
            sampled_counts=Denominators.count(sequence[said], prompt[said]) if some else None,
            coefficients=columns.coefficients,
        )
        ruled_T = trained if imitates(objective) and not isinstance(objective, Mix) else said
        if not isinstance(objective, BatchRule) or not ruled_T.any():
            return whole
        ruled = objective.prepare(whole.take(ruled_T))
        spread = {}
        for name in ("weight", "marked"):
            if (value := getattr(ruled, name)) is not None:
                spread[name] = torch.zeros(len(behaviour), dtype=value.dtype)
                spread[name][ruled_T] = value
        kept = replace(whole.counts, pairs=ruled.counts.pairs)  # a rule may leave pairs out
        return replace(whole, prepared=True, estimate=ruled.estimate, pairs=ruled.pairs, counts=kept, **spread)

    def divergence(self, groups: Sequence[EpisodeGroup], columns: Columns, *, stale: bool = False) -> float:
        """How far this policy is from the reference: k3 in nats a token, over the first episode of each group.  [Schulman 2020]

        stale: other weights sampled.  Then, and for text that nobody sampled, the tokens are scored; else the engine's log-probabilities
        are the policy's.
        """
        assert columns.logp_T is not None, "the engine reports log-probabilities"
        first_E = np.concatenate([np.arange(len(group.episodes)) == 0 for group in groups]) & columns.valid_E
        chosen_S = columns.trained_S & first_E[columns.episode_S]
        chosen_T = chosen_S[columns.row_T]
        score = stale or (columns.forced_S is not None and columns.forced_S[chosen_S].any())
        policy_T = self.scored(groups, columns, chosen_T)[0] if score else columns.logp_T
        log = (self.reference_logp(groups, columns, chosen_T) - policy_T)[chosen_T]
        return float(np.mean(capped_exp(log) - 1 - log)) if len(log) else 0.0

    def reference_logp(
        self, groups: Sequence[EpisodeGroup], columns: Columns, chosen_T: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Log-probabilities under the reference of the chosen tokens, (T,); what `columns` has is not computed again."""
        if columns.ref_logp_T is not None:
            return columns.ref_logp_T
        assert self.reference is not None, "there is no reference"
        return self.scored(groups, columns, chosen_T, self.reference)[0]

    def scored(
        self,
        groups: Sequence[EpisodeGroup],
        columns: Columns,
        chosen_T: NDArray[np.bool_],
        model: PreTrainedModel | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Log-probabilities and entropies of the chosen tokens under `model` (the trained one by default), each (T,); 0 elsewhere."""
        logp_T, entropy_T = np.zeros(len(chosen_T)), np.zeros(len(chosen_T))
        for micro in self.cut(groups, columns, chosen_T):
            with torch.no_grad(), phase("forward"):
                logp, entropy = self.score(micro, model)
            logp_T[micro.batch.row], entropy_T[micro.batch.row] = logp.double().numpy(), entropy.double().numpy()
        return logp_T, entropy_T

    def answers(self, groups: Sequence[EpisodeGroup], columns: Columns, answer_G: Sequence[Ints]) -> NDArray[np.float64]:
        """Mean log-probability of the tokens of each group's right answer in the place of each action, (S,); 0 in invalid episodes."""
        mean_S, length_S = np.zeros(len(columns.span_S)), np.asarray([len(answer) for answer in answer_G])[columns.group_S]
        rows = np.flatnonzero(columns.valid_E[columns.episode_S])
        parts: list[Part] = []
        for row in rows.tolist():
            group = int(columns.group_S[row])
            tree, span, answer = groups[group].tree, int(columns.span_S[row]), answer_G[group]
            alone = TrajectoryTree()
            place = alone.add(Span(ROOT, tree.tokens(tree[span].parent), Kind.OBSERVATION))
            told = Span(place, answer, Kind.FORCED, temperature=tree[span].temperature)
            parts.append((alone, alone.add(told), np.full(len(answer), row)))
        for each in cut(parts, columns.episode_S[rows].tolist(), self.token_budget):
            batch = build(each)
            with torch.no_grad(), phase("forward"):
                logp = self.score(Micro(batch, temperature_of(each)))[0]
            np.add.at(mean_S, batch.row, logp.double().numpy() / length_S[batch.row])
        return mean_S

    def squares(self, groups: Sequence[EpisodeGroup], columns: Columns, chosen_T: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The sum of the squared probabilities of the distribution at each chosen token, (T,); 0 elsewhere.  Raises `ValueError` for
        tokens that were sampled among legal ones."""
        square_T = np.zeros(len(columns.row_T))
        for micro in self.cut(groups, columns, chosen_T):
            if micro.batch.legal:
                raise ValueError("the optimal token baseline is not there for legal actions: choose another algorithm")
            place, where = np.unique(micro.batch.query, return_inverse=True)
            with torch.no_grad(), phase("forward"):
                hidden = hidden_states(self.model, micro.batch, self.adapter)[torch.from_numpy(place)]
                weight, softcap = _head(self.model)
                square = squares(hidden, weight, temperature=micro.temperature, softcap=softcap)
            square_T[micro.batch.row] = square.double().numpy()[where]
        return square_T

    def _matters(
        self, columns: Columns, advantage_T: NDArray[np.float64], objective: Objective, whole: LossInputs
    ) -> NDArray[np.bool_]:
        """Tokens that the loss depends on: those of pairs, or those that an advantage reaches."""
        if whole.pairs is not None and not isinstance(objective, Mix):
            return torch.isin(whole.sequence, whole.pairs).numpy()
        far = reach(objective, whole)
        if far is None:
            return np.ones(len(advantage_T), bool)
        unit_T = {
            "token": np.arange(len(advantage_T)),
            "turn": columns.row_T,
            "sequence": columns.episode_S[columns.row_T],
        }[far]
        return np.isin(unit_T, unit_T[advantage_T != 0])


def _head(model: PreTrainedModel) -> tuple[Tensor, float | None]:
    """Weights (V, D) and soft-capping of the head."""
    return model.get_output_embeddings().weight, getattr(model.config.get_text_config(), "final_logit_softcapping", None)
