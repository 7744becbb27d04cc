"""R-Zero's loop: a challenger that is paid for doubt, a pool of its questions with voted labels, a solver that learns from them.

    a step of the challenger   asks -> questions -> tasks without labels      pay   1 - 2 |s - 1/2| to who asked, s the share of the commonest answer
    the solver's first step    asks -> questions -> answers to each -> votes -> the pool, without what is too easy or too hard
    each of the solver's       tasks from the pool, held to their labels

What is played to choose and to label is no lesson: it is paid nothing, so it is filtered out as without a signal.  [arXiv 2508.05004, sec. 3]
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sums import ASK, NEVER, QUESTION, task, truth

from sojourn.core import Episode, Task, TaskSource
from sojourn.curriculum import Outcome, Uniform
from sojourn.curriculum.curriculum import Play
from sojourn.policy import Session


def vote(answers: Sequence[str]) -> tuple[str, float]:
    """The commonest answer, and its share."""
    [(answer, count)] = Counter(answers).most_common(1)
    return answer, count / len(answers)


async def challenge(session: Session) -> None:
    _, action = await session.act(session.open(await session.reset(), agent="challenger"))
    session.episode.info["question"] = action.text


class Rounds:
    """The schedule: questions that the challenger is paid for, then a pool of them with labels, which the solver learns from."""

    def __init__(self, config: Any, others: TaskSource) -> None:
        self.config, self._others = config, Uniform(others, seed=config.seed)
        self.step, self.pool, self.told = 0, list[dict[str, str]](), dict[str, float]()
        self._asking: dict[str, list[Episode]] = {}

    async def next(self, count: int, play: Play) -> list[Task]:
        place, self._asking = self.step % (self.config.challenges + self.config.solutions), {}
        if place == self.config.challenges:
            self.pool = await self._labelled(play)
        first, self.step = (place - self.config.challenges) * count, self.step + 1
        if first >= 0:
            tasks = [task(**self.pool[number % len(self.pool)]) for number in range(first, first + count) if self.pool]
        else:
            self._asking = await self._asked(count, play)
            tasks = [task(question) for question in self._asking]
        return [*tasks, *self._others.next(count - len(tasks))]

    async def _asked(self, count: int, play: Play) -> dict[str, list[Episode]]:
        """Questions, each with the episodes that asked it.  No question costs 1, and one that is asked k times k / count."""
        [group] = await play([task(ASK)], size=count, program=challenge)
        asking: dict[str, list[Episode]] = defaultdict(list)
        for episode in group.valid:
            asking[episode.info["question"]].append(episode)
        for question, episodes in asking.items():
            for episode in episodes:
                fault = not QUESTION.fullmatch(question)
                episode.paid["challenger"] = {"repeats": -len(episodes) / count, "invalid": -1.0 * fault}
        return {question: episodes for question, episodes in asking.items() if QUESTION.fullmatch(question)}

    def pay(self, outcomes: Sequence[Outcome]) -> None:
        """1 - 2 |s - 1/2|, s the share of the solver's commonest answer."""
        for outcome in outcomes:
            for episode in self._asking.get(outcome.task.data["question"], ()):
                episode.paid["challenger"]["unsure"] = 1 - 2 * abs(vote(outcome.answers)[1] - 0.5)

    async def _labelled(self, play: Play) -> list[dict[str, str]]:
        """The pool of a round."""
        questions = [question for question in await self._asked(self.config.asked, play) if question not in NEVER]
        groups = await play([task(question) for question in questions], size=self.config.votes)
        votes = {g.task.data["question"]: vote([e.info["answer"] for e in g.valid]) for g in groups if g.valid}
        pool = {q: label for q, (label, share) in votes.items() if self.config.low <= share <= self.config.high}
        self.told = {"questions": len(questions), "pool": len(pool)}
        self.told["true labels"] = sum(label == truth(q) for q, label in pool.items()) / max(1, len(pool))
        return [{"question": q, "label": truth(q) if self.config.labels == "true" else label} for q, label in pool.items()]

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        """Nothing changes its mind."""

    def state(self) -> dict[str, Any]:
        return {"step": self.step, "pool": self.pool, "told": self.told, "others": self._others.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.step, self.pool, self.told = state["step"], list(state["pool"]), dict(state["told"])
        self._others.load_state(state["others"])

    def describe(self) -> dict[str, float | str]:
        return dict(self.told)
