"""Choose: say one of the actions that the world lists, and nothing else."""

from __future__ import annotations

from sojourn.core import LegalActions
from sojourn.policy import Session, resumable


@resumable
async def choose(session: Session) -> None:
    """The loop for worlds with `legal_actions`.  Every episode consists of valid actions from the first step on; a policy that
    should think before it acts needs `react`.  Raises `ValueError` where the world lists nothing."""
    world = session.environment
    if not isinstance(world, LegalActions):
        raise ValueError(f"{type(world).__name__} does not list its actions: give it a method `legal_actions() -> Sequence[str]`")
    context = session.open(await session.reset())
    while not session.done:
        context, action = await session.act(context, legal=await session.legal_actions())
        observation = await session.step(context, action)
        context = context.observe(*observation.messages)
