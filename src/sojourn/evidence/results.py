"""`RESULTS.json`: every run's figures, every claim's verdict, with machine, command and code."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sojourn.evidence.claims import Claim, Judged, judge
from sojourn.evidence.measured import Measured
from sojourn.store.files import plain

MACHINE = ("processor", "cores", "memory_gib", "system", "python")
LIBRARIES = ("torch", "transformers", "numpy", "sojourn")


def judged(claims: Mapping[str, Claim], runs: Iterable[Measured]) -> dict[str, Judged]:
    """The verdict on each claim."""
    found = {(run.arm, run.seed): run for run in runs}
    return {name: judge(name, claim, found) for name, claim in claims.items()}


def page(
    *, recipe: str, command: str, arms: Mapping[str, Mapping[str, object]], runs: Sequence[Measured], verdicts: Mapping[str, Judged],
    code: Mapping[str, str]
) -> dict[str, Any]:  # fmt: skip
    """What RESULTS.json holds.  code: by arm, the fingerprint of the recipe's code."""
    machines = [_machine(run.start) for run in runs]
    return dict(
        plain(
            {
                "recipe": recipe,
                "command": command,
                "code": code,
                "machines": [machine for index, machine in enumerate(machines) if machine not in machines[:index]],
                "claims": {name: asdict(verdict) for name, verdict in verdicts.items()},
                "arms": {name: {key: str(value) for key, value in changes.items()} for name, changes in arms.items()},
                "runs": [_run(run) for run in runs],
            }
        )
    )


def read(folder: Path) -> dict[str, Any]:
    """The results that a folder holds; nothing if there are none, or none of this kind."""
    file = folder / "RESULTS.json"
    found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found if isinstance(found, dict) and "claims" in found else {}


def _run(run: Measured) -> dict[str, Any]:
    figures = {name: figure.value for name, figure in run.figures.items()}
    tasks = {name: len(figure.tasks) for name, figure in run.figures.items() if figure.tasks}
    package = str(run.start.get("package", ""))[:12]
    return {"arm": run.arm, "seed": run.seed, "figures": figures, "tasks": tasks, "package": package, "time": run.start["time"]}


def _machine(start: Mapping[str, Any]) -> dict[str, Any]:
    versions = {name: start["versions"][name] for name in LIBRARIES if name in start.get("versions", {})}
    return {name: start[name] for name in MACHINE if name in start} | versions
