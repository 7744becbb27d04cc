"""A trainer and its run folder: evaluation, logging, checkpoints, resume.

Everything that a run is lies in the run folder.  The one idea: what comes next follows from the step and from what is in the folder, so
a run that was killed, stopped or extended goes on as one that never was.  An evaluation is a function of the weights and is there or not:
one that is whole is not made again, one that is not whole is.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sojourn.core import EpisodeGroup
from sojourn.engine.worker import compute
from sojourn.phases import breakdown, recording, trace
from sojourn.store import RunFolder, write_episodes, write_json
from sojourn.store.code import code_of, fingerprints, keep_code, modules_of, package_fingerprint
from sojourn.training import checkpoint, weights
from sojourn.training.before import take_over
from sojourn.training.config import Told
from sojourn.training.evaluations import GREEDY, Evaluation, by_role, solved
from sojourn.training.league import standings
from sojourn.training.metrics import lost
from sojourn.training.rows import rows_of
from sojourn.training.trainer import Trainer
from sojourn.viewer.progress import Progress, broken

MAY_CHANGE = frozenset(
    {
        "run", "steps", "max_minutes", "concurrency", "token_budget", "eval_tasks", "eval_greedy", "eval_before", "eval_before_of",
        "eval_every", "best_by", "patience", "checkpoint_every", "keep_checkpoints", "keep_episodes_every", "max_errors", "profile",
        "retries", "sample_seconds", "track",
    }
)  # fmt: skip
"""Fields of the config that do not identify a run: how long it goes on, how it is computed, what it tells.  They may change when it is
resumed; `starts.jsonl` says which did."""


class Run:
    """A trainer and its run folder: evaluation, logging, checkpoints, resume."""

    def __init__(self, trainer: Trainer, folder: RunFolder, progress: Progress) -> None:
        self.trainer = trainer
        self.folder = folder
        self.progress = progress
        self._began = time.monotonic()
        self._before = 0.0
        self._ended = -1
        """The number of steps that the callback has ended: a run that is given more goes on."""
        self._state: dict[str, Any] = {}
        """Beside the weights, what a checkpoint of the last finished step holds: sampling the next one moves the curriculum."""

    @property
    def seconds(self) -> float:
        """Of work since the first start, over all resumptions."""
        return self._before + time.monotonic() - self._began

    def resume(self) -> None:
        """Go on from the newest checkpoint, if there is one."""
        path = checkpoint.latest(self._checkpoints)
        if path is not None:
            state = compute(lambda: checkpoint.load(path, self.trainer.learning.learner, self.trainer.others()))
            self.trainer.load_state(state)
            self._before, self._ended = state["seconds"], state.get("ended", -1)
            self.progress.log(f"resuming {self.folder.path} after step {self.trainer.step} (from {path.name})")
        elif self.folder.starts():
            self.progress.log(
                f"{self.folder.path} has no checkpoint yet: training starts again, what was evaluated before it is kept"
            )
        self.folder.truncate_after(self.trainer.step)
        self.progress.done = self.trainer.step
        for change in self._log_start():
            self.progress.log(f"changed since the last start: {change}")
        self._note(self._before)

    def _log_start(self) -> list[str]:
        """Note the start with the code and the weights that it begins with; returns what changed since the last start."""
        trainer, before = self.trainer, self.folder.starts()
        files = code_of(modules_of([trainer.config, *vars(trainer.experiment).values()]))
        changes = keep_code(self.folder.path, trainer.step, files)
        model = weights.called(trainer.config.model)
        if before and (was := before[-1].get("model", model)) != model:
            changes.append(f"the model was {was}, now it is {model}")
        code, package = fingerprints(files), package_fingerprint()
        return self.folder.log_start(step=trainer.step, changes=changes, model=model, code=code, package=package)

    def save(self) -> None:
        """Write a checkpoint of the last finished step."""
        trainer = self.trainer
        folder, keep = self._checkpoints, trainer.config.keep_checkpoints
        compute(lambda: checkpoint.save(folder, trainer.step, trainer.learning.learner, self._state, trainer.others(), keep=keep))
        if leagues := self._state.get("leagues"):
            write_json(self.folder.path / "league.json", {name: standings(state) for name, state in leagues.items()})

    async def go(self) -> dict[str, Any]:
        """Evaluate, train, evaluate; returns the summary.  Stopped by Ctrl-C, it saves the last finished step before it ends."""
        try:
            return await self._go()
        except asyncio.CancelledError:  # comes while the run waits for episodes, so no update of the weights is half done
            if self.trainer.step:
                self.save()
            done = f"after step {self.trainer.step}, which is saved" if self.trainer.step else "before a step was done"
            self.progress.log(f"stopped {done}; the same command goes on from there")
            raise

    async def _go(self) -> dict[str, Any]:
        """Whatever is missing, in its order: a run that is finished has nothing missing."""
        every = self.trainer.config.checkpoint_every
        if self._over and self.folder.summary() and not self._missing("after"):
            return self.folder.summary()
        self.folder.drop_summary()
        if not self._over:
            self.folder.reopen()
        while not self._over:
            await self.evaluate("during" if self.trainer.step else "before")
            if not self._over:  # the evaluation may have been one too many without a better one
                await self.one_step()
                if every and self.trainer.step % every == 0:
                    self.save()
        self.save()
        await self.evaluate("after")
        return self.summary()

    @property
    def _over(self) -> bool:
        """Whether there is nothing more to train: a function of the last finished step, so that it stays so after a restart."""
        config = self.trainer.config
        late = config.max_minutes and self._state["seconds"] > 60 * config.max_minutes
        return bool(self.trainer.step >= config.steps or late or self._ended >= config.steps or self._stalled)

    @property
    def _stalled(self) -> bool:
        """Whether the last `patience` evaluations during training were no better than the best before them."""
        patience = self.trainer.config.patience
        scores = list(self._scores("during").values()) if patience else []
        return len(scores) > patience and max(scores[-patience:]) <= max(scores[:-patience])

    def _scores(self, *when: str) -> dict[int, float]:
        """What decides which checkpoint is the best, by step: the mean over levels."""
        mode, _, number = self.trainer.config.best_by.partition("/")
        found: dict[int, list[float]] = {}
        for row in self.folder.evals():
            if row["eval"] in when and row["mode"] == mode and (number or "success") in row:
                found.setdefault(row["step"], []).append(row[number or "success"])
        return {step: float(np.mean(found[step])) for step in sorted(found)}

    def _mark_best(self) -> None:
        """Keep the checkpoint of the step that was evaluated, if it is the best so far; of equals the first is."""
        if not self.trainer.config.best_by:
            return
        scores = self._scores("during", "after")
        if scores and max(scores, key=lambda step: scores[step]) == (step := self.trainer.step):
            self.save()
            checkpoint.mark_best(self._checkpoints, step)
            checkpoint.prune(self._checkpoints, step, self.trainer.config.keep_checkpoints)

    @property
    def _checkpoints(self) -> Path:
        return self.folder.path / "checkpoints"

    def _note(self, seconds: float) -> None:
        state = self.trainer.state()
        replay = state.pop("replay")  # large, and what it holds is never changed
        self._state = {**deepcopy(state), "replay": replay, "seconds": seconds}
        if self._ended >= 0:
            self._state["ended"] = self._ended

    def _tell(self, kind: Literal["step", "evaluation"], values: Any) -> None:
        """Let the callback hear; True for a step, which is not saved yet, ends the training, after a restart too."""
        callback = self.trainer.experiment.callback
        if callback is not None and callback(Told(kind, self.trainer.step, values, self.trainer)) is True and kind == "step":
            self._state["ended"] = self._ended = self.trainer.config.steps

    async def one_step(self) -> None:
        """Make a step, and write down its episodes and metrics; then it has happened."""
        config = self.trainer.config
        began = time.perf_counter()
        with (
            recording() if config.profile else nullcontext() as events,
            self.progress.phase("sample and train", total=config.groups * self.trainer.group_size) as phase,
        ):
            groups, metrics = await self.trainer.train_step(lambda e: phase.advance(1, e.sampled))
        if events is not None:
            write_json(self.folder.path / "traces" / f"step-{self.trainer.step:06}.json", trace(events))
            del metrics["seconds/sample"], metrics["seconds/train"]
            metrics |= {f"seconds/{name}": seconds for name, seconds in breakdown(events, began, time.perf_counter()).items()}
        if config.keep_episodes_every and self.trainer.step % config.keep_episodes_every == 0:
            self._keep("train", groups, self.trainer.advantages(groups))
        self._note(self.seconds)
        self.folder.log_step(metrics | {"seconds": self._state["seconds"]})
        self.progress.step(metrics)
        self._tell("step", metrics)

    async def evaluate(self, when: str) -> None:
        """Make what is missing of an evaluation that is due, sampled, and greedily if the config says so; or take it from another run."""
        config, missing = self.trainer.config, self._missing(when)
        if when == "before" and config.eval_before_of and missing:
            take_over(self.folder, config.eval_before_of, missing)
            self.progress.log(f"evaluation before the first step: taken from {config.eval_before_of}")
        for mode in self._missing(when):
            await self._evaluate(when, mode)
        if when != "before":
            self._mark_best()

    def _missing(self, when: str) -> list[str]:
        """Evaluations that are due now and not in the folder."""
        config, step = self.trainer.config, self.trainer.step
        due = {"before": config.eval_before, "during": config.eval_every and step % config.eval_every == 0, "after": True}[when]
        held_out = ("sampled", *(("greedy",) if config.eval_greedy else ())) if config.eval_tasks else ()
        modes = (*held_out, *self.trainer.experiment.evaluations)
        return [mode for mode in modes if due and not self.folder.evaluated(when, step, mode)]

    async def _evaluate(self, when: str, mode: str) -> None:
        """Play one evaluation and write it down: episodes first, rows last, for rows say that it is whole."""
        trainer, named = self.trainer, self.trainer.experiment.evaluations.get(mode)
        how = named or (GREEDY if mode == "greedy" else Evaluation())
        tasks = named.drawn(trainer.experiment.tasks) if named else trainer.held_out(trainer.config.eval_tasks)
        with self.progress.phase(f"evaluate {when}", total=len(tasks) * how.repetitions) as phase:
            groups = await trainer.evaluate(tasks, how, done=lambda e: phase.advance(1, e.sampled))
        self._keep(f"eval-{when}-{mode}", groups)
        shared = {"eval": when, "step": trainer.step, "mode": mode}
        if told := lost(groups):
            self.progress.log(f"evaluate {when}, {mode}: {broken(told)}")
            shared["failure"] = told["failure"]
        lived = {player.name: player.lived(groups) for player in trainer.players.values() if player.agents}
        rows: list[dict[str, Any]] = [shared | row | by_role(lived, row["level"]) for row in how.rows(groups)]
        for name, program in how.baselines.items():
            played = await trainer.evaluate(tasks, replace(how, program=program))
            for row in rows:
                row[f"baseline/{name}"] = solved(played, row["level"])
        self.folder.log_eval(*rows)
        self._tell("evaluation", rows)

    def summary(self) -> dict[str, Any]:
        """What the run came to; also written to `summary.json`."""
        config = self.trainer.config
        summary: dict[str, Any] = {"seed": config.seed, "steps": self.trainer.step, "seconds": self.seconds}
        for when in ("before", "after"):
            rows = [r for r in self.folder.evals() if r["eval"] == when and r["mode"] == "sampled"]
            summary[f"success_{when}"] = {row["level"]: row["success"] for row in rows}
        if checkpoint.best(self._checkpoints):
            scores = self._scores("during", "after")
            summary["best"] = {"step": max(scores, key=lambda step: scores[step]), config.best_by: max(scores.values())}
        if self.trainer.experiment.evaluations:
            summary["evaluations"] = self._named_evaluations()
        summary |= self._ledger()
        self.folder.write_summary(summary)
        return summary

    def _named_evaluations(self) -> dict[str, Any]:
        """By name, before and after, and level: what was measured."""
        found: dict[str, Any] = {name: {} for name in self.trainer.experiment.evaluations}
        for row in self.folder.evals():
            if row["mode"] in found and row["eval"] != "during":
                numbers = {key: value for key, value in row.items() if key not in ("eval", "step", "mode", "level", "failure")}
                found[row["mode"]].setdefault(row["eval"], {})[row["level"]] = numbers
        return found

    def _ledger(self) -> dict[str, Any]:
        """What became of the episodes, with the first failure, and a word of advice where nothing could be learned."""
        ledgers = self.trainer.ledgers
        told = "; ".join(f"{role}: {ledger}" for role, ledger in ledgers.items())
        found: dict[str, Any] = {"ledger": told if len(ledgers) > 1 else str(next(iter(ledgers.values())))}
        rows = self.folder.metrics()
        failures: Counter[str] = Counter()
        for row in rows:
            failures.update({key: int(value) for key, value in row.items() if key.startswith("failures/")})
        if failures:
            found["failures"] = {key.removeprefix("failures/"): count for key, count in failures.items()}
        evals = self.folder.evals()
        if failed := sum(row.get("failed", 0) for row in evals):
            found["failed_in_evaluations"] = failed
        if first := next((row["failure"] for row in [*rows, *evals] if row.get("failure")), None):
            found["first_failure"] = first
        if advice := self.trainer.advice():
            found["advice"] = advice
            self.progress.log(advice)
        return found

    def _keep(
        self, phase: str, groups: Sequence[EpisodeGroup], advantages: Sequence[dict[int, NDArray[np.float32]]] = ()
    ) -> None:
        trainer, step = self.trainer, self.trainer.step
        rows = rows_of(groups, trainer.tokenizers, trainer.experiment.seats, advantages, phase=phase, step=step)
        write_episodes(self.folder.episodes_path(phase, step), rows)
