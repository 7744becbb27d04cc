"""Every check catches the defects it is there for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sojourn.conformance import CHECKS, Rows
from sojourn.conformance.ours import Ours, flatten
from sojourn.core import EpisodeGroup, Standing, StopReason, TrajectoryTree
from sojourn.credit import Normaliser, columns
from sojourn.objectives.presets import preset

Split = Sequence[Sequence[int]]


class Credited(Ours):
    """Ours, with the advantages of another function."""

    def __init__(self, function: Callable[[Sequence[EpisodeGroup]], Any]) -> None:
        self.function = function

    def advantages(self, algorithm: str, groups: Sequence[EpisodeGroup], **values: Any) -> Any:
        return self.function(groups)


def over_contexts(groups: Sequence[EpisodeGroup]) -> Any:
    """Counts an episode once for each of its contexts."""
    c = columns(groups)
    _, first = np.unique(c.context_S * 1000 + c.episode_S, return_index=True)
    mean = c.return_E[c.episode_S[first]].mean()
    return c.spread_episodes(c.return_E - mean)


def with_failures(groups: Sequence[EpisodeGroup]) -> Any:
    """Takes a broken episode for a sample, but does not train it."""
    c = columns(groups)
    return c.spread_episodes(Normaliser()(c.return_E, c.group_E))


def trained_failures(groups: Sequence[EpisodeGroup]) -> Any:
    """Keeps a broken episode out of statistics, and trains it."""
    c = columns(groups)
    advantage = Normaliser()(c.return_E, c.group_E, c.valid_E) - ~c.valid_E
    return np.repeat(advantage[c.episode_S], c.length_S)


def raw_singletons(groups: Sequence[EpisodeGroup]) -> Any:
    """Mean 0 and deviation 1 for a group of one."""
    c = columns(groups)
    return c.spread_episodes(np.where(np.bincount(c.group_E)[c.group_E] == 1, c.return_E, Normaliser()(c.return_E, c.group_E)))


def naive_equal(groups: Sequence[EpisodeGroup]) -> Any:
    """x - mean(x) of equal numbers is not always 0."""
    c = columns(groups)
    return c.spread_episodes(c.return_E - c.return_E.mean())


def last_turn_only(groups: Sequence[EpisodeGroup]) -> Any:
    """Credits no turn but the last."""
    c = columns(groups)
    return c.spread(c.earned_S - c.earned_S.mean())


def dropped_observation_rewards(groups: Sequence[EpisodeGroup]) -> Any:
    c = columns(groups)
    paid = np.array([sum(g.tree[s].reward.values()) for g in groups for e in g.episodes for s in e.actions])
    return c.spread_episodes(np.bincount(c.episode_S, paid, len(c.final_E)) + c.final_E)


def positional(groups: Sequence[EpisodeGroup]) -> Any:
    c = columns(groups)
    return c.spread_episodes(c.return_E * (1 + np.arange(len(c.final_E))))


def by_observation(groups: Sequence[EpisodeGroup]) -> Any:
    c = columns(groups)
    return c.spread_episodes(c.return_E - len(groups[0].tree.tokens(len(groups[0].tree) - 1)))


def by_action(groups: Sequence[EpisodeGroup]) -> Any:
    c = columns(groups)
    return c.spread(c.return_E[c.episode_S] * (1 + c.turn_S))


class Factor(Ours):
    """The advantages of one algorithm are off by a factor, or by a term."""

    def __init__(self, algorithm: str, factor: float = 1.0, term: float = 0.0) -> None:
        self.algorithm, self.factor, self.term = algorithm, factor, term

    def advantages(self, algorithm: str, groups: Sequence[EpisodeGroup], **values: Any) -> Any:
        seen = super().advantages(algorithm, groups, **values)
        return seen * self.factor + self.term if algorithm == self.algorithm else seen


class DeafToTokens(Ours):
    """Rewards on single tokens are lost."""

    def advantages(self, algorithm: str, groups: Sequence[EpisodeGroup], **values: Any) -> Any:
        return super().advantages(algorithm, groups, **(values | {"token_reward": None}))


class Ending(Ours):
    """Whatever the end, the state after it is worth nothing, or V'."""

    def __init__(self, *, always: bool) -> None:
        self.always = always

    def advantages(self, algorithm: str, groups: Sequence[EpisodeGroup], **values: Any) -> Any:
        return super().advantages(algorithm, *self._changed(groups, values), **values)

    def gae(self, groups: Sequence[EpisodeGroup], **values: Any) -> Any:
        return super().gae(*self._changed(groups, values), **values)

    def _changed(self, groups: Sequence[EpisodeGroup], values: dict[str, Any]) -> list[Any]:
        if not self.always:
            values["after"] = 0.0
            return [groups]
        changed = [[replace(episode, stop=StopReason.TRUNCATED) for episode in each.episodes] for each in groups]
        return [[EpisodeGroup(g.key, g.task, g.tree, episodes) for g, episodes in zip(groups, changed, strict=True)]]


