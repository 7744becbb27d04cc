"""Context builders: what is seen of what was said, and that credit crosses from context to context."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from one_group import Played, played, trained

from sojourn.agents.contexts import append, fold, loop, overwrite, read_in_pieces, summarised, window
from sojourn.agents.react import react
from sojourn.core import ROOT, Action, Context, Environment, Observation, Task, Transition, assistant, user
from sojourn.credit import columns, dr_grpo
from sojourn.policy import Program, Session


class Facts(Environment):
    """Answers whatever is said with a new fact, four times; paid at the end, by what was said."""

    told = 0

    async def reset(self, task: Task, *, seed: int) -> Observation:
        return Observation.of([user("Look."), assistant("So."), user("Who has a cat?")])

    async def step(self, action: Action) -> Transition:
        self.told += 1
        over = self.told == 4
        paid = sum(char.isascii() for char in action.text) / 10 if over else 0.0
        return Transition(Observation.of(f"Fact {self.told}."), paid, terminated=over)


def said(run: Played, episode: int = 0) -> list[str]:
    tree = run.group.tree
    return [message.text for span in run.group.episodes[episode].actions if (message := tree[span].message)]


def read(run: Played, episode: int = 0) -> list[str]:
    """What stood before each action."""
    tree = run.group.tree
    actions = run.group.episodes[episode].actions
    return [run.actor.tokenizer.decode(tree.tokens(span)[: -len(tree[span].tokens)]) for span in actions]


def facts(texts: Sequence[str]) -> list[list[int]]:
    return [[number for number in range(1, 5) if f"Fact {number}." in text] for text in texts]


def roots(run: Played) -> list[list[int]]:
    """For every action of an episode, which action its context is a rewrite of; -1 for none."""
    tree = run.group.tree
    found = []
    for episode in run.group.episodes:
        sources = [tree[tree.path(span)[0]].source for span in episode.actions]
        assert all(tree[tree.path(span)[0]].parent == ROOT for span in episode.actions)
        found.append([ROOT if source is None else episode.actions.index(source) for source in sources])
    return found


def assert_credit_crosses(run: Played) -> None:
    """All actions of an episode are one branch, and share what came of it."""
    table = columns([run.group])
    for episode in run.group.episodes:
        assert episode.branches == [episode.actions]
    returns = np.array([episode.total for episode in run.group.episodes])
    assert len(set(returns.tolist())) > 1
    np.testing.assert_allclose(dr_grpo()(table), (returns - returns.mean())[table.episode_S[table.row_T]])
    learned = asyncio.run(trained(run))
    assert learned.metrics["trained_tokens"] == len(table.row_T)


def test_append_is_react_to_the_bit() -> None:
    one, other = played(Facts, react), played(Facts, loop(append))
    assert read(one) == read(other) and said(one) == said(other)
    assert facts(read(other)) == [[], [1], [1, 2], [1, 2, 3]]


def test_a_window_as_long_as_the_episode_is_react_to_the_bit() -> None:
    one, other = played(Facts, react), played(Facts, loop(window(3)))
    assert read(one) == read(other) and said(one) == said(other)


def test_a_window_shows_the_first_messages_and_the_last_turns() -> None:
    run = played(Facts, loop(window(2)))
    seen, words = read(run), said(run)
    assert facts(seen) == [[], [1], [1, 2], [2, 3]]
    assert all("Look." in text and "So." in text and "Who has a cat?" in text for text in seen)
    assert words[1] in seen[3] and words[2] in seen[3]
    assert roots(run) == [[-1, -1, -1, 2]] * 4
    assert_credit_crosses(run)


def test_a_note_is_all_that_is_kept() -> None:
    run = played(Facts, loop(overwrite))
    seen, words = read(run), said(run)
    assert facts(seen) == [[], [1], [2], [3]]
    assert [text.count("You noted:") for text in seen] == [0, 1, 1, 1]
    assert all(f"You noted: {note}" in text for note, text in zip(words, seen[1:], strict=False))
    assert all("Who has a cat?" in text for text in seen)
    assert roots(run) == [[-1, 0, 1, 2]] * 4
    assert_credit_crosses(run)


def test_a_context_that_has_grown_is_summed_up_and_starts_again() -> None:
    short = len(played(Facts, react, size=1).group.tree.tokens(0)) + 60
    run = played(Facts, loop(summarised(short, ask="Sum up.")))
    seen, words = read(run), said(run)
    asked = [place for place, text in enumerate(seen) if "Sum up." in text]
    assert asked and len(seen) == 4 + len(asked)
    for place in asked:
        assert f"Your summary: {words[place]}" in seen[place + 1]
        assert facts(seen)[place] and not facts(seen)[place + 1]
        assert seen[place + 1].count("Your summary:") == 1 and "Sum up." not in seen[place + 1]
    assert_credit_crosses(run)


def test_a_context_that_fits_is_never_summed_up() -> None:
    one, other = played(Facts, react), played(Facts, loop(summarised(10_000)))
    assert read(one) == read(other) and said(one) == said(other)


async def folding(session: Session) -> None:
    """Two words in a branch, and the answer after it."""

    async def work(branch: Context) -> tuple[Context, str]:
        branch, one = await session.act(branch)
        branch, two = await session.act(branch.observe(user("And?")))
        return branch, f"{one.text}/{two.text}"

    context, action = await session.act(session.open(await session.reset()))
    seen = await session.step(context, action)
    context = await fold(context.observe(*seen.messages), "Count.", work)
    while not session.done:
        context, action = await session.act(context)
        seen = await session.step(context, action)
        context = context.observe(*seen.messages)


def test_of_a_branch_the_result_alone_comes_back() -> None:
    run = played(Facts, folding)
    seen, words = read(run), said(run)
    assert ["Count." in text for text in seen] == [False, True, True, True, True, True]
    assert ["And?" in text for text in seen] == [False, False, True, False, False, False]
    assert all(f"Result: {words[1]}/{words[2]}" in text for text in seen[3:])
    assert all("Fact 1." in text for text in seen[1:])
    assert roots(run) == [[-1, -1, -1, 2, 2, 2]] * 4
    assert_credit_crosses(run)


class Book(Environment):
    """A text and a question; paid by the answer."""

    pages = ("Ann has a cat. The cat is red. ", "Bob has a dog. ", "Eve has none. ")

    async def reset(self, task: Task, *, seed: int) -> Observation:
        if task.data.get("one"):
            return Observation.of("".join(self.pages) + "\n\nWho has none?")
        return Observation.of([*map(user, self.pages), user("Who has none?")])

    async def step(self, action: Action) -> Transition:
        return Transition(reward=sum(char.isascii() for char in action.text) / 10, terminated=True)


@pytest.mark.parametrize("one", [True, False], ids=["one message", "several"])
def test_a_long_text_is_read_in_pieces_with_the_question_and_a_note(one: bool) -> None:
    run = played(Book, read_in_pieces(32), task=Task("t", {"one": one}))
    seen, words = read(run), said(run)
    assert len(seen) == 3
    assert ["Ann" in text for text in seen] == [True, False, False]
    assert ["Eve" in text for text in seen] == [False, True, False]
    assert all("Who has none?" in text for text in seen)
    assert f"You noted: {words[0]}" in seen[1] and f"You noted: {words[1]}" in seen[2]
    assert roots(run) == [[-1, 0, 1]] * 4
    assert_credit_crosses(run)


def test_a_short_text_is_read_at_once() -> None:
    one, other = played(Book, react), played(Book, read_in_pieces(1000))
    assert read(one) == read(other) and said(one) == said(other)


def test_a_window_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="give 1 turn or more"):
        window(0)


@pytest.mark.parametrize("program", [loop(window(1)), loop(overwrite), read_in_pieces(10)])
def test_programs_that_know_how_an_episode_began_are_not_started_in_its_middle(program: Program) -> None:
    assert not getattr(program, "resumable", False)
