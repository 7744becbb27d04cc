"""A harness that speaks in the middle of a turn: what it puts in is read and not trained, and the turn stays one turn."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from helpers import small
from one_group import played, trained

from sojourn.core import (
    Action,
    Context,
    Environment,
    Episode,
    Ints,
    Kind,
    Observation,
    StopReason,
    Task,
    TrajectoryTree,
    Transition,
    assistant,
    user,
)
from sojourn.credit import columns, dr_grpo
from sojourn.engine import Completion, SamplingParams
from sojourn.policy import Limits, Policy, Session
from sojourn.rendering import ChatRenderer
from sojourn.rendering.protocols import ActionProtocol, PlainText, XmlTags


class Quiet(Environment):
    """Takes one answer, and replies."""

    async def reset(self, task: Task, *, seed: int) -> Observation:
        return Observation.of("q")

    async def step(self, action: Action) -> Transition:
        self.heard = action
        return Transition(Observation.of("r"), 1.0)


class StubSays:
    """An engine that says what it is told, cut at the first stop text and at the limit; " $" is the end of the turn."""

    max_context = 1000

    def __init__(self, *texts: str) -> None:
        self.texts, self.asked = list(texts), []  # type: ignore[var-annotated]

    async def sample(self, tokens: Ints, params: SamplingParams) -> Completion:
        self.asked.append((tokens.tolist(), params))
        text = self.texts.pop(0)
        said = text.removesuffix("$").encode()
        stops = [said.index(stop.encode()) + len(stop) for stop in params.stop if stop.encode() in said]
        said = said[: min([*stops, params.max_tokens])]
        ended = text.endswith("$") and not stops
        ids = np.array([*said, *([min(params.ends)] if ended else [])], np.int64)
        how: Any = "stop" if ended or stops else "length"
        return Completion(ids, np.arange(len(ids), dtype=np.float32) - 9, how, 0, ended=ended)


def session(*texts: str, protocol: ActionProtocol | None = None) -> tuple[Session, StubSays]:
    engine, protocol = StubSays(*texts), protocol or PlainText()
    policy = Policy("actor", engine, ChatRenderer(small().tokenizer, protocol), protocol, SamplingParams(max_tokens=50))  # type: ignore[arg-type]
    return Session(Episode("0:t/0", Task("t"), TrajectoryTree()), Quiet(), {"actor": policy}, seed=0, limits=Limits()), engine


def kinds(context: Context) -> list[tuple[str, str]]:
    """Kind and text of every span on the path after the prompt."""
    spans = [context.tree[i] for i in context.tree.path(context.span)]
    first = next(i for i, span in enumerate(spans) if span.kind != Kind.OBSERVATION)
    return [(span.kind.name, context.renderer.decode(span.tokens.tolist())) for span in spans[first:]]


def one_turn(context: Context, text: str) -> list[int]:
    """The tokens of the conversation as if `text` had been said at once, and been answered."""
    return context.renderer.open([user("q"), assistant(text), user("r")], ())


def test_a_fence_is_filled_in_the_middle_of_a_turn() -> None:
    """ToRL: the policy writes code, the harness its output, the policy goes on; the world hears one action at the end."""
    play, engine = session("2*3 = ```calc 2*3``` is 9.$", ", so 6.$")

    async def go() -> Context:
        context, _ = await play.act(play.open(await play.reset()), stop=["3```"])
        context = play.continue_with(context, " [6]")
        context, action = await play.act(context)
        assert action.text == ", so 6."
        seen = await play.step(context, action)
        return context.observe(*seen.messages)

    context = asyncio.run(go())
    assert kinds(context)[:3] == [("ACTION", "2*3 = ```calc 2*3```"), ("FORCED", " [6]"), ("ACTION", ", so 6.")]
    assert len({context.tree[i].turn for i in play.episode.actions}) == 2
    whole = "2*3 = ```calc 2*3``` [6], so 6."
    assert context.tokens.tolist() == one_turn(context, whole)
    asked = [tokens for tokens, _ in engine.asked]
    assert asked[1] == [*asked[0], *b"2*3 = ```calc 2*3``` [6]"]
    assert len(play.episode.actions) == 2 and play.used.acts == 2


def test_the_next_observation_and_a_fresh_rendering_agree() -> None:
    play, _ = session("ab", "cd$")

    async def go() -> Context:
        context, _ = await play.act(play.open(await play.reset()), most=2)
        context, _ = await play.act(play.continue_with(context, "--"))
        return context.observe(user("r"))

    context = asyncio.run(go())
    assert context.tokens.tolist() == context.renderer.open(context.messages, ())


def test_an_end_that_is_overruled_is_not_trained() -> None:
    """Budget forcing: the policy has ended its turn, and is told to wait."""
    play, engine = session("It is 5.$", " it is 6.$")

    async def go() -> tuple[Context, Context]:
        first, _ = await play.act(play.open(await play.reset()))
        context = play.continue_with(first, " Wait,")
        context, _ = await play.act(context)
        return first, context

    first, context = asyncio.run(go())
    (end,) = context.renderer.ends
    assert kinds(context) == [("ACTION", "It is 5."), ("FORCED", " Wait,"), ("ACTION", " it is 6.")]
    tokens = context.tokens.tolist()
    assert tokens == [*engine.asked[0][0], *b"It is 5. Wait, it is 6.", end]
    assert first.span not in play.episode.actions and len(play.episode.actions) == 2
    kept = context.tree[play.episode.actions[0]]
    np.testing.assert_array_equal(kept.logprobs, np.arange(8, dtype=np.float32) - 9)
    assert context.observe(user("r")).tokens.tolist() == one_turn(context, "It is 5. Wait, it is 6.")


def test_an_end_alone_that_is_overruled_leaves_no_action() -> None:
    play, _ = session("$", "x$")

    async def go() -> Context:
        context, _ = await play.act(play.open(await play.reset()))
        context, _ = await play.act(play.continue_with(context, "Well, "))
        return context

    context = asyncio.run(go())
    assert kinds(context) == [("FORCED", "Well, "), ("ACTION", "x")]
    assert play.episode.actions == [context.span]
    assert context.observe(user("r")).tokens.tolist() == one_turn(context, "Well, x")


def test_who_goes_on_from_both_keeps_both() -> None:
    """The end stands on one branch and is overruled on the other."""
    play, _ = session("a$", "b$", "c$")

    async def go() -> None:
        first, action = await play.act(play.open(await play.reset()))
        seen = await play.step(first, action)
        await play.act(first.observe(*seen.messages))
        await play.act(play.continue_with(first, "-"))

    asyncio.run(go())
    said = [play.episode.tree[span].tokens.tolist()[:1] for span in play.episode.actions]
    assert said == [[ord("a")], [ord("a")], [ord("b")], [ord("c")]]
    assert sorted(map(len, play.episode.branches)) == [2, 2]


def test_thinking_that_is_cut_short_is_no_action_that_was_cut_off() -> None:
    play, _ = session("thinking and thinking", " 5$")

    async def go() -> Context:
        context, _ = await play.act(play.open(await play.reset()), most=8)
        assert context.tree[context.span].cut
        context, _ = await play.act(play.continue_with(context, " So:"))
        return context

    context = asyncio.run(go())
    assert kinds(context) == [("ACTION", "thinking"), ("FORCED", " So:"), ("ACTION", " 5")]
    assert not any(context.tree[span].cut for span in play.episode.actions)


@pytest.mark.parametrize(("put", "calls"), [(" then <calc>", ["2"]), (" then ", [])])
def test_what_was_put_in_belongs_to_the_next_action_and_what_was_acted_on_does_not(put: str, calls: Sequence[str]) -> None:
    play, _ = session("<calc>1</calc>", "2</calc>$", protocol=XmlTags(("calc",)))

    async def go() -> Action:
        context, first = await play.act(play.open(await play.reset()))
        assert [call.arguments for call in first.calls] == [{"input": "1"}]
        _, action = await play.act(play.continue_with(context, put))
        return action

    assert [call.arguments["input"] for call in asyncio.run(go()).calls] == list(calls)


def test_thinking_goes_on_across_what_was_put_in() -> None:
    """What opens inside thinking is a draft, whoever opened the thinking."""
    play, engine = session("<think>hm", " no$", protocol=XmlTags(("calc",)))

    async def go() -> Action:
        context, _ = await play.act(play.open(await play.reset()), most=9)
        _, action = await play.act(play.continue_with(context, " <calc>9</calc>"))
        return action

    assert asyncio.run(go()).calls == ()
    assert engine.asked[1][1].in_thinking


class Pays(Quiet):
    async def step(self, action: Action) -> Transition:
        return Transition(reward=sum(char.isascii() for char in action.text) / 6, terminated=True)


async def told_to_wait(session: Session) -> None:
    """Three tokens, a word of the harness, and on."""
    context, _ = await session.act(session.open(await session.reset()), most=3)
    context, action = await session.act(session.continue_with(context, " Wait,"))
    await session.step(context, action)


def test_what_is_put_in_is_never_trained_and_credit_goes_through_it() -> None:
    run = played(Pays, told_to_wait, seed=1)
    table = columns([run.group])
    assert table.trained_S.all() and table.parent_S.tolist() == [-1, 0, -1, 2, -1, 4, -1, 6]
    returns = np.array([episode.total for episode in run.group.episodes])
    np.testing.assert_allclose(dr_grpo()(table), (returns - returns.mean())[table.episode_S[table.row_T]])
    learned = asyncio.run(trained(run))
    spans = [episode.tree[span] for episode in run.group.episodes for span in episode.actions]
    assert {span.kind for span in spans} == {Kind.ACTION}
    assert learned.metrics["trained_tokens"] == sum(len(span.tokens) for span in spans)
    for episode in run.group.episodes:
        assert episode.stop is StopReason.TERMINATED
        path = episode.tree.path(episode.actions[-1])
        assert [episode.tree[i].kind for i in path[-3:]] == [Kind.ACTION, Kind.FORCED, Kind.ACTION]
