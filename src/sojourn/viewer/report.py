"""The report: one self-contained HTML page over a run folder, finished or still running.

The one idea: the page is a pure function of the folder (rows of metrics and evaluations, Parquet episodes, config), so it can be made
again at any time, on another machine, by `sojourn report`.  It loads nothing from the network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from sojourn.store.files import write_atomic
from sojourn.store.run import RunFolder, flatten
from sojourn.viewer import health
from sojourn.viewer.curves import is_number
from sojourn.viewer.episode import shown
from sojourn.viewer.measures import measures
from sojourn.viewer.progress import duration
from sojourn.viewer.render import render, script, style
from sojourn.viewer.runs import is_run
from sojourn.viewer.samples import before_and_after, trained_groups
from sojourn.viewer.svg import LIGHT, Bar, Series, bar_chart, line_chart, number, points_of, stack_chart
from sojourn.wilson import wilson

Row = dict[str, Any]

CURVES: tuple[tuple[str, tuple[str, ...], bool, str], ...] = (
    ("Reward", ("reward", "reward_std"), False, "Mean return of an episode, and the mean deviation within a group."),
    ("Tool calls", ("tool_calls",), False, "Mean number of tool calls in an episode."),
    ("Turns", ("turns",), False, "Mean number of actions in an episode."),
    ("Length", ("length",), False, "Mean number of tokens that the policy writes in an episode."),
    ("Cut answers", ("cut",), True, "Share of actions that ran into max_tokens or the end of the context."),
    ("Entropy", ("entropy",), False, "Nats per action token. Near 0 the policy no longer explores."),
    ("KL divergence", ("kl",), False, "Nats per token. A sudden rise warns of an unstable update."),
    ("Groups without signal", ("zero_signal",), True, "Share of groups whose episodes all earned the same: no gradient."),
    ("Cut tokens", ("cut_high", "cut_low"), True, "Share of tokens whose update the trust region cut off."),
    ("Engine and learner", ("mismatch_k3",), False, "Divergence of their log-probabilities. Near 0 when all is well."),
    ("Gradient norm", ("grad_norm",), False, "Before clipping."),
    ("Loss", ("loss",), False, "The objective's value. Its level means little in reinforcement learning."),
    ("Learning rate", ("lr",), False, "Of the optimizer."),
    ("Sampling speed", ("tokens_per_second",), False, "Tokens sampled per second."),
)
"""Title, metric names, whether they are shares, and what one line says about it."""

FAMILIES: tuple[tuple[str, str, bool, str], ...] = (
    ("Reward by term", "reward/", False, "Mean over a step's episodes."),
    ("How episodes ended", "stop/", True, "Share of a step's episodes."),
    ("Failures", "failures/", False, "In a step, by whose they were."),
    ("Ledger", "ledger/", False, "What became of a step's episodes; sampled = trained + what is filtered + no result + waiting."),
    ("Former selves", "league/", True, "Mean score against each (win 1, draw 1/2), by its version."),
)
"""The same for metrics that share the part of their name before the slash, one line each."""


def write_report(run: RunFolder | str | Path) -> Path:
    """Write `report.html` into a run folder and return its path.  Raises `ValueError` if the folder holds no run."""
    run = run if isinstance(run, RunFolder) else _existing(Path(run))
    page = render("report.html.j2", **content(run), **episodes(run), style=style(), script=script("page.js"))
    path = run.path / "report.html"
    write_atomic(path, lambda temporary: _write(temporary, page))
    return path


def _existing(path: Path) -> RunFolder:
    if not is_run(path):
        raise ValueError(f"{path} is no run folder: found neither config.json nor metrics.jsonl (give one, as runs/quickstart)")
    return RunFolder(path)


def content(run: RunFolder) -> Row:
    """What the pages show of a run, its episodes aside."""
    metrics, evals, summary = run.metrics(), run.evals(), run.summary()
    levels = _levels(evals, metrics)
    return {
        "name": run.path.resolve().name,
        "config": flatten(run.config()),
        "starts": run.starts(),
        "summary": summary,
        "finished": bool(summary),
        "headline": _headline(evals, levels),
        "facts": _facts(metrics, summary, run.config()),
        "mode": (_modes(evals) or [""])[0],
        "learning": _learning_chart(metrics, evals, levels),
        "evaluations": _evaluations(evals, levels),
        "measures": measures(evals),
        "curriculum": _curriculum_charts(metrics, levels),
        "curves": _curves(metrics),
        "totals": totals(metrics),
        "leagues": [_league(*item) for item in run.league().items()],
        "failures": _failures([*metrics, *evals]),
        "summary_notes": [(key.replace("_", " "), summary[key]) for key in ("advice", "ledger") if key in summary],
        "health": health.findings(run.path),
    }


def episodes(run: RunFolder) -> Row:
    """The samples that the report shows."""
    if not any((run.path / "episodes").glob("*.parquet")):
        return {"pairs": [], "groups": []}
    return {
        "pairs": [(change, *map(shown, pair)) for change, *pair in before_and_after(run.path)],
        "groups": [tuple(map(shown, group)) for group in trained_groups(run.path)],
    }


TOTALS = (("ledger", "Ledger"), ("stop", "How episodes ended"), ("seconds", "Where the time went"))


def totals(metrics: Sequence[Row]) -> list[Row]:
    """Over all steps: what became of the episodes, how they stopped, and where the time went; each with its share of the whole.  What only
    the roles say is told for each of them."""
    found = [(kind, title, [(role, _summed(metrics, kind, role)) for role in ("", *_roles(metrics))]) for kind, title in TOTALS]
    told = [(kind, title, dict(sums[:1] if sums[0][1] else sums)) for kind, title, sums in found]
    return [_parts(kind, title, sums) for kind, title, sums in told if any(sums.values())]


def _summed(metrics: Sequence[Row], kind: str, role: str) -> Counter[str]:
    """Sums by name, without zeros.  Stops are told as shares of a step's episodes."""
    prefix, sums = f"{role}/" if role else "", Counter[str]()
    for row in metrics:
        many = (row.get(f"{prefix}episodes") or 0.0) if kind == "stop" else 1.0
        for key, value in row.items():
            if key.startswith(f"{prefix}{kind}/") and is_number(value):
                sums[key.removeprefix(f"{prefix}{kind}/")] += value * many
    return +sums


