"""Our worlds played by an OpenAI-compatible server: our own gateway, over real HTTP; and by servers that fail in all ways."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import doubling_recipe
import pytest
from helpers import small

from sojourn.cli import main
from sojourn.core import ContextFull, Episode, InfrastructureError, Task, TrajectoryTree, tool, user
from sojourn.engine import SamplingParams
from sojourn.policy import Policy
from sojourn.rendering import ChatRenderer, JsonTags
from sojourn.serve.endpoint import ATTEMPTS, Elsewhere, Endpoint
from sojourn.serve.free import FreeGateway
from sojourn.serve.server import Running
from sojourn.store import read_episodes

RECIPE = str(Path(doubling_recipe.__file__))
KEY = "sk-of-the-test"


@contextmanager
def served(log: str = "") -> Iterator[tuple[str, doubling_recipe.Doubler]]:
    """The doubler behind a gateway, in a thread of its own."""
    protocol = JsonTags()
    renderer = ChatRenderer(small().tokenizer, protocol)
    engine = doubling_recipe.Doubler(renderer)
    gateway = FreeGateway(Policy("doubler", engine, renderer, protocol, SamplingParams(max_tokens=200)), key=KEY, log=log)
    ready, url, stop = threading.Event(), [], []

    async def run() -> None:
        running = Running(gateway.app())
        url.append(running.base_url)
        stop.append((asyncio.get_running_loop(), running))
        ready.set()
        await running.ended()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert ready.wait(60)
    try:
        yield url[0], engine
    finally:
        loop, running = stop[0]
        asyncio.run_coroutine_threadsafe(running.close(), loop)
        thread.join()


@pytest.mark.parametrize("how", [(), ("--as-text",)], ids=["native", "text"])
def test_a_server_plays_our_world_with_its_tools(how: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with served() as (url, engine):
        arguments = ("eval", "--endpoint", url, "--model", "doubler", "--recipe", RECIPE, "--tasks", "2", *how)
        assert main([*arguments, "--json", str(tmp_path / "found.json"), "--out", str(tmp_path / "out"), "--max-turns", "4"]) == 0
    (row,) = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert (row["success"], row["tasks"]) == (1.0, 2)
    assert len(engine.seen) == 4 and all("double" in text and "number" in text for text in engine.seen), "tools were described"
    assert [len(each["actions"]) for each in read_episodes(tmp_path / "out")] == [2, 2]


def test_a_wrong_key_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    monkeypatch.delenv("SOJOURN_TRACEBACK", raising=False)
    from sojourn.core import UserCodeError

    with served() as (url, _), pytest.raises(UserCodeError, match=r"says 401: the key is not known.*look at --endpoint"):
        main(["eval", "--endpoint", url, "--model", "doubler", "--recipe", RECIPE, "--tasks", "1"])


class Answers:
    """A server that gives these answers, one after the other; an error is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.bodies = list(answers), list[Mapping[str, Any]]()

    def __call__(self, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        self.bodies.append(body)
        found = self.answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


def said(text: str | None, *calls: Any) -> tuple[int, Any]:
    return 200, {"choices": [{"message": {"content": text, "tool_calls": [{"function": call} for call in calls]}}]}


def act(server: Answers, *messages: Any) -> Any:
    protocol, slept = JsonTags(), list[float]()

    async def wait(seconds: float) -> None:
        slept.append(seconds)

    renderer = ChatRenderer(small().tokenizer, protocol)
    policy = Endpoint(
        name="actor", engine=Elsewhere(1000), renderer=renderer, protocol=protocol, model="m", post=server, wait=wait
    )
    episode = Episode("e", Task("t"), TrajectoryTree())
    tools = (doubling_recipe.double.spec,)
    context = episode.tree.new_context(messages or (user("hi"),), renderer=renderer, tools=tools)
    _, action = asyncio.run(policy.act(context.prompted(), seed=0))
    return action, slept


def test_a_server_that_is_busy_is_asked_again() -> None:
    busy = (429, {"error": {"message": "slow down"}})
    action, slept = act(Answers(ConnectionRefusedError("no"), busy, said("fine")))
    assert action.answer == "fine" and slept == [0.5, 1.0]


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (ConnectionRefusedError("refused"), InfrastructureError, "does not answer: refused"),
        ((503, {"error": {"message": "down"}}), InfrastructureError, "says 503: down"),
        ((404, {"error": {"message": "no such model"}}), ValueError, "says 404: no such model .look at --endpoint"),
        ((400, {"error": {"message": "long", "code": "context_length_exceeded"}}), ContextFull, "long"),
    ],
)
def test_what_a_server_fails_with_is_classed(answer: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        act(Answers(*[answer] * ATTEMPTS))


def test_a_call_whose_arguments_are_no_json_is_the_policys_fault() -> None:
    action, _ = act(Answers(said(None, {"name": "double", "arguments": "{3"})))
    assert action.fault is not None and "double" in action.fault.message


def test_results_carry_the_ids_of_their_calls() -> None:
    from sojourn.core import ToolCall, assistant

    server = Answers(said("6"))
    act(server, user("double 3"), assistant("", (ToolCall("double", {"number": 3}),)), tool("6", "double"))
    _, called, result = server.bodies[0]["messages"]
    assert called["tool_calls"][0]["id"] == result["tool_call_id"] and result["content"] == "6"
    assert json.loads(called["tool_calls"][0]["function"]["arguments"]) == {"number": 3}
