"""The responses API with the real `openai` SDK: the same tree, in other words."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from gateway_table import CALL, Table
from outside_agents import TOOLS

LOOK: Any = [{"type": "function", **TOOLS[0]["function"]}]


def test_items_that_come_back_go_on_after_the_sampled_tokens() -> None:
    table = Table(CALL, "It is dark.")

    async def work(client: openai.AsyncOpenAI) -> Any:
        ask: Any = [{"role": "user", "content": "Look."}]
        first = await client.responses.create(model="actor", input=ask, instructions="Be brief.", tools=LOOK)
        call = first.output[-1]
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "dark"}
        again = [*ask, *first.output, result]
        return first, await client.responses.create(model="actor", input=again, instructions="Be brief.", tools=LOOK)

    first, second = table.play(work)
    message, call = first.output
    assert (message.content[0].text, call.name, json.loads(call.arguments)["place"]) == ("I look.", "look", "there")
    assert second.output_text == "It is dark." and second.status == "completed"
    one, two = table.episode.actions
    assert table.ancestors(two) == [one] and "Be brief." in table.path(one)[0]


def test_an_earlier_response_stands_for_its_messages() -> None:
    table = Table("One.", "Two.")

    async def work(client: openai.AsyncOpenAI) -> Any:
        first = await client.responses.create(model="actor", input="Hi")
        await client.responses.create(model="actor", input="And?", previous_response_id=first.id)
        with pytest.raises(openai.NotFoundError, match="there is no response 'resp_x' in this episode"):
            await client.responses.create(model="actor", input="And?", previous_response_id="resp_x")

    table.play(work)
    one, two = table.episode.actions
    assert table.ancestors(two) == [one]


def test_a_stream_of_events_ends_with_the_whole_response() -> None:
    table = Table(CALL)

    async def work(client: openai.AsyncOpenAI) -> Any:
        stream = await client.responses.create(model="actor", input="Look.", tools=LOOK, stream=True)
        return [event async for event in stream]

    events = table.play(work)
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == "I look."
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [item.type for item in events[-1].response.output] == ["message", "function_call"]


def test_an_answer_that_is_cut_is_incomplete() -> None:
    table = Table("abcdef")

    async def work(client: openai.AsyncOpenAI) -> Any:
        return await client.responses.create(model="actor", input="Hi", max_output_tokens=3)

    found = table.play(work)
    assert (found.status, found.incomplete_details.reason, found.output_text) == ("incomplete", "max_output_tokens", "abc")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"tools": [{"type": "web_search"}]}, "a tool of type 'web_search' is not there"),
        ({"text": {"format": {"type": "json_object"}}}, "'text.format' is not there"),
        ({"input": [{"type": "image_generation_call"}]}, "an item of type 'image_generation_call' is not there"),
    ],
)
def test_what_is_not_there_is_refused_by_name(more: Any, said: str) -> None:
    table = Table()

    async def work(client: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match=said):
            await client.responses.create(model="actor", **({"input": "Hi"} | more))

    table.play(work)