def _parts(kind: str, title: str, sums: dict[str, Counter[str]]) -> Row:
    """A table: the whole, and each part with its share."""
    whole = sum(counts.pop("sampled", 0.0) if kind == "ledger" else counts.total() for counts in sums.values())
    said = duration if kind == "seconds" else number
    parts = [
        (f"{role}: {name}" if role else name, count) for role, counts in sums.items() for name, count in counts.most_common()
    ]
    rows = [{"name": name, "said": said(count), "share": count / whole if whole else 0.0} for name, count in parts]
    return {"title": title, "whole": said(whole) + ("" if kind == "seconds" else " episodes"), "rows": rows}


def _league(role: str, found: Row) -> Row:
    """The payoff matrix of a role of former selves, and their ratings: a row for each version that played, a column for each it met."""
    rates = {(one, other): rate for one, other, _, rate in found["payoffs"]}
    met = sorted({other for _, other in rates})
    rows = [
        {"version": one, "elo": found["elo"].get(str(one)), "rates": [rates.get((one, other)) for other in met]}
        for one in sorted({one for one, _ in rates})
    ]
    return {"role": role, "met": met, "rows": rows}


def _failures(rows: Sequence[Row]) -> Row | None:
    """How many episodes broke, of steps and evaluations, and the first message; None if none did."""
    lost = int(sum(row.get("failed") or 0 for row in rows))
    first = next((f"step {row['step']}: {row['failure']}" for row in rows if row.get("failure")), "")
    return {"lost": lost, "first": first} if lost else None


