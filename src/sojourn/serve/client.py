"""For agents in another process: claim an episode, play it with any OpenAI client, end it.  Needs the standard library only.

from sojourn.serve.client import Client

with Client("http://127.0.0.1:8000/v1", key).episode() as episode:
    agent = OpenAI(base_url=episode.base_url, api_key=episode.api_key)
    ...
    episode.end(reward=1.0)
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

SECONDS = 600.0
"""That one request may take: while weights are updated, nobody answers."""


class GatewayError(ConnectionError):
    """The gateway refused, or is not there.  code: its name for the reason."""

    def __init__(self, message: str, code: str = "unreachable") -> None:
        super().__init__(message)
        self.code = code


class Client:
    """Who may claim episodes: the gateway's address, and its own key (`SOJOURN_BASE_URL`, `SOJOURN_API_KEY`)."""

    def __init__(self, base_url: str = "", api_key: str = "") -> None:
        self.base_url = (base_url or os.environ["SOJOURN_BASE_URL"]).rstrip("/")
        self.api_key = api_key or os.environ["SOJOURN_API_KEY"]

    def episode(self) -> Played:
        """The next episode; waits for one while the policy is being trained."""
        while True:
            try:
                return Played(self, self.post("/sojourn/episodes", {}, self.api_key))
            except GatewayError as error:
                if error.code != "no_episode_yet":
                    raise

    def post(self, path: str, body: Mapping[str, Any], key: str) -> Any:
        """The answer to one request.  Raises `GatewayError`."""
        request = urllib.request.Request(
            self.base_url + path,
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            said = json.loads(error.read() or b"{}").get("error", {})
            raise GatewayError(said.get("message", str(error)), said.get("code", str(error.code))) from error
        except (urllib.error.URLError, OSError) as error:
            raise GatewayError(
                f"the gateway at {self.base_url} does not answer ({error}): if it was stopped, start the same command again; it goes on from "
                "the last checkpoint, and deals the episodes of that step again"
            ) from error


class Played:
    """One episode.  task: its id and level.  messages: what the world says first."""

    def __init__(self, client: Client, page: Mapping[str, Any]) -> None:
        self._client, self._over = client, False
        self.base_url = client.base_url
        self.id: str = page["id"]
        self.api_key: str = page["api_key"]
        self.task: dict[str, Any] = page["task"]
        self.messages: list[dict[str, Any]] = page["messages"]

    def end(self, *, reward: float | Mapping[str, float] | None = None, answer: str | None = None) -> dict[str, Any]:
        """Say what it came to, a reward or an answer for the world to judge; returns what was paid."""
        self._over = True
        body = {"answer": answer} if answer is not None else {"reward": reward}
        found: dict[str, Any] = self._client.post("/sojourn/episode/end", body, self.api_key)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """An episode that was left without an end has no result."""
        if not self._over:
            self._over = True
            why = f"{kind.__name__}: {error}" if kind else "it was left without an end"
            self._client.post("/sojourn/episode/end", {"failed": why}, self.api_key)
