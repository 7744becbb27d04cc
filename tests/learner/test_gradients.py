"""The gradient of a packed batch is that of every branch alone, however the batch is packed or cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from helpers import ARCHITECTURES, paths_of, small, unique_prefixes
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid

from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.core import EpisodeGroup, Kind, Span
from sojourn.credit import Columns, columns, dr_grpo
from sojourn.learner import Learner, OptimizerConfig
from sojourn.models import LoadedModel
from sojourn.objectives import (
    Aggregation,
    Clip,
    Denominators,
    Dpo,
    GeometricMean,
    Importance,
    Kimi,
    Kl,
    LossInputs,
    Objective,
    PolicyGradient,
    Unclipped,
)

GROUPS = [
    group([Script([Turn(5), Turn(3)], final=1.0), Script([Turn(4, reward=0.5)]), Script([Turn(6), Turn(2)])], key="a"),
    group(
        [
            Script([Turn(3), Turn(4, rewrite=True), Turn(2, rewrite=True)], final=2.0),
            Script([Turn(2)], branches=[Script([Turn(3)]), Script([Turn(4), Turn(1)]), Script([Turn(2)])]),
            Script([Turn(3)], failed=True),
        ],
        key="b",
        seed=1,
    ),
    group([Script([Turn(12, observation=1), Turn(30)], final=1.0), Script([Turn(40)])], key="c", seed=2),
]
"""Conversations, rewritten contexts, a search tree, a broken episode, long answers."""
OBJECTIVES = {
    "default": PolicyGradient(),
    "per sequence, entropy": PolicyGradient(aggregation=Aggregation(over="sequences"), entropy=0.1),
    "whole sequences": PolicyGradient(granularity="sequence", aggregation=Aggregation(over="prompts")),
}


def learner_for(loaded: LoadedModel, **settings: Any) -> Learner:
    return Learner(loaded.model, OptimizerConfig(), **settings)


def gradient(
    learner: Learner,
    groups: Sequence[EpisodeGroup],
    objective: Objective,
    advantage_T: NDArray[np.float64] | None = None,
    *,
    fresh: bool = True,
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The gradient that the optimizer would be given, and the metrics."""
    table = columns(groups)
    learner.model.zero_grad()
    learner.optimizer.step = lambda: 0.0  # type: ignore[method-assign]
    advantage_T = dr_grpo()(table) if advantage_T is None else advantage_T
    metrics = learner.update(groups, table, advantage_T, objective, fresh=fresh)
    return {name: p.grad.clone() for name, p in learner.model.named_parameters() if p.grad is not None}, metrics


def branch_log_probabilities(loaded: LoadedModel, groups: Sequence[EpisodeGroup], temperature: float = 1.0) -> Tensor:
    """Of every action token (T,), each branch run alone by the plain model."""
    parts = []
    for each in groups:
        for episode in each.episodes:
            for span in episode.actions:
                path, own = torch.from_numpy(each.tree.tokens(span)), len(each.tree[span].tokens)
                logits = loaded.model(path[None]).logits[0] / temperature
                parts.append(logits.log_softmax(-1)[torch.arange(len(path) - own - 1, len(path) - 1), path[-own:]])
    return torch.cat(parts)


def branch_entropies(loaded: LoadedModel, groups: Sequence[EpisodeGroup]) -> Tensor:
    parts = []
    for each in groups:
        for episode in each.episodes:
            for span in episode.actions:
                path, own = torch.from_numpy(each.tree.tokens(span)), len(each.tree[span].tokens)
                log_p = loaded.model(path[None]).logits[0].log_softmax(-1)[-own - 1 : -1]
                parts.append(-(log_p.exp() * log_p).sum(-1))
    return torch.cat(parts)


