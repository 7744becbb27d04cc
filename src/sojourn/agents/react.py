"""ReAct: observe, act, let the world answer, until the episode ends.  [Yao et al., arXiv 2210.03629]"""

from __future__ import annotations

from sojourn.policy import Session, resumable


@resumable
async def react(session: Session) -> None:
    """The tool-using loop.  Tools are run by the environment's `step`; a malformed call comes back as an observation."""
    context = session.open(await session.reset())
    while not session.done:
        context, action = await session.act(context)
        observation = await session.step(context, action)
        context = context.observe(*observation.messages)
