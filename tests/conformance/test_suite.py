"""Our implementation passes every check, and every check catches the defect it is there for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sojourn.conformance import CHECKS, Rows, adapter, as_table, run
from sojourn.conformance.adapter import NotOffered
from sojourn.conformance.checks import Result
from sojourn.conformance.ours import Ours, flatten
from sojourn.core import EpisodeGroup
from sojourn.credit import Gae, Normaliser, columns
from sojourn.objectives import PolicyGradient
from sojourn.objectives.presets import preset


@pytest.mark.parametrize("name", CHECKS)
def test_ours_passes(name: str) -> None:
    assert CHECKS[name](adapter("sojourn"))


class Credited(Ours):
    """Ours, with the advantages of another function."""

    def __init__(self, function: Callable[[Sequence[EpisodeGroup]], Any]) -> None:
        self.function = function

    def advantages(self, algorithm: str, groups: Sequence[EpisodeGroup], **values: float) -> Any:
        return self.function(groups)


def over_contexts(groups: Sequence[EpisodeGroup]) -> Any:
    """Counts an episode once for each of its contexts."""
    c = columns(groups)
    _, first = np.unique(c.context_S * 1000 + c.episode_S, return_index=True)
    episode = c.episode_S[first]
    mean = c.return_E[episode].mean()
    return c.spread_episodes(c.return_E - mean)


def with_failures(groups: Sequence[EpisodeGroup]) -> Any:
    """Takes a broken episode for a zero."""
    c = replace(columns(groups), valid_E=np.ones(sum(len(g.episodes) for g in groups), bool))
    return c.spread_episodes(Normaliser()(c.return_E, c.group_E))


def raw_singletons(groups: Sequence[EpisodeGroup]) -> Any:
    """mean 0 and deviation 1 for a group of one."""
    c = columns(groups)
    return c.spread_episodes(c.return_E if len(c.final_E) == 1 else Normaliser()(c.return_E, c.group_E))


def naive_equal(groups: Sequence[EpisodeGroup]) -> Any:
    """x - mean(x) of equal numbers is not always 0."""
    c = columns(groups)
    return c.spread_episodes((c.return_E - c.return_E.mean()) * (len(c.final_E) > 1))


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


def never_bootstraps(groups: Sequence[EpisodeGroup]) -> Any:
    c = columns(groups)
    value = np.full(int(c.length_S.sum()), 0.25)
    return Gae(level="turn", lam=0.0)(replace(c, value_T=value, after_S=np.zeros(len(c.span_S))))


@pytest.mark.parametrize(
    ("name", "defect"),
    [
        ("I1 observations do not reach advantages", by_observation),
        ("I2 splitting a turn in two changes nothing", by_action),
        ("I5 more contexts leave group statistics", over_contexts),
        ("I6 permutation of a group", positional),
        ("I6 equal rewards and groups of one give exactly 0", raw_singletons),
        ("I6 equal rewards and groups of one give exactly 0", naive_equal),
        ("I7 shift and scale of rewards", positional),
        ("I8 an infrastructure failure is no sample", with_failures),
        ("I11 every turn is credited for what follows", last_turn_only),
        ("I11 every turn is credited for what follows", dropped_observation_rewards),
        ("I12 cut bootstraps, ended does not", never_bootstraps),
    ],
)
def test_a_defect_of_credit_is_caught(name: str, defect: Callable[[Sequence[EpisodeGroup]], Any]) -> None:
    with pytest.raises(AssertionError):
        CHECKS[name](Credited(defect))


class Lossy(Ours):
    """Ours, with another loss."""

    def __init__(self, function: Callable[[str, Rows, Sequence[Sequence[int]]], Tensor]) -> None:
        self.function = function

    def loss(self, algorithm: str, rows: Rows, micro_batches: Sequence[Sequence[int]]) -> Tensor:
        return self.function(algorithm, rows, micro_batches)


def micro_means(algorithm: str, rows: Rows, micro_batches: Sequence[Sequence[int]]) -> Tensor:
    """The mean of the micro-batches' own token means."""
    objective, parts = preset(algorithm).objective, []
    for micro in micro_batches:
        index = torch.tensor(micro)
        parts.append(objective(flatten(Rows(**{name: value[index] for name, value in vars(rows).items()})))[0])
    return torch.stack(parts).mean()


