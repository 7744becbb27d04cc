"""A program that overwrites its own context: several contexts in an episode, one reward at the end."""

from __future__ import annotations

import asyncio

import numpy as np
from helpers import paths_of, unique_prefixes
from one_group import Learned, played, trained

from sojourn.core import ROOT, Action, Environment, Observation, Task, Transition, user
from sojourn.credit import columns, dr_grpo
from sojourn.policy import Session


class Book(Environment):
    """Three pages and a question; the answer is paid by its length, which differs from episode to episode."""

    async def reset(self, task: Task, *, seed: int) -> Observation:
        return Observation.of([user("Ann has a cat. "), user("The cat is red. "), user("What has Ann? ")])

    async def step(self, action: Action) -> Transition:
        return Transition(terminated=True, info={"answer": action.text})


async def read_page_by_page(session: Session) -> None:
    """Keep a memory that fits; every page starts a new context.  [MemAgent, arXiv 2507.02259]"""
    memory, context = "", None
    for page in (await session.reset()).messages:
        context = session.open([user(f"{page.text} You noted: {memory}")], source=context)
        context, note = await session.act(context)
        memory = note.text
    assert context is not None
    await session.step(context, note)
    session.episode.reward = {"answer": sum(char.isascii() for char in memory) / 10}


def test_an_episode_of_three_contexts_is_played_and_trained() -> None:
    run = played(Book, read_page_by_page, seed=1)
    for episode in run.group.episodes:
        tree = episode.tree
        roots = [tree.path(span)[0] for span in episode.actions]
        assert len(set(roots)) == 3
        assert [tree[root].parent for root in roots] == [ROOT] * 3
        assert [tree[root].source for root in roots] == [None, *episode.actions[:2]]
        assert episode.leaves == episode.actions
    learned: Learned = asyncio.run(trained(run))
    assert learned.metrics["trained_tokens"] == sum(len(e.tree[s].tokens) for e in run.group.episodes for s in e.actions)
    assert learned.metrics["unique_tokens"] == unique_prefixes([path[:-1] for path in paths_of(run.group)])


def test_credit_crosses_the_rewrites_and_counts_the_episode_once() -> None:
    run = played(Book, read_page_by_page, seed=1)
    table = columns([run.group])
    assert table.parent_S.tolist() == [-1, 0, 1, -1, 3, 4, -1, 6, 7, -1, 9, 10]
    advantage_T = dr_grpo()(table)
    returns = np.array([episode.total for episode in run.group.episodes])
    np.testing.assert_allclose(advantage_T, (returns - returns.mean())[table.episode_S[table.row_T]])


class Facts(Environment):
    """Answers whatever is said with a new fact, three times."""

    told = 0

    async def reset(self, task: Task, *, seed: int) -> Observation:
        return Observation.of("Who has a cat?")

    async def step(self, action: Action) -> Transition:
        self.told += 1
        return Transition(Observation.of(f"Fact {self.told}."), reward=len(action.text), terminated=self.told == 3)


async def keep_the_last_turn(session: Session) -> None:
    """Each turn starts anew from the question, what was said last and what came of it.  [MEM1, arXiv 2506.15841]"""
    (question,) = (await session.reset()).messages
    context, said = await session.act(session.open([question]))
    while not session.done:
        seen = await session.step(context, said)
        if not session.done:
            context = session.open([question, user(f"You said {said.text}."), *seen.messages], source=context)
            context, said = await session.act(context)


def test_a_turn_sees_the_question_and_the_last_turn_alone() -> None:
    """t1 sees {q, t0, r0, i0}, t2 sees {q, t1, r1, i1}; and what is trained was sampled from just that."""
    run = played(Facts, keep_the_last_turn)
    for episode in run.group.episodes:
        tree = episode.tree
        seen = [run.actor.tokenizer.decode(tree.tokens(span)[: -len(tree[span].tokens)]) for span in episode.actions]
        said = [f"You said {message.text}." for span in episode.actions if (message := tree[span].message)]
        pieces = ["Who has a cat?", said[0], "Fact 1.", said[1], "Fact 2."]
        assert [[piece in text for piece in pieces] for text in seen] == [
            [True, False, False, False, False],
            [True, True, True, False, False],
            [True, False, False, True, True],
        ]
    asyncio.run(trained(run))
