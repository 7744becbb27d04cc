"""Sample episodes for the report: which are shown, and each as blocks of tokens.

The one idea: which episodes are shown follows from a rule, told on the page, not from taste.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from sojourn.core import ROOT
from sojourn.store import query, read_episodes

Row = dict[str, Any]
LONGEST = 6000
"""Characters of a span that the page shows."""
MOST = 200
"""Spans of an episode that the page shows."""


def before_and_after(run: Path) -> list[tuple[str, Row, Row]]:
    """For each level up to two held-out tasks, as (what happened, episode before, episode after).

    The rule: of each level the first task (in evaluation order) of each change, failed to solved, solved to failed, then no
    change, until there are two.
    """
    phases = {row["phase"] for row in query(run, "select distinct phase from episodes")}
    befores = sorted(phase for phase in phases if phase.startswith("eval-before") and _after(phase) in phases)
    if not befores:
        return []
    # Several episodes of a task may have been sampled; the first of each counts.
    order = "row_number() over (partition by phase, task order by file_row_number) as again, file_row_number as place"
    short = f"(select id, phase, task, level, success, valid, {order} from episodes)"
    pairs = query(
        run,
        f"""select b.id as before, a.id as after, b.level, b.success as was, a.success as now from {short} b join {short} a
        on a.task = b.task and a.again = 1 and b.again = 1 and a.valid and b.valid
        where b.phase = '{befores[-1]}' and a.phase = '{_after(befores[-1])}' order by b.place""",
    )
    found = []
    for pair in _choose(pairs):
        before = read_episodes(run, f"phase = '{befores[-1]}' and id = {_quoted(pair['before'])}")[0]
        after = read_episodes(run, f"phase = '{_after(befores[-1])}' and id = {_quoted(pair['after'])}")[0]
        found.append((_change(pair), before, after))
    return found


def trained_groups(run: Path) -> list[tuple[Row, Row]]:
    """From the first and the last step that had signal: one group's best and worst episode, with the advantages they were given.

    Signal: its episodes earned differently, or an episode's own branches were given advantages (a search).  Of a run without any, what it
    has.
    """
    given = "flatten([coalesce(span.advantages, []) for span in spans])"
    groups = query(
        run,
        f"""select step, "group" as key, arg_max(id, total) as best, arg_min(id, total) as worst,
        max(total) > min(total) or max(list_max({given})) > min(list_min({given})) as signal from episodes
        where phase = 'train' and valid group by step, key order by step, key""",
    )
    groups = [group for group in groups if group["signal"]] or groups
    chosen = groups[:1] + [group for group in groups if group["step"] == groups[-1]["step"] != groups[0]["step"]][:1]
    where = "phase = 'train' and step = {step} and \"group\" = {key} and id = {id}"
    return [
        (
            read_episodes(run, where.format(step=group["step"], key=_quoted(group["key"]), id=_quoted(group["best"])))[0],
            read_episodes(run, where.format(step=group["step"], key=_quoted(group["key"]), id=_quoted(group["worst"])))[0],
        )
        for group in chosen
    ]


def contexts(row: Row) -> list[list[Row]]:
    """An episode's spans as the page shows them: a list of blocks for each context or branch, none shown twice."""
    spans = {span["id"]: span for span in row["spans"]}
    parents = {span["parent"] for span in spans.values()}
    largest = max((abs(a) for span in spans.values() for a in span["advantages"] or ()), default=0.0)
    shown, found = set[int](), []
    for leaf in [i for i in spans if i not in parents][:MOST]:
        path = []
        while leaf != ROOT and leaf not in shown:
            shown.add(leaf)
            path.append(_block(spans[leaf], largest))
            leaf = spans[leaf]["parent"]
        found.append(path[::-1])
    return found


def _block(span: Row, largest: float) -> Row:
    role = "prompt" if span["parent"] == ROOT else span["role"] or ""
    agent = f"{span['agent']}: " if role and span["agent"] != "agent" else ""
    return {
        "kind": span["kind"],
        "label": agent + role,
        "tokens": _tokens(span, largest) if span["ends"] else None,
        "text": span["text"][:LONGEST],
        "hidden": max(len(span["text"]) - LONGEST, 0),
        "count": len(span["tokens"]),
        "reward": span["reward"],
        "version": span["version"],
    }


def _tokens(span: Row, largest: float) -> list[Row]:
    """Text, tooltip and share of the largest advantage of each token."""
    pieces = [span["text"][start:end] for start, end in pairwise([0, *span["ends"]])]
    nothing = [None] * len(pieces)
    columns = zip(pieces, span["tokens"], span["logprobs"] or nothing, span["advantages"] or nothing, strict=True)
    return [
        {
            "text": text,
            "tip": f"id {token}" + _part("logp", "{:.3f}", logp) + _part("advantage", "{:+.3f}", advantage),
            "share": round((advantage or 0.0) / largest, 3) if largest else 0.0,
        }
        for text, token, logp, advantage in columns
    ]


def _part(name: str, form: str, value: float | None) -> str:
    return "" if value is None else f", {name} {form.format(value)}"


def _choose(pairs: Sequence[Row]) -> list[Row]:
    chosen = []
    for level in dict.fromkeys(pair["level"] for pair in pairs):
        here = [pair for pair in pairs if pair["level"] == level]
        firsts = [next((p for p in here if _change(p) == change), None) for change in CHANGES.values()]
        chosen += [pair for pair in firsts if pair][:2]
    return chosen


CHANGES = {
    (False, True): "failed, then solved",
    (True, False): "solved, then failed",
    (False, False): "failed both times",
    (True, True): "solved both times",
}


def _change(pair: Row) -> str:
    return CHANGES[pair["was"], pair["now"]]


def _after(phase: str) -> str:
    return phase.replace("eval-before", "eval-after", 1)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
