"""OpenAI's responses API on top of chat completions: its items as messages, and an answer as items.

The one idea: it says the same conversation in other words, so it is translated on the way in and on the way out, and what is recorded is
that of chat completions.  `previous_response_id` stands for the messages up to that answer.
[platform.openai.com/docs/api-reference/responses]
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import uuid4

from sojourn.serve.wire import Refused

Messages = list[dict[str, Any]]


def to_chat(body: Any, before: Mapping[str, Messages]) -> dict[str, Any]:
    """The request as one for a chat completion.  before: the messages that earlier answers end, by their ids.  Raises `Refused`."""
    if not isinstance(body, Mapping):
        raise Refused(400, "invalid_json", f"the body is a {type(body).__name__}, expected an object")
    earlier, form = body.get("previous_response_id"), ((body.get("text") or {}).get("format") or {}).get("type", "text")
    if earlier and earlier not in before:
        raise Refused(404, "response_not_found", f"there is no response '{earlier}' in this episode: send the whole input")
    if form != "text":
        raise Refused(400, "unsupported_parameter", f"'text.format' is not there: leave it out (it asked for '{form}')")
    try:
        messages = [*before.get(earlier or "", ()), *_messages(body.get("input"))]
        tools = [_tool(each) for each in body.get("tools") or ()]
    except (TypeError, KeyError, AttributeError) as error:
        raise Refused(400, "invalid_input", f"'input' or 'tools' cannot be read: {type(error).__name__} {error}") from error
    if body.get("instructions"):
        messages = [{"role": "system", "content": body["instructions"]}, *(m for m in messages if m["role"] != "system")]
    kept = ("model", "temperature", "top_p", "stream", "tool_choice")
    return {name: body[name] for name in kept if name in body} | {
        "messages": messages,
        "max_tokens": body.get("max_output_tokens"),
        **({"tools": tools} if tools else {}),
    }


def from_chat(whole: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """The answer as a response."""
    choice, usage = whole["choices"][0], whole["usage"]
    message, cut = choice["message"], choice["finish_reason"] == "length"
    status = "incomplete" if cut else "completed"
    output: list[dict[str, Any]] = []
    if message.get("content"):
        part = {"type": "output_text", "text": message["content"], "annotations": [], "logprobs": []}
        output.append(
            {"id": f"msg_{uuid4().hex[:24]}", "type": "message", "role": "assistant", "status": status, "content": [part]}
        )
    for call in message.get("tool_calls", ()):
        function = call["function"]
        item = {"id": f"fc_{uuid4().hex[:24]}", "type": "function_call", "status": status, "call_id": call["id"]}
        output.append(item | {"name": function["name"], "arguments": function["arguments"]})
    return {
        "id": f"resp_{uuid4().hex[:24]}",
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "error": None,
        "model": whole["model"],
        "output": output,
        "instructions": body.get("instructions"),
        "previous_response_id": body.get("previous_response_id"),
        "tools": body.get("tools") or [],
        "tool_choice": body.get("tool_choice") or "auto",
        "parallel_tool_calls": False,
        "temperature": body.get("temperature"),
        "top_p": body.get("top_p"),
        "metadata": body.get("metadata") or {},
        "usage": {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage["total_tokens"],
        },
    }


def events(response: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The response in pieces, as a stream gives them; each item comes whole, see `wire.chunks`."""
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    found: list[dict[str, Any]] = [{"type": f"response.{name}", "response": begun} for name in ("created", "in_progress")]
    for index, item in enumerate(response["output"]):
        here = {"output_index": index, "item_id": item["id"]}
        if item["type"] == "message":
            (part,) = item["content"]
            added, empty = {**item, "content": [], "status": "in_progress"}, {**part, "text": ""}
            inner = [
                {"type": "response.content_part.added", "content_index": 0, "part": empty},
                {"type": "response.output_text.delta", "content_index": 0, "delta": part["text"], "logprobs": []},
                {"type": "response.output_text.done", "content_index": 0, "text": part["text"], "logprobs": []},
                {"type": "response.content_part.done", "content_index": 0, "part": part},
            ]
        else:
            added = {**item, "arguments": "", "status": "in_progress"}
            inner = [
                {"type": "response.function_call_arguments.delta", "delta": item["arguments"]},
                {"type": "response.function_call_arguments.done", "arguments": item["arguments"], "name": item["name"]},
            ]
        found.append({"type": "response.output_item.added", "output_index": index, "item": added})
        found += [each | here for each in inner]
        found.append({"type": "response.output_item.done", "output_index": index, "item": item})
    found.append({"type": f"response.{response['status']}", "response": response})
    return (each | {"sequence_number": number} for number, each in enumerate(found))


def _messages(given: Any) -> Messages:
    """Items as messages; calls belong to the answer before them."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not isinstance(given, Sequence):
        raise TypeError(f"it is a {type(given).__name__}, expected a text or a list of items")
    found: Messages = []
    for item in given:
        kind = item.get("type", "message")
        if kind == "message":
            found.append({"role": item["role"], "content": item["content"]})
        elif kind == "function_call":
            call = {"name": item["name"], "arguments": item["arguments"]}
            if not found or found[-1]["role"] != "assistant":
                found.append({"role": "assistant", "content": None})
            found[-1].setdefault("tool_calls", []).append({"id": item["call_id"], "type": "function", "function": call})
        elif kind == "function_call_output":
            found.append({"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]})
        elif kind != "reasoning":
            raise Refused(400, "unsupported_item", f"an item of type '{kind}' is not there: leave it out")
    return found


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise Refused(400, "unsupported_tool", f"a tool of type '{tool.get('type')}' is not there: only functions are")
    return {"type": "function", "function": {key: tool[key] for key in ("name", "description", "parameters") if tool.get(key)}}
