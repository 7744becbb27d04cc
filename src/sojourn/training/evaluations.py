"""Named evaluations: other tasks, another program, other sampling, several tries; what of n tries can be said without bias.

pass@k    some of k tries solves the task:  1 - C(n - c, k) / C(n, k)        c solved of n     [Codex, arXiv 2107.03374, eq. 1]
pass^k    all of k tries solve it:          C(c, k) / C(n, k)                                  [tau-bench, arXiv 2406.12045]
maj@n     the answer that most of the n tries gave is right, as often as it is drawn among those that tie      [arXiv 2203.11171]
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, fields
from math import comb
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from sojourn.core import Episode, EpisodeGroup, Range, Task, TaskSource, check, distinct
from sojourn.engine import SamplingParams
from sojourn.policy import Program
from sojourn.training.config import Kept

if TYPE_CHECKING:
    from sojourn.training.config import TrainConfig


def said_last(episode: Episode) -> str:
    """The answer of an episode: its `info["answer"]`, else the text of its last action."""
    if "answer" in episode.info:
        return str(episode.info["answer"])
    message = episode.tree[episode.actions[-1]].message if episode.actions else None
    return message.text.strip() if message else ""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One way to measure; None: as the experiment says."""

    tasks: TaskSource | None = None
    """Where the tasks are from; their test split."""
    count: Annotated[int, Range(1)] = 64
    """Tasks of each level, none twice."""
    program: Program | None = None
    environment: Callable[[], Any] | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """What is sampled otherwise: `{"temperature": 0.0}`."""
    repetitions: Annotated[int, Range(1)] = 1
    """Tries of each task."""
    ks: tuple[Annotated[int, Range(1)], ...] = ()
    """The k of pass@k and pass^k; none above `repetitions`."""
    answer: Callable[[Episode], str] | None = None
    """What a try answered, for maj@n; None measures no majority.  `said_last` is the obvious one."""
    baselines: Mapping[str, Program] = field(default_factory=dict)
    """Other programs that play the same tasks each time, by name: the oracle, a plain loop beside a search.  Their success is reported."""
    metrics: Mapping[str, Callable[[Sequence[Episode]], float]] = field(default_factory=dict)
    """Numbers of your own, each of the tries of one task; their mean over tasks is reported."""

    def __post_init__(self) -> None:
        check(self)
        known = [field.name for field in fields(SamplingParams)]
        if strange := [name for name in self.sampling if name not in known]:
            raise ValueError(f"Evaluation(sampling={dict(self.sampling)}): '{strange[0]}' is none of {', '.join(known)}")
        SamplingParams(**self.sampling)
        if wrong := [k for k in self.ks if k > self.repetitions]:
            raise ValueError(
                f"Evaluation(ks={self.ks}, repetitions={self.repetitions}): k={wrong[0]} needs that many tries; raise repetitions"
            )

    def drawn(self, source: TaskSource) -> list[Task]:
        """Its tasks; `source` is the experiment's."""
        own = self.tasks or source
        return [task for level in own.levels for task in distinct(own, "test", level, self.count)]

    def rows(self, groups: Sequence[EpisodeGroup]) -> list[dict[str, Any]]:
        """One row for each level: means over its tasks; a try that came to no result is none, and `failed` says how many there were."""
        by_level: dict[str, list[dict[str, float]]] = defaultdict(list)
        failed: Counter[str] = Counter()
        for group in groups:
            failed[group.task.level] += len(group.episodes) - len(group.valid)
            if group.valid:
                by_level[group.task.level].append(self.measured(group.valid))
        return [
            {"level": level, "tasks": len(found)}
            | {name: float(np.mean([each[name] for each in found if name in each])) for name in found[0] | found[-1]}
            | ({"failed": failed[level]} if failed[level] else {})
            for level, found in by_level.items()
        ]

    def measured(self, tries: Sequence[Episode]) -> dict[str, float]:
        """What the tries of one task say."""
        n, solved = len(tries), [episode.success for episode in tries]
        found = {"success": float(np.mean(solved))}
        for k in (k for k in self.ks if k <= n):
            found |= {f"pass@{k}": pass_at(n, sum(solved), k), f"pass^{k}": pass_all(n, sum(solved), k)}
        if self.answer is not None:
            found[f"maj@{self.repetitions}"] = majority([self.answer(episode) for episode in tries], solved)
        return found | {name: float(metric(tries)) for name, metric in self.metrics.items()}


