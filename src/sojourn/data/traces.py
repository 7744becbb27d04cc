"""Logs of OpenAI requests as rows: what was sampled is learned from, what was observed is read.

    {"request": {"model": ..., "messages": [...], "tools": [...]}, "response": {"choices": [...]}, "reward": 1.0}

The one idea: a conversation is logged once for every answer in it, each time longer.  Joined, it is one row: the messages of its first request
are the prompt, its answers and what came between them the completion.  So each answer is learned from once, and an answer that nobody sampled
(an example in the prompt, one that a client edited) never.  A call that forks off is a row of its own.  `body` may stand around request and
response, as in OpenAI's batch files; `reward`, where there is one, belongs to the conversation so far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sojourn.data.messages import Identity, identity, tidy
from sojourn.data.rows import Row, Unusable


@dataclass
class Talk:
    """A conversation that grows.  keys: the identity of each of its messages, answers included."""

    where: list[str]
    prompt: list[dict[str, Any]]
    said: list[dict[str, Any]]
    keys: tuple[Identity, ...]
    tools: Any
    reward: Any = None

    def row(self) -> Row:
        columns = {"prompt": self.prompt, "completion": self.said}
        columns |= {"tools": self.tools} if self.tools else {}
        columns |= {} if self.reward is None else {"reward": self.reward}
        return Row(", ".join(self.where), columns)


def is_log(rows: Sequence[Row | Unusable]) -> bool:
    """Whether these are requests with their answers."""
    return any(isinstance(row, Row) and {"request", "response"} <= row.columns.keys() for row in rows)


def joined(rows: Sequence[Row | Unusable]) -> list[Row | Unusable]:
    """The conversations of a log, in the order in which they began; what cannot be read is unusable, with the reason."""
    talks: list[Talk | Unusable] = []
    for row in rows:
        if isinstance(row, Unusable):
            talks.append(row)
            continue
        try:
            _enter(talks, row)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            why = str(error) if isinstance(error, ValueError) else "it is no request with its answer"
            talks.append(Unusable(row.where, why))
    return [each.row() if isinstance(each, Talk) else each for each in talks]


def _enter(talks: list[Talk | Unusable], row: Row) -> None:
    """Let a call go on with the conversation that it continues, or begin one."""
    request, response = (_inside(row.columns[name]) for name in ("request", "response"))
    if not response.get("choices"):
        raise ValueError(f"it has no answer: {response.get('error', 'no choices')!s:.100}")
    asked, tools = tidy(request["messages"]), request.get("tools")
    keys, reward = tuple(map(identity, asked)), row.columns.get("reward")
    for number, choice in enumerate(response["choices"]):
        said = tidy([{"role": "assistant"} | choice["message"]])[0]
        whole = (*keys, identity(said))
        talk = None if number else _continued(talks, asked, keys, tools)
        if talk is None:
            talks.append(Talk([row.where], asked, [said], whole, tools, reward))
            continue
        talk.where.append(row.where)
        talk.said += [*asked[len(talk.keys) :], said]
        talk.keys = whole
        talk.reward = talk.reward if reward is None else reward


def _continued(
    talks: Sequence[Talk | Unusable], asked: Sequence[Mapping[str, Any]], keys: tuple[Identity, ...], tools: Any
) -> Talk | None:
    """The longest conversation that the messages begin with; one after which somebody made up an answer is not continued."""
    found = [
        talk
        for talk in talks
        if isinstance(talk, Talk)
        and talk.tools == tools
        and keys[: len(talk.keys)] == talk.keys
        and not any(message["role"] == "assistant" for message in asked[len(talk.keys) :])
    ]
    return max(found, key=lambda talk: len(talk.keys), default=None)


def _inside(value: Any) -> Mapping[str, Any]:
    inner = value.get("body", value)
    if not isinstance(inner, Mapping):
        raise ValueError(f"found a {type(inner).__name__}, expected an object of a request and one of its answer")
    return inner
