"""Logs of OpenAI requests as conversations: what was sampled is trained, once; what was observed is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from helpers import saved, small
from small_run import config, experiment

from sojourn.data import Data, protocol_of, read, to_groups
from sojourn.rendering import ChatRenderer
from sojourn.training import train

USER: Any = {"role": "user", "content": "q"}
TOOL: Any = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


def assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def call(messages: list[Any], *said: Any, **more: Any) -> dict[str, Any]:
    tools = {"tools": more.pop("tools")} if "tools" in more else {}
    answers = [{"message": assistant(each) if isinstance(each, str) else each} for each in said]
    return {"request": {"model": "m", "messages": messages, **tools}, "response": {"choices": answers}, **more}


def found(path: Path, *rows: Any, kinds: Any = ("supervised",)) -> Data:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return read(str(path), kinds)


def trained(data: Data) -> list[list[str]]:
    """Of each record the texts that are trained."""
    renderer = ChatRenderer(small().tokenizer, protocol_of(data))
    groups, _ = to_groups(data, renderer, most=1000)
    return [
        [renderer.decode(group.tree[span].tokens.tolist()) for span in episode.actions]
        for group in groups
        for episode in group.episodes
    ]


def test_calls_of_one_conversation_are_one_episode_with_each_answer_once(tmp_path: Path) -> None:
    more = {"role": "user", "content": "more"}
    data = found(
        tmp_path / "log.jsonl",
        call([USER], "one"),
        call([{"role": "user", "content": "another"}], "other"),
        call([USER, assistant(" one\n"), more], "two"),
    )
    assert [record.where for record in data.records] == ["line 1, line 3", "line 2"]
    assert trained(data) == [["one", "two"], ["other"]]


def test_forks_and_edits_train_what_was_sampled_and_nothing_else(tmp_path: Path) -> None:
    more, less = {"role": "user", "content": "more"}, {"role": "user", "content": "less"}
    data = found(
        tmp_path / "log.jsonl",
        call([USER], "one", "uno"),
        call([USER, assistant("one"), more], "two"),
        call([USER, assistant("one"), less], "three"),
        call([USER, assistant("made up"), more], "four"),
    )
    assert trained(data) == [["one", "two"], ["uno"], ["three"], ["four"]]


def test_tool_calls_are_read_with_their_results(tmp_path: Path) -> None:
    asks = assistant("", tool_calls=[{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}])
    result = {"role": "tool", "tool_call_id": "c1", "content": "dark"}
    data = found(
        tmp_path / "log.jsonl", call([USER], asks, tools=[TOOL]), call([USER, asks, result], "It is dark.", tools=[TOOL])
    )
    (said,) = trained(data)
    assert said == ['<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>', "It is dark."]
    assert data.records[0].answers[0].said[1].name == "look"  # type: ignore[union-attr]


def test_rewards_make_a_log_of_them(tmp_path: Path) -> None:
    rows = [call([USER], "one", reward=1.0), call([USER], "two", reward=0.0)]
    data = found(tmp_path / "log.jsonl", *rows, kinds=("logged",))
    assert [[answer.reward for answer in record.answers] for record in data.records] == [[1.0, 0.0]]


def test_a_call_without_an_answer_is_named(tmp_path: Path) -> None:
    failed = {"request": {"messages": [USER]}, "response": {"error": {"message": "overloaded"}}}
    batch = {"request": {"body": {"messages": [USER]}}, "response": {"body": call([USER], "one")["response"]}}
    data = found(tmp_path / "log.jsonl", failed, batch, {"request": 3, "response": {}})
    assert [str(each) for each in data.unusable] == [
        "line 1: it has no answer: {'message': 'overloaded'}",
        "line 3: it is no request with its answer",
    ]
    assert trained(data) == [["one"]]


def test_a_log_is_trained_on(tmp_path: Path) -> None:
    loaded = small()
    saved(loaded, tmp_path / "model")
    log = tmp_path / "log.jsonl"
    log.write_text("\n".join(json.dumps(call([USER], text, reward=r)) for text, r in (("one", 1.0), ("two", 0.0))))
    for algorithm in ("sft", "awr"):
        settings = {"algorithm": algorithm, "learn_from": str(log), "eval_tasks": 0}
        summary = train(config(tmp_path / algorithm, tmp_path / "model", steps=1, **settings), experiment())
        assert summary["steps"] == 1
