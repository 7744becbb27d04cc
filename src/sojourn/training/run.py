"""A trainer and its run folder: evaluation, logging, checkpoints, resume.

Everything that a run is lies in the run folder; a run that was killed goes on from its last checkpoint.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sojourn.core import Episode, EpisodeGroup
from sojourn.phases import breakdown, recording, trace
from sojourn.store import RunFolder, to_row, write_episodes, write_json
from sojourn.training import checkpoint
from sojourn.training.trainer import Trainer
from sojourn.viewer.progress import Progress


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
            state = checkpoint.load(path, self.trainer.learning.learner, self.trainer.others())
            self.trainer.load_state(state)
            self._before = state["seconds"]
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
        state = {**trainer.state(), "seconds": self.seconds}
        checkpoint.save(self.folder.path / "checkpoints", trainer.step, trainer.learning.learner, state, trainer.others())

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
            groups, metrics = await self.trainer.train_step(lambda e: phase.advance(1, e.sampled))
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
                groups = await self.trainer.evaluate(count, greedy=mode == "greedy", done=lambda e: phase.advance(1, e.sampled))
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
        summary |= self._ledger()
        self.folder.write_summary(summary)
        return summary

    def _ledger(self) -> dict[str, Any]:
        """What became of the episodes, with the first failure, and a word of advice where nothing could be learned."""
        found: dict[str, Any] = {"ledger": str(self.trainer.ledger)}
        rows = self.folder.metrics()
        failures: Counter[str] = Counter()
        for row in rows:
            failures.update({key: int(value) for key, value in row.items() if key.startswith("failures/")})
        if failures:
            found["failures"] = {key.removeprefix("failures/"): count for key, count in failures.items()}
        if first := next((row["failure"] for row in rows if row.get("failure")), None):
            found["first_failure"] = first
        if advice := self.trainer.advice():
            found["advice"] = advice
            self.progress.log(advice)
        return found

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
