"""What each page of `sojourn view` shows, as HTML text of the run folders at this moment.

The one idea: an address says it all, so a page can be sent on, gone back to and loaded again while the run goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup

from sojourn.core.values import from_json
from sojourn.store import RunFolder
from sojourn.viewer import curves, health, report
from sojourn.viewer.episode import blocks_of, shared, shown
from sojourn.viewer.render import render
from sojourn.viewer.runs import find_runs, stamp, standing
from sojourn.viewer.shelf import ORDERS, Found, Search, Shelf
from sojourn.viewer.svg import LIGHT, number

Row = dict[str, Any]
Query = Mapping[str, str]
TABS = (("overview", "overview"), ("episodes", "episodes"), ("health", "health"))
MOST = 8
"""Runs that are drawn when none is chosen; episodes of a group that are shown side by side."""
PAGE = 50
"""Episodes on a page of what was found."""
MEANS = (("entropy", "entropy {} nats a token"), ("ratio", "ratio {}"), ("kl", "KL {} nats a token"))


class NotThere(LookupError):
    """What was asked for is in no run that was named."""


class Pages:
    """The pages over the runs under `folders`."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = folders
        self._shelves: dict[Path, Shelf] = {}

    def found(self) -> dict[str, Path]:
        return find_runs(self.folders)

    def path(self, name: str) -> Path:
        """Where a run lies; only those that were found have a name."""
        runs = self.found()
        if name not in runs:
            raise NotThere(f"There is no run '{name}' here.")
        return runs[name]

    def shelf(self, path: Path) -> Shelf:
        return self._shelves.setdefault(path, Shelf(path))

    def stamp(self, name: str) -> str:
        """Changes when the run does; without a name, when any does."""
        paths = [self.path(name)] if name else list(self.found().values())
        return "/".join(map(stamp, paths))

    def runs(self, chosen: Sequence[str], query: Query) -> str:
        """Curves side by side."""
        found = self.found()
        window, axis = whole(query, "smooth", 1, least=1), query.get("x", "step")
        if axis not in ("step", "minutes", "tokens"):
            raise ValueError(f"x '{axis}': expected step, minutes or tokens")
        names = [name for name in chosen if name in found] or list(found)[:MOST]
        read = {name: RunFolder(found[name]) for name in names}
        drawn = {name: (run.config(), run.metrics(), run.evals()) for name, run in read.items()}
        lines = curves.lines_of(drawn, seeds=query.get("seeds") == "1")
        charts = curves.charts(lines, window=window, axis=axis)  # type: ignore[arg-type]
        colors = {name: place % len(LIGHT) for place, line in enumerate(lines) for name in line.names}
        every = [asdict(standing(name, path)) | {"color": colors.get(name)} for name, path in found.items()]
        return render(
            "runs.html.j2",
            **self._frame("", "Runs"),
            all=every,
            chosen=[name for name in chosen if name in found],
            charts=[(room, [chart | {"svg": Markup(chart["svg"])} for chart in own]) for room, own in charts],
            smooth=window,
            x=axis,
            seeds=query.get("seeds") == "1",
        )

    def overview(self, name: str) -> str:
        """What the report says."""
        path = self.path(name)
        content = report.content(RunFolder(path)) | {"name": name}
        return render("overview.html.j2", **self._frame(name, name, "overview"), **content, state=standing(name, path).state)

    def health(self, name: str) -> str:
        path = self.path(name)
        found = health.findings(path, self.shelf(path))
        return render("health.html.j2", **self._frame(name, f"health of {name}", "health"), health=found)

    def episodes(self, name: str, query: Query) -> str:
        """The episodes that are looked for."""
        shelf = self.shelf(self.path(name))
        search = Search(**{field.name: query[field.name] for field in fields(Search) if query.get(field.name)})
        offset, wrong = whole(query, "offset", 0), ""
        try:
            found = shelf.find(search, offset=offset, most=PAGE)
        except ValueError as error:
            found, wrong = Found(0, []), str(error)
        rows = [
            row
            | {
                "href": self._episode(name, row),
                "group_href": self._group(name, row),
                "snippet": pieces(row["snippet"], search.text) if row["snippet"] else [],
            }
            for row in found.rows
        ]

        def at(place: int) -> str:
            return address("episodes", run=name, **search.given(), offset=place)

        return render(
            "episodes.html.j2",
            **self._frame(name, f"episodes of {name}", "episodes"),
            search=asdict(search),
            facets=shelf.facets(),
            orders=list(ORDERS),
            wrong=wrong,
            rows=rows,
            total=found.total,
            first=offset + 1,
            last=offset + len(rows),
            before=at(max(offset - PAGE, 0)) if offset else None,
            after=at(offset + PAGE) if offset + PAGE < found.total else None,
        )

    def tools(self, name: str) -> list[str]:
        return self.shelf(self.path(name)).tools()

    def episode(self, name: str, query: Query) -> str:
        """One episode, as conversation or as tokens."""
        path = self.path(name)
        shelf = self.shelf(path)
        phase, step, wanted = query.get("phase", ""), whole(query, "step", 0, least=-1), query.get("id", "")
        beside = shelf.index(phase=phase, step=step)
        place = next((i for i, row in enumerate(beside) if row["id"] == wanted), None)
        if place is None:
            raise NotThere(f"There is no episode '{wanted}' in {phase or 'any phase'}, step {step}, of {name}.")
        row, tokens = beside[place], query.get("tokens") == "1"
        (whole_row,) = shelf.read([row])
        last = {"tokens": "1"} if tokens else {}
        metrics = next((m for m in RunFolder(path).metrics() if m.get("step") == step), {}) if phase == "train" else {}
        means = [form.format(number(metrics[key])) for key, form in MEANS if curves.is_number(metrics.get(key))]
        return render(
            "episode.html.j2",
            **self._frame(name, wanted, "episodes"),
            e=shown(whole_row, tokens=tokens) | {"data": from_json(whole_row["data"] or "{}")},
            tokens=tokens,
            toggle=self._episode(name, row, **({} if tokens else {"tokens": "1"})),
            group_href=self._group(name, row),
            task_href=address("task", run=name, task=row["task"]),
            previous=self._episode(name, beside[place - 1], **last) if place else "",
            next=self._episode(name, beside[place + 1], **last) if place + 1 < len(beside) else "",
            step_row=", ".join(means),
        )

    def group(self, name: str, query: Query) -> str:
        """The episodes of a group, and what they begin with once."""
        shelf = self.shelf(self.path(name))
        wanted = {"phase": query.get("phase", ""), "step": whole(query, "step", 0, least=-1), "group": query.get("group", "")}
        small = shelf.index(**wanted)
        if not small:
            raise NotThere(f"There is no group '{wanted['group']}' in {wanted['phase']}, step {wanted['step']}, of {name}.")
        rows = shelf.read(small[: 4 * MOST])
        common = shared(rows)
        left = f", the first {len(rows)} are shown" if len(rows) < len(small) else ""
        return self._several(
            name,
            query,
            rows,
            "group",
            heading=rows[0]["task"],
            note=f"{wanted['phase']}, step {wanted['step']}: a group of {len(small)}{left}",
            common=blocks_of(common, rows[0]),
            without=frozenset(span["id"] for span in common),
        )

    def task(self, name: str, query: Query) -> str:
        """One task at two moments of the run: before and after, or whatever two are chosen."""
        shelf, task = self.shelf(self.path(name)), query.get("task", "")
        small = shelf.index(task=task)
        if not small:
            raise NotThere(f"There is no episode of the task '{task}' in {name}.")
        keys = {f"{row['file']}/{row['place']}": row for row in small}
        chosen = chosen_pair(list(keys.values()))
        sides = {side: query.get(side, "") for side in ("left", "right")}
        both = [
            sides[side] if sides[side] in keys else f"{row['file']}/{row['place']}"
            for side, row in zip(sides, chosen, strict=True)
        ]
        solved = {True: "solved", False: "not solved"}
        return self._several(
            name,
            query,
            shelf.read([keys[key] for key in both]),
            "task",
            heading=task,
            note=f"{len(small)} episodes of this task",
            choices=[{"key": key, "text": f"{_moment(row)}, {solved[bool(row['success'])]}"} for key, row in keys.items()],
            sides=list(zip(sides, both, strict=True)),
            task=task,
        )

    def _several(
        self, name: str, query: Query, rows: Sequence[Row], page: str, without: frozenset[int] = frozenset(), **more: object
    ) -> str:
        tokens = query.get("tokens") == "1"
        other = {**query, "tokens": "" if tokens else "1"}
        shown_rows = [
            shown(row, tokens=tokens, without=without) | {"title": _moment(row), "href": self._episode(name, row)} for row in rows
        ]
        content: Row = {"choices": [], "sides": [], "common": [], "task": "", **more}
        return render(
            "several.html.j2",
            **self._frame(name, str(content["heading"]), "episodes"),
            **content,
            episodes=shown_rows,
            tokens=tokens,
            toggle=address(page, **{key: value for key, value in other.items() if value}),
        )

    def error(self, title: str, message: str) -> str:
        return render("error.html.j2", **self._frame("", title), message=message)

    def _frame(self, run: str, title: str, tab: str = "") -> Row:
        return {
            "title": title,
            "run": run,
            "tab": tab,
            "tabs": TABS,
            "watch": address("stamp", **({"run": run} if run else {})),
            "stamp": self.stamp(run),
        }

    def _episode(self, name: str, row: Row, **more: str) -> str:
        return address("episode", run=name, phase=row["phase"], step=row["step"], id=row["id"], **more)

    def _group(self, name: str, row: Row) -> str:
        return address("group", run=name, phase=row["phase"], step=row["step"], group=row["group"])


