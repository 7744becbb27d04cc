"""Checks of whole updates of a small model: which tokens are trained, how often, and that their layout does not matter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from sojourn.conformance.adapter import Adapter
from sojourn.conformance.plain_model import Gradient, by_hand, gradient_of, of_branches, of_padded_rows
from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.core import EpisodeGroup, Kind, Span

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOLERANCE = 1e-4
"""Of the largest entry; float32."""
OVER = {"lite_ppo": "tokens", "gspo": "sequences", "luspo": "sequence_sums"}
"""What the means of these run over; at the first update they are REINFORCE."""
BUDGETS = (20, 4096)
FORKED = Script([Turn(3)], branches=[Script([Turn(2)]), Script([Turn(1), Turn(4)]), Script([Turn(2)])])


def small() -> PreTrainedModel:
    from sojourn.models import tiny  # here, because transformers take seconds to import

    return tiny(hidden=32).model


def played() -> list[EpisodeGroup]:
    """Conversations, a rewritten context, and a search tree."""
    rewritten = Script([Turn(3), Turn(2, rewrite=True), Turn(1, rewrite=True)])
    return [group([Script([Turn(4), Turn(2)]), Script([Turn(3)])], key="a"), group([rewritten, FORKED], key="b", seed=1)]


def same(seen: Gradient, expected: Gradient, what: str) -> None:
    assert set(seen) == set(expected), f"{what}: gradients of other parameters"
    size = max(float(g.abs().max()) for g in expected.values())
    gap = max(float((seen[name] - g).abs().max()) for name, g in expected.items())
    assert gap <= TOLERANCE * size, f"{what}: the gradient is off by {gap / size:.2g} of its largest entry"


def drawn(groups: Sequence[EpisodeGroup]) -> NDArray[np.float64]:
    """An advantage for each episode, given to its tokens."""
    lengths = [sum(len(each.tree[s].tokens) for s in episode.actions) for each in groups for episode in each.episodes]
    return np.repeat(np.random.default_rng(3).normal(size=len(lengths)), lengths)


def every_layout_gives_one_gradient(adapter: Adapter) -> str:
    """The implementation's own layout, in one micro-batch and in several, every branch alone, and padded rows."""
    groups, model = played(), small()
    advantage = drawn(groups)
    for name, over in OVER.items():
        seen = [adapter.model_gradient(name, model, groups, advantage, budget=budget) for budget in BUDGETS]
        for layout in (of_branches, of_padded_rows):
            expected = gradient_of(by_hand(layout(model, groups), advantage, over), model)
            for budget, each in zip(BUDGETS, seen, strict=True):
                same(each, expected, f"{name}, {budget} tokens at once, against {layout.__name__[3:].replace('_', ' ')}")
    return f"{len(OVER)} objectives; own layout, branches alone, padded rows; conversations, a rewritten context, a search tree"


def a_shared_ancestor_is_trained_once(adapter: Adapter) -> str:
    """An action of 3 tokens with three branches below it: alone with an advantage, and as one of the group's 3 + 2 + 5 + 2 tokens."""
    groups, model = [group([FORKED])], small()
    advantage = np.where(np.arange(12) < 3, 1.0, 0.0)
    ((ancestor, *_),) = of_branches(model, groups)
    seen = adapter.model_gradient("lite_ppo", model, groups, advantage, budget=4096)
    same(seen, gradient_of(-ancestor.sum() / 12, model), "the shared action")
    return "an action with three branches below it"


def what_the_world_said_is_not_trained(adapter: Adapter) -> str:
    groups, model = played(), small()
    advantage = drawn(groups)
    before = adapter.model_gradient("lite_ppo", model, groups, advantage, budget=4096)
    for each in groups:
        for span in each.tree.spans:
            if span.kind is Kind.OBSERVATION:
                span.logprobs = np.full(len(span.tokens), np.nan, np.float32)
        for leaf in list(each.tree.leaves()):
            each.tree.add(Span(leaf, np.arange(5), Kind.OBSERVATION))
    after = adapter.model_gradient("lite_ppo", model, groups, advantage, budget=4096)
    changed = [name for name, g in before.items() if not torch.equal(g, after[name])]
    assert not changed, f"the gradient of {changed[0]} changes"
    return "log-probabilities of observations that are no numbers, and observations after the last action"


def a_broken_episode_leaves_the_update(adapter: Adapter) -> str:
    scripts, model = [Script([Turn(3)]), Script([Turn(4)])], small()
    advantage = np.repeat([1.0, -0.5, 0.0], [3, 4, 5])
    without = [group(scripts)]
    with_it = [group([*scripts, Script([Turn(5)], failed=True)])]
    for name, over in OVER.items():
        expected = gradient_of(by_hand(of_branches(model, without), advantage[:7], over), model)
        same(adapter.model_gradient(name, model, with_it, advantage, budget=4096), expected, name)
    return f"{len(OVER)} objectives, gradients and denominators"
