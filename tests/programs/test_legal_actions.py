"""A world that lists its actions: the policy says one of them, and is trained on the distribution over them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from helpers import small
from one_group import played, trained
from transformers import PreTrainedModel

from sojourn.agents import choose
from sojourn.core import Action, Environment, Ints, Observation, Task, Transition, UserCodeError
from sojourn.environments import from_function


class Corridor(Environment):
    """Four cells; the goal is the last, a wall before the first."""

    at = 0

    async def reset(self, task: Task, *, seed: int) -> Observation:
        return Observation.of("cell 0")

    def legal_actions(self) -> Sequence[str]:
        return ["right", "stay"] if self.at == 0 else ["right", "left", "stay"]

    async def step(self, action: Action) -> Transition:
        assert action.text in self.legal_actions()
        self.at += {"right": 1, "left": -1, "stay": 0}[action.text]
        return Transition(Observation.of(f"cell {self.at}"), float(self.at == 3), terminated=self.at == 3)


def test_every_action_is_legal_and_its_probability_is_that_among_the_legal_ones() -> None:
    run, plain = played(Corridor, choose), small().model
    spans = [run.group.tree[span] for episode in run.group.episodes for span in episode.actions]
    assert all(tuple(span.tokens.tolist()) in span.allowed for span in spans)
    assert {len(span.allowed) for span in spans} == {2, 3}
    for span in spans:
        prompt = run.group.tree.tokens(span.parent)
        among = logp_among(plain, prompt, span.allowed)
        assert np.exp(among).sum() == pytest.approx(1.0, abs=1e-5)
        assert span.logprobs.sum() == pytest.approx(among[span.allowed.index(tuple(span.tokens.tolist()))], abs=1e-4)


def logp_among(model: PreTrainedModel, prompt: Ints, allowed: Sequence[tuple[int, ...]]) -> list[float]:
    """Log-probability of each option, walking the tree of options with the plain model."""
    result = []
    for option in allowed:
        total = 0.0
        for i, token in enumerate(option):
            with torch.no_grad():
                row = model(torch.tensor([[*prompt.tolist(), *option[:i]]])).logits[0, -1]
            legal = sorted({o[i] for o in allowed if o[:i] == option[:i]})
            total += float(row[legal].log_softmax(-1)[legal.index(token)])
        result.append(total)
    return result


def test_the_first_update_has_ratio_one_and_makes_what_was_paid_likelier() -> None:
    run = played(Corridor, choose)
    for number, episode in enumerate(run.group.episodes):
        episode.reward = {"r": float(number == 0)}
    paid = [run.group.tree[span] for span in run.group.episodes[0].actions]
    before = sum(float(span.logprobs.sum()) for span in paid)
    assert asyncio.run(trained(run)).metrics["ratio"] == pytest.approx(1.0, abs=1e-6)
    after = small().model
    after.load_state_dict(run.actor.model.state_dict())
    options = [logp_among(after, run.group.tree.tokens(span.parent), span.allowed) for span in paid]
    chosen = [span.allowed.index(tuple(span.tokens.tolist())) for span in paid]
    assert sum(among[at] for among, at in zip(options, chosen, strict=True)) > before


def test_a_world_that_lists_nothing_is_named() -> None:
    world = from_function(lambda prompt, completion: 1.0, ["a"], test=["b"])
    with pytest.raises(UserCodeError, match="does not list its actions"):
        played(world.make, choose)
