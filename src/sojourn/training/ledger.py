"""The ledger: every sampled episode ends in exactly one state.

    sampled = trained + filtered (with its reason) + no result (the infrastructure, or the user's code) + waiting (in the checkpoint)

The sum is asserted at every step.  An example, of 8 episodes: one lost its sandbox, two groups of two taught nothing, the rest is trained:

    sampled 8 = trained 3 + ZeroSignal 4 + no result 1 + waiting 0
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sojourn.core import Episode, Standing

NO_RESULT = "no result"
NO_SIGNAL = (
    "In {sampled} episodes no group ever earned two different rewards, so nothing could be learned from them. Try easier tasks, a larger "
    "group_size, a higher temperature, a reward with partial credit, or warmup_steps with an oracle; and look at some episodes (sojourn "
    "report) for answers that are cut or never read as an action."
)


class Ledger:
    """Counts of episodes, by state; of those trained, how many are degraded; and how many were played again."""

    def __init__(self) -> None:
        self.sampled = 0
        self.waiting = 0
        self.ended: Counter[str] = Counter()
        """By reason for which an episode was not trained; "" is for those that were."""
        self.degraded = 0
        self.retried = 0

    def enter(self, episodes: Sequence[Episode], reasons: Sequence[str]) -> Ledger:
        """Count a step's episodes, each with the reason why it is not trained ("" if it is); returns the step's own ledger."""
        step = Ledger()
        step.sampled = len(episodes)
        step.ended = Counter(reasons)
        trained = (episode for episode, reason in zip(episodes, reasons, strict=True) if not reason)
        step.degraded = sum(episode.standing is Standing.DEGRADED for episode in trained)
        step.retried = sum(episode.attempts > 1 for episode in episodes)
        self.sampled += step.sampled
        self.ended += step.ended
        self.degraded += step.degraded
        self.retried += step.retried
        for each in (step, self):
            each.check()
        return step

    @property
    def trained(self) -> int:
        return self.ended[""]

    def check(self) -> None:
        """Raise `RuntimeError` if an episode was lost or counted twice."""
        if self.sampled != self.ended.total() + self.waiting:
            raise RuntimeError(f"the ledger does not add up: {self}; please report it")

    def counts(self) -> dict[str, float]:
        """As metrics: `ledger/<state>`."""
        reasons = {f"ledger/{reason}": float(count) for reason, count in sorted(self.ended.items()) if reason}
        fixed = {"sampled": self.sampled, "trained": self.trained, NO_RESULT: self.ended[NO_RESULT], "waiting": self.waiting}
        extra = {name: count for name, count in (("degraded", self.degraded), ("retried", self.retried)) if count}
        return {f"ledger/{name}": float(count) for name, count in (fixed | extra).items()} | reasons

    def __str__(self) -> str:
        parts = [f"{reason or 'trained'} {count}" for reason, count in sorted(self.ended.items())]
        return f"sampled {self.sampled} = " + " + ".join([*parts, f"waiting {self.waiting}"])

    def state(self) -> dict[str, Any]:
        """Fit for JSON."""
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, Counter(value) if isinstance(value, Mapping) else value)
