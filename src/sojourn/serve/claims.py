"""Episodes that agents elsewhere claim, play and end, over HTTP.

    POST /v1/sojourn/episodes       the gateway's key; the next episode: its id, its key, its task, what the world says first
    POST /v1/sojourn/episode/end    the episode's key; {"reward": 1.0}, {"answer": "..."} for the world to judge, or {"failed": "why"}

The one idea: it is an agent program, so the trainer deals episodes as it always does, and each waits for somebody who plays it.  Between
rollouts there is none: whoever asks then waits a while, and is told to come again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sojourn.core import InfrastructureError
from sojourn.policy import Session
from sojourn.serve.gateway import Gateway
from sojourn.serve.outside import settle, told
from sojourn.serve.recorder import Recorder
from sojourn.serve.wire import Refused

WAIT_SECONDS = 20.0
"""That a claim waits for an episode before it is told to come again."""
HEARD_SECONDS = 5.0
"""That a client may take to read what its episode came to."""


@dataclass(eq=False)
class Offer:
    """An episode that waits for somebody, or is being played."""

    session: Session
    recorder: Recorder
    page: dict[str, Any]
    key: str
    taken: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    judged: asyncio.Event = field(default_factory=asyncio.Event)
    """The program has made of it what it comes to."""
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    """The client has been told; before that the loop must not be held by an update."""


class Claims:
    """The program: each episode is offered, and waits for its end.  seconds: an episode whose client is silent for so long has no result."""

    def __init__(self, gateway: Gateway, *, seconds: float = 600.0, wait_seconds: float = WAIT_SECONDS) -> None:
        self.gateway, self.seconds, self.wait_seconds = gateway, seconds, wait_seconds
        self._open: deque[Offer] = deque()
        self._played: dict[str, Offer] = {}
        self._more = asyncio.Event()

    def routes(self) -> tuple[Route, ...]:
        """For `Gateway.app`."""
        guarded = self.gateway.guarded
        return (
            Route("/v1/sojourn/episodes", guarded(self._claim), methods=["POST"]),
            Route("/v1/sojourn/episode/end", guarded(self._end), methods=["POST"]),
        )

    async def __call__(self, session: Session) -> None:
        """Offer one episode, and wait until it is played."""
        seen, recorder = await session.reset(), Recorder(session)
        key = self.gateway.add(recorder)
        page = {
            "id": session.episode.id,
            "api_key": key,
            "task": {"id": session.task.id, "level": session.task.level},
            "messages": [told(message) for message in seen.messages],
        }
        offer = Offer(session, recorder, page, key)
        self._open.append(offer)
        self._more.set()
        try:
            await offer.taken.wait()
            value = await self._until_ended(offer)
            await self.gateway.drop(key, "it was ended")
            if recorder.failed is not None and value is None:
                raise recorder.failed
            await settle(session, value)
        finally:
            offer.judged.set()
            if offer.ended.done():
                with suppress(TimeoutError):
                    await asyncio.wait_for(offer.heard.wait(), HEARD_SECONDS)
            if offer in self._open:
                self._open.remove(offer)
            self._played.pop(key, None)
            await self.gateway.drop(key, "it is over")

    async def _until_ended(self, offer: Offer) -> Any:
        """What the client says it came to.  Raises `InfrastructureError` if nothing is heard of it."""
        while True:
            calls = offer.recorder.calls
            done, _ = await asyncio.wait([offer.ended], timeout=self.seconds)
            if done:
                return offer.ended.result()
            if offer.recorder.calls == calls:
                raise InfrastructureError(
                    f"episode {offer.session.episode.id}: nothing was heard of its client for {self.seconds:g} s"
                )

    async def _claim(self, request: Request) -> Response:
        if self.gateway.authorise(request) is not None:
            raise Refused(403, "not_allowed", "an episode's key claims no other: send the gateway's own")
        try:
            async with asyncio.timeout(self.wait_seconds):
                while not self._open:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise Refused(
                503, "no_episode_yet", "there is no episode to play now, the policy is being trained: ask again"
            ) from None
        offer = self._open.popleft()
        offer.taken.set()
        self._played[offer.key] = offer
        return JSONResponse(offer.page, 201)

    async def _end(self, request: Request) -> Response:
        recorder, body = self.gateway.recorder(request), await self.gateway.body(request)
        offer = next((each for each in self._played.values() if each.recorder is recorder), None)
        if offer is None or offer.ended.done():
            raise Refused(410, "episode_over", "the episode has ended already")
        if not isinstance(body, dict) or len(body.keys() & {"reward", "answer", "failed"}) != 1:
            raise Refused(400, "invalid_end", 'an episode ends with {"reward": ...}, {"answer": "..."} or {"failed": "why"}')
        if "failed" in body:
            offer.ended.set_exception(InfrastructureError(f"its client says: {body['failed']}"))
        else:
            offer.ended.set_result(_value(body))
        await offer.judged.wait()
        episode = offer.session.episode
        page = {"reward": episode.total, "rewards": dict(episode.rewards), "success": episode.success}
        return JSONResponse(page, background=BackgroundTask(offer.heard.set))


def _value(body: dict[str, Any]) -> Any:
    """The reward, a number or named numbers, or the answer, a text.  Raises `Refused`."""
    if "answer" in body:
        if not isinstance(body["answer"], str):
            raise Refused(400, "invalid_end", f"'answer' is {body['answer']!r:.60}, expected a text")
        return body["answer"]
    terms = body["reward"] if isinstance(body["reward"], dict) else {"reward": body["reward"]}
    if wrong := [value for value in terms.values() if isinstance(value, bool) or not isinstance(value, (int, float))]:
        raise Refused(400, "invalid_reward", f"a reward is {wrong[0]!r:.60}, expected a number")
    return {name: float(value) for name, value in terms.items()}
