"""The short commands: `envs`, `explain`, `conformance`, `report`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from rich.table import Table
from tyro.conf import Positional, arg

from sojourn.cli.table import show
from sojourn.store import write_json as write


def envs(do: Positional[Literal["list", "install"]] = "list", family: Positional[str] = "") -> None:
    """The environments that come with Sojourn; `envs install FAMILY` gives a family of them a venv of its own.

    Args:
        do: List them, or install a family.
        family: Which one, as the column `installed` names it.
    """
    from sojourn.environments.listing import ENVIRONMENTS, family_of

    if do == "install":
        chosen = family_of(family)
        chosen.install()
        print(f"{chosen.name} is installed in {chosen.venv}" if chosen.modules else f"{chosen.name} is installed")
        return
    rows = {name: (each.description, each.tasks, each.licence, each.installed) for name, each in ENVIRONMENTS.items()}
    _print("environment", rows, "what it is", "tasks", "licence", "installed")


def explain(algorithm: Positional[str] = "") -> None:
    """The algorithms; of one: its formula, its parts, its constants and their sources.

    Args:
        algorithm: Its name; none lists them all.
    """
    from sojourn.objectives import presets

    if algorithm:
        print(presets.explain(algorithm), end="")
    else:
        _print("algorithm", {row[0]: f"{row[1]}  [{row[2]}]" for row in presets.table()})


def conformance(
    adapter: str = "sojourn",
    write_json: Annotated[str, arg(name="json")] = "",
    mutants: Annotated[bool, arg(name="mutants")] = False,
) -> int:
    """Hold an implementation of credit and objectives against the checks; fails if one fails.

    Args:
        adapter: Whose: "sojourn", or "trl" where TRL is installed.
        write_json: Write check -> passed, detail into this file, too.
        mutants: Measure the checks instead: plant known defects into our formulas, one at a time, and print how many are caught, and
            which survive; fails under 90 %.
    """
    from sojourn import conformance as suite

    if mutants:
        from sojourn.conformance import mutation

        seen = mutation.measure()
        print(mutation.as_text(seen))
        return int(mutation.share(seen) < 0.9)
    results = suite.run(suite.adapter(adapter))
    print(suite.as_table(results))
    if write_json:
        write(Path(write_json), {name: asdict(result) for name, result in results.items()})
    return int(any(result.passed is False for result in results.values()))


def report(run: Positional[Path]) -> None:
    """Write report.html into a run folder, finished or still running.

    Args:
        run: The run folder.
    """
    from sojourn.viewer import write_report

    print(f"report: {write_report(run)}")


def _print(head: str, rows: Mapping[str, str | Sequence[str]], *columns: str) -> None:
    table = Table(head, *(columns or ("what it is",)), box=None, pad_edge=False)
    for name, what in rows.items():
        cells = (name, what) if isinstance(what, str) else (name, *what)
        table.add_row(*(cell.replace("[", r"\[") for cell in cells))
    show(table)
