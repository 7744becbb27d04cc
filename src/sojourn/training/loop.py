"""The on-policy loop: tasks, rollout, credit, update, and again.

It joins the rooms and knows no algorithm: the curriculum gives tasks, the experiment's credit and objective turn episodes into
a loss.  Everything that a run is lies in the run folder; a run that was killed goes on from its last checkpoint.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sojourn.agents import demonstrate
from sojourn.core import Action, Episode, EpisodeGroup, Restorable, Task
from sojourn.credit import Columns, Filter, Replay, ZeroSignal, columns, keep, shaped
from sojourn.curriculum import Outcome
from sojourn.engine.local import LocalEngine
from sojourn.learner import Critic, Learner
from sojourn.objectives import Supervised
from sojourn.phases import breakdown, recording, trace
from sojourn.policy import Policy
from sojourn.policy.session import stable_hash
from sojourn.rendering import ChatRenderer
from sojourn.store import RunFolder, to_row, write_episodes, write_json
from sojourn.store.episodes import Row, rebuild
from sojourn.training import algorithm, checkpoint, setup
from sojourn.training.config import Experiment, TrainConfig
from sojourn.training.control import Coefficients
from sojourn.training.rollout import Rollout
from sojourn.training.stored import Stored
from sojourn.viewer.progress import Progress

ACTOR = "actor"


class Trainer:
    """One run.  `train` is what most callers want; the trainer's parts are public for programs that need other orders."""

    def __init__(self, config: TrainConfig, experiment: Experiment, model: setup.Model | None = None) -> None:
        self.config = config
        self.experiment = experiment = algorithm.applied(experiment, config)
        self.stored = Stored(config.episodes, seed=config.seed) if config.episodes else None
        largest = max(len(group.episodes) for group in self.stored.groups) if self.stored else config.group_size
        algorithm.refuse(experiment, config, group_size=largest)
        algorithm.warn(experiment, config)
        self._values = config.value_rollouts if algorithm.reads_continuations(experiment.credit) else 0
        if self._values and not isinstance(world := experiment.environment(), Restorable):
            raise ValueError(
                f"this credit plays on from every state and goes back, which {type(world).__name__} cannot: give it `snapshot` and "
                "`restore`, or choose an algorithm with a critic"
            )
        self.model, self.tokenizer, reference = setup.prepare(config, experiment, model)
        self.engine = LocalEngine(self.model, self.tokenizer, max_batch=config.concurrency, max_context=config.max_context)
        self.learner = Learner(self.model, config.optimizer, token_budget=config.token_budget, reference=reference)
        self.critic = (
            Critic(self.model, config.optimizer, experiment.critic, token_budget=config.token_budget)
            if experiment.critic
            else None
        )
        self.renderer = ChatRenderer(self.tokenizer, experiment.protocol)
        self.coefficients = Coefficients(experiment)
        self.replay: Replay[list[Row]] = Replay(config.replay)
        self.step = 0

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
        )

    @property
    def warming_up(self) -> bool:
        """Whether the next step imitates the oracle."""
        return self.step < self.config.warmup_steps

    async def train_step(self, done: Callable[[Episode], None] = lambda _: None) -> tuple[list[EpisodeGroup], dict[str, Any]]:
        """One rollout and what is learned from it: the episodes, and the metrics.  Warm-up steps imitate the oracle's episodes."""
        began, sampled = time.monotonic(), self.engine.sampled_tokens
        self.engine.update(self.step)  # what an evaluation left in the store must not matter to a step
        experiment, rollout = self.experiment, replace(self.rollout(), value_rollouts=self._values)
        if self.warming_up:
            experiment = replace(experiment, credit=algorithm.no_credit, objective=Supervised(), filters=(), critic=None)
            rollout = replace(rollout, program=demonstrate)
        groups = self.stored.deal(self.step, self.config.groups) if self.stored else await self._sample(rollout, experiment, done)
        replayed = [] if self.warming_up else self._replayed(groups, experiment)
        learned_from = [*groups, *replayed]
        baseline = await self._greedy(learned_from) if algorithm.reads_greedy(experiment.credit) else None
        after_sampling = time.monotonic()
        stale = bool(self.stored or replayed)
        table, advantage_T, learned = self._learn(learned_from, experiment, baseline, stale=stale)
        if self.config.replay and not self.warming_up:
            learned["replayed"] = float(len(replayed))
            self._remember(groups, table, advantage_T)
        self.step += 1
        self.engine.update(self.step)
        outcomes = [outcome for group in groups if (outcome := _outcome(group)) is not None]
        if experiment is self.experiment and not self.stored:  # what others solve says nothing about the policy
            experiment.curriculum.observe(outcomes)
        finished = time.monotonic()
        metrics: dict[str, Any] = {
            **learned,
            "step": self.step,
            **_statistics(groups),
            "zero_signal": float(np.mean([o.zero_signal for o in outcomes])),
            "lr": self.learner.optimizer.learning_rate,
            "seconds/sample": after_sampling - began,
            "seconds/train": finished - after_sampling,
            "tokens_per_second": (self.engine.sampled_tokens - sampled) / (after_sampling - began),
            "curriculum": experiment.curriculum.describe(),
        }
        self._last = table, advantage_T
        return groups, metrics

    async def _sample(self, rollout: Rollout, experiment: Experiment, done: Callable[[Episode], None]) -> list[EpisodeGroup]:
        """The step's groups: as many as the config says, and for those that the filters drop others, as long as rounds are left.
        [DAPO, arXiv 2503.14476, sec. 3.2]"""
        groups: list[EpisodeGroup] = []
        seed = stable_hash(self.config.seed, "train", self.step)
        for number in range(self.config.sampling_rounds):
            missing = self.config.groups - (self._kept(groups, experiment, experiment.filters) if number else 0)
            if missing == 0:
                break
            tasks = experiment.curriculum.next(missing)
            groups += await rollout.groups(tasks, size=self.config.group_size, seed=seed, start=len(groups), done=done)
        return groups

    def _kept(self, groups: Sequence[EpisodeGroup], experiment: Experiment, filters: Sequence[Filter]) -> int:
        """Groups of which something is trained."""
        table = self._table(groups, experiment)
        _, trained_E, _ = keep(filters, table)
        return len(np.unique(table.group_E[trained_E & table.valid_E]))

    def _table(self, groups: Sequence[EpisodeGroup], experiment: Experiment) -> Columns:
        return shaped(groups, columns(groups, trained=(ACTOR,)), experiment.shaping)

    def _replayed(self, groups: Sequence[EpisodeGroup], experiment: Experiment) -> list[EpisodeGroup]:
        """Remembered groups in place of those that carry no signal.  [arXiv 2504.08837]"""
        if not self.replay.items:
            return []
        silent = max(0, self.config.groups - self._kept(groups, experiment, (*experiment.filters, ZeroSignal())))
        draw = np.random.default_rng(stable_hash(self.config.seed, "replay", self.step))
        return [rebuild(rows) for rows in self.replay.draw(silent, draw)]

    def _remember(self, groups: Sequence[EpisodeGroup], table: Columns, advantage_T: NDArray[np.float64]) -> None:
        """Keep the groups that carried a signal, as rows of the episode store, with the mean size of their advantages."""
        group_T, signal_E = table.group_S[table.row_T], ZeroSignal()(table)
        for number, group in enumerate(groups):
            if not signal_E[table.group_E == number].any():
                continue
            mine = group_T == number
            rows = [to_row(episode, group.key, lambda _: "", step=self.step) for episode in group.episodes]
            self.replay.add(rows, float(np.abs(advantage_T[mine]).mean()) if mine.any() else 0.0)

    async def _greedy(self, groups: Sequence[EpisodeGroup]) -> NDArray[np.float64]:
        """For every episode the return of its task's greedy episode, NaN where the infrastructure broke that.  [ReMax, arXiv
        2310.10505]"""
        greedy = await self.rollout(temperature=0.0).groups([group.task for group in groups], size=1, seed=self.step)
        totals = [each.episodes[0].total if each.valid else np.nan for each in greedy]
        return np.repeat(totals, [len(group.episodes) for group in groups])

    def _learn(
        self, groups: Sequence[EpisodeGroup], experiment: Experiment, baseline: NDArray[np.float64] | None, *, stale: bool
    ) -> tuple[Columns, NDArray[np.float64], dict[str, float]]:
        """Shaping, filters, credit, update: what was learned from, and what the learner says of it.  `stale`: other weights than the
        learner's sampled some of it."""
        table = self._table(groups, experiment)
        if baseline is not None:  # without one, an episode cannot be judged
            table = replace(table, baseline_E=np.nan_to_num(baseline), valid_E=table.valid_E & ~np.isnan(baseline))
        counted_E, trained_E, dropped = keep(experiment.filters, table)
        learned = {f"dropped/{name}": count / len(counted_E) for name, count in dropped.items()}
        learned |= {f"shaping/{name}": float(table.terms_E[name][table.valid_E].mean()) for name in experiment.shaping}
        kept_E = table.valid_E & trained_E
        table = replace(table, valid_E=table.valid_E & counted_E)
        entropy = _surprise(table)
        if not self.warming_up:
            experiment = self.coefficients.applied(experiment, entropy)
            learned |= self.coefficients.now
        if algorithm.reads_answers(experiment.credit):
            answer_G = [self._answer(group.task) for group in groups]
            table = replace(table, answer_S=self.learner.answers(groups, table, answer_G))
        critic = self.critic if experiment.critic else None
        updates_made = self.config.epochs * self.config.minibatches
        table = algorithm.filled(groups, table, experiment, self.learner, critic, stale=stale, updates=updates_made)
        advantage_T = experiment.credit(table)
        target_T = advantage_T if critic is None else algorithm.targets(experiment.credit, table)
        kept = replace(table, valid_E=kept_E)
        policy_learns = experiment.critic is None or experiment.critic.policy_learns(self.step - self.config.warmup_steps)
        updates: list[dict[str, float]] = []
        for part in self._parts(kept):
            update: dict[str, float] = {}
            if policy_learns:
                update |= self.learner.update(groups, part, advantage_T, experiment.objective, fresh=not updates and not stale)
            if critic is not None:
                update |= critic.update(groups, part, target_T)
            updates.append(update)
        for name in dict.fromkeys(name for update in updates for name in update):  # some may have had nothing to train
            learned[name] = float(np.mean([update[name] for update in updates if name in update]))
        if (reference := self.learner.reference) is not None:
            if "kl" not in learned and not self.warming_up:
                learned["kl"] = self.learner.divergence(groups, kept)
            if experiment.reference.due(self.step + 1):
                experiment.reference.renew(reference.parameters(), self.model.parameters())
                if experiment.reference.new_optimizer:
                    self.learner.optimizer.forget()
        if not self.warming_up:
            self.coefficients.observe(kl=learned.get("kl"), entropy=entropy, samples=int(kept.valid_E.sum()))
        return table, advantage_T, learned

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

    def _parts(self, kept: Columns) -> Iterator[Columns]:
        """What each optimizer step of the rollout learns from: whole groups, in a new order in every epoch."""
        epochs, minibatches = self.config.epochs, self.config.minibatches
        shuffle = np.random.default_rng(stable_hash(self.config.seed, "minibatches", self.step))
        for _ in range(epochs):
            part_G = shuffle.permutation(int(kept.group_E.max()) + 1) % minibatches
            for number in range(minibatches):
                yield replace(kept, valid_E=kept.valid_E & (part_G[kept.group_E] == number))

    async def evaluate(
        self, count: int, *, greedy: bool = False, done: Callable[[Episode], None] = lambda _: None
    ) -> list[EpisodeGroup]:
        """Play `count` held-out tasks of every level once; a function of the weights, the config's seed aside."""
        source = self.experiment.tasks
        tasks = [source.task("test", level, index) for level in source.levels for index in range(count)]
        rollout = self.rollout(temperature=0.0) if greedy else self.rollout()
        return await rollout.groups(tasks, size=1, seed=stable_hash(self.config.seed, "test"), done=done)

    def others(self) -> dict[str, checkpoint.Stateful]:
        """What a checkpoint holds beside the policy and its optimizer."""
        found: dict[str, checkpoint.Stateful] = {}
        if self.critic is not None:
            found["critic"] = self.critic
        if self.learner.reference is not None and self.experiment.reference.every:
            found["reference"] = self.learner.reference
        return found

    def advantages(self, groups: Sequence[EpisodeGroup]) -> list[dict[int, NDArray[np.float32]]]:
        """Of the last step's groups: for each group the advantages of its action spans."""
        table, advantage_T = self._last
        return _by_group(groups, table, advantage_T)


