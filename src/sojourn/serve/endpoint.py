"""Any OpenAI-compatible server as a policy: it plays our worlds, and nothing is trained.

The one idea: it is asked in messages, so its tokens and log-probabilities are nobody's; what it said is recorded as text that was put into
the policy's mouth, in bytes, and the episode is scored as any other.
"""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from sojourn.core import Action, Context, ContextFull, Floats, InfrastructureError, Ints, Message, ToolCall, assistant
from sojourn.engine import Completion, SamplingParams
from sojourn.policy import Policy
from sojourn.rendering.arguments import object_or_none
from sojourn.rendering.reading import fault, spoken

AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}
"""Answers of a server that may be another one the next time."""
ATTEMPTS = 5
Post = Callable[[str, Mapping[str, Any]], tuple[int, Any]]
"""Path and body to status and answer.  Raises `OSError` where nobody answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint(Policy):
    """A policy that a server plays.

    model: what the server calls it.  native: tools are given as the API has them, and calls come back so; else they are described and read
    in text, as the action protocol does.  wait: sleeps between attempts.
    """

    model: str
    post: Post
    native: bool = True
    wait: Callable[[float], Any] = asyncio.sleep
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(64, thread_name_prefix="endpoint"))

    async def act(
        self,
        prompt: Context,
        *,
        seed: int,
        anchor: object = None,
        legal: Sequence[str] = (),
        most: int | None = None,
        stop: Sequence[str] = (),
    ) -> tuple[Context, Action]:
        """Ask for one answer.  Raises `ContextFull`, `InfrastructureError` for a server that does not answer, and `ValueError` for a
        request that it refuses."""
        if legal:
            raise ValueError("an endpoint cannot be held to legal actions: choose a program that lets it speak freely")
        ends = () if self.native and prompt.tools else (*self.protocol.stop, *stop)
        message = await self._asked(prompt, min(self.sampling.max_tokens, most or self.sampling.max_tokens), ends)
        text, calls = message.get("content") or "", message.get("tool_calls") or ()
        action = _native(text, calls) if self.native else self.protocol.parse(_closed(text, self.protocol.stop))
        said = assistant(action.text, action.calls)
        child = prompt.force(self.renderer.as_sampled(action.text or " "), said, policy=self.name)
        return child, action

    async def _asked(self, prompt: Context, most: int, stop: Sequence[str]) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": self._messages(prompt),
            "max_tokens": most,
            "temperature": self.sampling.temperature,
        }
        if stop:
            body["stop"] = list(stop)[:4]  # what the API takes
        if self.native and prompt.tools:
            body["tools"] = [
                {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": dict(t.parameters)}}
                for t in prompt.tools
            ]
        for attempt in range(ATTEMPTS):
            last = attempt == ATTEMPTS - 1
            try:
                loop = asyncio.get_running_loop()
                status, found = await loop.run_in_executor(self._threads, self.post, "/chat/completions", body)
            except OSError as error:
                if last:
                    raise InfrastructureError(f"the endpoint does not answer: {error}") from error
            else:
                if status == 200:
                    message: dict[str, Any] = found["choices"][0]["message"]
                    return message
                said = found.get("error", {}) if isinstance(found, dict) else {}
                text = f"the endpoint says {status}: {said.get('message', found) if isinstance(said, dict) else said}"
                if isinstance(said, dict) and said.get("code") == "context_length_exceeded":
                    raise ContextFull(text)
                if status not in AGAIN:
                    raise ValueError(f"{text} (look at --endpoint, --model and OPENAI_API_KEY)")
                if last:
                    raise InfrastructureError(text)
            await self.wait(0.5 * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    def _messages(self, prompt: Context) -> list[dict[str, Any]]:
        """The conversation as the API has it; an answer's calls get ids, and results those of the calls that they follow."""
        found: list[dict[str, Any]] = []
        described = "" if self.native else self.protocol.describe(prompt.tools)
        messages = list(prompt.messages)
        if described:
            given = messages.pop(0).text + "\n\n" if messages[0].role == "system" else ""
            found.append({"role": "system", "content": given + described})
        waiting: list[str] = []
        for message in messages:
            if self.native and message.calls:
                waiting = [f"call_{uuid4().hex[:24]}" for _ in message.calls]
                found.append(_with_calls(message, waiting))
            elif message.role == "tool" and waiting:
                found.append({"role": "tool", "tool_call_id": waiting.pop(0), "content": message.text})
            else:
                role = "user" if message.role == "tool" else message.role
                found.append({"role": role, "content": message.text})
        return found


class Elsewhere:
    """The engine of an endpoint: it holds what the server holds, and gives no tokens."""

    version = sampled_tokens = computed_tokens = 0

    def __init__(self, max_context: int) -> None:
        self.max_context = max_context

    async def sample(self, tokens: Ints, params: SamplingParams) -> Completion:
        raise NotImplementedError("an endpoint is asked in messages")

    async def score(self, tokens: Ints, adapter: str | None = None) -> Floats:
        raise NotImplementedError("an endpoint gives no log-probabilities of what it did not say")

    def update(self, version: int) -> None:
        """Its weights are its own business."""

    async def close(self) -> None:
        """There is nothing to give back."""


def poster(url: str, key: str, seconds: float = 600.0) -> Post:
    """Requests to the server at `url`, which ends in /v1."""

    def post(path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        request = urllib.request.Request(url.rstrip("/") + path, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=seconds) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            said = error.read()
            try:
                return error.code, json.loads(said)
            except ValueError:
                return error.code, {"error": {"message": said.decode(errors="replace")[:500]}}

    return post


def _native(text: str, calls: Sequence[Mapping[str, Any]]) -> Action:
    """The action of an answer with calls of the API's own."""
    found = []
    for call in calls:
        function = call["function"]
        arguments = object_or_none(function.get("arguments") or "{}")
        if arguments is None:
            return fault(text, f"the arguments of {function.get('name')} are no JSON object.")
        found.append(ToolCall(function["name"], arguments))
    return Action(text, tuple(found)) if found else Action(text, answer=spoken(text))


def _with_calls(message: Message, ids: Sequence[str]) -> dict[str, Any]:
    calls = [
        {"id": each, "type": "function", "function": {"name": call.name, "arguments": json.dumps(dict(call.arguments))}}
        for each, call in zip(ids, message.calls, strict=True)
    ]
    return {"role": "assistant", "content": message.text or None, "tool_calls": calls}


def _closed(text: str, stops: Sequence[str]) -> str:
    """The text with the stop text that ended it, which the API leaves out.

    >>> _closed("<calc>1", ("</calc>",)), _closed("four", ("</calc>",))
    ('<calc>1</calc>', 'four')
    """
    for stop in stops:
        opening = stop.replace("</", "<")
        if stop.startswith("</") and text.rfind(opening) > text.rfind(stop):
            return text + stop
    return text
