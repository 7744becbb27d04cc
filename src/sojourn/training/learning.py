"""What learns from a step's episodes: shaping, filters, credit, update, in this order.

One `Learning` belongs to one set of weights.  It knows no algorithm by name: the experiment's credit and objective say what is computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sojourn.core import Action, EpisodeGroup, Task, TrajectoryTree
from sojourn.credit import Columns, Filter, Replay, ZeroSignal, columns, critic_targets, keep, reads, shaped
from sojourn.engine.adapters import trained
from sojourn.learner import Critic, Learner
from sojourn.objectives import imitates
from sojourn.policy.session import stable_hash
from sojourn.rendering import ChatRenderer
from sojourn.store import to_row
from sojourn.store.episodes import Row, rebuild
from sojourn.training.blindfold import blindfolded
from sojourn.training.config import Experiment, TrainConfig
from sojourn.training.control import Coefficients
from sojourn.training.filling import Source, filled, needed
from sojourn.training.metrics import entropy_estimate
from sojourn.training.setup import Prepared


class Learned(NamedTuple):
    """What a step was learned from, and what came of it."""

    table: Columns
    """Of all episodes; `valid_E` is True for those that statistics count."""
    advantage_T: NDArray[np.float64]
    reason_E: list[str]
    """Why an episode is not trained; empty where it is."""
    metrics: dict[str, float]
    """What the learner and the critic say of it."""


class Learning:
    """The learner of `model` with its critic, its reference, the coefficients that move, and the groups that it remembers."""

    def __init__(
        self,
        config: TrainConfig,
        experiment: Experiment,
        ready: Prepared,
        renderer: ChatRenderer,
        name: str = "actor",
    ) -> None:
        self.name = name
        model, adapter = ready.model, ready.adapter
        self.config, self.experiment, self.model, self.renderer = config, experiment, model, renderer
        self.tokenizer = ready.tokenizer
        budget = config.token_budget
        self.learner = Learner(
            model,
            config.optimizer,
            token_budget=budget,
            reference=ready.reference,
            adapter=adapter,
            reference_adapter=ready.reference_adapter,
        )
        self.critic: Critic | None = None
        if experiment.critic:
            self.critic = Critic(model, config.optimizer, experiment.critic, token_budget=budget, adapter=adapter)
        self.coefficients = Coefficients(experiment)
        self.replay: Replay[list[Row]] = Replay(config.replay)

    def table(self, groups: Sequence[EpisodeGroup], experiment: Experiment) -> Columns:
        """What credit reads of the groups, with the shaped rewards."""
        read = columns(groups, trained=(self.name,), imitate=imitates(experiment.objective))
        return shaped(groups, read, experiment.shaping)

    def kept(self, groups: Sequence[EpisodeGroup], experiment: Experiment, filters: Sequence[Filter]) -> list[int]:
        """The places of groups of which something is trained."""
        table = self.table(groups, experiment)
        places: list[int] = np.unique(table.group_E[keep(filters, table).trained_E]).tolist()
        return places

    def replayed(self, groups: Sequence[EpisodeGroup], experiment: Experiment, step: int) -> list[EpisodeGroup]:
        """Remembered groups in place of those that carry no signal.  [arXiv 2504.08837]"""
        if not self.replay.items:
            return []
        silent = max(0, self.config.groups - len(self.kept(groups, experiment, (*experiment.filters, ZeroSignal()))))
        draw = np.random.default_rng(stable_hash(self.config.seed, "replay", step))
        return [rebuild(rows) for rows in self.replay.draw(silent, draw)]

    def remember(self, groups: Sequence[EpisodeGroup], table: Columns, advantage_T: NDArray[np.float64], step: int) -> None:
        """Keep the groups that carried a signal, as rows of the episode store, with the mean size of their advantages."""
        group_T, signal_E = table.group_S[table.row_T], ZeroSignal()(table)
        for number, group in enumerate(groups):
            if not signal_E[table.group_E == number].any():
                continue
            mine = group_T == number
            rows = [to_row(episode, group.key, lambda _: "", step=step) for episode in group.episodes]
            self.replay.add(rows, float(np.abs(advantage_T[mine]).mean()) if mine.any() else 0.0)

    def learn(
        self,
        groups: Sequence[EpisodeGroup],
        experiment: Experiment,
        step: int,
        baseline: NDArray[np.float64] | None,
        *,
        stale: bool,
    ) -> Learned:
        """Make the update.

        step: steps made before this one.  baseline: the return of each episode's greedy twin, if credit reads one.
        stale: other weights than the learner's sampled some of it.
        """
        warming_up = step < self.config.warmup_steps
        table = self.table(groups, experiment)
        if baseline is not None:  # without one, an episode cannot be judged
            table = replace(table, baseline_E=np.nan_to_num(baseline), valid_E=table.valid_E & ~np.isnan(baseline))
        kept = keep(experiment.filters, table)
        learned = {f"shaping/{name}": float(table.terms_E[name][table.valid_E].mean()) for name in experiment.shaping}
        table = replace(table, valid_E=kept.counted_E)
        entropy = entropy_estimate(table)
        if not warming_up:
            table = replace(table, coefficients=self.coefficients.of(entropy))
            learned |= self.coefficients.now
        names = needed(experiment, stale=stale, updates=self.config.epochs * self.config.minibatches)
        if "answer_S" in names:
            answer_G = [self._answer(group.task) for group in groups]
            table = replace(table, answer_S=self.learner.answers(groups, table, answer_G))
        critic = self.critic if experiment.critic else None
        read_T = (table.trained_S & table.valid_E[table.episode_S])[table.row_T]
        table = filled(Source(groups=groups, learner=self.learner, critic=critic, read_T=read_T), table, names)
        advantage_T = experiment.credit(table)
        target_T = advantage_T if critic is None else critic_targets(experiment.credit, table)
        trained = replace(table, valid_E=kept.trained_E)
        policy_learns = experiment.critic is None or experiment.critic.policy_learns(step - self.config.warmup_steps)
        blind = self._blind(groups, step) if "blind_logp" in reads(experiment.objective) else ()
        updates: list[dict[str, float]] = []
        for minibatch in self._minibatches(trained, step):
            update: dict[str, float] = {}
            if policy_learns:
                update |= self.learner.update(
                    groups, minibatch, advantage_T, experiment.objective, fresh=not updates and not stale, blind=blind
                )
            if critic is not None:
                update |= critic.update(groups, minibatch, target_T)
            updates.append(update)
        for name in dict.fromkeys(name for update in updates for name in update):  # some may have had nothing to train
            learned[name] = float(np.mean([update[name] for update in updates if name in update]))
        if "kl" not in learned and self.learner.reference is not None and not warming_up:
            learned["kl"] = self.learner.divergence(groups, trained, stale=stale)
        self._renew_reference(experiment, step)
        if not warming_up:
            self.coefficients.observe(kl=learned.get("kl"), entropy=entropy, samples=int(kept.trained_E.sum()))
        return Learned(table, advantage_T, kept.reason_E, learned)

    def _blind(self, groups: Sequence[EpisodeGroup], step: int) -> list[TrajectoryTree]:
        """The trees behind a blindfold, another one in each step."""
        return [blindfolded(group.tree, self.tokenizer, stable_hash(self.config.seed, step)) for group in groups]

    def _renew_reference(self, experiment: Experiment, step: int) -> None:
        """A reference that moves follows the policy when its time has come."""
        reference = self.learner.reference
        if reference is not None and experiment.reference.due(step + 1):
            adapter = self.learner.adapter
            both = (trained(each, adapter).values() if adapter else each.parameters() for each in (reference, self.model))
            experiment.reference.renew(*both)
            if experiment.reference.new_optimizer:
                self.learner.optimizer.forget()

    def _answer(self, task: Task) -> NDArray[np.int64]:
        """The right answer of a task, as the policy ought to say it."""
        answer = task.data.get("answer")
        if answer is None:
            raise ValueError(
                f"task '{task.id}': credit asks how likely the right answer is, but the task does not know it; let the task source put "
                "it in task.data['answer'], or choose another algorithm"
            )
        text = self.experiment.protocol.format(Action("", answer=str(answer)))
        return np.asarray(self.renderer.as_sampled(text), np.int64)

    def _minibatches(self, trained: Columns, step: int) -> Iterator[Columns]:
        """What each optimizer step of the rollout learns from: whole groups, in a new order in every epoch."""
        epochs, minibatches = self.config.epochs, self.config.minibatches
        shuffle = np.random.default_rng(stable_hash(self.config.seed, "minibatches", step))
        for _ in range(epochs):
            part_G = shuffle.permutation(int(trained.group_E.max()) + 1) % minibatches
            for number in range(minibatches):
                yield replace(trained, valid_E=trained.valid_E & (part_G[trained.group_E] == number))
