"""An episode as a page shows it: agents, their contexts, the forks in them, and the blocks that were read and said.

The one idea: the tree that is stored is the tree that is shown.  A context is cut into segments, each from a fork to the next, so that no
span is shown twice and a conversation without forks is one segment.

    {agents: [{name, contexts: [{number, source, segments: [{label, depth, blocks: [...]}]}]}], outline: [...], ...}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any
from zlib import crc32

from sojourn.core import ROOT, Kind, Message
from sojourn.core.values import from_json

Row = dict[str, Any]
LONGEST = 6000
"""Characters of a block that a page shows."""
MOST = 200
"""Segments of a context that a page shows."""
KEPT = ("id", "task", "level", "step", "phase", "group", "success", "total", "rewards", "stop", "failures", "turns", "seconds")


def shown(row: Row, *, tokens: bool = True, without: frozenset[int] = frozenset()) -> Row:
    """An episode for a page.

    tokens: with every token of what was sampled; without them it is the conversation.  without: spans to leave out, which are shown elsewhere.
    """
    spans = {span["id"]: span for span in row["spans"]}
    children: dict[int, list[int]] = {}
    for span in spans.values():
        children.setdefault(span["parent"], []).append(span["id"])
    order = {span: number for number, span in enumerate(row["actions"] or [], 1)}
    largest = max((abs(a) for span in spans.values() for a in span["advantages"] or ()), default=0.0)
    roots = children.get(ROOT, [])
    numbers = {root: number for number, root in enumerate(roots, 1)}
    context = {span: _root(spans, span) for span in spans}

    def block(span: int) -> Row:
        return _block(spans[span], row, order.get(span), largest, tokens)

    agents: dict[str, list[Row]] = {}
    for root in roots:
        source = spans[root]["source"]
        segments = [
            {"label": label, "depth": label.count("."), "blocks": [block(span) for span in path if span not in without]}
            for label, path in _segments(root, children)
        ]
        agents.setdefault(spans[root]["agent"], []).append(
            {
                "number": numbers[root],
                "source": None if source is None else {"context": numbers[context[source]], **_place(row, order.get(source))},
                "segments": [segment for segment in segments[:MOST] if segment["blocks"]],
                "hidden": max(len(segments) - MOST, 0),
                "tokens": sum(len(spans[i]["tokens"]) for i in spans if context[i] == root),
            }
        )
    forked = any(len(below) > 1 for span, below in children.items() if span != ROOT)
    return {
        **{key: row[key] for key in KEPT},
        "info": {key: value for key, value in (from_json(row["info"] or "{}") or {}).items() if key != "success"},
        "agents": [{"name": name, "contexts": contexts} for name, contexts in agents.items()],
        "contexts": len(roots),
        "outline": _outline(row, spans, children, order) if forked else [],
        "sampled": sum(len(span["tokens"]) for span in spans.values() if span["kind"] == "action"),
        "tokens": sum(len(span["tokens"]) for span in spans.values()),
    }


def shared(rows: Sequence[Row]) -> list[Row]:
    """The spans with which all episodes of a group begin: in the group's tree they have the same ids."""
    ids = [{span["id"] for span in row["spans"]} for row in rows]
    common = set.intersection(*ids) if len(ids) > 1 else set[int]()
    return [span for span in rows[0]["spans"] if span["id"] in common and span["kind"] != "action"] if rows else []


def blocks_of(spans: Sequence[Row], row: Row) -> list[Row]:
    """Spans as blocks, alone."""
    return [_block(span, row, None, 0.0, False) for span in spans]


def why(span: Row, row: Row) -> str:
    """Why a span's tokens were trained or not, as far as the store says."""
    if span["kind"] == "observation":
        return "read, not said: no loss"
    if not (row["phase"] or "").startswith("train"):
        return "not trained: an evaluation"
    if not row["valid"]:
        return "not trained: the episode has no valid result"
    if span["advantages"] is None:
        forced = "the harness said it in the policy's name; only objectives that imitate train it"
        return f"not trained: {forced if span['kind'] == 'forced' else 'no role that learned in this step said it'}"
    if not any(span["advantages"]):
        return "advantage 0: no policy gradient (all episodes compared with it earned the same, or a filter left it out)"
    mean = sum(span["advantages"]) / len(span["advantages"])
    return f"advantage {mean:+.3g}: made {'more' if mean > 0 else 'less'} likely, unless a filter left its episode out"


def _place(row: Row, action: int | None) -> Row:
    """The number of an action in its episode, and a name for it that no other episode on the page has."""
    own = crc32(f"{row['phase']}/{row['step']}/{row['id']}".encode())
    return {"action": action, "anchor": f"a{own:x}-{action}"}


