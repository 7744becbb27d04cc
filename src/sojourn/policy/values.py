"""Values of states by fresh rollouts: play on from a state several times, and undo it.

VinePPO (arXiv 2410.01679) has no critic: a state's value is the mean return of rollouts that start in it.  The world must be
`Restorable`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import mean
from typing import Any

from sojourn.core import Action, BudgetSpent, Context, Episode, Message, Observation
from sojourn.policy.session import Program, Session, stable_hash


class ValuedSession(Session):
    """A session that puts on each action the value of the state before it: the mean return of `rollouts` continuations, each played
    by `program` in the same world, which then goes back.

    Continuations are siblings in the episode's tree, so what they share with it is computed once; they are no actions of the episode.
    """

    def __init__(self, *session: Any, program: Program, rollouts: int, **settings: Any) -> None:
        super().__init__(*session, **settings)
        self._program, self._rollouts = program, rollouts

    async def act(self, context: Context, *, policy: str | None = None, **how: Any) -> tuple[Context, Action]:
        seed = self._draw(context, f"value of {policy or context.agent}")
        value = mean([await self._continued(context, stable_hash(seed, number)) for number in range(self._rollouts)])
        child, action = await super().act(context, policy=policy, **how)
        child.tree[child.span].value = value
        return child, action

    async def _continued(self, context: Context, seed: int) -> float:
        """The return of one continuation; a full context ends it."""
        snapshot = await self.snapshot()
        episode = Episode(f"{self.episode.id}/value {len(self.episode.actions)}", self.task, self.episode.tree)
        limits = replace(
            self.limits,
            max_turns=self.limits.max_turns - self._steps,
            max_acts=_left(self.limits.max_acts, self._acts),
            max_sampled=_left(self.limits.max_sampled, self._sampled),
        )
        continuation = _Continuation(
            episode,
            self.environment,
            self.policies,
            seed=seed,
            limits=limits,
            runner=self.runner,
            seats=self.seats,
            kept=self.kept,
            start=context,
        )
        try:
            await self._program(continuation)
        except BudgetSpent as spent:
            await continuation.cut(spent.stop)
        finally:
            await self.restore(snapshot)
        return episode.total


def _left(limit: int, used: int) -> int:
    """Of a limit, where 0 is none.  Where nothing is left the act that is valued is refused itself."""
    return max(1, limit - used) if limit else 0


class _Continuation(Session):
    """A session whose world has begun: `reset` leaves it as it is, and the first `open` gives the context that there is."""

    def __init__(self, *session: Any, start: Context, **settings: Any) -> None:
        super().__init__(*session, **settings)
        self._start: Context | None = start

    async def reset(self, *, seed: int | None = None) -> Observation:
        self._begun = True
        return Observation()

    def open(self, start: Observation | Sequence[Message], **how: Any) -> Context:
        begun, self._start = self._start, None
        return begun or super().open(start, **how)