def branch_gradient(
    loaded: LoadedModel, groups: Sequence[EpisodeGroup], objective: Objective, table: Columns, advantage_T: NDArray[np.float64]
) -> dict[str, Tensor]:
    """All branches alone, one loss over all, one backward pass."""
    span_T = table.row_T
    episode_T = table.episode_S[span_T]
    kept = torch.from_numpy(table.valid_E[episode_T])
    sequence, prompt = torch.from_numpy(episode_T), torch.from_numpy(table.group_E[episode_T])
    logp = branch_log_probabilities(loaded, groups)
    assert table.logp_T is not None
    behaviour = torch.from_numpy(table.logp_T).float()
    inputs = LossInputs(
        logp=logp,
        old_logp=logp.detach(),
        behaviour_logp=behaviour,
        advantage=torch.from_numpy(advantage_T).float(),
        sequence=sequence,
        turn=torch.from_numpy(span_T),
        prompt=prompt,
        counts=Denominators.count(sequence[kept], prompt[kept]),
        entropy=branch_entropies(loaded, groups),
    ).take(kept)
    loaded.model.zero_grad()
    objective(inputs)[0].backward()
    return {name: p.grad for name, p in loaded.model.named_parameters() if p.grad is not None}


def assert_same(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(got) == set(expected)
    for name, wanted in expected.items():
        torch.testing.assert_close(got[name], wanted, atol=2e-5, rtol=2e-3, msg=lambda text, name=name: f"{name}: {text}")


def near_policy(loaded: LoadedModel, groups: Sequence[EpisodeGroup]) -> None:
    """Give the spans the log-probabilities of a policy near the model's, so that ratios are near 1 and most are not cut."""
    with torch.no_grad():
        logp = branch_log_probabilities(loaded, groups).numpy()
    noise = np.random.default_rng(0).normal(size=len(logp)) * 0.05
    at = 0
    for each in groups:
        for episode in each.episodes:
            for span in episode.actions:
                own = len(each.tree[span].tokens)
                each.tree[span].logprobs = (logp + noise)[at : at + own].astype(np.float32)
                at += own


@pytest.mark.parametrize("budget", [1, 30, 4096])
@pytest.mark.parametrize("compares", ["episodes", "actions"])
def test_both_sides_of_a_pair_meet_however_the_batch_is_cut(budget: int, compares: Literal["episodes", "actions"]) -> None:
    """DPO (arXiv 2305.18290, eq. 7) written out over pairs found by hand: best against worst episode of each group, or the first
    actions of those two."""
    script = [Script([Turn(5), Turn(3)], final=1.0), Script([Turn(4)]), Script([Turn(6), Turn(2)], final=0.5)]
    made = [group(script, key="a"), group(script[::-1], key="b", seed=1)]
    best_and_worst = [(0, 1), (5, 4)]  # episodes, numbered over both groups
    policy, reference = small(), small(seed=5)
    learner = learner_for(small(), reference=reference.model.requires_grad_(False), token_budget=budget)
    table = columns(made)
    table = replace(table, ref_logp_T=learner.scored(made, table, np.ones(len(table.row_T), bool), learner.reference)[0])
    learner.optimizer.step = lambda: 0.0  # type: ignore[method-assign]
    metrics = learner.update(made, table, np.zeros(len(table.row_T)), Dpo(beta=0.5, compares=compares))
    gain_T = branch_log_probabilities(policy, made) - branch_log_probabilities(small(seed=5), made).detach()
    span_T = torch.from_numpy(table.row_T)
    first = [int(np.flatnonzero(table.episode_S == episode)[0]) for episode in range(6)]
    total = [
        gain_T[torch.from_numpy(table.episode_S)[span_T] == e].sum()
        if compares == "episodes"
        else gain_T[span_T == first[e]].sum()
        for e in range(6)
    ]
    loss = torch.stack([-logsigmoid(0.5 * (total[good] - total[bad])) for good, bad in best_and_worst]).mean()
    loss.backward()
    assert metrics["loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert_same(
        {name: p.grad for name, p in learner.model.named_parameters() if p.grad is not None},
        {name: p.grad for name, p in policy.model.named_parameters() if p.grad is not None},
    )


def test_once_the_weights_have_moved_ratios_are_against_what_was_sampled() -> None:
    """PPO's clipped surrogate (arXiv 1707.06347, eq. 7) written out, with ratios that lie on both sides of the clip range."""
    made = [group([Script([Turn(5), Turn(3)]), Script([Turn(9)], final=1.0)])]
    plain = small()
    near_policy(plain, made)
    got, metrics = gradient(learner_for(small()), made, PolicyGradient(trust_region=Clip(low=0.03, high=0.03)), fresh=False)
    table = columns(made)
    assert table.logp_T is not None
    ratio = (branch_log_probabilities(plain, made) - torch.from_numpy(table.logp_T).float()).exp()
    advantage = torch.from_numpy(dr_grpo()(table)).float()
    (-torch.minimum(ratio * advantage, ratio.clamp(0.97, 1.03) * advantage).mean()).backward()
    assert_same(got, {name: p.grad for name, p in plain.model.named_parameters() if p.grad is not None})
    assert 0 < metrics["cut_high"] + metrics["cut_low"] < 1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_packed_equals_each_branch_alone(architecture: str) -> None:
    reference = small(architecture)
    near_policy(reference, GROUPS)
    table = columns(GROUPS)
    expected = branch_gradient(reference, GROUPS, PolicyGradient(), table, dr_grpo()(table))
    for budget in (40, 10_000):
        got, _ = gradient(learner_for(small(architecture), token_budget=budget), GROUPS, PolicyGradient())
        assert_same(got, expected)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_cut_into_micro_batches_changes_nothing(name: str) -> None:
    reference, objective = small(), OBJECTIVES[name]
    near_policy(reference, GROUPS)
    table = columns(GROUPS)
    expected = branch_gradient(reference, GROUPS, objective, table, dr_grpo()(table))
    found = []
    for budget in (1, 30, 60, 10_000):
        got, metrics = gradient(learner_for(small(), token_budget=budget), GROUPS, objective)
        assert_same(got, expected)
        found.append(metrics)
    for metrics in found[1:]:
        for key in set(metrics) - {"unique_tokens"}:
            assert metrics[key] == pytest.approx(found[0][key], abs=1e-5, rel=1e-4), key


def test_micro_batches_keep_within_the_budget_and_take_every_episode_once() -> None:
    learner, table = learner_for(small(), token_budget=40), columns(GROUPS)
    needed = table.valid_E[table.episode_S[table.row_T]]
    micros = learner.cut(GROUPS, table, needed)
    assert sorted(np.concatenate([m.batch.row for m in micros]).tolist()) == np.flatnonzero(needed).tolist()
    for micro in micros:
        episodes = set(table.episode_S[table.row_T[micro.batch.row]].tolist())
        assert len(micro.batch) <= 40 or len(episodes) == 1
    assert any(len(m.batch) > 40 for m in micros), "the test wants an episode that is larger than the budget"


REACHES = {
    "token": PolicyGradient(corrections=(Importance(high=1.01),)),
    "turn": PolicyGradient(granularity="turn"),
    "sequence": PolicyGradient(granularity="sequence", aggregation=Aggregation(over="sequences")),
    "sequence by correction": PolicyGradient(corrections=(Importance(granularity="sequence", high=1.01),)),
    "sequence by geometric mean": PolicyGradient(granularity="token", trust_region=GeometricMean()),
    "everything": PolicyGradient(trust_region=Kimi(), centre="behaviour"),
}


@pytest.mark.parametrize("name", REACHES)
def test_what_no_advantage_reaches_costs_nothing_and_changes_nothing(name: str) -> None:
    """Advantages of single tokens, most of them 0, against every branch computed whole."""
    reference, objective = small(), REACHES[name]
    near_policy(reference, GROUPS)
    table = columns(GROUPS)
    random = np.random.default_rng(4)
    advantage_T = random.normal(size=len(table.row_T)) * (random.random(len(table.row_T)) < 0.1)
    expected = branch_gradient(reference, GROUPS, objective, table, advantage_T)
    got, metrics = gradient(learner_for(small(), token_budget=60), GROUPS, objective, advantage_T)
    assert_same(got, expected)
    trained_T = table.valid_E[table.episode_S[table.row_T]]
    reached = {"token": np.arange(len(advantage_T)), "turn": table.row_T, "sequence": table.episode_S[table.row_T]}
    unit_T = reached.get(name.split()[0], np.zeros_like(table.row_T))
    assert metrics["trained_tokens"] == (trained_T & np.isin(unit_T, unit_T[advantage_T != 0])).sum()


def test_shared_tokens_are_computed_once_over_all_episodes() -> None:
    learner, table = learner_for(small()), columns(GROUPS)
    (micro,) = learner.cut(GROUPS, table, np.ones(len(table.row_T), bool))
    assert len(micro.batch) == unique_prefixes([path[:-1] for each in GROUPS for path in paths_of(each)])


def test_what_the_world_said_is_never_trained() -> None:
    """Log-probabilities and later words of observations are not read: the gradient is the same to the bit."""
    made = group([Script([Turn(3), Turn(4)], final=1.0), Script([Turn(5)])])
    before, _ = gradient(learner_for(small()), [made], PolicyGradient())
    for index, span in enumerate(list(made.tree.spans)):
        if span.kind == Kind.OBSERVATION:
            span.logprobs = np.full(len(span.tokens), np.nan, np.float32)
        if not made.tree.children(index):
            made.tree.add(Span(index, np.array([1, 2, 3]), Kind.OBSERVATION))
    after, _ = gradient(learner_for(small()), [made], PolicyGradient())
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_an_infrastructure_failure_leaves_gradient_and_denominators() -> None:
    scripts = [Script([Turn(3)], final=1.0), Script([Turn(4)]), Script([Turn(5)], failed=True)]
    with_failure, without = group(scripts), group(scripts[:2])
    assert_same(
        gradient(learner_for(small()), [with_failure], PolicyGradient())[0],
        gradient(learner_for(small()), [without], PolicyGradient())[0],
    )


def test_temperature_is_that_of_the_sampling() -> None:
    made = group([Script([Turn(4)], final=1.0), Script([Turn(3)])])
    for span in made.tree.spans:
        span.temperature = 0.6
    learner, table = learner_for(small()), columns([made])
    (micro,) = learner.cut([made], table, np.ones(7, bool))
    logp = learner.score(micro)[0].detach()[torch.from_numpy(np.argsort(micro.batch.row))]
    torch.testing.assert_close(logp, branch_log_probabilities(small(), [made], 0.6).detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("temperatures", [(1.0, 0.5), (0.0, 0.0)], ids=["two", "greedy"])
def test_temperatures_that_cannot_be_trained_are_refused(temperatures: tuple[float, float]) -> None:
    made = group([Script([Turn(4)], final=1.0), Script([Turn(3)])])
    for episode, temperature in zip(made.episodes, temperatures, strict=True):
        made.tree[episode.actions[0]].temperature = temperature
    with pytest.raises(ValueError, match="temperatures"):
        gradient(learner_for(small()), [made], PolicyGradient())


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_actions_among_legal_ones_are_trained_on_the_distribution_that_was_sampled(architecture: str) -> None:
    """Against full logits with what is illegal masked; the same prefix is legal in one span and free in another."""
    made = group([Script([Turn(3), Turn(2)], final=1.0), Script([Turn(2)]), Script([Turn(3)])])
    for episode, others in zip(made.episodes, [((1, 2, 3), (90, 91)), ((5,),)], strict=False):
        span = made.tree[episode.actions[0]]
        own = span.tokens.tolist()
        span.allowed = (tuple(own), *others, (own[0], 93, 94))
    expected, loss = small(architecture), []
    for episode in made.episodes:
        for each in episode.actions:
            span, path = made.tree[each], torch.from_numpy(made.tree.tokens(each))
            for i, token in enumerate(span.tokens.tolist()):
                logits = expected.model(path[None]).logits[0, len(path) - len(span.tokens) - 1 + i] / 0.7
                if span.allowed is not None:
                    mask = torch.full_like(logits, -torch.inf)
                    mask[[option[i] for option in span.allowed if option[:i] == tuple(span.tokens[:i]) and len(option) > i]] = 0
                    logits = logits + mask
                loss.append(logits.log_softmax(-1)[token])
            span.temperature = 0.7
    weights = torch.arange(1.0, 1 + len(loss)) / len(loss)
    (-(weights * torch.stack(loss)).sum() / len(loss)).backward()
    got, metrics = gradient(
        learner_for(small(architecture)),
        [made],
        PolicyGradient(granularity="none", trust_region=Unclipped()),
        weights.double().numpy(),
    )
    assert_same(got, {name: p.grad for name, p in expected.model.named_parameters() if p.grad is not None})
    assert metrics["loss"] == pytest.approx(-float((weights * torch.stack(loss)).sum().detach()) / len(loss), rel=1e-4)


def test_a_batch_without_signal_changes_nothing() -> None:
    made = group([Script([Turn(4)], final=1.0), Script([Turn(3)], final=1.0)])
    loaded = small()
    learner, table = learner_for(loaded), columns([made])
    before = {name: p.clone() for name, p in loaded.model.named_parameters()}
    metrics = learner.update([made], table, dr_grpo()(table), PolicyGradient())
    assert metrics["trained_tokens"] == metrics["grad_norm"] == learner.optimizer.steps == 0
    assert all(torch.equal(p, before[name]) for name, p in loaded.model.named_parameters())


def test_metrics_are_means_over_the_tokens_that_were_scored() -> None:
    """A group without signal is skipped, and pulls no mean towards 0."""
    paid, idle = group([Script([Turn(4)], final=1.0), Script([Turn(3)])]), group([Script([Turn(5)]), Script([Turn(6)])], key="h")
    _, alone = gradient(learner_for(small()), [paid], PolicyGradient())
    _, both = gradient(learner_for(small()), [idle, paid], PolicyGradient())
    assert both["trained_tokens"] == 7
    for name in ("ratio", "entropy", "advantage", "mismatch_k3"):
        assert both[name] == pytest.approx(alone[name], rel=1e-5), name
    assert both["ratio"] == pytest.approx(1.0)
    assert both["entropy"] == pytest.approx(float(branch_entropies(small(), [paid]).mean()), rel=1e-4)


def test_divergence_from_the_reference_is_its_closed_form() -> None:
    """k3 of two different models, and its gradient is there even without any reward."""
    made = group([Script([Turn(4)]), Script([Turn(3)])])
    policy, other = small(), small(seed=5)
    objective = PolicyGradient(kl=Kl(coefficient=0.5))
    learner = learner_for(small(), reference=other.model.requires_grad_(False))
    got, metrics = gradient(learner, [made], objective)
    logp = branch_log_probabilities(policy, [made])
    gap = branch_log_probabilities(small(seed=5), [made]).detach() - logp
    k3 = (gap.exp() - 1 - gap).mean()
    assert metrics["kl"] == pytest.approx(k3.item(), rel=1e-4)
    (0.5 * k3).backward()
    assert_same(got, {name: p.grad for name, p in policy.model.named_parameters() if p.grad is not None})


def test_the_same_model_as_reference_gives_no_divergence() -> None:
    made = group([Script([Turn(4)]), Script([Turn(3)])])
    learner = learner_for(small(), reference=small().model.requires_grad_(False))
    _, metrics = gradient(learner, [made], replace(PolicyGradient(), kl=Kl(coefficient=0.5)))
    assert abs(metrics["kl"]) < 1e-9


def test_entropies_and_squared_probabilities_are_those_of_each_branch_alone() -> None:
    plain, learner = small(), learner_for(small(), token_budget=30)
    table = columns(GROUPS)
    _, entropy_T = learner.scored(GROUPS, table, np.ones(len(table.row_T), bool))
    square_T = learner.squares(GROUPS, table, np.ones(len(table.row_T), bool))
    with torch.no_grad():
        np.testing.assert_allclose(entropy_T, branch_entropies(plain, GROUPS), atol=1e-4)
    expected = []
    for each in GROUPS:
        for span in (span for episode in each.episodes for span in episode.actions):
            with torch.no_grad():
                probabilities = plain.model(torch.from_numpy(each.tree.tokens(span))[None]).logits[0].softmax(-1)
            expected += probabilities[-len(each.tree[span].tokens) - 1 : -1].square().sum(-1).tolist()
    np.testing.assert_allclose(square_T, expected, rtol=1e-4)