class LateGae(Ours):
    """A reward is handed to the step before it as well."""

    def gae(self, groups: Sequence[EpisodeGroup], **values: Any) -> Any:
        return super().gae(groups, **(values | {"lam": 1.0}))


class TurnGae(Ours):
    """Turns are discounted twice."""

    def gae(self, groups: Sequence[EpisodeGroup], **values: Any) -> Any:
        return super().gae(groups, **(values | ({"gamma": values["gamma"] ** 2} if values["granularity"] == "turn" else {})))


class Lossy(Ours):
    """Ours, with another loss."""

    def __init__(self, function: Callable[[str, Rows, Split, Any], Tensor]) -> None:
        self.function = function

    def loss(self, algorithm: str, rows: Rows, micro_batches: Split, *, aggregation: Any = None) -> Tensor:
        return self.function(algorithm, rows, micro_batches, aggregation)


def local(algorithm: str, rows: Rows, aggregation: Any) -> Tensor:
    """The loss of some rows as if there were no others."""
    objective: Any = preset(algorithm).objective
    if aggregation is not None:
        objective = replace(objective, aggregation=replace(objective.aggregation, over=aggregation))
    loss: Tensor = objective(flatten(rows, algorithm)[0])[0]
    return loss


def micro_means(algorithm: str, rows: Rows, micro_batches: Split, aggregation: Any) -> Tensor:
    """The mean of the micro-batches' own losses."""
    return torch.stack([local(algorithm, rows.take(micro), aggregation) for micro in micro_batches]).mean()


def micro_means_of_prompts(algorithm: str, rows: Rows, micro_batches: Split, aggregation: Any) -> Tensor:
    """One aggregation alone is wrong."""
    wrong = micro_means if aggregation == "prompts" else Ours().loss
    return wrong(algorithm, rows, micro_batches, aggregation=aggregation)


def own_rank_only(algorithm: str, rows: Rows, micro_batches: Split, aggregation: Any) -> Tensor:
    """Averages over ranks that each count their own tokens, as plain data parallelism does."""
    ranks = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    return local(algorithm, rows, aggregation) / ranks


def unmasked(algorithm: str, rows: Rows, *_: Any) -> Tensor:
    return -(rows.logp * rows.advantage).sum() / rows.mask.sum()


def padded_mean(algorithm: str, rows: Rows, *_: Any) -> Tensor:
    return -(rows.logp * rows.advantage * rows.mask).mean()


def mean_of_turns(algorithm: str, rows: Rows, *_: Any) -> Tensor:
    return -(rows.logp * rows.advantage)[rows.mask].sum() / len(rows.turn[rows.mask].unique())


def flipped(algorithm: str, rows: Rows, micro_batches: Split, aggregation: Any) -> Tensor:
    return -Ours().loss(algorithm, rows, micro_batches, aggregation=aggregation)


def off_by(factor: float, *names: str) -> Callable[..., Tensor]:
    """The losses of some algorithms are off by a factor."""

    def loss(algorithm: str, rows: Rows, micro_batches: Split, aggregation: Any) -> Tensor:
        whole = Ours().loss(algorithm, rows, micro_batches, aggregation=aggregation)
        return whole * factor if algorithm in names or aggregation in names else whole

    return loss


def detached(algorithm: str, rows: Rows, *_: Any) -> Tensor:
    ratio = (rows.logp - rows.old_logp).exp()
    return -(ratio * ratio.detach() * rows.advantage * rows.mask).sum()


def cispo_with_a_moving_weight(algorithm: str, rows: Rows, micro_batches: Split, aggregation: Any) -> Tensor:
    if algorithm != "cispo":
        return Ours().loss(algorithm, rows, micro_batches, aggregation=aggregation)
    weight = (rows.logp - rows.old_logp).exp().clamp(0, 5)
    return -(weight * rows.advantage * rows.logp * rows.mask).sum() / rows.mask.sum()


