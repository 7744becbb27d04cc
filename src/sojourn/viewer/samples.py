"""Sample episodes for the report: which are shown.

The one idea: which episodes are shown follows from a rule, told on the page, not from taste.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sojourn.store import query, read_episodes

Row = dict[str, Any]


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
