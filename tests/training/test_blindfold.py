"""What a policy sees that does not look: the world's words are gone, and nothing else; PAPO learns to need them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import small
from small_run import config, experiment

from sojourn.core import Kind, Span, TrajectoryTree, assistant, system, user
from sojourn.credit import columns
from sojourn.learner import Learner, OptimizerConfig
from sojourn.objectives import Mix, PolicyGradient
from sojourn.objectives.perception import Perception
from sojourn.rendering import ChatRenderer
from sojourn.rendering.protocols import PlainText
from sojourn.training import Trainer
from sojourn.training.blindfold import SHARE, blindfolded

SEEN, LATER = "The door is at row 3, column 5, and the key lies under the mat. " * 3, "A wall is in the way of everybody. " * 3


def talked(loaded: Any) -> TrajectoryTree:
    """A system message, what the world says, an action, and what the world says then."""
    tree, renderer = TrajectoryTree(), ChatRenderer(loaded.tokenizer, PlainText())
    context = tree.new_context((system("You walk."), user(SEEN)), renderer=renderer).prompted()
    said = np.asarray(renderer.as_sampled("north"), np.int64)
    context = context.acted(Span(context.span, said, Kind.ACTION), assistant("north")).observe(user(LATER)).prompted()
    context.acted(Span(context.span, said, Kind.ACTION), assistant("north"))
    return tree


def text_of(loaded: Any, tokens: Sequence[int]) -> str:
    return str(loaded.tokenizer.decode(list(tokens)))


def test_words_of_the_world_are_blotted_out_and_nothing_else() -> None:
    """One letter is one token here."""
    loaded = small()
    tree = talked(loaded)
    blind = blindfolded(tree, loaded.tokenizer, seed=0)
    for mine, other in zip(tree.spans, blind.spans, strict=True):
        assert (mine.kind, mine.parent, len(mine.tokens)) == (other.kind, other.parent, len(other.tokens))
        if mine.kind == Kind.ACTION or mine.message is None:
            assert np.array_equal(mine.tokens, other.tokens)
    for mine, other, words in (
        (tree[0], blind[0], SEEN),
        *[(m, o, LATER) for m, o in zip(tree.spans, blind.spans, strict=True) if m.message and m.message.text == LATER],
    ):
        whole, left = text_of(loaded, mine.tokens), text_of(loaded, other.tokens)
        first = whole.index(words.strip())
        last = first + len(words.strip())
        assert (left[:first], left[last:]) == (whole[:first], whole[last:])
        gone = [a != b for a, b in zip(whole[first:last], left[first:last], strict=True)]
        assert set(np.asarray(list(left[first:last]))[gone]) == {"_"}
        assert abs(np.mean(gone) - SHARE) < 0.15


def test_a_blindfold_is_another_in_each_step_and_the_same_for_the_same_step() -> None:
    loaded = small()
    tree = talked(loaded)
    once, again, later = (blindfolded(tree, loaded.tokenizer, seed)[0].tokens for seed in (0, 0, 1))
    assert np.array_equal(once, again) and not np.array_equal(once, later)


def test_the_loss_reads_the_same_answers_behind_the_blindfold(tmp_path: Path) -> None:
    """As `transformers` scores them on the blotted sequences; and with gradient."""
    trainer = Trainer(config(tmp_path, tmp_path), experiment(), small())
    groups, _ = asyncio.run(trainer.train_step())
    plain, loaded = small(), small()
    learner = Learner(loaded.model, OptimizerConfig(), token_budget=60)
    blind = [blindfolded(group.tree, loaded.tokenizer, 3) for group in groups]
    table = columns(groups)
    needed = np.ones(len(table.row_T), bool)
    micros = learner.cut(groups, table, needed, blind=blind)
    assert len(micros) > 1
    behind = np.zeros(len(table.row_T))
    objective = Mix(parts=(PolicyGradient(), Perception()), weights=(1.0, 1.0))
    whole = learner._prepared(table, np.zeros(len(needed)), needed, objective)
    for micro in micros:
        inputs = learner.inputs(micro, whole, objective)
        assert inputs.blind_logp is not None and inputs.blind_logp.requires_grad and inputs.blind_entropy is not None
        behind[micro.batch.row] = inputs.blind_logp.detach().numpy()
    expected = []
    trees = [tree for tree, group in zip(blind, groups, strict=True) for _ in group.episodes]
    for row, span in enumerate(table.span_S.tolist()):
        path, own = torch.from_numpy(trees[table.episode_S[row]].tokens(span)), int(table.length_S[row])
        with torch.no_grad():
            logp = plain.model(path[None]).logits[0, :-1].log_softmax(-1)
        expected += logp[torch.arange(len(path) - 1), path[1:]][-own:].tolist()
    np.testing.assert_allclose(behind, expected, atol=1e-4)


@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_papo_drives_what_is_said_behind_the_blindfold_away(gamma: float, tmp_path: Path) -> None:
    """Told nothing by rewards, a policy comes to need what it sees where it is paid for that, and only there."""
    objective = Mix(parts=(PolicyGradient(), Perception(gamma=gamma, eta=0.0)), weights=(1.0, 1.0))
    parts = replace(experiment(lambda prompt, completion: 1.0), objective=objective)
    optimizer = replace(config(tmp_path, tmp_path).optimizer, learning_rate=3e-3)
    trainer = Trainer(config(tmp_path, tmp_path, optimizer=optimizer), parts, small())
    measured = [asyncio.run(trainer.train_step())[1]["perception"] for _ in range(6)]
    assert (measured[-1] > 2 * measured[0]) == (gamma > 0)
