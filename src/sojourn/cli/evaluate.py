"""`sojourn eval TARGET [--field value ...]`: success on held-out tasks, of a run's last checkpoint or of a model as it is.

The one idea: an evaluation is a run's config and a recipe's world, so every field of the config is an option here, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console
from tyro.conf import arg

from sojourn.cli import recipe as recipes
from sojourn.cli.table import rates
from sojourn.core import Range, check
from sojourn.store import RunFolder, write_episodes
from sojourn.store import write_json as write
from sojourn.store.code import kept_code

if TYPE_CHECKING:
    from sojourn.core import EpisodeGroup
    from sojourn.training import TrainConfig, Trainer

HELP = """usage: sojourn eval TARGET [options] [--field value ...]

TARGET is a run folder (its last checkpoint), a model's name, or a model's directory.  Beside the options below every field of the
recipe's config is one, nested ones with a dot, such as --max-tokens 128 --temperature 0.7; a run's own values are the defaults.
`sojourn eval --endpoint URL --model NAME --recipe RECIPE` lets an OpenAI-compatible server play.
"""
CONCURRENCY = 128
"""Episodes in flight, unless the field says otherwise; what is sampled does not depend on it."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure a run or a model."""

    recipe: str = ""
    """Whose held-out tasks; a run folder knows its own."""
    tasks: Annotated[int, Range(1)] = 64
    """Held-out tasks of each level."""
    greedy: bool = False
    """Take the likeliest token always, instead of sampling as in training."""
    write_json: Annotated[str, arg(name="json")] = ""
    """Write the numbers into this file, too."""
    out: str = ""
    """Write config, numbers and episodes into this folder, as a run has them; a run that is measured is left as it is."""

    def __post_init__(self) -> None:
        check(self)


def evaluate(arguments: list[str]) -> None:
    """Parse and measure.  The first argument is the target."""
    import tyro

    if any(each.partition("=")[0] == "--endpoint" for each in arguments):
        from sojourn.cli.endpoint import evaluate as at_endpoint

        return at_endpoint(arguments)
    target = arguments[0] if arguments and not arguments[0].startswith("-") else ""
    if not target or {"-h", "--help"} & set(arguments):
        print(HELP)
        tyro.cli(Options, prog=f"sojourn eval {target or 'TARGET'}", args=["--help"])
    options, rest = tyro.cli(Options, prog=f"sojourn eval {target}", args=arguments[1:], return_unknown_args=True)
    run = _run_config(target)
    chosen = _recipe_of(Path(target), options.recipe, run)
    start = chosen.config(model=target) if run is None else _as(chosen.config, run)
    start = replace(start, concurrency=CONCURRENCY, eval_tasks=options.tasks)
    config = tyro.cli(chosen.config, prog=f"sojourn eval {target}", description=HELP, default=start, args=rest)
    return _measure(target, chosen, config, options, of_run=run is not None)


evaluate.takes_arguments = True  # type: ignore[attr-defined]


def _measure(target: str, chosen: recipes.Recipe, config: TrainConfig, options: Options, *, of_run: bool) -> None:
    from sojourn.training import Trainer
    from sojourn.training.evaluations import by_role
    from sojourn.training.metrics import lost
    from sojourn.training.weights import checkpoint_of
    from sojourn.training.world import check_world
    from sojourn.viewer.progress import broken

    if options.out and (Path(options.out) / "starts.jsonl").exists():
        raise ValueError(f"--out {options.out} is a run: choose another folder")
    experiment = chosen.parts(config)
    check_world(config, experiment)
    trainer = Trainer(config, experiment)
    saved = checkpoint_of(target) if of_run else None
    if saved:  # onto the run's own adapters, so that it is measured as it was trained
        trainer.load_weights(saved)
    groups = measure(trainer, options.tasks, options.greedy)
    lived = {player.name: player.lived(groups) for player in trainer.players.values() if player.agents}
    rows = [row | by_role(lived, row["level"]) for row in level_rows(groups, "greedy" if options.greedy else "sampled")]
    console = Console()
    console.print(f"{target}{f', {saved.name}' if saved else ''}, tasks of {chosen.path}", soft_wrap=True)
    console.print(rates(rows))
    for row in rows if lived else ():
        told = ", ".join(f"{name} {value:.3f}" for name, value in row.items() if "/" in name)
        console.print(f"{row['level']}: {told}", soft_wrap=True)
    if gone := lost(groups):
        console.print(broken(gone), soft_wrap=True, markup=False)
    page = {"target": target, "checkpoint": saved.name if saved else None, "recipe": str(chosen.path), "rows": rows}
    if options.write_json:
        write(Path(options.write_json), page)
    if options.out:
        _keep(Path(options.out), page, config, trainer, groups)
        console.print(f"episodes: {options.out}", soft_wrap=True)


