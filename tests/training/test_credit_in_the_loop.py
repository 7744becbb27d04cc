"""What the loop gives to credit: groups without what filters dropped, and the log-probability of right answers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from helpers import logits_of, small
from small_run import config, experiment

from sojourn.agents import markov, react
from sojourn.core import Action, Environment, Observation, Task, Transition
from sojourn.credit import Columns, InformationGain, ProcessRewards, dr_grpo
from sojourn.curriculum import Uniform
from sojourn.environments import TaskList
from sojourn.policy import Program
from sojourn.training import Trainer


@dataclass(frozen=True)
class EvenEpisodes:
    """Keeps every second episode."""

    def __call__(self, columns: Columns) -> np.ndarray:
        return np.arange(len(columns.final_E)) % 2 == 0


@dataclass(frozen=True)
class MaskOdd(EvenEpisodes):
    masks: ClassVar[bool] = True


@pytest.mark.parametrize("chosen", [EvenEpisodes(), MaskOdd()])
def test_what_a_filter_drops_is_in_no_mean_and_what_it_masks_is(chosen: EvenEpisodes, tmp_path: Path) -> None:
    parts = replace(experiment(), credit=dr_grpo(), filters=(chosen,))
    trainer = Trainer(config(tmp_path, tmp_path), parts, small())
    groups, metrics = asyncio.run(trainer.train_step())
    table, advantage_T = trainer.last[:2]
    trained = 0
    for number, played in enumerate(groups):
        totals = np.array([episode.total for episode in played.episodes])
        counted = np.ones(4, bool) if isinstance(chosen, MaskOdd) else np.array([True, False, True, False])
        expected = np.where(counted, totals - totals[counted].mean(), 0.0)
        for place, episode in enumerate(played.episodes):
            mine = table.episode_S[table.row_T] == 4 * number + place
            np.testing.assert_allclose(advantage_T[mine], expected[place])
            trained += mine.sum() if place % 2 == 0 and expected[place] else 0
            assert len(episode.actions) == 1
    assert metrics["trained_tokens"] == trained > 0


def nobody(columns: Columns) -> np.ndarray:
    return np.zeros(len(columns.final_E), bool)


@pytest.mark.parametrize("name", ["ppo", "passk", "gdpo", "grpo", "top_entropy", "clip_cov", "kl_cov", "m2po", "kto", "dpo"])
def test_when_filters_drop_everything_nothing_moves(name: str, tmp_path: Path) -> None:
    trainer = Trainer(config(tmp_path, tmp_path, algorithm=name), experiment(), small())
    trainer.lead.experiment = replace(trainer.lead.experiment, filters=(nobody,))
    learned = [trainer.model, *([trainer.learning.critic.model, trainer.learning.critic.head] if trainer.learning.critic else [])]
    before = [p.detach().clone() for part in learned for p in part.parameters()]
    _, metrics = asyncio.run(trainer.train_step())
    assert metrics["trained_tokens"] == 0
    after = [p for part in learned for p in part.parameters()]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


class Quiz(Environment):
    """Three questions, whatever is said; paid at the end."""

    async def reset(self, task: Task, *, seed: int) -> Observation:
        self._at = 0
        return Observation.of(task.data["prompt"])

    async def step(self, action: Action) -> Transition:
        self._at += 1
        return Transition(Observation.of(f"Hint {self._at}."), float(len(action.text) % 2), terminated=self._at == 3)


@pytest.mark.parametrize("program", [react, markov])
def test_information_is_read_from_the_policy_that_acts(program: Program, tmp_path: Path) -> None:
    """Against the plain model, which is shown the answer after each context that an action was sampled from."""
    source = TaskList([Task("a", {"prompt": "Guess.", "answer": 42}), Task("b", {"prompt": "Say.", "answer": "yes"})], [])
    credit = InformationGain(credit=ProcessRewards(turn_terms=("information",)))
    parts = replace(experiment(), environment=Quiz, tasks=source, curriculum=Uniform(source), program=program, credit=credit)
    trainer = Trainer(config(tmp_path, tmp_path), parts, small())
    groups, metrics = asyncio.run(trainer.train_step())
    table, advantage_T = trainer.last[:2]
    expected = []
    for played in groups:
        answer = np.asarray(trainer.renderer.as_sampled(str(played.task.data["answer"])))
        for episode in played.episodes:
            for span in episode.actions:
                shown = np.concatenate([played.tree.tokens(played.tree[span].parent), answer])
                logp = torch.from_numpy(logits_of(small(), shown)).log_softmax(-1)[-len(answer) - 1 : -1]
                expected.append(float(logp[torch.arange(len(answer)), torch.from_numpy(answer)].mean()))
    np.testing.assert_allclose(table.answer_S, expected, atol=1e-4)
    assert len({len(trainer.renderer.as_sampled(str(played.task.data["answer"]))) for played in groups}) == 2
    assert advantage_T.any() and np.isfinite(metrics["loss"])
