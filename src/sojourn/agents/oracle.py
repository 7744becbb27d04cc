"""Demonstrations: the environment's oracle plays, in the policy's words."""

from __future__ import annotations

from sojourn.core import Oracle, handover
from sojourn.policy import Session


async def demonstrate(session: Session) -> None:
    """Play as the oracle says; supervised objectives train on what it said.  Raises `ValueError` without an oracle."""
    world = session.environment
    if not isinstance(world, Oracle):
        raise ValueError(f"{type(world).__name__} has no oracle to demonstrate with: give it a method `oracle() -> Action`")
    context = session.open(await session.reset())
    while not session.done:
        action = handover.action(world.oracle(), world)
        context = session.say(context, action)
        observation = await session.step(context, action)
        context = context.observe(*observation.messages)
