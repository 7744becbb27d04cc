"""What a part needs beside rewards, said by the part itself, so that a trainer fills it and refuses what cannot work.

    reads            columns (`Columns`) and inputs of a loss (`LossInputs`) that somebody has to fill: see COLUMNS
    traits           facts that forbid a combination: see TRAITS
    coefficients     numbers by name that a target may move during training (`KlTarget`, `EntropyTarget`), with where they start
    refuses(size)    why groups of so many episodes cannot work with it; "" if they can

All four are optional.  A part made of parts is a `Composite`: it says what it is made of, and what they need adds up.  A function of your
own says what it reads with `declares`:

    @declares("value_T")
    def advantage(columns): ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

COLUMNS = {
    "value_T": "values of states from a critic",
    "value_S": "values of states from fresh rollouts",
    "ref_logp_T": "log-probabilities under the reference, before the update",
    "policy_logp_T": "log-probabilities under the learner's policy at the start of the update",
    "entropy_T": "entropies, before the update",
    "square_T": "sums of squared probabilities",
    "baseline_E": "the return of a greedy episode of the same task",
    "answer_S": "how likely the task's right answer is",
    "ref_logp": "log-probabilities under the reference, while the loss is computed",
    "blind_logp": "log-probabilities behind an observation whose words are blotted out, while the loss is computed",
    "old_logp": "the policy at the start of the update, told from the one that sampled",
}
"""What may be declared, in words."""

TRAITS = {
    "weighs": "advantages, or a loss, that carry the importance weight of samples of another policy",
    "on-policy": "a loss that takes every sample for one of the policy at the start of the update",
    "no ratio": "a loss that does not notice when the policy leaves the one that sampled",
    "rounding": "reads the engine's error, so that the policy must be scored even if it is the one that sampled",
    "imitates": "says again what was said, whoever said it, so that forced tokens are trained, too",
    "teacher": "has nothing to learn from a reference that is the first policy",
}
"""What may be declared, in words."""


def declares(*names: str) -> Callable[[F], F]:
    """Decorator of a function that is a credit, a transform or an objective: which columns it reads.

    Raises `ValueError` for a name that nobody fills.
    """
    for name in names:
        if name not in COLUMNS:
            near = get_close_matches(name, COLUMNS, 1, 0.4)
            raise ValueError(f"declares('{name}'): nobody fills such a column; did you mean {near or list(COLUMNS)}?")

    def declared(function: F) -> F:
        function.reads = frozenset(names)  # type: ignore[attr-defined]
        return function

    return declared


def reads(*parts: object) -> frozenset[str]:
    """All that these parts read; None stands for no part.

    >>> from sojourn.credit import Gae, KlInReward
    >>> sorted(reads(KlInReward(credit=Gae())))
    ['policy_logp_T', 'ref_logp_T', 'value_T']
    """
    return frozenset[str]().union(*(getattr(each, "reads", ()) for each in parts))


def traits(*parts: object) -> frozenset[str]:
    """All traits of these parts."""
    return frozenset[str]().union(*(getattr(each, "traits", ()) for each in parts))


def coefficients(*parts: object) -> dict[str, float]:
    """Numbers that a target may move, with where they start; of two with one name the first part's."""
    return {name: start for each in reversed(parts) for name, start in getattr(each, "coefficients", {}).items()}


def refusals(size: int, *parts: object) -> Iterator[str]:
    """Why groups of `size` episodes cannot work with these parts."""
    for each in parts:
        if reason := each.refuses(size) if hasattr(each, "refuses") else "":
            yield reason


def reader(name: str, *parts: object) -> str:
    """The innermost of these parts that reads a column, by its name; "" if none does."""
    for each in parts:
        if name in reads(each):
            return reader(name, *getattr(each, "made_of", ())) or getattr(each, "__name__", type(each).__name__)
    return ""


def no_baseline(size: int) -> str:
    """What refuses groups of one, for a part that compares the episodes of a group."""
    return "a group of one has no baseline and trains nothing; raise the group size to 2 or more" if size < 2 else ""


class Composite:
    """A part made of parts: what they need, it needs."""

    @property
    def made_of(self) -> tuple[object, ...]:
        """The parts."""
        raise NotImplementedError

    @property
    def reads(self) -> frozenset[str]:
        return reads(*self.made_of)

    @property
    def traits(self) -> frozenset[str]:
        return traits(*self.made_of)

    @property
    def coefficients(self) -> dict[str, float]:
        return coefficients(*self.made_of)

    def refuses(self, size: int) -> str:
        return next(refusals(size, *self.made_of), "")
