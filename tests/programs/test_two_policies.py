"""Two policies talk in one episode; one is frozen: its words are recorded, and never trained."""

from __future__ import annotations

import asyncio

import numpy as np
import torch
from helpers import engine_for, small
from one_group import Played, played, policy, trained

from sojourn.core import Action, Environment, Observation, Task, Transition, user
from sojourn.credit import columns
from sojourn.policy import Session


class Stage(Environment):
    """Two exchanges; what the actor says is paid by its plain characters."""

    turn = 0

    async def reset(self, task: Task, *, seed: int) -> Observation:
        return Observation.of("Ask your partner.")

    async def step(self, action: Action) -> Transition:
        self.turn += 1
        return Transition(reward=sum(char.isascii() for char in action.text) / 6, terminated=self.turn == 2)


async def ask_and_answer(session: Session) -> None:
    """Each has a context of its own and hears what the other said."""
    mine = session.open(await session.reset(), agent="asker")
    theirs = session.open([user("Answer briefly.")], policy="partner", agent="partner")
    while not session.done:
        asked, question = await session.act(mine)
        heard = theirs.observe(user(question.text))
        theirs, reply = await session.act(heard, policy="partner")
        mine = asked.observe(user(reply.text))
        await session.step(asked, question)


PARTNER = small("qwen3")


def dialogue() -> Played:
    """The partner is another model and speaks greedily."""
    engine = engine_for(PARTNER, max_context=400)
    return played(Stage, ask_and_answer, policy("partner", PARTNER, engine, temperature=0.0))


def test_a_dialogue_is_played_and_only_one_side_is_trained() -> None:
    run = dialogue()
    partner = [p.clone() for p in PARTNER.model.parameters()]
    said = dict.fromkeys(("actor", "partner"), 0)
    for episode in run.group.episodes:
        assert [episode.tree[s].policy for s in episode.actions] == ["actor", "partner"] * 2
        assert [episode.tree[s].agent for s in episode.actions] == ["asker", "partner"] * 2
        for span in episode.actions:
            said[episode.tree[span].policy or ""] += len(episode.tree[span].tokens)
    learned = asyncio.run(trained(run))
    assert learned.metrics["trained_tokens"] == said["actor"]
    assert said["partner"] > 0
    assert all(torch.equal(p, old) for p, old in zip(PARTNER.model.parameters(), partner, strict=True))


def test_the_partners_probabilities_are_not_read() -> None:
    """Whatever is written on the frozen policy's spans, the step is the same to the bit."""
    steps = []
    for spoilt in (False, True):
        run = dialogue()
        table = columns([run.group], trained=("actor",))
        assert table.trained_S.tolist() == [True, False] * 8
        for episode in run.group.episodes:
            for span in episode.actions[1::2] if spoilt else []:
                episode.tree[span].logprobs = np.full(len(episode.tree[span].tokens), np.nan, np.float32)
        asyncio.run(trained(run))
        steps.append([p.detach().clone() for p in run.actor.model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*steps, strict=True))