def _root(spans: Mapping[int, Row], span: int) -> int:
    while spans[span]["parent"] != ROOT:
        span = spans[span]["parent"]
    return span


def _segments(root: int, children: Mapping[int, Sequence[int]]) -> Iterator[tuple[str, list[int]]]:
    """From fork to fork, in depth-first order: the label (`1.2`: the second branch after the first segment) and the spans."""
    pending = [("1", root)]
    while pending:
        label, span = pending.pop()
        path = [span]
        while len(below := children.get(path[-1], ())) == 1:
            path.append(below[0])
        yield label, path
        pending += [(f"{label}.{number}", child) for number, child in reversed(list(enumerate(below, 1)))]


def _outline(row: Row, spans: Mapping[int, Row], children: Mapping[int, Sequence[int]], order: Mapping[int, int]) -> list[Row]:
    """The actions of a tree in depth-first order: what each was paid, what came of it at best, and how many branches go through it."""
    final = sum((row["final"] or {}).values())
    earned: dict[int, float] = {}
    for span in sorted(spans):
        earned[span] = sum(spans[span]["reward"].values()) + earned.get(spans[span]["parent"], 0.0)
    ends: dict[int, list[float]] = {}
    for span in sorted(spans, reverse=True):
        below = [end for child in children.get(span, ()) for end in ends[child]]
        ends[span] = below or [earned[span] + final]
    found, pending = [], [(root, 0) for root in reversed(children.get(ROOT, []))]
    while pending:
        span, depth = pending.pop()
        here = spans[span]
        acted = here["kind"] != "observation"
        if acted:
            given = here["advantages"]
            found.append(
                {
                    **_place(row, order.get(span)),
                    "depth": depth,
                    "text": " ".join(here["text"].split())[:80],
                    "reward": sum(here["reward"].values()),
                    "value": here["value"],
                    "advantage": sum(given) / len(given) if given else None,
                    "branches": len(ends[span]),
                    "best": max(ends[span]),
                }
            )
        pending += [(child, depth + acted) for child in reversed(children.get(span, ()))]
    return found


def _block(span: Row, row: Row, number: int | None, largest: float, tokens: bool) -> Row:
    stored = from_json(span["message"]) if span["message"] else None
    message = stored if isinstance(stored, Message) else None
    first = span["parent"] == ROOT
    text = message.text if message and not tokens and not first else span["text"]
    given = span["advantages"]
    return {
        "id": span["id"],
        **_place(row, number),
        "kind": span["kind"],
        "glue": message is None and span["kind"] == "observation",
        "who": "prompt" if first else message.name if message and message.name else span["role"] or "",
        "agent": span["agent"],
        "policy": span["policy"],
        "version": span["version"],
        "text": text[:LONGEST],
        "hidden": max(len(text) - LONGEST, 0),
        "calls": [(call.name, call.arguments) for call in message.calls] if message and not tokens else [],
        "tokens": _tokens(span, largest) if tokens and span["ends"] else None,
        "count": len(span["tokens"]),
        "reward": span["reward"],
        "value": span["value"],
        "advantage": sum(given) / len(given) if given else None,
        "stop": span["stop"],
        "sampling": _sampling(span),
        "why": why(span, row),
    }


def _sampling(span: Row) -> str:
    """What is not as usual in how an action was sampled."""
    if span["kind"] != Kind.ACTION.name.lower():
        return ""
    legal = f"one of {len(span['allowed'])} legal" if span["allowed"] else ""
    cut = {"length": "cut at max_tokens", "context": "cut: the context is full"}.get(span["stop"] or "", "")
    heat = f"temperature {span['temperature']:g}" if span["temperature"] not in (None, 1.0) else ""
    return ", ".join(part for part in (cut, heat, legal, "unlikely tokens barred" if span["truncated"] else "") if part)


def _tokens(span: Row, largest: float) -> list[Row]:
    """Text, tooltip, share of the largest advantage, and how surprising (0 to 1) each token is."""
    pieces = [span["text"][start:end] for start, end in pairwise([0, *span["ends"]])]
    nothing = [None] * len(pieces)
    columns = zip(pieces, span["tokens"], span["logprobs"] or nothing, span["advantages"] or nothing, strict=True)
    mask = "loss" if span["advantages"] is not None else "no loss"
    return [
        {
            "text": text,
            "tip": f"id {token}" + _part("logp", "{:.3f}", logp) + _part("advantage", "{:+.3f}", advantage) + f", {mask}",
            "share": round((advantage or 0.0) / largest, 3) if largest else 0.0,
            "rare": round(min(-(logp or 0.0) / 5, 1.0), 2),
        }
        for text, token, logp, advantage in columns
    ]


def _part(name: str, form: str, value: float | None) -> str:
    return "" if value is None else f", {name} {form.format(value)}"