class Reporting(Ours):
    """Ours, with another report."""

    def __init__(self, **said: float) -> None:
        self.said = said

    def reported(self, algorithm: str, rows: Rows) -> Mapping[str, float]:
        return {**super().reported(algorithm, rows), **self.said}


class Valued(Ours):
    """Ours, with another loss of the critic."""

    def __init__(self, factor: float = 1.0, *, kinder: bool = False) -> None:
        self.factor, self.kinder = factor, kinder

    def value_loss(self, value: Tensor, old_value: Tensor, target: Tensor, *, clip: float | None, scale: float = 1.0) -> Tensor:
        if clip is None or not self.kinder:
            return super().value_loss(value, old_value, target, clip=clip, scale=scale) * self.factor
        near = old_value + (value - old_value).clamp(-clip, clip)
        return torch.minimum((value - target).square(), (near - target).square()).mean() / 2


class Raw(Ours):
    """Temperature, top-p and legality are all forgotten, or what is left is not renormalised."""

    def __init__(self, *, kept: bool) -> None:
        self.kept = kept

    def sampled_logprobs(self, logits: Tensor, *, temperature: float, **params: Any) -> Tensor:
        plain = (logits / temperature).log_softmax(-1)
        left = super().sampled_logprobs(logits, temperature=temperature, **params).isfinite()
        return torch.where(left, plain, -torch.inf) if self.kept else logits.log_softmax(-1)


Change = Callable[[Sequence[EpisodeGroup], Any], tuple[Sequence[EpisodeGroup], Any]]


class Updated(Ours):
    """Ours, of other groups or advantages."""

    def __init__(self, change: Change) -> None:
        self.change = change

    def model_gradient(
        self, algorithm: str, model: Any, groups: Sequence[EpisodeGroup], advantage: Any, *, budget: int
    ) -> Mapping[str, Tensor]:
        return super().model_gradient(algorithm, model, *self.change(groups, advantage), budget=budget)


class Averaged(Ours):
    """The gradient is divided by something that should not matter."""

    def __init__(self, by: Callable[[Sequence[EpisodeGroup], int], float]) -> None:
        self.by = by

    def model_gradient(
        self, algorithm: str, model: Any, groups: Sequence[EpisodeGroup], advantage: Any, *, budget: int
    ) -> Mapping[str, Tensor]:
        whole = super().model_gradient(algorithm, model, groups, advantage, budget=budget)
        return {name: grad / self.by(groups, budget) for name, grad in whole.items()}


def once_for_each_leaf(groups: Sequence[EpisodeGroup], advantage: Any) -> tuple[Sequence[EpisodeGroup], Any]:
    """A shared action is trained in the row of every leaf below it."""

    def leaves(tree: TrajectoryTree, span: int) -> int:
        below = [child for child in tree.children(span) for child in tree.children(child)]
        return sum(leaves(tree, child) for child in below) or 1

    times = [leaves(g.tree, s) for g in groups for e in g.episodes for s in e.actions]
    return groups, advantage * np.repeat(times, columns(groups).length_S)


def fixed(groups: Sequence[EpisodeGroup], advantage: Any) -> tuple[Sequence[EpisodeGroup], Any]:
    """A broken episode is an episode."""
    whole = [[replace(episode, failures=[]) for episode in each.episodes] for each in groups]
    return [EpisodeGroup(g.key, g.task, g.tree, episodes) for g, episodes in zip(groups, whole, strict=True)], advantage


def tokens_of(groups: Sequence[EpisodeGroup], budget: int) -> float:
    """Tokens of all spans, the world's too."""
    return sum(len(span.tokens) for each in groups for span in each.tree.spans)


class Trained(Ours):
    """Trains what is unusable, or drops what is degraded but real."""

    def __init__(self, *, unusable: bool = False, degraded: bool = True) -> None:
        self.learns = {Standing.UNUSABLE: unusable, Standing.DEGRADED: degraded}

    def trained(self, algorithm: str, groups: Sequence[EpisodeGroup]) -> Any:
        standing = [episode.standing for each in groups for episode in each.episodes]
        return np.array([self.learns.get(each, each is Standing.VALID) for each in standing])


