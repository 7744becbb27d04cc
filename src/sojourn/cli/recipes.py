"""`sojourn recipes`: by area, what each recipe is and what came of it."""

from __future__ import annotations

from itertools import groupby

from rich.markup import escape
from rich.table import Table

from sojourn.cli.recipe import available
from sojourn.cli.table import show
from sojourn.evidence.index import Entry, entry


def recipes() -> None:
    """The recipes in ./recipes and those that come with Sojourn; what they show is what `sojourn reproduce` measured."""
    table = Table("recipe", "what it is, and what it shows", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    found = sorted((entry(name, path) for name, path in available().items()), key=lambda each: (each.area, each.name))
    for area, members in groupby(found, key=lambda each: each.area):
        if area:
            table.add_row(f"[bold]{escape(area)}[/]", "")
        for each in members:
            table.add_row(escape(each.name), _told(each))
    show(table)


def _told(each: Entry) -> str:
    """What it is; paper, world and minutes; a line for each claim."""
    arxiv = f"arXiv {each.papers}" if each.papers else ""
    run, _, whole = each.minutes.partition(", ")
    minutes = f"{run} minutes a run, {whole} for all" if run else ""
    facts = "; ".join(part for part in (arxiv, each.world, minutes) if part)
    dim = [f"[dim]{escape(facts)}[/]"] if facts else []
    return "\n".join([escape(each.says), *dim, *map(escape, (*each.shows, *([each.page] if each.page else [])))])
