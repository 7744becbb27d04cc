"""The run folder: everything that a run leaves behind, readable while it runs.

    config.json       the config; what identifies the run is fixed from its first start
    starts.jsonl      one row for each start: command, config and what changed in it, machine, versions, the step it went on from
    metrics.jsonl     one row for each optimizer step
    evals.jsonl       one row for each evaluation, mode and level
    episodes/         Parquet, one file for each step and phase (see `sojourn.store.episodes`)
    tensorboard/      the metrics as TensorBoard events, where `tensorboard` is installed
    trackers.json     what other trackers call the run, so that it goes on there, too
    league.json       payoff matrix and ratings of former selves, where there are such
    summary.json      written at the end
    report.html       written by `sojourn.viewer`

The one idea: rows carry their step, so a killed run and its continuation become one clean run by dropping what lies after the
step that the checkpoint holds.  An evaluation is one unit: its rows come after its episodes and all at once, so that rows say it is whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from sojourn.store.files import append_row, plain, read_rows, remove_leftovers, write_json, write_rows
from sojourn.store.lock import only_writer
from sojourn.store.machine import describe_machine

if TYPE_CHECKING:
    from sojourn.trackers.tracker import Tracker

Row = dict[str, Any]


class RunFolder:
    """A run folder, created if it is not there.  A step is the number of optimizer steps done: 1 after the first.

    Reading needs nothing else.  Who writes enters it first, `with folder:`, and is then the only one; see `sojourn.store.lock`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"run folder {self.path}: found a file, expected a folder (choose another name for the run)")
        self.path.mkdir(parents=True, exist_ok=True)
        self._trackers: tuple[Tracker, ...] = ()
        self._last_step = 0
        self._lock = ExitStack()

    def __enter__(self) -> Self:
        self._lock.enter_context(only_writer(self.path))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
        self._lock.close()

    def write_config(self, config: Mapping[str, object], may_change: Collection[str] = ()) -> None:
        """Keep the config.  From the first start on only fields named in `may_change` may differ from the config that is there.

        Raises `ValueError` with the differences if others do.
        """
        new = plain(config)
        fixed = [{k: v for k, v in each.items() if k not in may_change} for each in (self.config(), new)]
        changes = differences(*fixed) if self.starts() and self.config() else []
        if changes:
            raise ValueError(
                f"run folder {self.path} holds a run with another config:\n"
                + "\n".join(f"  {change}" for change in changes)
                + "\nTo go on with that run, give the same values; for a new run, choose another run folder."
                + (f"\nFree to change are {', '.join(sorted(may_change))}." if may_change else "")
            )
        if new != self.config():
            write_json(self.path / "config.json", new)

    def log_start(self, *, step: int, command: str | None = None, changes: Sequence[str] = (), **more: object) -> list[str]:
        """Note that the run starts, or goes on after `step`: the command (default: this process's), the config, the machine, the versions,
        and `more`.

        Returns what is different since the last start: in the config, and `changes`; it is noted, too.
        """
        config, before = self.config(), self.starts()
        known = differences(before[-1]["config"], config) if before and "config" in before[-1] else []
        row = {"step": step, **describe_machine(command), "config": config, "changes": [*known, *changes], **more}
        append_row(self.path / "starts.jsonl", row)
        return [*known, *changes]

    def log_step(self, metrics: Mapping[str, object]) -> None:
        """Append the metrics of a step (with its number as `step`), and send those that are numbers to the trackers."""
        append_row(self.path / "metrics.jsonl", metrics)
        self._last_step = int(plain(metrics["step"]))
        self._track({name: value for name, value in flatten(plain(metrics)).items() if name != "step"})

    def log_eval(self, *rows: Mapping[str, object]) -> None:
        """Add the rows of an evaluation, all or none: `eval` (before, during, after), `step`, `mode`, `level`, `success`, `tasks`."""
        write_rows(self.path / "evals.jsonl", _latest([*self.evals(), *plain(rows)]))
        for row in plain(rows):
            self._track({f"eval/{row['mode']}/{row['level']}": row["success"]}, step=row["step"])

    def evaluated(self, when: str, step: int, mode: str) -> bool:
        """Whether this evaluation is there, and so its episodes, which are written before its rows."""
        return (when, step, mode) in map(_evaluation, self.evals())

    def write_summary(self, summary: Mapping[str, object]) -> None:
        write_json(self.path / "summary.json", summary)

    def config(self) -> Row:
        return self._read_json("config.json")

    def summary(self) -> Row:
        return self._read_json("summary.json")

    def league(self) -> Row:
        """By role: `payoffs`, rows of version, version met, games, mean score; `elo`, ratings by version."""
        return self._read_json("league.json")

    def metrics(self) -> list[Row]:
        return read_rows(self.path / "metrics.jsonl")

    def starts(self) -> list[Row]:
        return read_rows(self.path / "starts.jsonl")

    def evals(self) -> list[Row]:
        """The evaluations; of two of the same kind, step, mode and level, the later."""
        return _latest(read_rows(self.path / "evals.jsonl"))

    def episodes_path(self, phase: str, step: int) -> Path:
        """Where the episodes of a phase (`train`, `eval-before`, ...) at a step lie."""
        return self.path / "episodes" / f"{phase}-{step:06d}.parquet"

    def truncate_after(self, step: int) -> None:
        """Drop what was written after `step`, and what was not finished, so that a run that goes on from there leaves one clean record."""
        for name in ("metrics.jsonl", "evals.jsonl"):
            self._keep_rows(name, lambda row: row["step"] <= step)
        whole = {f"eval-{when}-{mode}-{at:06d}" for when, at, mode in map(_evaluation, self.evals())}
        for file in (*self.path.glob("episodes/*.parquet"), *self.path.glob("traces/*.json")):
            number = re.search(r"-(\d{6,})$", file.stem)
            unfinished = re.match(r"eval-\w+-\w+-\d", file.stem) and file.stem not in whole
            if unfinished or (number and int(number[1]) > step):
                file.unlink()
        remove_leftovers(self.path)
        self._last_step = step

    def reopen(self) -> None:
        """The run goes on beyond the step that was its last: that had its evaluation `after`, which the new last step will have."""
        self._keep_rows("evals.jsonl", lambda row: row["eval"] != "after")
        for file in self.path.glob("episodes/eval-after-*.parquet"):
            file.unlink()

    def drop_summary(self) -> None:
        """The run is not finished."""
        (self.path / "summary.json").unlink(missing_ok=True)

    def _keep_rows(self, name: str, wanted: Callable[[Row], bool]) -> None:
        rows = read_rows(self.path / name)
        kept = [row for row in rows if wanted(row)]
        if len(kept) < len(rows):
            write_rows(self.path / name, kept)

    def track(self, *trackers: Tracker) -> None:
        """Send the numbers of steps and evaluations to these, too, until it is closed."""
        self._trackers = trackers

    def artifact(self, name: str) -> None:
        """Send a file of the folder to the trackers, where it is there."""
        if (self.path / name).exists():
            for tracker in self._trackers:
                tracker.artifact(self.path / name, Path(name).stem)

    def close(self) -> None:
        """Let go of the trackers.  Files are closed after each row."""
        trackers, self._trackers = self._trackers, ()
        for tracker in trackers:
            tracker.close()

    def _track(self, values: Mapping[str, object], step: int | None = None) -> None:
        numbers = {name: float(value) for name, value in values.items() if isinstance(value, (int, float))}
        for tracker in self._trackers:
            tracker.log(self._last_step if step is None else step, numbers)

    def _read_json(self, name: str) -> Row:
        file = self.path / name
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined with dots.

    >>> flatten({"a": {"b": 1}, "c": [2]})
    {'a.b': 1, 'c': [2]}
    """
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            flat.update(flatten(item, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = item
    return flat


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What is different between two configs, a line for each field.

    >>> differences({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}})
    ['b.c: was 2, now 3']
    """
    old, new = flatten(old), flatten(new)
    shown = [{key: json.dumps(value) for key, value in config.items()} for config in (old, new)]
    pairs = {key: [values.get(key, "(not set)") for values in shown] for key in {**old, **new}}
    return [f"{key}: was {was}, now {now}" for key, (was, now) in pairs.items() if was != now]


def _evaluation(row: Row) -> tuple[Any, Any, Any]:
    """Which evaluation a row belongs to."""
    return row["eval"], row["step"], row["mode"]


def _latest(rows: Sequence[Row]) -> list[Row]:
    return list({(*_evaluation(row), row["level"]): row for row in rows}.values())
