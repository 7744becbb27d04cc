"""One episode on a gateway with an engine that says given texts: what tests of the gateway play with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import openai
from helpers import small

from sojourn.core import Episode, Kind, Task, TrajectoryTree
from sojourn.engine import Completion, SamplingParams
from sojourn.environments import from_function
from sojourn.policy import Limits, Policy, Session
from sojourn.rendering import ChatRenderer, JsonTags
from sojourn.serve.gateway import Gateway
from sojourn.serve.recorder import Recorder
from sojourn.serve.server import Running

CALL = '<think>where?</think>I look. <tool_call>{"name": "look", "arguments": {"place": "there", "far": true}}</tool_call>'


class Scripted:
    """An engine that says these texts, one after the other."""

    max_context, version, sampled_tokens, computed_tokens = 2000, 0, 0, 0

    def __init__(self, renderer: ChatRenderer, *texts: str) -> None:
        self.renderer, self.texts = renderer, list(texts)
        self.asked: list[list[int]] = []

    async def sample(self, tokens: Any, params: SamplingParams) -> Completion:
        self.asked.append(np.asarray(tokens).tolist())
        said = self.renderer.as_sampled(self.texts.pop(0))[: params.max_tokens]
        stop = "length" if len(said) == params.max_tokens else "stop"
        ended = said[-1] in self.renderer.ends
        return Completion(np.asarray(said), np.full(len(said), -0.5, np.float32), stop, 0, ended)  # type: ignore[arg-type]


class Table:
    """One episode on a gateway: a client of the SDK, and what was recorded."""

    def __init__(self, *texts: str, **settings: Any) -> None:
        protocol = JsonTags()
        self.renderer = ChatRenderer(small().tokenizer, protocol)
        self.engine = Scripted(self.renderer, *texts)
        policy = Policy("actor", self.engine, self.renderer, protocol, SamplingParams(max_tokens=500))
        world = from_function(lambda prompt, said: 1.0, ["p"]).make()
        self.episode = Episode("0:t/0", Task("t"), TrajectoryTree())
        self.session = Session(self.episode, world, {"actor": policy}, seed=0, limits=Limits(max_turns=9))
        self.recorder = Recorder(self.session)
        self.gateway = Gateway(aliases={"gpt-4o": "actor"}, **settings)

    def play(self, work: Callable[[openai.AsyncOpenAI], Awaitable[Any]]) -> Any:
        async def run() -> Any:
            running = Running(self.gateway.app())
            self.base_url = running.base_url
            self.key = self.gateway.add(self.recorder)
            try:
                async with openai.AsyncOpenAI(base_url=running.base_url, api_key=self.key, max_retries=0) as client:
                    return await work(client)
            finally:
                await running.close()

        return asyncio.run(run())

    def path(self, action: int) -> list[str]:
        """The texts of the spans that lead to an action, and of itself."""
        return [self.renderer.decode(self.episode.tree[span].tokens.tolist()) for span in self.episode.tree.path(action)]

    def ancestors(self, action: int) -> list[int]:
        """The actions before one on its path."""
        return [span for span in self.episode.tree.path(action)[:-1] if self.episode.tree[span].kind is Kind.ACTION]