def _levels(evals: Sequence[Row], metrics: Sequence[Row]) -> list[str]:
    """Levels in the order in which evaluations name them, which is easiest first."""
    trained = (key.split("/", 1)[1] for row in metrics for key in row if key.startswith("success/"))
    return list(dict.fromkeys([row["level"] for row in evals] + list(trained)))


def _measured(evals: Sequence[Row], when: str, mode: str, level: str) -> Row | None:
    rows = [row for row in evals if (row["eval"], row["mode"], row["level"]) == (when, mode, level)]
    return rows[-1] if rows else None


def _modes(evals: Sequence[Row]) -> list[str]:
    """Sampled first: it is what training sees."""
    return sorted({row["mode"] for row in evals}, key=lambda mode: (mode != "sampled", mode))


def _headline(evals: Sequence[Row], levels: Sequence[str]) -> list[Row]:
    """Success before and after, for each level."""
    mode = (_modes(evals) or [""])[0]
    found = [{"level": level, **{when: _measured(evals, when, mode, level) for when in ("before", "after")}} for level in levels]
    return [row for row in found if row["before"] or row["after"]]


def _facts(metrics: Sequence[Row], summary: Row, config: Row) -> list[tuple[str, str]]:
    seconds = summary.get("seconds") or sum(v for row in metrics for k, v in row.items() if k.startswith("seconds/") and v)
    facts = [("steps", number(metrics[-1]["step"]) if metrics else "0")]
    if metrics:
        facts.append(("episodes", number(sum(row.get("episodes") or 0 for row in metrics))))
        facts.append(("time", duration(seconds)))
    flat = flatten(config)
    for name in ("model", "seed"):
        key = next((k for k in flat if k.split(".")[-1] == name or k == f"{name}.name"), None)
        facts += [(name, str(flat[key]))] if key else []
    return facts


def _learning_chart(metrics: Sequence[Row], evals: Sequence[Row], levels: Sequence[str]) -> Markup | None:
    """Success of each level: lines are the training batches, rings the held-out evaluations."""
    series = []
    mode = (_modes(evals) or [""])[0]
    for color, level in enumerate(levels):
        points = points_of(metrics, f"success/{level}")
        series += [Series(name=level, points=points, color=color)] if points else []
    for color, level in enumerate(levels):
        rings = points_of([row for row in evals if row["mode"] == mode and row["level"] == level], "success")
        series += [Series(name=f"{level}, held out", points=rings, color=color, style="marks")] if rings else []
    return Markup(line_chart(series, percent=True, y=(0.0, 1.0), width=1060, height=330)) if series else None


def _evaluations(evals: Sequence[Row], levels: Sequence[str]) -> list[Row]:
    """For each mode a chart and a table, before against after."""
    found = []
    for mode in _modes(evals):
        table, groups = [], []
        for level in levels:
            both = {when: _rate(_measured(evals, when, mode, level)) for when in ("before", "after")}
            table.append({"level": level, **both})
            colors = {"before": "var(--before)", "after": "var(--c0)"}
            bars = [Bar(name=when, color=colors[when], **_bounds(rate)) for when, rate in both.items() if rate]
            groups += [(level, bars)] if bars else []
        if groups:
            found.append({"mode": mode, "rows": table, "chart": Markup(bar_chart(groups))})
    return found


def _rate(row: Row | None) -> Row | None:
    if row is None:
        return None
    low, high = wilson(row["success"], row["tasks"])
    return {
        "value": row["success"],
        "low": low,
        "high": high,
        "tasks": row["tasks"],
        "failed": row.get("failed", 0),
        "step": row["step"],
    }


def _bounds(rate: Row) -> dict[str, float]:
    return {key: rate[key] for key in ("value", "low", "high")}


