"""The evaluation before the first step, taken over from another run: what the same weights do on the same tasks is known already.

The one idea: it follows from the model, the tasks, the sampling, the seed and the code, so where these are the same it is the same, and
where one differs nothing is taken.  A field of a recipe's own may bear on it in any way, so each must be equal; of the fields of
`TrainConfig` those may differ that only say how to learn, or how fast to compute.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sojourn.store import RunFolder, write_atomic
from sojourn.store.run import differences

ANY = frozenset(
    {
        "run", "steps", "sampling_rounds", "value_rollouts", "epochs", "minibatches", "warmup_steps", "max_minutes", "groups",
        "group_size", "concurrency", "retries", "max_errors", "sample_seconds", "algorithm", "teacher", "learn_from", "replay", "optimizer",
        "token_budget", "eval_greedy", "eval_before", "eval_before_of", "eval_every", "checkpoint_every", "keep_episodes_every", "profile",
    }
)  # fmt: skip
"""Fields that the evaluation before the first step does not depend on."""
SHOWN = 8
"""Digits of a fingerprint in a message."""


def take_over(folder: RunFolder, source: str, modes: Sequence[str]) -> None:
    """Copy the evaluations `modes` before the first step, with their episodes, from the run `source`; their rows say `taken_from`.

    Raises `ValueError` with what differs if it is no run, was started otherwise, or was not evaluated before.
    """
    if not (Path(source) / "config.json").is_file():
        raise ValueError(f"eval_before_of: '{source}' is no run folder")
    other = RunFolder(source)
    begun = [_identity(row) for row in other.starts() if row["step"] == 0]
    own = _identity(folder.starts()[-1])
    if differing := list(dict.fromkeys(line for each in begun for line in differences(each, own))):
        raise ValueError(
            f"eval_before_of: the evaluation before the first step of {source} is not this run's:\n"
            + "\n".join(f"  {line}" for line in differing)
            + "\nGive the same values, name another run, or leave eval_before_of out."
        )
    rows = {
        mode: [row for row in other.evals() if (row["eval"], row["step"], row["mode"]) == ("before", 0, mode)] for mode in modes
    }
    if missing := [mode for mode in modes if not rows[mode]]:
        raise ValueError(
            f"eval_before_of: {source} has no evaluation before the first step that is {missing[0]}: name a run that has, or leave it out"
        )
    for mode in modes:
        kept, copy = (run.episodes_path(f"eval-before-{mode}", 0) for run in (other, folder))
        write_atomic(copy, partial(shutil.copyfile, kept))
        folder.log_eval(*({**row, "taken_from": row.get("taken_from", source)} for row in rows[mode]))


def _identity(start: Mapping[str, Any]) -> dict[str, Any]:
    """What an evaluation follows from, as a start has noted it."""
    config = {name: value for name, value in start["config"].items() if name not in ANY}
    code = {name: digest[:SHOWN] for name, digest in start.get("code", {}).items()}
    versions = {name: start.get("versions", {}).get(name) for name in ("torch", "transformers")}
    package = str(start.get("package", ""))[:SHOWN]
    machine = start.get("processor") if config["dtype"] == "auto" else None  # on another, auto may be another precision
    return {
        "config": config,
        "model": start.get("model"),
        "code": code,
        "versions": versions,
        "package": package,
        "processor": machine,
    }
