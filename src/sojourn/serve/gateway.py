"""The gateway: who may ask, on behalf of which episode, and what of HTTP lies between them.

The one idea: a key is an episode.  An agent that takes its key and its address from the environment, as the `openai` SDK does, is on its
episode with nothing changed.  Whoever holds the gateway's own key names the episode in a header.

    Authorization: Bearer KEY         the key of an episode, or the gateway's own
    X-Sojourn-Episode: ID             with the gateway's own key: which episode
    X-Sojourn-Agent: NAME             who asks, where an episode has several agents with roles of their own
    X-Sojourn-Reward: 0.5             pays the answer that the messages end with

It binds to loopback, wants a key, and bounds what a request may hold.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from math import isfinite
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sojourn.rendering import ChatRenderer
from sojourn.serve import responses, wire
from sojourn.serve.recorder import Recorder
from sojourn.serve.wire import Refused
from sojourn.store.files import append_row

MOST_BYTES = 4 << 20
"""Of a request's body."""
EPISODE, AGENT, REWARD = "x-sojourn-episode", "x-sojourn-agent", "x-sojourn-reward"

Handler = Callable[[Request], Awaitable[Response]]


class Gateway:
    """The episodes that are being played, and the application that lets their agents ask.

    aliases: other names of models, by what clients call them.  key: the gateway's own; a fresh one by default.  log: a file that gets
    every request with its answer, one JSON object a line.
    """

    def __init__(
        self, *, aliases: Mapping[str, str] | None = None, key: str = "", most_bytes: int = MOST_BYTES, log: str = ""
    ) -> None:
        self.aliases, self.most_bytes, self.log = dict(aliases or {}), most_bytes, log
        self.key = key or f"sk-sojourn-{token_urlsafe(24)}"
        self.models: tuple[str, ...] = ()
        self._by_key: dict[str, Recorder] = {}
        self._by_name: dict[str, Recorder] = {}

    def add(self, recorder: Recorder) -> str:
        """Take calls for an episode; returns its key."""
        key = f"sk-episode-{token_urlsafe(24)}"
        self._by_key[key] = self._by_name[recorder.session.episode.id] = recorder
        self.models = tuple(recorder.session.policies)
        return key

    async def drop(self, key: str, why: str) -> None:
        """Take no more calls for the episode of that key; those in flight end."""
        recorder = self._by_key.pop(key, None)
        if recorder is not None:
            self._by_name.pop(recorder.session.episode.id, None)
            await recorder.close(why)

    def app(self, *routes: Route) -> Starlette:
        """The application; `routes` are more of them."""
        own = (
            Route("/v1/models", self.guarded(self._models), methods=["GET"]),
            Route("/v1/chat/completions", self.guarded(self._chat), methods=["POST"]),
            Route("/v1/responses", self.guarded(self._responses), methods=["POST"]),
        )
        hosts = Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
        return Starlette(routes=[*own, *routes], middleware=[hosts], exception_handlers={404: _no_route})

    def guarded(self, handler: Handler) -> Handler:
        """The handler with its refusals as OpenAI writes them."""

        async def guarded(request: Request) -> Response:
            try:
                return await handler(request)
            except Refused as refused:
                waits = {"Retry-After": "1"} if refused.status == 503 else None
                return JSONResponse(refused.body(), refused.status, headers=waits)

        return guarded

    def authorise(self, request: Request) -> Recorder | None:
        """The episode whose key was sent; None for the gateway's own.  Raises `Refused`."""
        key = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not key:
            raise Refused(401, "missing_key", "there is no key: send 'Authorization: Bearer KEY' (api_key in the SDK)")
        for known, recorder in self._by_key.items():
            if hmac.compare_digest(known.encode(), key.encode()):
                return recorder
        if hmac.compare_digest(self.key.encode(), key.encode()):
            return None
        over = "it is of an episode that is over" if key.startswith("sk-episode-") else "it is not this gateway's"
        raise Refused(401, "invalid_api_key", f"the key is not known: {over}")

    def recorder(self, request: Request) -> Recorder:
        """The episode that a request is on."""
        found = self.authorise(request)
        name = request.headers.get(EPISODE, "")
        if found is None and name:
            found = self._by_name.get(name)
            if found is None:
                raise Refused(404, "episode_not_found", f"there is no episode '{name}' now: claim one, or look at the spelling")
        if found is None:
            raise Refused(400, "no_episode", f"which episode is this of?  Send its key, or its id in the header {EPISODE}")
        return found

    def policy(self, model: str, known: Mapping[str, Any]) -> str:
        """The policy that a client calls `model`."""
        name = self.aliases.get(model, model)
        if name not in known:
            raise Refused(
                404, "model_not_found",
                f"there is no model '{model}': there is {', '.join(known)} (or give it this name, too: aliases={{'{model}': ...}})",
            )  # fmt: skip
        return name

    async def body(self, request: Request) -> Any:
        """The JSON of a request.  Raises `Refused` for one that is too large, before it is read whole."""
        said = request.headers.get("content-length", "0")
        size = int(said) if said.isdigit() else 0
        pieces: list[bytes] = []
        async for piece in request.stream() if size <= self.most_bytes else _nothing():
            pieces.append(piece)
            size = max(size, sum(map(len, pieces)))
            if size > self.most_bytes:
                break
        if size > self.most_bytes:
            raise Refused(413, "request_too_large", f"the request has {size} bytes or more, at most {self.most_bytes} are taken")
        try:
            return json.loads(b"".join(pieces))
        except (ValueError, RecursionError) as error:
            raise Refused(400, "invalid_json", f"the body is no JSON: {error}") from error

    async def _models(self, request: Request) -> Response:
        self.authorise(request)
        names = dict.fromkeys([*self.models, *self.aliases])
        rows = [{"id": name, "object": "model", "created": 0, "owned_by": "sojourn"} for name in names]
        return JSONResponse({"object": "list", "data": rows})

    async def _chat(self, request: Request) -> Response:
        recorder, body = self.recorder(request), await self.body(request)
        whole, usage = await self._answered(request, recorder, body)
        if self.log:
            append_row(Path(self.log), {"request": body, "response": whole})
        if not body.get("stream"):
            return JSONResponse(whole)
        return StreamingResponse(_events(wire.chunks(whole, usage=usage), "[DONE]"), media_type="text/event-stream")

    async def _responses(self, request: Request) -> Response:
        recorder, body = self.recorder(request), await self.body(request)
        chat = responses.to_chat(body, recorder.ended)
        whole, _ = await self._answered(request, recorder, chat)
        if self.log:
            append_row(Path(self.log), {"request": chat, "response": whole})
        response = responses.from_chat(whole, body)
        recorder.ended[response["id"]] = [*chat["messages"], whole["choices"][0]["message"]]
        if not body.get("stream"):
            return JSONResponse(response)
        return StreamingResponse(_events(responses.events(response)), media_type="text/event-stream")

    async def _answered(self, request: Request, recorder: Recorder, body: Any) -> tuple[dict[str, Any], bool]:
        """The answer to a chat completion, and whether a stream shall end with its usage."""
        asked = wire.read(body)
        policies = recorder.session.policies
        policy = self.policy(asked.model, policies)
        agent = request.headers.get(AGENT, "agent")
        found = await recorder.answer(asked, policy=policy, agent=agent, reward=_reward(request))
        renderer = policies[policy].renderer
        assert isinstance(renderer, ChatRenderer)
        return wire.completion(asked, asked.model, found.said, found.spans, found.prompt, renderer.decode), asked.usage


def _reward(request: Request) -> float | None:
    said = request.headers.get(REWARD)
    if said is None:
        return None
    try:
        value = float(said)
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise Refused(400, "invalid_reward", f"the header {REWARD} is {said!r:.40}, expected a finite number")
    return value


async def _events(pieces: Iterable[Mapping[str, Any]], *last: str) -> AsyncIterator[str]:
    for piece in pieces:
        named = f"event: {piece['type']}\n" if "type" in piece else ""
        yield f"{named}data: {json.dumps(piece, ensure_ascii=False)}\n\n"
    for each in last:
        yield f"data: {each}\n\n"


async def _nothing() -> AsyncIterator[bytes]:
    none: tuple[bytes, ...] = ()
    for piece in none:
        yield piece


async def _no_route(request: Request, error: Exception) -> Response:
    what = f"there is no {request.method} {request.url.path}: there is /v1/chat/completions, /v1/responses, /v1/models"
    return JSONResponse(Refused(404, "not_found", what).body(), 404)