def address(page: str, **query: object) -> str:
    """
    >>> address("episodes", run="a b", step=3)
    '/episodes?run=a+b&step=3'
    """
    return f"/{page}?{urlencode(query)}"


def whole(query: Query, name: str, default: int, least: int = 0) -> int:
    """A whole number of an address.  Raises `ValueError` for what is none."""
    given = query.get(name) or str(default)
    try:
        number = int(given)
    except ValueError:
        raise ValueError(f"{name} '{given}': expected a whole number") from None
    if number < least:
        raise ValueError(f"{name} '{given}': expected {least} or more")
    return number


def chosen_pair(rows: Sequence[Row]) -> tuple[Row, Row]:
    """The two to begin with: before and after training if they are there and alike, else the first and the last."""
    for before in rows:
        if before["phase"].startswith("eval-before"):
            after = before["phase"].replace("before", "after", 1)
            if found := next((row for row in rows if row["phase"] == after), None):
                return before, found
    return rows[0], rows[-1]


def pieces(text: str, what: str) -> list[tuple[str, bool]]:
    """A text in pieces, each with whether it is what was looked for.

    >>> pieces("Nine nails", "NA")
    [('Nine ', False), ('na', True), ('ils', False)]
    """
    found, at, low = [], 0, text.lower()
    while what and (place := low.find(what.lower(), at)) >= 0:
        found += [(text[at:place], False), (text[place : place + len(what)], True)]
        at = place + len(what)
    return [piece for piece in [*found, (text[at:], False)] if piece[0]]


def _moment(row: Row) -> str:
    """When and as which an episode was played."""
    return f"{row['phase']}, step {row['step']}, {row['id']}"