def unmasked(algorithm: str, rows: Rows, micro_batches: Sequence[Sequence[int]]) -> Tensor:
    return -(rows.logp * rows.advantage).sum() / rows.mask.sum()


def padded_mean(algorithm: str, rows: Rows, micro_batches: Sequence[Sequence[int]]) -> Tensor:
    return -(rows.logp * rows.advantage * rows.mask).mean()


def flipped(algorithm: str, rows: Rows, micro_batches: Sequence[Sequence[int]]) -> Tensor:
    return -Ours().loss(algorithm, rows, micro_batches)


def detached(algorithm: str, rows: Rows, micro_batches: Sequence[Sequence[int]]) -> Tensor:
    ratio = (rows.logp - rows.old_logp).exp()
    return -(ratio * ratio.detach() * rows.advantage * rows.mask).sum()


def weighed_twice(algorithm: str, rows: Rows, micro_batches: Sequence[Sequence[int]]) -> Tensor:
    loss = Ours().loss(algorithm, rows, micro_batches)
    return loss * 2 if algorithm in ("decoupled_ppo", "gspo") else loss


@pytest.mark.parametrize(
    ("name", "defect"),
    [
        ("I1 observation values do not reach gradients", unmasked),
        ("I3 padded and packed rows give one gradient", padded_mean),
        ("I4 micro-batches of equal size give one gradient", micro_means),
        ("I4 micro-batches of any size give one gradient", micro_means),
        ("I9 the first update is REINFORCE", flipped),
        ("I13 autograd agrees with finite differences", detached),
        ("I14 decoupled PPO without staleness is PPO", weighed_twice),
        ("I14 GSPO on single tokens is token clipping", weighed_twice),
    ],
)
def test_a_defect_of_a_loss_is_caught(name: str, defect: Callable[[str, Rows, Sequence[Sequence[int]]], Tensor]) -> None:
    with pytest.raises(AssertionError):
        CHECKS[name](Lossy(defect))


def test_log_probabilities_without_renormalisation_are_caught() -> None:
    class Raw(Ours):
        def sampled_logprobs(self, logits: Tensor, **params: Any) -> Tensor:
            return logits.log_softmax(-1)

    with pytest.raises(AssertionError, match="probabilities differ"):
        CHECKS["I10 log-probabilities are of the sampled distribution"](Raw())


def test_gigpo_that_leaks_between_states_is_caught() -> None:
    class Leaky(Ours):
        def advantages(self, algorithm: str, groups: Sequence[EpisodeGroup], **values: float) -> Any:
            return super().advantages(algorithm, groups) + (1e-12 if algorithm == "gigpo" else 0)

    with pytest.raises(AssertionError):
        CHECKS["I14 GiGPO with unique states is Dr. GRPO"](Leaky())


def test_what_is_not_offered_is_neither_passed_nor_failed_and_a_crash_fails() -> None:
    class Poor(Ours):
        def advantages(self, algorithm: str, groups: Sequence[EpisodeGroup], **values: float) -> Any:
            raise NotOffered("no credit here")

        def sampled_logprobs(self, logits: Tensor, **params: Any) -> Tensor:
            raise RuntimeError("out of order")

    results = run(Poor())
    assert results["I6 permutation of a group"] == Result(None, "no credit here")
    assert results["I10 log-probabilities are of the sampled distribution"] == Result(False, "RuntimeError: out of order")
    assert results["I4 micro-batches of any size give one gradient"].passed
    assert "| I6 permutation of a group | not offered | no credit here |" in as_table(results)


def test_adapters_are_found_by_name() -> None:
    with pytest.raises(ValueError, match="no adapter is called 'ours'"):
        adapter("ours")
    assert isinstance(preset("dapo").objective, PolicyGradient)
