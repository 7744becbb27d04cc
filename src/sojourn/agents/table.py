"""Table: the agents of a world act as the world says, each in a context of its own."""

from __future__ import annotations

import asyncio

from sojourn.core import Action, Context, MultiAgentEnvironment
from sojourn.policy import Session


async def table(session: Session) -> None:
    """The loop for worlds with several agents.  Who acts at once speaks at once; an agent sees its own observations and nothing else;
    among legal actions where the world lists them.  Raises `ValueError` for a world with one agent."""
    world = session.environment
    if not isinstance(world, MultiAgentEnvironment):
        raise ValueError(f"{type(world).__name__} is a world for one agent: use `react`, or make it a MultiAgentEnvironment")
    first = await session.reset_all()
    contexts = {agent: session.open(first[agent], agent=agent) for agent in world.agents if agent in first}

    async def act(agent: str) -> tuple[Context, Action]:
        return await session.act(contexts[agent], legal=world.legal(agent))

    while not session.done:
        acting = list(world.acting())
        moves = dict(zip(acting, await asyncio.gather(*map(act, acting)), strict=True))
        contexts |= {agent: context for agent, (context, _) in moves.items()}
        for agent, seen in (await session.step_all(moves)).items():
            if agent in contexts:
                contexts[agent] = contexts[agent].observe(*seen.messages)
            else:
                contexts[agent] = session.open(seen, agent=agent)
