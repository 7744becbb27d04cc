"""Markov: a fresh context for every step, for worlds whose observation is their whole state."""

from __future__ import annotations

from sojourn.core import Context
from sojourn.policy import Session, resumable


@resumable
async def markov(session: Session) -> None:
    """See the observation, act, forget.  The contexts are linked, so that credit flows through the episode; among legal actions where
    the world lists them."""
    observation, context = await session.reset(), None
    while not session.done:
        fresh: Context = session.open(observation, source=context)
        context, action = await session.act(fresh, legal=await session.legal_actions())
        observation = await session.step(context, action)
