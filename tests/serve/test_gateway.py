"""The gateway over real HTTP with the real `openai` SDK: how calls are joined into the tree, what comes back, who is refused."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from typing import Any

import httpx
import openai
import pytest
from gateway_table import CALL, Table
from outside_agents import TOOLS

from sojourn.policy import Limits
from sojourn.serve.server import listen


def ask(client: openai.AsyncOpenAI, *messages: Any, **more: Any) -> Any:
    said = [{"role": "user", "content": each} if isinstance(each, str) else each for each in messages]
    return client.chat.completions.create(model="actor", messages=said, **more)


def test_a_conversation_that_comes_back_goes_on_after_the_sampled_tokens() -> None:
    table = Table("  One. ", "Two.")

    async def work(client: openai.AsyncOpenAI) -> None:
        first = (await ask(client, "Hi")).choices[0].message
        assert first.content == "One."  # as clients do, without white space; the sampled tokens keep theirs
        await ask(client, "Hi", first, "And?")

    table.play(work)
    one, two = table.episode.actions
    assert table.ancestors(two) == [one]
    assert table.engine.asked[1][: len(table.engine.asked[0])] == table.engine.asked[0]
    assert "".join(table.path(two)).count("  One. ") == 1 and len(table.episode.tree.children(-1)) == 1


def test_parallel_calls_are_siblings_and_edits_fork_where_they_differ() -> None:
    table = Table("One.", "Uno.", "After an edit.", "Sub.", "After One.")
    fork: Any = {"role": "assistant", "content": "Eins."}

    async def work(client: openai.AsyncOpenAI) -> None:
        first = (await ask(client, "Hi")).choices[0].message
        await ask(client, "Hi")
        await ask(client, "Hi", fork, "And?")
        await ask(client, {"role": "system", "content": "You are another."}, "Hi")
        await ask(client, "Hi", first, "And?")

    table.play(work)
    one, uno, edited, sub, after = table.episode.actions
    tree = table.episode.tree
    assert tree[one].parent == tree[uno].parent
    assert table.ancestors(edited) == [] and tree.path(edited)[0] == tree.path(one)[0]
    assert "Eins." in "".join(table.path(edited)[:-1])
    assert tree.path(sub)[0] != tree.path(one)[0]
    assert table.ancestors(after) == [one]


def test_tool_calls_keep_their_ids_and_their_tokens() -> None:
    table = Table(CALL, "It is dark.")

    async def work(client: openai.AsyncOpenAI) -> Any:
        first = (await ask(client, "Look.", tools=TOOLS)).choices[0]
        call = first.message.tool_calls[0]
        result = {"role": "tool", "tool_call_id": call.id, "content": "dark"}
        await ask(client, "Look.", first.message, result, tools=TOOLS)
        return first

    choice = table.play(work)
    assert choice.finish_reason == "tool_calls" and choice.message.content == "I look."
    assert choice.message.reasoning_content == "where?"
    function = choice.message.tool_calls[0].function
    assert (function.name, json.loads(function.arguments)) == ("look", {"place": "there", "far": True})
    first, second = table.episode.actions
    assert table.path(first)[-1] == CALL and table.ancestors(second) == [first]
    assert "dark" in table.path(second)[-2] + table.path(second)[-3]


def test_a_client_may_write_what_it_sends_back_its_own_way() -> None:
    """Keys in another order, empty fields, parts in place of a text."""
    table = Table(CALL, "Done.")

    async def work(client: openai.AsyncOpenAI) -> None:
        call = (await ask(client, "Look.", tools=TOOLS)).choices[0].message.tool_calls[0]
        arguments = json.dumps(dict(reversed(json.loads(call.function.arguments).items())))
        again = {
            "role": "assistant",
            "content": [{"type": "text", "text": "I look. \n"}],
            "refusal": None,
            "tool_calls": [{"id": call.id, "type": "function", "function": {"name": "look", "arguments": arguments}}],
        }
        await ask(client, "Look.", again, {"role": "tool", "tool_call_id": call.id, "content": "x"}, tools=TOOLS)

    table.play(work)
    assert table.ancestors(table.episode.actions[1]) == [table.episode.actions[0]]


def test_a_stream_says_what_the_whole_answer_says() -> None:
    table = Table(CALL, "Plain text.")

    async def work(client: openai.AsyncOpenAI) -> Any:
        found = []
        for tools in (TOOLS, openai.NOT_GIVEN):
            stream = await ask(client, "Look.", tools=tools, stream=True, stream_options={"include_usage": True})
            found.append([chunk async for chunk in stream])
        return found

    called, plain = table.play(work)
    (call,) = [c for chunk in called if chunk.choices for c in chunk.choices[0].delta.tool_calls or []]
    assert (call.function.name, call.index) == ("look", 0) and call.id.startswith("call_")
    assert [c.choices[0].finish_reason for c in called if c.choices][-1] == "tool_calls"
    assert "".join(c.choices[0].delta.content or "" for c in plain if c.choices) == "Plain text."
    assert plain[-1].usage.completion_tokens == len("Plain text.") + 1  # a byte each, and the end of the turn


def test_several_answers_stop_texts_and_lengths() -> None:
    table = Table("a", "b", "word STOP more", "abcdef")

    async def work(client: openai.AsyncOpenAI) -> Any:
        two = await ask(client, "Hi", n=2, logprobs=True)
        await ask(client, "Stop", stop="STOP")
        return two, await ask(client, "Cut", max_tokens=3)

    two, cut = table.play(work)
    assert [choice.message.content for choice in two.choices] == ["a", "b"]
    assert [token.logprob for token in two.choices[0].logprobs.content] == [-0.5, -0.5]
    assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == ("abc", "length")


def test_a_reward_in_a_header_pays_the_answer_before_it() -> None:
    table = Table("One.", "Two.")

    async def work(client: openai.AsyncOpenAI) -> None:
        first = (await ask(client, "Hi")).choices[0].message
        await ask(client, "Hi", first, "And?", extra_headers={"X-Sojourn-Reward": "0.25"})
        with pytest.raises(openai.BadRequestError, match="a reward pays the answer that the messages end with"):
            await ask(client, "New", extra_headers={"X-Sojourn-Reward": "1"})
        with pytest.raises(openai.BadRequestError, match="expected a finite number"):
            await ask(client, "New", extra_headers={"X-Sojourn-Reward": "nan"})

    table.play(work)
    one, two = table.episode.actions
    assert table.episode.tree[one].reward == {"reward": 0.25} and not table.episode.tree[two].reward


def test_the_gateways_key_names_the_episode_in_a_header() -> None:
    table = Table("One.")

    async def work(client: openai.AsyncOpenAI) -> None:
        own = client.with_options(api_key=table.gateway.key)
        with pytest.raises(openai.BadRequestError, match="which episode is this of"):
            await ask(own, "Hi")
        with pytest.raises(openai.NotFoundError, match="there is no episode 'x' now"):
            await ask(own, "Hi", extra_headers={"X-Sojourn-Episode": "x"})
        await ask(own, "Hi", extra_headers={"X-Sojourn-Episode": "0:t/0"})

    table.play(work)
    assert len(table.episode.actions) == 1


def test_models_are_listed_and_an_unknown_one_is_named() -> None:
    table = Table("One.")

    async def work(client: openai.AsyncOpenAI) -> Any:
        with pytest.raises(openai.NotFoundError, match=r"there is no model 'gpt-5': there is actor"):
            await client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "Hi"}])
        await client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hi"}])
        return [each.id async for each in client.models.list()]

    assert table.play(work) == ["actor", "gpt-4o"]


@pytest.mark.parametrize(("key", "said"), [("", "missing_key"), ("sk-wrong", "not this gateway"), ("sk-episode-old", "is over")])
def test_without_the_key_nothing_is_answered(key: str, said: str) -> None:
    async def work(client: openai.AsyncOpenAI) -> httpx.Response:
        async with httpx.AsyncClient() as plain:
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            return await plain.post(f"{table.base_url}/chat/completions", json={}, headers=headers)

    table = Table()
    found = table.play(work)
    assert found.status_code == 401 and said in found.text


@pytest.mark.parametrize("told", [True, False], ids=["length told", "in pieces"])
def test_a_request_that_is_too_large_is_refused_before_it_is_read(told: bool) -> None:
    table = Table(most_bytes=1000)

    async def pieces() -> Any:
        for _ in range(200):
            yield b"x" * 100

    async def work(client: openai.AsyncOpenAI) -> httpx.Response:
        async with httpx.AsyncClient() as plain:
            headers, body = {"Authorization": f"Bearer {table.key}"}, b"x" * 20_000 if told else pieces()
            return await plain.post(f"{table.base_url}/chat/completions", content=body, headers=headers)

    found = table.play(work)
    assert found.status_code == 413 and found.json()["error"]["code"] == "request_too_large"


def test_another_host_name_is_refused() -> None:
    """A page in a browser that lets its own name lead here sends that name."""
    table = Table()

    async def work(client: openai.AsyncOpenAI) -> int:
        async with httpx.AsyncClient() as plain:
            url = f"{table.base_url}/models"
            return (await plain.get(url, headers={"Host": "evil.example", "Authorization": f"Bearer {table.key}"})).status_code

    assert table.play(work) == 400


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"messages": []}, "one message at least"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "there is no role 'robot'"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "expected a text or parts with a text"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}, "nothing to answer"),
        ({"messages": [{"role": "user", "content": "x"}], "n": 99}, "at most 16"),
        ({"messages": [{"role": "user", "content": "x"}], "max_tokens": 0}, "at least 1"),
        ({"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_object"}}, "'response_format' is not there"),
        ([1], "expected an object"),
    ],
)  # fmt: skip
def test_what_is_no_request_is_named(body: Any, said: str) -> None:
    table = Table()

    async def work(client: openai.AsyncOpenAI) -> httpx.Response:
        async with httpx.AsyncClient() as plain:
            body_ = body | {"model": "actor"} if isinstance(body, dict) else body
            return await plain.post(
                f"{table.base_url}/chat/completions", json=body_, headers={"Authorization": f"Bearer {table.key}"}
            )

    found = table.play(work)
    assert found.status_code == 400 and said in found.json()["error"]["message"]


def test_an_episode_that_is_over_takes_no_calls_and_ends_those_in_flight() -> None:
    table = Table()

    async def work(client: openai.AsyncOpenAI) -> None:
        waiting = asyncio.Event()

        async def never(tokens: Any, params: Any) -> Any:
            waiting.set()
            await asyncio.Event().wait()

        table.engine.sample = never  # type: ignore[method-assign]
        call = asyncio.create_task(ask(client, "Hi"))
        await waiting.wait()
        await table.gateway.drop(table.key, "test")
        with pytest.raises(openai.APIStatusError, match="the episode ended meanwhile: test"):
            await call
        with pytest.raises(openai.AuthenticationError, match="episode that is over"):
            await ask(client, "Hi")

    table.play(work)


def test_an_episode_has_so_many_actions_as_the_run_says() -> None:
    table = Table("a")
    table.session.limits = Limits(max_turns=1)

    async def work(client: openai.AsyncOpenAI) -> None:
        await ask(client, "Hi")
        with pytest.raises(openai.BadRequestError, match="1 actions of max_turns 1"):
            await ask(client, "Hi again")

    table.play(work)


def test_a_port_in_use_is_named() -> None:
    with (
        closing(listen(0)) as taken,
        pytest.raises(ValueError, match=rf"port {taken.getsockname()[1]} is in use: choose another"),
    ):
        listen(taken.getsockname()[1])
