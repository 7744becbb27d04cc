"""`sojourn reproduce NAME`: make the runs of a recipe's arms, one after the other, and say which of its claims hold.

The one idea: what is there follows from the run folders alone.  A run that is finished is not made again, one that was killed goes on, one
whose code or config was changed since is made anew, and said.  Each is a process of its own, so that a crash costs one.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.table import Table
from tyro.conf import Positional

from sojourn.cli import recipe as recipes
from sojourn.cli.arms import BASE, Declared, declared
from sojourn.cli.table import show
from sojourn.evidence.measured import keep_own, measured, own_code
from sojourn.evidence.page import PICTURE, check_page, shown, write_page
from sojourn.evidence.results import judged, page, read
from sojourn.evidence.state import State, fingerprint, note_base, state, state_of_base
from sojourn.store import RunFolder, write_atomic, write_json
from sojourn.store.code import code_of, modules_of, package_fingerprint
from sojourn.viewer.progress import duration

Row = dict[str, Any]
SEEDS = 3
"""Seeds without which results are not replaced."""


def reproduce(
    name: Positional[str], seeds: int = SEEDS, arms: str = "", out: str = "", runs: str = "runs/reproduce", only: str = ""
) -> int:  # fmt: skip
    """Make the runs of a recipe's arms that are missing, then write RESULTS.json, the tables of RESULTS.md, and a picture.

    Args:
        name: The recipe.
        seeds: Each arm is run with seeds 0 to this minus 1.
        arms: Some arms only, with commas between them; those that they begin with come along.
        out: Folder for the results. Default: the recipe's own; beside the runs where seeds are fewer than 3 or runs are missing.
        runs: Folder for the runs.
        only: Make this one run, ARM/SEED, and write no results.
    """
    if seeds < 1:
        raise ValueError(f"--seeds {seeds}: give at least 1")
    found = declared(recipes.load(name))
    work = Reproduction(found, Path(runs))
    if only:
        work.one(*_arm_and_seed(found, only))
        return 0
    chosen = found.chosen(arms)
    partial = seeds < SEEDS or len(chosen) < len(found.arms)
    own = found.recipe.path.with_suffix("")
    local = name.endswith(".py") or own.resolve().is_relative_to(Path("recipes").resolve())
    target = Path(out) if out else own if local and not partial else work.root
    for folder in (target, work.root):
        check_page(folder / "RESULTS.md")
    wanted = found.wanted(chosen, seeds)
    failed = work.all(wanted, read(own))
    target = work.root if failed and not out else target
    command = shlex.join(
        ["sojourn", "reproduce", name, *(["--seeds", str(seeds)] if seeds != SEEDS else []), *(["--arms", arms] if arms else [])]
    )
    work.write(target, command, wanted, read(own) if target != own else {})
    if failed:
        print("\n".join(["failed:", *(f"  {run}: {why}" for run, why in failed.items())]), file=sys.stderr)
        print("correct what was told above and give the same command again: what is finished stays", file=sys.stderr)
    return int(bool(failed))


def _arm_and_seed(found: Declared, only: str) -> tuple[str, int]:
    if found.base and only == BASE:
        return BASE, 0
    arm, _, seed = only.rpartition("/")
    if not seed.isdecimal() or arm not in found.arms:
        raise ValueError(f"--only {only}: expected ARM/SEED, such as {next(iter(found.arms))}/0.  Arms: {', '.join(found.arms)}")
    return arm, int(seed)


class Reproduction:
    """The runs of a recipe, in the folder `runs`/NAME."""

    def __init__(self, found: Declared, runs: Path) -> None:
        self.found, self.runs, self.root = found, runs, runs / found.recipe.name
        self._code: dict[str, dict[str, Path]] = {}

    def path(self, arm: str, seed: int) -> Path:
        return self.found.path(self.root, arm, seed)

    def name(self, arm: str, seed: int) -> str:
        """As `--only` takes it."""
        return BASE if self.is_base(arm) else f"{arm}/{seed}"

    def code(self, arm: str) -> dict[str, Path]:
        """The files that a run of the arm is made of; of the base, those of all arms."""
        if arm not in self._code:
            parts = [self.found.config(self.root, each, 0) for each in (self.found.arms if self.is_base(arm) else [arm])]
            modules = [modules_of([config, *vars(self.found.recipe.parts(config)).values()]) for config in parts]
            self._code[arm] = code_of(sorted({name for names in modules for name in names}))
        return self._code[arm]

    def state(self, arm: str, seed: int) -> State:
        """What is there of a run."""
        if self.is_base(arm):
            return state_of_base(self.path(arm, seed), self.code(arm))
        config = self.found.config(self.root, arm, seed)
        return state(
            self.path(arm, seed),
            asdict(config),
            self.code(arm),
            [self.path(first, seed) for first in self.found.begins_with(arm)],
        )

    def is_base(self, arm: str) -> bool:
        return self.found.base is not None and arm == BASE

    def measured(self, arm: str, seed: int) -> bool:
        """Whether the recipe's own figures of a finished run are there."""
        return (
            not self.found.figures
            or self.is_base(arm)
            or own_code(self.path(arm, seed)) == fingerprint(self.code(arm), figures=True)
        )

    def one(self, arm: str, seed: int) -> None:
        """Make a run, in this process; then its figures."""
        from sojourn.training import train

        there = self.state(arm, seed)
        if there.changes:
            self.set_aside(arm, seed)
        if not there.finished and self.is_base(arm):
            self.make_base()
        elif not there.finished:
            config = self.found.config(self.root, arm, seed)
            train(config, self.found.recipe.parts(config))
        if self.found.figures and not self.measured(arm, seed):
            run = RunFolder(self.path(arm, seed))
            keep_own(run, self.found.figures(run), fingerprint(self.code(arm), figures=True))

    def make_base(self) -> None:
        """What runs begin with; the recipe's function resumes what was killed, or does it again."""
        assert self.found.base is not None
        path = self.path(BASE, 0)
        path.mkdir(parents=True, exist_ok=True)
        note_base(path, self.code(BASE), finished=False)
        self.found.base(str(path))
        note_base(path, self.code(BASE), finished=True)

    def set_aside(self, arm: str, seed: int) -> None:
        """A run that is another one than is asked for; the one that was set aside before goes."""
        old = self.path(arm, seed).with_name(f"{self.path(arm, seed).name}.old")
        shutil.rmtree(old, ignore_errors=True)
        self.path(arm, seed).rename(old)

    def all(self, wanted: list[tuple[str, int]], known: Row) -> dict[str, str]:
        """Make the runs that are missing, one after the other; returns those that failed, and why."""
        failed: dict[str, str] = {}
        self._check(wanted)
        for place, (arm, seed) in enumerate(wanted):
            there = self.state(arm, seed)
            if there.finished and self.measured(arm, seed):
                continue
            if lost := [first for first in self.found.begins_with(arm) if self.name(first, seed) in failed]:
                failed[self.name(arm, seed)] = f"begins with {self.name(lost[0], seed)}, which failed"
                continue
            for change in there.changes:
                print(f"{self.name(arm, seed)} is run again: {change}")
            what = "figures of" if there.finished else "going on with" if there.begun else "run"
            left = self._left(wanted[place:], known)
            print(f"{place + 1} of {len(wanted)}: {what} {arm}, seed {seed}; about {duration(left)} left", flush=True)
            code = self._process(self.name(arm, seed))
            if code:
                failed[self.name(arm, seed)] = f"ended with exit code {code}"
        return failed

    def write(self, out: Path, command: str, wanted: list[tuple[str, int]], known: Row) -> None:
        """Results of what is finished, and how they compare with results that are known."""
        finished = [(arm, seed) for arm, seed in wanted if self.state(arm, seed).finished and self.measured(arm, seed)]
        finished = [run for run in finished if not self.is_base(run[0]) or (self.path(*run) / "summary.json").is_file()]
        if not finished:
            return
        folders = {run: RunFolder(self.path(*run)) for run in finished}
        runs = [measured(arm, seed, folder) for (arm, seed), folder in folders.items()]
        verdicts = judged(self.found.claims, runs)
        arms = {arm: self.found.arms[arm] for arm in dict.fromkeys(arm for arm, _ in wanted) if not self.is_base(arm)}
        code = {arm: fingerprint(self.code(arm)) for arm in arms}
        results = page(recipe=self.found.recipe.name, command=command, arms=arms, runs=runs, verdicts=verdicts, code=code)
        write_json(out / "RESULTS.json", results)
        write_page(out / "RESULTS.md", f"{self.found.recipe.name}: what was measured", results)
        by_arm = {arm: {seed: folders[arm, seed] for name, seed in finished if name == arm} for arm in self.found.arms}
        drawn = self.found.picture(by_arm)
        write_atomic(out / PICTURE, lambda temporary: temporary.write_text(drawn, encoding="utf-8"))
        if other := [run for run in results["runs"] if not package_fingerprint().startswith(run["package"] or "?")]:
            print(
                f"{len(other)} of {len(runs)} runs were made with another state of Sojourn's own code; remove their folders to renew them"
            )
        self._tell(results, known)
        print(f"results: {out / 'RESULTS.md'}")

    def _check(self, wanted: list[tuple[str, int]]) -> None:
        """Mistakes in any arm are told before the first run."""
        for arm in dict.fromkeys(arm for arm, _ in wanted if not self.is_base(arm)):
            self.found.config(self.root, arm, 0)

    def _process(self, run: str) -> int:
        words = ["reproduce", self._named, "--runs", str(self.runs), "--only", run]
        process = subprocess.Popen([sys.executable, "-m", "sojourn.cli", *words])
        try:
            return process.wait()
        except KeyboardInterrupt:  # it was told, too, and saves its last step
            process.wait()
            raise

    @property
    def _named(self) -> str:
        recipe = self.found.recipe
        return recipe.name if recipes.available().get(recipe.name) == recipe.path else str(recipe.path)

    def _left(self, wanted: list[tuple[str, int]], known: Row) -> float | None:
        """Seconds that the runs that are missing will take: as runs of their arm, here or in known results, or as those of others."""
        seconds = self._seconds(known)
        means = {arm: fmean(each) for arm, each in seconds.items()}
        missing = [arm for arm, seed in wanted if not self.state(arm, seed).finished]
        return sum(means.get(arm, fmean(means.values())) for arm in missing) if means else None

    def _seconds(self, known: Row) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for arm in self.found.arms:
            folders = [path for path in self.root.glob(f"{arm}-*") if path.name.removeprefix(f"{arm}-").isdecimal()]
            summaries = [RunFolder(path).summary() for path in folders if (path / "summary.json").is_file()]
            if here := [summary["seconds"] for summary in summaries]:
                found[arm] = here
        for run in known.get("runs", []):
            found.setdefault(run["arm"], [run["figures"]["cost/seconds"]])
        return found

    def _tell(self, results: Row, known: Row) -> None:
        """The verdicts; beside them, where results are known, whether the number lies inside the known interval."""
        before = known.get("claims", {})
        table = Table("claim", "threshold", "measured", "verdict", *(["known"] if before else []), box=None, pad_edge=False)
        for name, claim in results["claims"].items():
            told = [f"{_inside(claim, before[name])} {shown(before[name])}"] if name in before else [""] if before else []
            table.add_row(claim["says"], claim["threshold"], shown(claim), claim["verdict"], *told)
        show(table)


def _inside(claim: Row, known: Row) -> str:
    if claim["value"] is None or known["low"] is None:
        return ""
    return "inside" if known["low"] <= claim["value"] <= known["high"] else "outside"
