"""Demonstrations: the environment's oracle plays, in the policy's words."""

from __future__ import annotations

from sojourn.policy import Session


async def demonstrate(session: Session) -> None:
    """Play as the oracle says; supervised objectives train on what it said.  Raises `ValueError` without an oracle."""
    context = session.open(await session.reset())
    while not session.done:
        action = await session.oracle()
        context = session.say(context, action)
        observation = await session.step(context, action)
        context = context.observe(*observation.messages)