class Run:
    """A trainer and its run folder: evaluation, logging, checkpoints, resume."""

    def __init__(self, trainer: Trainer, folder: RunFolder, progress: Progress) -> None:
        self.trainer = trainer
        self.folder = folder
        self.progress = progress
        self._began = time.monotonic()
        self._before = 0.0

    @property
    def seconds(self) -> float:
        """Of work since the first start, over all resumptions."""
        return self._before + time.monotonic() - self._began

    def resume(self) -> None:
        """Go on from the newest checkpoint, if there is one."""
        path = checkpoint.latest(self.folder.path / "checkpoints")
        if path is not None:
            state = checkpoint.load(path, self.trainer.learner, self.trainer.others())
            self.trainer.step, self._before = state["step"], state["seconds"]
            self.trainer.engine.update(self.trainer.step)
            self.trainer.experiment.curriculum.load_state(state["curriculum"])
            self.trainer.coefficients.now = state["coefficients"]
            self.trainer.replay.load_state(state["replay"])
            self.progress.log(f"resuming {self.folder.path} after step {self.trainer.step} (from {path.name})")
        elif self.folder.starts():
            self.progress.log(
                f"{self.folder.path} has no checkpoint yet: training starts again, what was evaluated before it is kept"
            )
        self.folder.truncate_after(self.trainer.step)
        self.progress.done = self.trainer.step
        self.folder.log_start(step=self.trainer.step)

    def save(self) -> None:
        trainer = self.trainer
        state = {
            "curriculum": trainer.experiment.curriculum.state(),
            "coefficients": trainer.coefficients.now,
            "replay": trainer.replay.state(),
            "seconds": self.seconds,
        }
        checkpoint.save(self.folder.path / "checkpoints", trainer.step, trainer.learner, state, trainer.others())

    async def go(self) -> dict[str, Any]:
        """Evaluate, train, evaluate; returns the summary."""
        config, trainer = self.trainer.config, self.trainer
        if not self._evaluated("before"):
            await self.evaluate("before")
        while trainer.step < config.steps and not (config.max_minutes and self.seconds > 60 * config.max_minutes):
            await self.one_step()
            if config.eval_every and trainer.step % config.eval_every == 0 and trainer.step < config.steps:
                await self.evaluate("during")
            if trainer.step % config.checkpoint_every == 0:
                self.save()
        self.save()
        await self.evaluate("after")
        return self.summary()

    async def one_step(self) -> None:
        config = self.trainer.config
        began = time.perf_counter()
        with (
            recording() if config.profile else nullcontext() as events,
            self.progress.phase("sample and train", total=config.groups * config.group_size) as phase,
        ):
            groups, metrics = await self.trainer.train_step(lambda e: phase.advance(1, _sampled(e)))
        if events is not None:
            write_json(self.folder.path / "traces" / f"step-{self.trainer.step:06}.json", trace(events))
            del metrics["seconds/sample"], metrics["seconds/train"]
            metrics |= {f"seconds/{name}": seconds for name, seconds in breakdown(events, began, time.perf_counter()).items()}
        if config.keep_episodes_every and self.trainer.step % config.keep_episodes_every == 0:
            self._keep("train", groups, self.trainer.advantages(groups))
        self.folder.log_step(metrics | {"seconds": self.seconds})
        self.progress.step(metrics)

    async def evaluate(self, when: str) -> None:
        """Evaluate sampled, and greedily if the config says so."""
        count = self.trainer.config.eval_tasks
        if not count:
            return
        levels = self.trainer.experiment.tasks.levels
        for mode in ("sampled", "greedy") if self.trainer.config.eval_greedy else ("sampled",):
            with self.progress.phase(f"evaluate {when}", total=count * len(levels)) as phase:
                groups = await self.trainer.evaluate(count, greedy=mode == "greedy", done=lambda e: phase.advance(1, _sampled(e)))
            self._keep(f"eval-{when}-{mode}", groups)
            by_level: dict[str, list[Episode]] = defaultdict(list)
            for group in groups:
                by_level[group.task.level] += group.valid
            for level, episodes in by_level.items():
                row = {"eval": when, "step": self.trainer.step, "mode": mode, "level": level, "tasks": len(episodes)}
                self.folder.log_eval(row | {"success": float(np.mean([e.success for e in episodes]))})

    def summary(self) -> dict[str, Any]:
        """What the run came to; also written to `summary.json`."""
        summary: dict[str, Any] = {"seed": self.trainer.config.seed, "steps": self.trainer.step, "seconds": self.seconds}
        for when in ("before", "after"):
            rows = [r for r in self.folder.evals() if r["eval"] == when and r["mode"] == "sampled"]
            summary[f"success_{when}"] = {row["level"]: row["success"] for row in rows}
        self.folder.write_summary(summary)
        return summary

    def _evaluated(self, when: str) -> bool:
        return any(row["eval"] == when for row in self.folder.evals())

    def _keep(
        self, phase: str, groups: Sequence[EpisodeGroup], advantages: Sequence[dict[int, NDArray[np.float32]]] | None = None
    ) -> None:
        step = self.trainer.step
        rows = [
            to_row(
                episode,
                group.key,
                lambda tokens: str(self.trainer.tokenizer.decode(list(tokens))),
                advantages[index] if advantages else None,
                phase=phase,
                step=step,
            )
            for index, group in enumerate(groups)
            for episode in group.episodes
        ]
        write_episodes(self.folder.episodes_path(phase, step), rows)