DEFECTS: dict[str, list[Ours]] = {
    "I1 observations do not reach advantages": [Credited(by_observation)],
    "I1 observation values do not reach gradients": [Lossy(unmasked)],
    "I1 what the world said is not trained": [Averaged(tokens_of)],
    "I2 splitting a turn in two changes no advantage": [Credited(by_action)],
    "I2 splitting a turn in two changes no gradient": [Lossy(mean_of_turns)],
    "I3 padded and packed rows give one gradient": [Lossy(padded_mean)],
    "I3 own layout, branches alone and padded rows give one gradient": [
        Updated(once_for_each_leaf),
        Averaged(lambda groups, budget: 2.0 if budget < 100 else 1.0),
    ],
    "I4 micro-batches of equal size give one gradient": [Lossy(micro_means), Lossy(micro_means_of_prompts)],
    "I4 micro-batches of any size give one gradient": [Lossy(micro_means), Lossy(micro_means_of_prompts)],
    "I4 any number of ranks gives one gradient": [Lossy(own_rank_only)],
    "I5 a shared ancestor is trained once": [Updated(once_for_each_leaf)],
    "I5 more contexts leave group statistics": [Credited(over_contexts)],
    "I6 permutation of a group": [Credited(positional)],
    "I6 equal rewards give exactly 0": [Credited(naive_equal), Factor("tree_po", term=1e-17)],
    "I6 a group of one gives exactly 0": [Credited(raw_singletons)],
    "I7 shift and scale of rewards": [Credited(positional), Factor("dr_grpo", 0.0)],
    "I8 an infrastructure failure is no sample": [Credited(with_failures), Credited(trained_failures)],
    "I8 a failure means what its class says": [Credited(with_failures), Trained(unusable=True), Trained(degraded=False)],
    "I8 a broken episode leaves the update": [Updated(fixed)],
    "I9 the first update is REINFORCE": [Lossy(flipped), Lossy(off_by(0.5, "gspo")), Lossy(off_by(1.001, "sapo"))],
    "I9 at the first update nothing is clipped": [Reporting(ratio=1.01), Reporting(clipped=0.1), Reporting(clipped=0.0)],
    "I10 log-probabilities are of the sampled distribution": [Raw(kept=False), Raw(kept=True)],
    "I11 the place of a reward in its turn does not matter": [Credited(dropped_observation_rewards), DeafToTokens()],
    "I11 a reward credits the turn that caused it": [LateGae()],
    "I11 every turn is credited for what follows": [Credited(last_turn_only)],
    "I12 cut bootstraps, ended does not": [Ending(always=False), Ending(always=True), TurnGae()],
    "I12 a cut is an end that pays its future": [Ending(always=False), Ending(always=True)],
    "I13 gradients are those of the formulas": [
        Lossy(detached),
        Lossy(cispo_with_a_moving_weight),
        *(Lossy(off_by(1.001, name)) for name in ("topr", "vespo", "dft", "chord", "kto")),
    ],
    "I13 the critic's loss and gradient": [Valued(2.0), Valued(kinder=True)],
    "I14 GiGPO with unique states is Dr. GRPO": [Factor("gigpo", term=1e-12)],
    "I14 without turn rewards and forks credit is of groups": [Factor("mt_grpo", 1.001), Factor("rloo", 0.75)],
    "I14 GAE of turns of one token is GAE of tokens": [TurnGae()],
    "I14 on-policy V-trace is Monte-Carlo GAE": [Factor("impala", 1.001)],
    "I14 GSPO on single tokens is token clipping": [Lossy(off_by(2.0, "gspo"))],
    "I14 corrections without staleness do nothing": [Lossy(off_by(2.0, "decoupled_ppo")), Lossy(off_by(0.5, "icepop"))],
    "I14 means over equal lengths coincide": [Lossy(off_by(2.0, "prompts"))],
}


def test_every_check_has_a_defect() -> None:
    """Those of the checks of numbers are in `test_numbers`."""
    assert list(DEFECTS) == [name for name in CHECKS if name.startswith("I")]


@pytest.mark.parametrize(("name", "defect"), [(name, defect) for name, defects in DEFECTS.items() for defect in defects])
def test_a_defect_is_caught(name: str, defect: Ours) -> None:
    with pytest.raises(AssertionError):
        CHECKS[name](defect)
