"""Markov: a fresh context for every step, for worlds whose observation is their whole state."""

from __future__ import annotations

from sojourn.core import Context, LegalActions, handover
from sojourn.policy import Session, resumable


@resumable
async def markov(session: Session) -> None:
    """See the observation, act, forget.  The contexts are linked, so that credit flows through the episode; among legal actions where
    the world lists them."""
    world = session.environment
    observation, context = await session.reset(), None
    while not session.done:
        fresh: Context = session.open(observation, source=context)
        legal = handover.legal(world.legal_actions(), world) if isinstance(world, LegalActions) else ()
        context, action = await session.act(fresh, legal=legal)
        observation = await session.step(context, action)
