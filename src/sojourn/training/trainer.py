"""The on-policy step: tasks, rollout, credit, update, and again.

It joins the rooms and knows no algorithm: the curriculum gives tasks, all players play the episodes, and the `Learning` of each role that
learns in this step turns its view of them into new weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sojourn.agents import demonstrate
from sojourn.core import Episode, EpisodeGroup, Task, distinct
from sojourn.credit import reads
from sojourn.curriculum import dealt
from sojourn.curriculum.curriculum import Pays
from sojourn.engine import Engine
from sojourn.engine.worker import compute
from sojourn.objectives import Supervised
from sojourn.policy.running import UserCode
from sojourn.policy.session import stable_hash
from sojourn.rendering import ChatRenderer
from sojourn.training import algorithm, checkpoint, programs, setup
from sojourn.training.config import Experiment, TrainConfig
from sojourn.training.evaluations import Evaluation, check_best, unchanged
from sojourn.training.learning import Learned, Learning
from sojourn.training.ledger import NO_SIGNAL, Ledger
from sojourn.training.metrics import of_the_oracle, statistics
from sojourn.training.outcomes import advantages, outcomes
from sojourn.training.players import Engines, FormerPlayer, Player, cast_of, local, players
from sojourn.training.plays import Plays
from sojourn.training.rollout import Rollout
from sojourn.training.stored import Stored, kinds_for

RESTING = "not its turn"


class Trainer:
    """One run.  `train` is what most callers want; the trainer's parts are public for programs that need other orders.

    players: all roles by name.  `lead` is the first that learns; what a run with one role calls its model, engine and learning is the
    lead's.  model: in place of the one that the config names.  engine: makes what samples.
    """

    def __init__(
        self, config: TrainConfig, experiment: Experiment, model: setup.Model | None = None, engine: Engines = local
    ) -> None:
        self.config = config
        self.experiment = experiment = programs.played(algorithm.applied(experiment, config), config)
        self.program = programs.sampled(experiment, config)
        kinds = kinds_for(experiment.objective, experiment.credit)
        self.stored = Stored(config.learn_from, seed=config.seed, kinds=kinds) if config.learn_from else None
        self._refuse()
        self.players = compute(lambda: players(config, experiment, model, engine))
        self.learners = [player for player in self.players.values() if player.learning is not None]
        if self.stored:
            self.stored.render(self.renderer, most=self.engine.max_context, policy=self.lead.name)
        self.ledgers = {player.name: Ledger() for player in self.learners}
        self.signals = 0
        self.code = UserCode(max_errors=config.max_errors)
        self.step = 0
        self._last: dict[str, tuple[list[EpisodeGroup], Learned]] = {}
        self._played: set[int] = set()
        self._renew()

    def _refuse(self) -> None:
        """Refuse parts that contradict each other before a model is loaded."""
        from sojourn.training.roles import cast

        config, experiment = self.config, self.experiment
        check_best(config, experiment.evaluations)
        largest = self.stored.largest if self.stored else config.group_size
        trained = [role for role in cast(experiment).values() if role.trained]
        if not trained:
            raise ValueError("no role learns: let one of roles have learns=True")
        self._values = 0
        for role in trained:
            parts, numbers = role.experiment(experiment), role.config(config)
            algorithm.refuse(parts, numbers, group_size=largest)
            algorithm.warn(parts, numbers)
            if "value_S" in reads(parts.credit):
                self._values = config.value_rollouts
        if self._values:
            programs.refuse_to_play_on(self.program, experiment)

    @property
    def lead(self) -> Player:
        return self.learners[0]

    @property
    def learning(self) -> Learning:
        assert self.lead.learning is not None
        return self.lead.learning

    @property
    def ledger(self) -> Ledger:
        return self.ledgers[self.lead.name]

    @property
    def model(self) -> PreTrainedModel:
        return self.lead.model

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.lead.tokenizer

    @property
    def tokenizers(self) -> dict[str, PreTrainedTokenizerBase]:
        """By role, the lead's first."""
        return {player.name: player.tokenizer for player in (self.lead, *self.players.values())}

    @property
    def engine(self) -> Engine:
        return self.lead.engine

    @property
    def renderer(self) -> ChatRenderer:
        return self.lead.renderer

    @property
    def last(self) -> Learned:
        """What the lead learned from in the last step."""
        return self._last[self.lead.name][1]

    def _renew(self) -> None:
        """Tell all players the number of the step; see `Player.renew`."""
        for player in self.players.values():
            compute(partial(player.renew, self.step))

    def rollout(self, **sampling: Any) -> Rollout:
        """How this run plays episodes; `sampling` overrides sampling parameters."""
        return Rollout(
            self.experiment.environment,
            self.experiment.program,
            {name: player.policy(**sampling) for name, player in self.players.items()},
            self.config.limits(),
            self.config.concurrency,
            retries=self.config.retries,
            code=self.code,
            seats=self.experiment.seats,
            kept=self.experiment.kept,
        )

    @property
    def warming_up(self) -> bool:
        """Whether the next step imitates the oracle."""
        return self.step < self.config.warmup_steps

    @property
    def sampled_tokens(self) -> int:
        return sum(engine.sampled_tokens for engine in {id(player.engine): player.engine for player in self.learners}.values())

    @property
    def group_size(self) -> int:
        """Episodes a task in the next step; demonstrations of one task are all the same, so one is enough."""
        return 1 if self.warming_up else self.config.group_size

    async def train_step(self, done: Callable[[Episode], None] = lambda _: None) -> tuple[list[EpisodeGroup], dict[str, Any]]:
        """One rollout and what is learned from it: the episodes, and the metrics.  Warm-up steps imitate the oracle's episodes."""
        began, sampled, warming_up = time.monotonic(), self.sampled_tokens, self.warming_up
        self._renew()  # what an evaluation left in the KV cache must not matter to a step
        groups = self.stored.deal(self.step, self.config.groups) if self.stored else await self._sample(done)
        after_sampling = time.monotonic()
        metrics: dict[str, Any] = {}
        self._last = {}
        for player in self.learners:
            metrics |= self._named(player, await self._learn(player, groups))
        for player in self.players.values():
            if player.league:
                metrics |= {f"{player.name}/{name}": value for name, value in player.league.describe().items()}
        if len(self.players) > 1:
            metrics["roles"] = list(self.players)
        told = self._statistics(groups)
        self.step += 1
        self._renew()
        own = [group for group in groups if id(group.tree) not in self._played]  # what the curriculum played itself it knows
        heard = outcomes(own, self.learners, self._last.values())
        if not warming_up and not self.stored:  # what others solve says nothing about the policy
            self.experiment.curriculum.observe(heard)
            self.signals += sum(not each.zero_signal for each in heard)
        finished = time.monotonic()
        return groups, {
            **metrics,
            "step": self.step,
            **told,
            **({} if warming_up else {"zero_signal": float(np.mean([o.zero_signal for o in heard]))}),
            "lr": self.learning.learner.optimizer.learning_rate,
            "seconds/sample": after_sampling - began,
            "seconds/train": finished - after_sampling,
            "tokens_per_second": (self.sampled_tokens - sampled) / (after_sampling - began),
            "curriculum": self.experiment.curriculum.describe(),
        }

    def _statistics(self, groups: Sequence[EpisodeGroup]) -> dict[str, Any]:
        """What this step's episodes came to; those of an oracle say nothing about the policy."""
        told = statistics(groups)
        return of_the_oracle(told) if self.warming_up else told

    def _named(self, player: Player, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """The metrics of a role, under its name where there are several."""
        return {name if len(self.learners) == 1 else f"{player.name}/{name}": value for name, value in metrics.items()}

    async def _learn(self, player: Player, groups: Sequence[EpisodeGroup]) -> dict[str, Any]:
        """What one role makes of the step's episodes: its metrics."""
        learning, parts = player.learning, player.experiment
        assert learning is not None
        own = player.lived(groups)
        if not own:
            return {}
        episodes = [episode for group in own for episode in group.episodes]
        ledger = self.ledgers[player.name]
        metrics = self._statistics(own) if len(self.learners) > 1 else {}
        if not player.role.learns_at(self.step):
            return metrics | ledger.enter(episodes, [RESTING if e.valid else "no result" for e in episodes]).counts()
        if self.warming_up:
            parts = replace(parts, credit=algorithm.no_credit, objective=Supervised(), filters=(), critic=None)
        replayed = [] if self.warming_up else learning.replayed(own, parts, self.step)
        learned_from = [*own, *replayed]
        baseline = await self._greedy(player, learned_from) if "baseline_E" in reads(parts.credit) else None
        stale = bool(self.stored or replayed)
        learned = compute(lambda: learning.learn(learned_from, parts, self.step, baseline, stale=stale))
        self._last[player.name] = own, learned
        if self.config.replay and not self.warming_up:
            metrics["replayed"] = float(len(replayed))
            learning.remember(own, learned.table, learned.advantage_T, self.step)
        return metrics | learned.metrics | ledger.enter(episodes, learned.reason_E[: len(episodes)]).counts()

    async def _sample(self, done: Callable[[Episode], None]) -> list[EpisodeGroup]:
        """The step's groups: as many as the config says, and for those that the filters drop others, as long as rounds are left.
        [DAPO, arXiv 2503.14476, sec. 3.2]"""
        program = demonstrate if self.warming_up else self.program
        rollout = replace(self.rollout(), program=program, value_rollouts=self._values)
        groups: list[EpisodeGroup] = []
        seed = stable_hash(self.config.seed, "train", self.step)
        curriculum, everyone = self.experiment.curriculum, self.players.values()
        plays = Plays(rollout, everyone, self.step, seed, done, self.warming_up)
        for number in range(self.config.sampling_rounds):
            missing = self.config.groups - (self._kept(groups) if number else 0)
            if missing == 0:
                break
            tasks = await dealt(curriculum, missing, plays)
            policies = cast_of(everyone, stable_hash(self.step, number), missing)
            fresh = await rollout.groups(tasks, size=self.group_size, seed=seed, start=len(groups), done=done, policies=policies)
            for player in everyone:
                if isinstance(player, FormerPlayer):
                    player.record(fresh)
            groups += fresh
        self._played = {id(group.tree) for group in plays.groups}
        if isinstance(curriculum, Pays):
            curriculum.pay(outcomes(groups, self.learners))
        return [*groups, *plays.groups]

    def _kept(self, groups: Sequence[EpisodeGroup]) -> int:
        """Groups of which somebody learns something."""
        found: set[int] = set()
        for player in self.learners:
            if player.learning is not None and player.role.learns_at(self.step):
                filters = () if self.warming_up else player.experiment.filters
                places = player.learning.kept(player.view(groups), player.experiment, filters)
                found |= {place // max(1, len(player.agents)) for place in places}
        return len(found)

    async def _greedy(self, player: Player, groups: Sequence[EpisodeGroup]) -> NDArray[np.float64]:
        """For every episode of a role's view the return of its task's greedy episode, NaN where the infrastructure broke that.  [ReMax,
        arXiv 2310.10505]"""
        seats = max(1, len(player.agents))
        tasks = [group.task for group in groups[::seats]]
        greedy = player.view(await self.rollout(temperature=0.0).groups(tasks, size=1, seed=self.step))
        totals = [each.episodes[0].total if each.valid else np.nan for each in greedy]
        return np.repeat(totals, [len(group.episodes) for group in groups])

    def held_out(self, count: int) -> list[Task]:
        """At most `count` held-out tasks of every level, none twice."""
        source = self.experiment.tasks
        return [task for level in source.levels for task in distinct(source, "test", level, count)]

    async def evaluate(
        self, tasks: Sequence[Task], how: Evaluation | None = None, *, done: Callable[[Episode], None] = lambda _: None
    ) -> list[EpisodeGroup]:
        """Play each task as `how` says, once by default; a function of the weights and of what is kept, the config's seed aside.  What its
        episodes write into what is kept is forgotten: no run learns from held-out tasks."""
        self._renew()  # what was played before it must not matter to an evaluation
        how, parts = how or Evaluation(), self.experiment
        world, program = how.environment or parts.environment, how.program or parts.program
        rollout = replace(self.rollout(**how.sampling), environment=world, program=program)
        with unchanged(parts.kept):
            return await rollout.groups(tasks, size=how.repetitions, seed=stable_hash(self.config.seed, "test"), done=done)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds beside tensors, fit for JSON."""
        return {
            "curriculum": self.experiment.curriculum.state(),
            "coefficients": {p.name: p.learning.coefficients.now for p in self.learners if p.learning},
            "replay": {p.name: p.learning.replay.state() for p in self.learners if p.learning},
            "ledger": {name: ledger.state() for name, ledger in self.ledgers.items()},
            "leagues": {name: player.league.state() for name, player in self.players.items() if player.league},
            "kept": {name: each.state() for name, each in self.experiment.kept.items()},
            "roles": {
                p.name: p.facts(lead=p is self.lead) for p in sorted(self.players.values(), key=lambda p: p is not self.lead)
            },
            "signals": self.signals,
            "errors": self.code.errors,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state` with its `step`; weights are loaded apart, and before."""
        self.step = state["step"]
        self.experiment.curriculum.load_state(state["curriculum"])
        for player in self.learners:
            assert player.learning is not None
            player.learning.coefficients.now = state["coefficients"][player.name]
            player.learning.replay.load_state(state["replay"][player.name])
            self.ledgers[player.name].load_state(state["ledger"][player.name])
        for name, player in self.players.items():
            if player.league:
                player.league.load_state(state["leagues"][name])
        self._renew()
        for name, each in self.experiment.kept.items():
            each.load_state(state["kept"][name])
        self.signals, self.code.errors = state["signals"], state["errors"]

    def advice(self) -> str | None:
        """What to try if no group ever carried a signal; None if one did, or if nothing was learned from reward."""
        if self.signals or self.stored or self.step <= self.config.warmup_steps:
            return None
        return NO_SIGNAL.format(sampled=self.ledger.sampled)

    def others(self) -> dict[str, checkpoint.Stateful]:
        """What a checkpoint holds beside the lead and its optimizer: by role, but for the lead's own."""
        saved = [player.saved(lead=player is self.lead) for player in self.players.values()]
        return {name: state for each in saved for name, state in each.items()}

    def load_weights(self, path: Path) -> None:
        """Play with the weights of a checkpoint, all roles' and those of former selves; learning begins anew."""
        checkpoint.load_weights(path, self.model, self.lead.adapter)
        playing = {name: state for name, state in self.others().items() if name.endswith((".weights", ".league"))}
        checkpoint.restore(path, playing)
        self._renew()

    def advantages(self, groups: Sequence[EpisodeGroup]) -> list[dict[int, NDArray[np.float32]]]:
        """Of the last step's groups: for each group the advantages of its action spans."""
        return advantages(groups, self._last.values())