def train(config: TrainConfig, experiment: Experiment) -> dict[str, Any]:
    """Run, or resume, the training that `config` and `experiment` say; returns the summary.

    Everything is in the run folder `config.run`: metrics, evaluations, episodes, checkpoints, `report.html`, `summary.json`.
    """
    from sojourn.viewer.report import write_report

    folder = RunFolder(Path(config.run))
    with folder, Progress(config.steps, title=folder.path.name) as progress:
        progress.log(f"loading {config.model}")
        trainer = Trainer(config, experiment)
        folder.write_config(asdict(config))
        run = Run(trainer, folder, progress)
        run.resume()
        setup.check_contract(trainer)
        summary = asyncio.run(run.go())
        write_report(folder)
    return summary


def _surprise(table: Columns) -> float:
    """Mean surprise of the tokens that statistics count: an estimate of the policy's entropy, in nats."""
    counted_T = (table.trained_S & table.valid_E[table.episode_S])[table.row_T]
    assert table.logp_T is not None, "the engine reports log-probabilities"
    return -float(table.logp_T[counted_T].mean()) if counted_T.any() else 0.0


def _outcome(group: EpisodeGroup) -> Outcome | None:
    if not group.valid:
        return None
    returns = {episode.total for episode in group.valid}
    return Outcome(group.task, float(np.mean([e.success for e in group.valid])), len(returns) == 1)


