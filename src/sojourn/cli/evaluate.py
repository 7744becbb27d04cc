"""`sojourn eval`: success on held-out tasks, of a run's last checkpoint or of a model as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console
from tyro.conf import Positional, arg

from sojourn.cli import recipe as recipes
from sojourn.cli.table import rates
from sojourn.cli.train import RECIPE_COPY
from sojourn.store import write_json as write

if TYPE_CHECKING:
    from sojourn.core import EpisodeGroup
    from sojourn.training import TrainConfig, Trainer


def evaluate(
    target: Positional[str],
    recipe: str = "",
    tasks: int = 64,
    greedy: bool = False,
    concurrency: int = 128,
    write_json: Annotated[str, arg(name="json")] = "",
) -> None:
    """Measure a run or a model.  Nothing is written into the run folder.

    Args:
        target: A run folder (its last checkpoint), a model's name, or a model's directory.
        recipe: Whose held-out tasks; a run folder knows its own.
        tasks: Held-out tasks of each level.
        greedy: Take the likeliest token always, instead of sampling as in training.
        concurrency: Episodes in flight.  Raise it while memory lasts; what is sampled does not depend on it.
        write_json: Write the numbers into this file, too.
    """
    from sojourn.training import Trainer, checkpoint

    config, chosen = _of_run(Path(target), recipe) if _is_run(Path(target)) else _of_model(target, recipe)
    config = replace(config, concurrency=concurrency)
    trainer = Trainer(config, chosen.experiment(config))
    saved = checkpoint.latest(Path(target) / "checkpoints")
    if saved:
        checkpoint.load_weights(saved, trainer.model)
    rows = measure(trainer, tasks, greedy)
    console = Console()
    console.print(f"{target}{f', {saved.name}' if saved else ''}, tasks of {chosen.path}", soft_wrap=True)
    console.print(rates(rows))
    if write_json:
        page = {"target": target, "checkpoint": saved.name if saved else None, "recipe": str(chosen.path), "rows": rows}
        write(Path(write_json), page)


def measure(trainer: Trainer, tasks: int, greedy: bool) -> list[dict[str, Any]]:
    """One row for each level: `level`, `mode`, `success`, `tasks`."""
    held_out, done = trainer.held_out(tasks), 0
    with Console(stderr=True).status("") as status:

        def tell(_: object) -> None:
            nonlocal done
            done += 1
            status.update(f"{done} of {len(held_out)} episodes")

        groups = asyncio.run(trainer.evaluate(held_out, greedy=greedy, done=tell))
    return _rows(groups, "greedy" if greedy else "sampled")


def _rows(groups: Sequence[EpisodeGroup], mode: str) -> list[dict[str, Any]]:
    rows = []
    for level in dict.fromkeys(group.task.level for group in groups):
        solved = [episode.success for group in groups if group.task.level == level for episode in group.valid]
        success = sum(solved) / len(solved) if solved else 0.0
        rows.append({"eval": "now", "level": level, "mode": mode, "success": success, "tasks": len(solved)})
    return rows


def _is_run(path: Path) -> bool:
    return (path / "checkpoints").is_dir()


def _of_run(path: Path, name: str) -> tuple[TrainConfig, recipes.Recipe]:
    """The run's config, and the recipe that it was started with."""
    from pydantic import TypeAdapter

    from sojourn.store import RunFolder

    if not name and not (path / RECIPE_COPY).exists():
        raise ValueError(f"run folder {path} does not hold its recipe: say which with --recipe NAME")
    recipe = recipes.load(name or str(path / RECIPE_COPY))
    return TypeAdapter(recipe.config).validate_python(RunFolder(path).config()), recipe


def _of_model(model: str, name: str) -> tuple[TrainConfig, recipes.Recipe]:
    if not name:
        raise ValueError(f"{model} is no run folder; to measure a model, say on which tasks with --recipe NAME")
    recipe = recipes.load(name)
    return replace(recipe.config(), model=model), recipe
