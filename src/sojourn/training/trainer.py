"""The on-policy step: tasks, rollout, credit, update, and again.

It joins the rooms and knows no algorithm: the curriculum gives tasks, episodes are played, and `Learning` turns them into new weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sojourn.agents import demonstrate
from sojourn.core import Episode, EpisodeGroup, Restorable
from sojourn.credit import reads
from sojourn.engine.local import LocalEngine
from sojourn.objectives import Supervised
from sojourn.policy import Policy
from sojourn.policy.running import UserCode
from sojourn.policy.session import stable_hash
from sojourn.rendering import ChatRenderer
from sojourn.training import algorithm, checkpoint, setup
from sojourn.training.config import Experiment, TrainConfig
from sojourn.training.learning import ACTOR, Learned, Learning
from sojourn.training.ledger import Ledger
from sojourn.training.metrics import advantages_by_group, outcome, statistics
from sojourn.training.rollout import Rollout
from sojourn.training.stored import Stored


class Trainer:
    """One run.  `train` is what most callers want; the trainer's parts are public for programs that need other orders."""

    def __init__(self, config: TrainConfig, experiment: Experiment, model: setup.Model | None = None) -> None:
        self.config = config
        self.experiment = experiment = algorithm.applied(experiment, config)
        self.stored = Stored(config.episodes, seed=config.seed) if config.episodes else None
        largest = max(len(group.episodes) for group in self.stored.groups) if self.stored else config.group_size
        algorithm.refuse(experiment, config, group_size=largest)
        algorithm.warn(experiment, config)
        self._values = config.value_rollouts if "value_S" in reads(experiment.credit) else 0
        if self._values and not isinstance(world := experiment.environment(), Restorable):
            raise ValueError(
                f"this credit plays on from every state and goes back, which {type(world).__name__} cannot: give it `snapshot` and "
                "`restore`, or choose an algorithm with a critic"
            )
        self.model, self.tokenizer, reference = setup.prepare(config, experiment, model)
        self.engine = LocalEngine(self.model, self.tokenizer, max_batch=config.concurrency, max_context=config.max_context)
        self.renderer = ChatRenderer(self.tokenizer, experiment.protocol)
        self.learning = Learning(config, experiment, self.model, self.renderer, reference)
        self.ledger = Ledger()
        self.signals = 0
        self.code = UserCode(max_errors=config.max_errors)
        self.step = 0
        self._last: Learned

    def rollout(self, **sampling: Any) -> Rollout:
        """How this run plays episodes; `sampling` overrides sampling parameters."""
        params = replace(self.config.sampling(), **sampling)
        policy = Policy(ACTOR, self.engine, self.renderer, self.experiment.protocol, params)
        return Rollout(
            self.experiment.environment,
            self.experiment.program,
            {ACTOR: policy},
            self.config.limits(),
            self.config.concurrency,
            retries=self.config.retries,
            code=self.code,
        )

    @property
    def warming_up(self) -> bool:
        """Whether the next step imitates the oracle."""
        return self.step < self.config.warmup_steps

    async def train_step(self, done: Callable[[Episode], None] = lambda _: None) -> tuple[list[EpisodeGroup], dict[str, Any]]:
        """One rollout and what is learned from it: the episodes, and the metrics.  Warm-up steps imitate the oracle's episodes."""
        began, sampled, learning = time.monotonic(), self.engine.sampled_tokens, self.learning
        self.engine.update(self.step)  # what an evaluation left in the KV cache must not matter to a step
        experiment, rollout = self.experiment, replace(self.rollout(), value_rollouts=self._values)
        if self.warming_up:
            experiment = replace(experiment, credit=algorithm.no_credit, objective=Supervised(), filters=(), critic=None)
            rollout = replace(rollout, program=demonstrate)
        groups = self.stored.deal(self.step, self.config.groups) if self.stored else await self._sample(rollout, experiment, done)
        replayed = [] if self.warming_up else learning.replayed(groups, experiment, self.step)
        learned_from = [*groups, *replayed]
        baseline = await self._greedy(learned_from) if "baseline_E" in reads(experiment.credit) else None
        after_sampling = time.monotonic()
        stale = bool(self.stored or replayed)
        self._last = learned = learning.learn(learned_from, experiment, self.step, baseline, stale=stale)
        if self.config.replay and not self.warming_up:
            learned.metrics["replayed"] = float(len(replayed))
            learning.remember(groups, learned.table, learned.advantage_T, self.step)
        episodes = [episode for group in groups for episode in group.episodes]
        entered = self.ledger.enter(episodes, learned.reason_E[: len(episodes)])
        self.step += 1
        self.engine.update(self.step)
        outcomes = [known for group in groups if (known := outcome(group)) is not None]
        if experiment is self.experiment and not self.stored:  # what others solve says nothing about the policy
            experiment.curriculum.observe(outcomes)
            self.signals += sum(not each.zero_signal for each in outcomes)
        finished = time.monotonic()
        metrics: dict[str, Any] = {
            **learned.metrics,
            "step": self.step,
            **statistics(groups),
            **entered.counts(),
            "zero_signal": float(np.mean([o.zero_signal for o in outcomes])),
            "lr": learning.learner.optimizer.learning_rate,
            "seconds/sample": after_sampling - began,
            "seconds/train": finished - after_sampling,
            "tokens_per_second": (self.engine.sampled_tokens - sampled) / (after_sampling - began),
            "curriculum": experiment.curriculum.describe(),
        }
        return groups, metrics

    async def _sample(self, rollout: Rollout, experiment: Experiment, done: Callable[[Episode], None]) -> list[EpisodeGroup]:
        """The step's groups: as many as the config says, and for those that the filters drop others, as long as rounds are left.
        [DAPO, arXiv 2503.14476, sec. 3.2]"""
        groups: list[EpisodeGroup] = []
        seed = stable_hash(self.config.seed, "train", self.step)
        for number in range(self.config.sampling_rounds):
            missing = self.config.groups - (self.learning.kept(groups, experiment, experiment.filters) if number else 0)
            if missing == 0:
                break
            tasks = experiment.curriculum.next(missing)
            groups += await rollout.groups(tasks, size=self.config.group_size, seed=seed, start=len(groups), done=done)
        return groups

    async def _greedy(self, groups: Sequence[EpisodeGroup]) -> NDArray[np.float64]:
        """For every episode the return of its task's greedy episode, NaN where the infrastructure broke that.  [ReMax, arXiv
        2310.10505]"""
        greedy = await self.rollout(temperature=0.0).groups([group.task for group in groups], size=1, seed=self.step)
        totals = [each.episodes[0].total if each.valid else np.nan for each in greedy]
        return np.repeat(totals, [len(group.episodes) for group in groups])

    async def evaluate(
        self, count: int, *, greedy: bool = False, done: Callable[[Episode], None] = lambda _: None
    ) -> list[EpisodeGroup]:
        """Play `count` held-out tasks of every level once; a function of the weights, the config's seed aside."""
        source = self.experiment.tasks
        tasks = [source.task("test", level, index) for level in source.levels for index in range(count)]
        rollout = self.rollout(temperature=0.0) if greedy else self.rollout()
        return await rollout.groups(tasks, size=1, seed=stable_hash(self.config.seed, "test"), done=done)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds beside tensors, fit for JSON."""
        return {
            "curriculum": self.experiment.curriculum.state(),
            "coefficients": self.learning.coefficients.now,
            "replay": self.learning.replay.state(),
            "ledger": self.ledger.state(),
            "signals": self.signals,
            "errors": self.code.errors,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state` with its `step`; weights are loaded apart."""
        self.step = state["step"]
        self.engine.update(self.step)
        self.experiment.curriculum.load_state(state["curriculum"])
        self.learning.coefficients.now = state["coefficients"]
        self.learning.replay.load_state(state["replay"])
        self.ledger.load_state(state["ledger"])
        self.signals, self.code.errors = state["signals"], state["errors"]

    def advice(self) -> str | None:
        """What to try if no group ever carried a signal; None if one did, or if nothing was learned from reward."""
        if self.signals or self.stored or self.step <= self.config.warmup_steps:
            return None
        return (
            f"In {self.ledger.sampled} episodes no group ever earned two different rewards, so nothing could be learned from them. Try easier "
            "tasks, a larger group_size, a higher temperature, a reward with partial credit, or warmup_steps with an oracle; and look "
            "at some episodes (sojourn report) for answers that are cut or never read as an action."
        )

    def others(self) -> dict[str, checkpoint.Stateful]:
        """What a checkpoint holds beside the policy and its optimizer."""
        found: dict[str, checkpoint.Stateful] = {}
        if self.learning.critic is not None:
            found["critic"] = self.learning.critic
        if self.learning.learner.reference is not None and self.experiment.reference.every:
            found["reference"] = self.learning.learner.reference
        return found

    def advantages(self, groups: Sequence[EpisodeGroup]) -> list[dict[int, NDArray[np.float32]]]:
        """Of the last step's groups: for each group the advantages of its action spans."""
        return advantages_by_group(groups, self._last.table, self._last.advantage_T)