def solved(groups: Sequence[EpisodeGroup], level: str) -> float:
    """The share of valid episodes of a level that solved their task."""
    found = [episode.success for group in groups if group.task.level == level for episode in group.valid]
    return float(np.mean(found)) if found else float("nan")


def by_role(lived: Mapping[str, Sequence[EpisodeGroup]], level: str) -> dict[str, float]:
    """What each role earned, and how often it solved its task, over its seats in the episodes of a level."""
    found: dict[str, float] = {}
    for role, groups in lived.items():
        mine = [episode for group in groups if group.task.level == level for episode in group.valid]
        if mine:
            found[f"{role}/reward"] = float(np.mean([episode.total for episode in mine]))
            found[f"{role}/success"] = float(np.mean([episode.success for episode in mine]))
    return found


GREEDY = Evaluation(sampling={"temperature": 0.0})


@contextmanager
def unchanged(kept: Mapping[str, Kept]) -> Iterator[None]:
    """Afterwards `kept` is what it was: what held-out episodes write into a memory, no training episode may read."""
    states = {name: deepcopy(each.state()) for name, each in kept.items()}
    try:
        yield
    finally:
        for name, state in states.items():
            kept[name].load_state(state)


def check_names(evaluations: Mapping[str, Evaluation]) -> None:
    """Raise `ValueError` for a name that another evaluation has, or that no file can have."""
    for name in evaluations:
        if name in ("sampled", "greedy") or not re.fullmatch(r"\w+", name):
            raise ValueError(f"evaluations has '{name}': choose another name, of letters, digits and '_'")


def check_best(config: TrainConfig, evaluations: Mapping[str, Evaluation]) -> None:
    """Raise `ValueError` for names that cannot be (`check_names`), or if nothing would ever say which checkpoint is the best, though the
    config asks for it."""
    check_names(evaluations)
    held_out = ["sampled"] * bool(config.eval_tasks) + ["greedy"] * (config.eval_greedy and bool(config.eval_tasks))
    known = [*held_out, *evaluations]
    if config.best_by and config.best_by.partition("/")[0] not in known:
        raise ValueError(
            f"best_by is '{config.best_by}', but the evaluations are {', '.join(known) or 'none'}: name one of them, or switch it on "
            "(eval_tasks, eval_greedy, evaluations)"
        )


def pass_at(n: int, solved: int, k: int) -> float:
    """The chance that one of k tries, drawn from n without putting back, solves the task.

    >>> pass_at(4, 1, 2)
    0.5
    """
    return 1 - comb(n - solved, k) / comb(n, k)


def pass_all(n: int, solved: int, k: int) -> float:
    """The chance that all of k tries, drawn from n without putting back, solve the task.

    >>> pass_all(4, 3, 2)
    0.5
    """
    return comb(solved, k) / comb(n, k)


def majority(answers: Sequence[str], solved: Sequence[bool]) -> float:
    """How right the most frequent answer is: the mean over the answers that are equally frequent, each as right as its tries.

    >>> majority(["4", "5", "4", "5", "6"], [True, False, True, False, False])
    0.5
    """
    counts = Counter(answers)
    most = [answer for answer, count in counts.items() if count == max(counts.values())]
    right = [np.mean([ok for given, ok in zip(answers, solved, strict=True) if given == answer]) for answer in most]
    return float(np.mean(right))
