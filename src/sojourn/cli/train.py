"""`sojourn train RECIPE [--field value ...]`: every field of the recipe's config is an option, nested ones with a dot."""

from __future__ import annotations

import shutil
from pathlib import Path

from rich.console import Console

from sojourn.cli import recipe as recipes
from sojourn.cli.table import rates
from sojourn.store import RunFolder, write_atomic

HELP = """usage: sojourn train RECIPE [--field value ...]

RECIPE is a name (`sojourn recipes` lists them) or a file NAME.py; `sojourn train RECIPE --help` lists its fields.
A run folder that is there already is resumed."""

RECIPE_COPY = "recipe.py"
"""The recipe as it was when the run began, in the run folder; `sojourn eval` reads it."""


def train(arguments: list[str]) -> int:
    """Train, and show what came of it."""
    if not arguments or arguments[0].startswith("-"):
        print(HELP)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    import tyro

    recipe = recipes.load(arguments[0])
    config = tyro.cli(
        recipe.config, prog=f"sojourn train {arguments[0]}", description=recipes.summary(recipe.path), args=arguments[1:]
    )
    experiment = recipe.experiment(config)
    from sojourn import training

    folder = RunFolder(config.run)
    with folder:
        _begin(folder, recipe.path)
        training.train(config, experiment)
    show(folder)
    return 0


train.takes_arguments = True  # type: ignore[attr-defined]


def show(folder: RunFolder) -> None:
    """Success before and after, and where to look further."""
    console = Console()
    console.print(rates(folder.evals()))
    console.print(f"summary: {folder.path / 'summary.json'}", soft_wrap=True)
    console.print(f"report:  {folder.path / 'report.html'}", soft_wrap=True)


def _begin(folder: RunFolder, recipe: Path) -> None:
    """Keep the recipe.  What a start left that failed before it began (no such model) does not bind."""
    copy = folder.path / RECIPE_COPY
    if not copy.exists() or not folder.starts():
        write_atomic(copy, lambda temporary: shutil.copyfile(recipe, temporary))
