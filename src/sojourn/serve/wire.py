"""OpenAI's chat completions as messages and actions, and back.

The one idea: what a client may change when it sends an answer back is not compared (`identity`): fields that say nothing, white space
at the edges, the thinking, the order of keys in arguments.  So an answer is known again, and its sampled tokens stand.
[platform.openai.com/docs/api-reference/chat; thinking goes into `reasoning_content`, as vLLM and DeepSeek do]
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import uuid4

from sojourn.core import Action, Message, Span, ToolSpec
from sojourn.data.messages import Identity, identity, messages_of, tidy, tools_of
from sojourn.rendering import ActionProtocol
from sojourn.rendering.reading import spoken

MOST_ANSWERS = 16
"""Of `n`."""


class Refused(Exception):
    """A request that cannot be answered, as the client reads it.  code: a name for programs."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code

    def body(self) -> dict[str, Any]:
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": str(self), "type": kind, "param": None, "code": self.code}}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request.  keys: the identity of each message.  temperature, top_p: None where the client does not say."""

    model: str
    messages: tuple[Message, ...]
    keys: tuple[Identity, ...]
    tools: tuple[ToolSpec, ...]
    most: int | None
    stop: tuple[str, ...]
    count: int
    stream: bool
    usage: bool
    logprobs: bool
    temperature: float | None
    top_p: float | None
    seed: int | None


class Said(NamedTuple):
    """One answer as it goes to the client.  message: OpenAI's.  key: its identity when it comes back."""

    message: dict[str, Any]
    key: Identity
    finish: str


def read(body: Any) -> Asked:
    """A request for a chat completion.  Raises `Refused` for what is none, or asks for what is not there."""
    if not isinstance(body, Mapping):
        raise Refused(400, "invalid_json", f"the body is a {type(body).__name__}, expected an object")
    _refuse_fields(body)
    values = body.get("messages")
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise Refused(400, "invalid_messages", "'messages' must be a list with one message at least")
    try:
        plain = tidy(values)
        messages = messages_of("messages", plain)
        if messages[-1].role == "assistant":
            raise ValueError("the last message is the assistant's, so there is nothing to answer")
        offered = body.get("tools") if body.get("tool_choice") != "none" else None
        tools = tools_of(offered) if offered else ()
    except (ValueError, TypeError, AttributeError) as error:
        raise Refused(400, "invalid_messages", str(error)) from error
    stop = body.get("stop") or ()
    return Asked(
        model=str(body.get("model", "")),
        messages=messages,
        keys=tuple(identity(each) for each in plain),
        tools=tools,
        most=_number(body, "max_completion_tokens", 1) or _number(body, "max_tokens", 1),
        stop=(stop,) if isinstance(stop, str) else tuple(map(str, stop)),
        count=int(_number(body, "n", 1, MOST_ANSWERS) or 1),
        stream=bool(body.get("stream")),
        usage=bool((body.get("stream_options") or {}).get("include_usage")),
        logprobs=bool(body.get("logprobs")),
        temperature=_number(body, "temperature", 0, whole=False),
        top_p=_number(body, "top_p", 0, 1, whole=False),
        seed=_number(body, "seed", 0),
    )


def answer(action: Action, span: Span, protocol: ActionProtocol, asked: Asked) -> Said:
    """What the policy said, for the client: calls with ids of their own, if it offered tools."""
    text = action.text
    for stop in asked.stop:
        text = text.removesuffix(stop)
    calls = action.calls if asked.tools else ()
    content = spoken(text, protocol.thinking)
    thought = text[: text.rfind(content)] if content and protocol.thinking else ""
    if calls:
        opening = re.match(r"\W*\w+", protocol.format(Action("", calls[:1])))
        assert opening is not None, "a call has a name"
        content = content.partition(opening[0])[0].strip()
    message: dict[str, Any] = {"role": "assistant", "content": content if content or not calls else None}
    if thought and protocol.thinking:
        message["reasoning_content"] = thought.replace(protocol.thinking[0], "").replace(protocol.thinking[1], "").strip()
    if calls:
        message["tool_calls"] = [
            {
                "id": f"call_{uuid4().hex[:24]}",
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(dict(call.arguments), ensure_ascii=False)},
            }
            for call in calls
        ]
    finish = "tool_calls" if calls else "length" if span.cut else "stop"
    return Said(message, identity(message), finish)


def completion(asked: Asked, model: str, said: Sequence[Said], spans: Sequence[Span], prompt: int, decode: Any) -> dict[str, Any]:
    """The whole answer to a request.  prompt: tokens of what was asked.  decode: ids to text."""
    choices = []
    for index, (each, span) in enumerate(zip(said, spans, strict=True)):
        shown = _logprobs(span, decode) if asked.logprobs else None
        choices.append({"index": index, "message": each.message, "finish_reason": each.finish, "logprobs": shown})
    sampled = sum(len(span.tokens) for span in spans)
    return {
        "id": f"chatcmpl-{uuid4().hex[:24]}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": choices,
        "usage": {"prompt_tokens": prompt, "completion_tokens": sampled, "total_tokens": prompt + sampled},
    }


def chunks(whole: Mapping[str, Any], *, usage: bool) -> Iterator[dict[str, Any]]:
    """The answer in pieces, as a stream gives them.  What is a call is known when it has ended, so a message comes in one piece."""
    head = {key: whole[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    for choice in whole["choices"]:
        message = dict(choice["message"])
        calls = [{"index": place, **call} for place, call in enumerate(message.pop("tool_calls", []))]
        deltas = [message] + [{"tool_calls": [call]} for call in calls]
        for place, delta in enumerate([*deltas, {}]):
            last = place == len(deltas)
            piece: dict[str, Any] = {"index": choice["index"], "delta": delta, "finish_reason": None, "logprobs": None}
            if last:
                piece |= {"finish_reason": choice["finish_reason"], "logprobs": choice["logprobs"]}
            yield head | {"choices": [piece]}
    if usage:
        yield head | {"choices": [], "usage": whole["usage"]}


def _refuse_fields(body: Mapping[str, Any]) -> None:
    """Refuse what would be passed over in silence although it changes what is said."""
    form = (body.get("response_format") or {}).get("type", "text")
    asked = {
        "response_format": form if form != "text" else None,
        "functions": body.get("functions"),
        "logit_bias": body.get("logit_bias"),
        "presence_penalty": body.get("presence_penalty"),
        "frequency_penalty": body.get("frequency_penalty"),
        "top_logprobs": body.get("top_logprobs"),
    }
    for name, value in asked.items():
        if value:
            raise Refused(400, "unsupported_parameter", f"'{name}' is not there: leave it out (it asked for {value!r:.60})")


def _number(body: Mapping[str, Any], name: str, low: float, high: float = float("inf"), *, whole: bool = True) -> Any:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not low <= value <= high:
        limit = f"at least {low:g}" + (f" and at most {high:g}" if high < float("inf") else "")
        raise Refused(400, "invalid_parameter", f"'{name}' is {value!r:.40}: it must be a number, {limit}")
    return value


def _logprobs(span: Span, decode: Any) -> dict[str, Any]:
    assert span.logprobs is not None, "a sampled span has log-probabilities"
    rows = []
    for token, logp in zip(span.tokens.tolist(), span.logprobs.tolist(), strict=True):
        text = decode([token])
        rows.append({"token": text, "logprob": logp, "bytes": list(text.encode()), "top_logprobs": []})
    return {"content": rows, "refusal": None}