def measure(trainer: Trainer, tasks: int, greedy: bool) -> list[EpisodeGroup]:
    """Play the held-out tasks, and say how far it is."""
    from sojourn.training.evaluations import GREEDY

    held_out, done = trainer.held_out(tasks), 0
    with Console(stderr=True).status("") as status:

        def tell(_: object) -> None:
            nonlocal done
            done += 1
            status.update(f"{done} of {len(held_out)} episodes")

        return asyncio.run(trainer.evaluate(held_out, GREEDY if greedy else None, done=tell))


def level_rows(groups: Sequence[EpisodeGroup], mode: str) -> list[dict[str, Any]]:
    """One row for each level: `level`, `mode`, `success`, `tasks`."""
    rows = []
    for level in dict.fromkeys(group.task.level for group in groups):
        played = [episode for group in groups if group.task.level == level for episode in group.episodes]
        solved = [episode.success for episode in played if episode.valid]
        success = sum(solved) / len(solved) if solved else 0.0
        failed = {"failed": len(played) - len(solved)} if len(played) > len(solved) else {}
        rows.append({"eval": "now", "level": level, "mode": mode, "success": success, "tasks": len(solved), **failed})
    return rows


def _keep(out: Path, page: dict[str, Any], config: TrainConfig, trainer: Trainer, groups: Sequence[EpisodeGroup]) -> None:
    """The evaluation as a folder that `sojourn.store.query` reads."""
    from sojourn.training.rows import rows_of

    write(out / "config.json", asdict(config))
    write(out / "eval.json", page)
    mode = page["rows"][0]["mode"] if page["rows"] else "sampled"
    phase, step = f"eval-now-{mode}", trainer.step
    rows = rows_of(groups, trainer.tokenizers, trainer.experiment.seats, phase=phase, step=step)
    write_episodes(RunFolder(out).episodes_path(phase, step), rows)


def _run_config(target: str) -> dict[str, Any] | None:
    from sojourn.training.weights import checkpoint_of, run_config

    run = run_config(target)
    if run is not None and checkpoint_of(target) is None:
        raise ValueError(f"'{target}' is a run without a checkpoint yet: let it train, or measure its model, {run['model']}")
    return run


def _recipe_of(target: Path, name: str, run: dict[str, Any] | None) -> recipes.Recipe:
    """The recipe that is asked for, or the copy that a run was last trained with."""
    if name:
        return recipes.load(name)
    if run is None:
        raise ValueError(f"{target} is no run folder; to measure a model, say on which tasks with --recipe NAME")
    from sojourn.training.weights import run_folder

    code = kept_code(run_folder(target))
    if code is None or not (code / "recipe.py").exists():
        raise ValueError(f"run folder {target} does not hold its recipe: say which with --recipe NAME")
    return recipes.load(str(code / "recipe.py"))


def _as(kind: type[TrainConfig], run: dict[str, Any]) -> TrainConfig:
    from pydantic import TypeAdapter

    return TypeAdapter(kind).validate_python(run)