def _statistics(groups: Sequence[EpisodeGroup]) -> dict[str, float]:
    """Means over the valid episodes of a step, and what became of the others."""
    episodes = [episode for group in groups for episode in group.valid]
    everyone = [episode for group in groups for episode in group.episodes]
    logprobs = [episode.tree[span].logprobs for episode in episodes for span in episode.actions]
    result = {
        "episodes": float(len(episodes)),
        "failed": float(len(everyone) - len(episodes)),
        "reward": float(np.mean([e.total for e in episodes])),
        "success": float(np.mean([e.success for e in episodes])),
        "turns": float(np.mean([len(e.actions) for e in episodes])),
        "tool_calls": float(np.mean([e.info.get("tool_calls", 0) for e in episodes])),
        "length": float(np.mean([_sampled(e) for e in episodes])),
        "action_tokens": float(sum(_sampled(e) for e in everyone)),
    }
    if sampled := [part for part in logprobs if part is not None]:  # a demonstration has none
        # the mean surprise of all sampled tokens; the learner's own entropy is of the tokens that it had to score
        result["entropy"] = -float(np.mean(np.concatenate(sampled)))
    by_level: dict[str, list[Episode]] = defaultdict(list)
    for episode in episodes:
        by_level[episode.task.level].append(episode)
    for level, members in sorted(by_level.items()):
        result[f"success/{level}"] = float(np.mean([e.success for e in members]))
        result[f"share/{level}"] = len(members) / len(episodes)
    return result


def _sampled(episode: Episode) -> int:
    return sum(len(episode.tree[span].tokens) for span in episode.actions)


def _by_group(
    groups: Sequence[EpisodeGroup], table: Columns, advantage_T: NDArray[np.float64]
) -> list[dict[int, NDArray[np.float32]]]:
    group_of_row = [index for index, group in enumerate(groups) for episode in group.episodes for _ in episode.actions]
    result: list[dict[int, NDArray[np.float32]]] = [{} for _ in groups]
    for row, group in enumerate(group_of_row):
        part = advantage_T[table.start_S[row] : table.start_S[row + 1]]
        result[group][int(table.span_S[row])] = part.astype(np.float32)
    return result
