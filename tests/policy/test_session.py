"""A session records what was sampled, token for token, and puts rewards where they were earned."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Any

import numpy as np
import pytest
from helpers import engine_for, small

from sojourn.core import (
    Action,
    BudgetSpent,
    ContextFull,
    Environment,
    Episode,
    Kind,
    Observation,
    StopReason,
    Task,
    TrajectoryTree,
    Transition,
    user,
)
from sojourn.engine import Completion, SamplingParams
from sojourn.engine.local import LocalEngine
from sojourn.policy import Limits, Policy, Session
from sojourn.rendering import ChatRenderer
from sojourn.rendering.protocols import PlainText, XmlTags


class Counting(Environment):
    """Pays the number of the turn; ends after three."""

    turn = 0

    async def reset(self, task: Task, *, seed: int) -> Observation:
        return Observation.of(f"seed {seed}")

    async def step(self, action: Action) -> Transition:
        self.turn += 1
        return Transition(Observation.of("next"), {"turn": self.turn}, terminated=self.turn == 3, info={"turns": self.turn})

    def state_key(self) -> Hashable:
        return self.turn


class Recording:
    """An engine that remembers what it was asked."""

    def __init__(self, engine: LocalEngine) -> None:
        self.engine = engine
        self.asked: list[tuple[Any, SamplingParams, Completion]] = []

    @property
    def max_context(self) -> int:
        return self.engine.max_context

    async def sample(self, tokens: Any, params: SamplingParams) -> Completion:
        completion = await self.engine.sample(tokens, params)
        self.asked.append((tokens, params, completion))
        return completion

    async def score(self, tokens: Any, adapter: str | None = None) -> Any:
        return await self.engine.score(tokens)


def session(
    *, limits: Limits | None = None, seed: int = 0, max_context: int = 300, protocol: Any = None
) -> tuple[Session, Recording]:
    loaded, protocol = small(), protocol or PlainText()
    engine = Recording(engine_for(loaded, max_context=max_context, max_batch=4))
    policy = Policy("actor", engine, ChatRenderer(loaded.tokenizer, protocol), protocol, SamplingParams(max_tokens=5))
    episode = Episode("0:t/0", Task("t"), TrajectoryTree())
    return Session(episode, Counting(), {"actor": policy}, seed=seed, limits=limits or Limits()), engine


async def conversation(play: Session) -> None:
    context = play.open(await play.reset())
    while not play.done:
        context, action = await play.act(context)
        context = context.observe(*(await play.step(context, action)).messages)


def test_what_is_recorded_is_what_the_engine_saw_and_said() -> None:
    play, engine = session()
    asyncio.run(conversation(play))
    tree = play.episode.tree
    for span, (seen, _, completion) in zip(play.episode.actions, engine.asked, strict=True):
        assert tree.tokens(tree[span].parent).tolist() == seen.tolist()
        assert tree[span].tokens.tolist() == completion.tokens.tolist()
        assert tree[span].logprobs is completion.logprobs
        assert (tree[span].kind, tree[span].policy) == (Kind.ACTION, "actor")
    assert [tree[span].turn for span in play.episode.actions] == [0, 1, 2]


def test_rewards_lie_on_the_actions_that_earned_them() -> None:
    play, _ = session()
    asyncio.run(conversation(play))
    assert [play.episode.tree[span].reward for span in play.episode.actions] == [{"turn": 1.0}, {"turn": 2.0}, {"turn": 3.0}]
    assert (play.episode.stop, play.episode.total, play.episode.info) == (StopReason.TERMINATED, 6.0, {"turns": 3})


def test_the_state_before_an_action_is_its_anchor() -> None:
    play, _ = session()
    asyncio.run(conversation(play))
    assert [play.episode.tree[span].anchor for span in play.episode.actions] == [0, 1, 2]


def test_turns_are_limited() -> None:
    play, _ = session(limits=Limits(max_turns=2))
    asyncio.run(conversation(play))
    assert (play.episode.stop, len(play.episode.actions)) == (StopReason.TURN_LIMIT, 2)


def test_acting_twice_from_one_context_samples_two_siblings() -> None:
    play, engine = session()

    async def twice() -> None:
        context = play.open([user("hello")])
        await asyncio.gather(play.act(context), play.act(context))

    asyncio.run(twice())
    one, other = (play.episode.tree[span] for span in play.episode.actions)
    assert one.parent == other.parent
    assert one.tokens.tolist() != other.tokens.tolist()
    assert engine.asked[0][1].seed != engine.asked[1][1].seed


def test_the_session_seed_alone_decides() -> None:
    def said(seed: int) -> list[list[int]]:
        play, _ = session(seed=seed)
        asyncio.run(conversation(play))
        return [play.episode.tree[span].tokens.tolist() for span in play.episode.actions]

    assert said(1) == said(1) != said(2)


def test_an_action_takes_no_more_than_the_room_that_is_left() -> None:
    probe, _ = session()
    used = len(probe.open([user("hello")]).prompted().tokens)
    play, _ = session(max_context=used + 2)
    context, _ = asyncio.run(play.act(play.open([user("hello")])))
    assert len(play.episode.tree[context.span].tokens) <= 2
    full, _ = session(max_context=used)
    with pytest.raises(ContextFull, match=f"{used} tokens, policy 'actor' holds {used}"):
        asyncio.run(full.act(full.open([user("hello")])))
    assert full.episode.actions == []


def test_the_protocols_stop_texts_reach_the_engine() -> None:
    play, engine = session(protocol=XmlTags())
    asyncio.run(play.act(play.open([user("hello")])))
    assert set(XmlTags().stop) <= set(engine.asked[0][1].stop)
    assert engine.asked[0][1].stop


def test_a_rewritten_context_remembers_where_it_came_from() -> None:
    play, _ = session()

    async def rewrite() -> tuple[int, int]:
        context, _ = await play.act(play.open([user("long story")]))
        return context.span, play.open([user("short")], source=context).span

    before, root = asyncio.run(rewrite())
    assert play.episode.tree[root].source == before


def test_paying_twice_adds_up() -> None:
    play, _ = session()
    context, _ = asyncio.run(play.act(play.open([user("hello")])))
    play.reward(context, 0.5)
    play.reward(context, {"reward": 0.25, "style": 1.0})
    assert play.episode.tree[context.span].reward == {"reward": 0.75, "style": 1.0}
    np.testing.assert_allclose(play.episode.total, 1.75)


def test_what_is_sampled_does_not_depend_on_the_order_in_which_branches_arrive() -> None:
    """Two branches from two prompts, and two siblings of one: in either order each says the same."""

    def said(order: list[int]) -> list[list[int]]:
        play, _ = session()
        prompts = [play.open([user("one")]), play.open([user("other")]), play.open([user("one")])]

        async def concurrently() -> dict[int, list[int]]:
            found = {}
            for index in order:
                context, _ = await play.act(prompts[index])
                found[index] = play.episode.tree[context.span].tokens.tolist()
            return found

        found = asyncio.run(concurrently())
        return [found[0], found[1], found[2]]

    first, second = said([0, 1, 2]), said([1, 0, 2])
    assert first == second
    assert first[0] != first[2]


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), None, "1", np.bool_(True), {"a": 1.0, "b": float("nan")}])
def test_what_is_no_finite_number_is_refused_with_the_episode_the_term_and_the_value(reward: Any) -> None:
    play, _ = session()
    context, _ = asyncio.run(play.act(play.open([user("hello")])))
    term, value = ("b", "nan") if isinstance(reward, dict) else ("reward", repr(reward))
    with pytest.raises(ValueError, match="episode 0:t/0") as caught:
        play.reward(context, reward)
    assert f"'{term}'" in str(caught.value)
    assert value in str(caught.value)
    assert play.episode.tree[context.span].reward == {}


@pytest.mark.parametrize(
    ("limits", "acts", "tokens", "stop"),
    [
        (Limits(max_turns=9, max_acts=2), 2, None, StopReason.TURN_LIMIT),
        (Limits(max_turns=9, max_sampled=7), None, 7, StopReason.TOKEN_LIMIT),
        (Limits(max_turns=2), 2, None, StopReason.TURN_LIMIT),
    ],
)
def test_acts_sampled_tokens_and_steps_are_limited_each_on_its_own(
    limits: Limits, acts: int | None, tokens: int | None, stop: StopReason
) -> None:
    play, _ = session(limits=limits)
    said: list[StopReason | None] = []
    try:
        asyncio.run(conversation(play))
    except BudgetSpent as spent:
        said.append(spent.stop)
    assert (said or [play.episode.stop]) == [stop]
    assert acts is None or len(play.episode.actions) == acts
    assert tokens is None or play.episode.sampled == tokens


class Talkative(Counting):
    """Answers every action with a page."""

    async def step(self, action: Action) -> Transition:
        transition = await super().step(action)
        page = user("first " + "\u2026 " * 10_000 + " last")
        return Transition(Observation((page, user("short"))), transition.reward, terminated=transition.terminated)


def test_a_page_is_shortened_to_what_the_context_holds_and_the_policy_goes_on() -> None:
    """Three turns fit into 1,024 tokens, though each page alone has 40,000."""
    play, engine = session(max_context=1024)
    play.environment = Talkative()
    asyncio.run(conversation(play))
    assert play.episode.stop is StopReason.TERMINATED
    assert [len(tokens) > 256 * turn for turn, (tokens, _, _) in enumerate(engine.asked)] == [True] * 3
    assert len(engine.asked[-1][0]) + 5 <= 1024
    said = small().tokenizer.decode(engine.asked[-1][0].tolist())
    assert said.count("tokens left out] ...") == said.count("first ") == said.count(" last") == said.count("short") == 2


def test_a_larger_share_leaves_room_for_an_answer() -> None:
    play, engine = session(max_context=1024, limits=Limits(observation_share=1.0))
    play.environment = Talkative()
    with pytest.raises(ContextFull):
        asyncio.run(conversation(play))
    assert len(play.episode.actions) >= 2
    assert 900 < len(engine.asked[1][0]) <= 1019
