"""Whatever a model, a tool or a world writes is rendered, stored and read back: a text that cannot be encoded is settled where it enters."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import numpy as np
import pytest
from helpers import small
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sojourn.agents import react
from sojourn.core import (
    Action,
    Episode,
    Failure,
    FailureKind,
    Ints,
    Kind,
    Observation,
    Span,
    Task,
    Text,
    ToolCall,
    ToolResult,
    ToolSpec,
    TrajectoryTree,
    Transition,
    assistant,
    tool,
    user,
)
from sojourn.core.text import well_formed, well_formed_values
from sojourn.engine import Completion, SamplingParams
from sojourn.environments import ToolEnvironment
from sojourn.policy import Policy
from sojourn.rendering import PROTOCOLS, ChatRenderer, JsonTags
from sojourn.store import read_episodes, rebuild, to_row, write_episodes
from sojourn.tools import tool as as_tool
from sojourn.training import Rollout

TOKENIZER = small().tokenizer
SPEC = ToolSpec("repeat", "", {"type": "object", "properties": {"text": {"type": "string"}}})
RENDERERS = {name: ChatRenderer(TOKENIZER, make([SPEC])) for name, make in PROTOCOLS.items()}
LONE, PAIR = chr(0xD83D), chr(0xD83D) + chr(0xDE00)
anything = st.lists(
    st.text(st.characters(exclude_categories=())) | st.sampled_from([LONE, PAIR, chr(0xDE00), "\0", "\ufffd", "\ufeff", "\r\n", "\u2028", "\x1b"]),
    max_size=5,
).map("".join)  # fmt: skip


@as_tool(quick=True)
def repeat(text: str) -> str:
    """Says it again."""
    return text


class Repeats(ToolEnvironment):
    """Repeats what it is told, and what the tool is told."""

    def __init__(self) -> None:
        super().__init__([repeat])

    async def reset(self, task: Task, *, seed: int) -> Observation:
        return Observation.of(task.data["text"])

    async def answer(self, action: Action) -> Transition:
        failure = Failure(FailureKind.MODEL, action.text, action.text)
        return Transition(Observation.of(user(action.text)), terminated=True, failures=(failure,), info={"said": action.answer})


class StubSays:
    """An engine that says texts, one a call."""

    max_context = 100_000

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    async def sample(self, tokens: Ints, params: SamplingParams) -> Completion:
        ids = np.array(list(self.texts.pop(0).encode()), np.int64)
        return Completion(ids, np.zeros(len(ids), np.float32), "stop")

    async def score(self, tokens: Ints, adapter: str | None = None) -> np.ndarray:
        raise NotImplementedError


def decode(tokens: Sequence[int]) -> str:
    return str(TOKENIZER.decode(list(tokens)))


def encodable(text: str) -> bool:
    return text.encode().decode() == text


@settings(max_examples=25, deadline=None)
@given(text=anything)
def test_every_noun_holds_text_that_can_be_encoded(text: str) -> None:
    held = [
        Text(text).text, user(text).text, tool(text, text).name or "", Action(text, answer=text).text, Action("", answer=text).answer or "",
        ToolResult(text, text).text, ToolResult(text, text).name, Failure(FailureKind.MODEL, text, text).message,
        ToolSpec(text, text).description, json.dumps(ToolSpec("t", "", {text: [text]}).parameters, ensure_ascii=False),
        ToolCall(text).name, json.dumps(ToolCall("t", {text: [text, {"a": text}]}).arguments, ensure_ascii=False),
    ]  # fmt: skip
    assert all(map(encodable, held))
    if encodable_already := not any(0xD800 <= ord(char) < 0xE000 for char in text):
        assert held[0] is text
    assert encodable_already or "\ufffd" in held[0] or any(ord(char) > 0xFFFF for char in held[0])


def test_a_pair_of_surrogates_is_its_character_and_a_lone_one_is_marked() -> None:
    assert well_formed(f"a{PAIR}b{LONE}c{LONE}") == "a\U0001f600b\ufffdc\ufffd"
    kept = {"a": ["b", {"c": 1.5}]}
    assert well_formed_values(kept) is kept
    assert well_formed_values({LONE: (LONE, 1)}) == {"\ufffd": ("\ufffd", 1)}


@settings(max_examples=25, deadline=None)
@given(text=anything)
@example(text=LONE)
@example(text="\0")
def test_any_text_goes_from_the_model_to_the_world_to_the_store_and_back(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    """As JSON escapes in a call, raw in a tool's result, in the task, in a failure, in a demonstration."""
    call = "<tool_call>" + json.dumps({"name": "repeat", "arguments": {"text": text}}) + "</tool_call>"
    unknown = "<tool_call>" + json.dumps({"name": text, "arguments": {text: text}}) + "</tool_call>"
    engine = StubSays([call, unknown, "so be it" + well_formed(text)])
    policy = Policy("actor", engine, RENDERERS["json"], JsonTags())
    (group,) = asyncio.run(Rollout(Repeats, react, {"actor": policy}).groups([Task("t", {"text": text})], size=1, seed=0))
    (episode,) = group.episodes
    assert episode.valid, episode.failures
    observed = [span for span in group.tree.spans if span.kind is Kind.OBSERVATION and span.message]
    assert observed[1].message and observed[1].message.text == well_formed(text)
    row = to_row(episode, group.key, decode)
    run = tmp_path_factory.mktemp("run")
    write_episodes(run / "episodes" / "train-000001.parquet", [row])
    (kept,) = read_episodes(run)
    assert [span["text"] for span in kept["spans"]] == [span["text"] for span in row["spans"]]
    assert any(well_formed(text) in span["text"] for span in kept["spans"])
    assert rebuild([kept]).episodes[0].failures == episode.failures


@pytest.mark.parametrize("name", PROTOCOLS)
@settings(max_examples=15, deadline=None)
@given(text=anything)
def test_any_text_is_parsed_rendered_and_stored(tmp_path_factory: pytest.TempPathFactory, name: str, text: str) -> None:
    spec = ToolSpec("repeat", text, {**SPEC.parameters, "description": text})
    renderer = RENDERERS[name]
    said = renderer.protocol.parse(text)
    context = TrajectoryTree().new_context(
        [user(text), assistant(text, said.calls), tool(text, text)], renderer=renderer, tools=[spec]
    )
    context = context.prompted().force(renderer.as_sampled(text), assistant(text))
    context = context.observe(user(text)).prompted()
    ids = renderer.as_sampled(text)
    context = context.acted(Span(context.span, np.array(ids, np.int64), Kind.ACTION), assistant(text))
    row = to_row(Episode("e", Task("t"), context.tree, [context.span], [context.span]), "g", decode)
    run = tmp_path_factory.mktemp("run")
    write_episodes(run / "episodes" / "train-000001.parquet", [row])
    (kept,) = read_episodes(run)
    assert [span["text"] for span in kept["spans"]] == [span["text"] for span in row["spans"]]