def _curriculum_charts(metrics: Sequence[Row], levels: Sequence[str]) -> list[Row]:
    """What was trained on, and what the curriculum knew when it chose it."""
    charts = []
    shares = [Series(name=n, points=points_of(metrics, f"share/{n}"), color=i) for i, n in enumerate(levels)]
    if any(one.points for one in shares):
        svg = stack_chart([one for one in shares if one.points], percent=True, width=520, height=210)
        charts.append({"title": "Levels trained on", "note": "Share of each step's episodes.", "svg": Markup(svg)})
    states = [{**flatten(row.get("curriculum") or {}), "step": row["step"]} for row in metrics]
    seen = (key for row in states for key, value in row.items() if is_number(value))
    names = [key for key in dict.fromkeys(seen) if key != "step" and not key.startswith("share/")]
    state = [Series(name=n, points=points_of(states, n), color=i) for i, n in enumerate(names[: len(LIGHT)])]
    if state:
        svg = line_chart(state, width=520, height=210)
        charts.append({"title": "Curriculum", "note": "Its own numbers, as it describes them.", "svg": Markup(svg)})
    return charts


def _curves(metrics: Sequence[Row]) -> list[Row]:
    """The known curves that were logged, seconds for each phase, then every other number."""
    charts = [_curve(metrics, title, keys, share, note) for title, keys, share, note in CURVES]
    phases = list(dict.fromkeys(key for row in metrics for key in row if key.startswith("seconds/")))
    if phases:
        series = [Series(name=k.split("/")[1], points=points_of(metrics, k), color=i) for i, k in enumerate(phases[: len(LIGHT)])]
        charts.append({"title": "Seconds", "note": "Where the time of a step goes.", "svg": Markup(stack_chart(series))})
    charts += [_family(metrics, *family) for family in FAMILIES]
    for role in _roles(metrics):
        own = [
            {key.removeprefix(f"{role}/"): value for key, value in row.items() if key.startswith(f"{role}/")} for row in metrics
        ]
        rows = [row | {"step": whole["step"]} for row, whole in zip(own, metrics, strict=True)]
        named = [_curve(rows, f"{role}: {title}", keys, share, note) for title, keys, share, note in CURVES]
        families = [_family(rows, f"{role}: {title}", prefix, share, note) for title, prefix, share, note in FAMILIES]
        charts += [*named, *families]
    known = {"step", "success", "seconds", *(key for _, keys, _, _ in CURVES for key in keys)}
    others = {key for row in metrics for key, value in row.items() if is_number(value) and "/" not in key} - known
    charts += [_curve(metrics, key, (key,), False, "") for key in sorted(others)]
    return [chart for chart in charts if chart]


def _roles(metrics: Sequence[Row]) -> list[str]:
    """Roles that have metrics of their own: several learn, or one has a league."""
    return list(dict.fromkeys(role for row in metrics for role in row.get("roles", ())))


def _family(metrics: Sequence[Row], title: str, prefix: str, share: bool, note: str) -> Row | None:
    """The metrics that begin with `prefix`.  A step that says nothing of one has none of it, where they are counts."""
    names = list(dict.fromkeys(key for row in metrics for key in row if key.startswith(prefix)))
    if not names or (prefix == "reward/" and len(names) == 1):
        return None
    rows = [{name.removeprefix(prefix): row.get(name, 0.0) for name in names} | {"step": row["step"]} for row in metrics]
    return _curve(rows, title, [name.removeprefix(prefix) for name in names][: len(LIGHT)], share, note)


def _curve(metrics: Sequence[Row], title: str, keys: Sequence[str], share: bool, note: str) -> Row | None:
    lines = {key: points_of(metrics, key) for key in keys}
    named = enumerate(lines.items())
    series = [Series(name=key.replace("_", " "), points=points, color=i) for i, (key, points) in named if points]
    return {"title": title, "note": note, "svg": Markup(line_chart(series, percent=share))} if series else None


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
