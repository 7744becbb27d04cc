"""`sojourn train RECIPE [--field value ...]`: every field of the recipe's config is an option, nested ones with a dot."""

from __future__ import annotations

from rich.console import Console

from sojourn.cli import recipe as recipes
from sojourn.cli.table import rates
from sojourn.store import RunFolder

HELP = """usage: sojourn train RECIPE [--field value ...]

RECIPE is a name (`sojourn recipes` lists them) or a file NAME.py; `sojourn train RECIPE --help` lists its fields.
An algorithm (sft, dpo, kto, awr, grpo, ...: `sojourn explain` lists them) with --data FILE trains on a data set.
A run folder that is there already is resumed."""


def train(arguments: list[str]) -> int:
    """Train, and show what came of it."""
    if not arguments or arguments[0].startswith("-"):
        print(HELP)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    import tyro

    arguments = _on_data(arguments)
    recipe = recipes.load(arguments[0])
    config = tyro.cli(
        recipe.config, prog=f"sojourn train {arguments[0]}", description=recipes.summary(recipe.path), args=arguments[1:]
    )
    experiment = recipe.parts(config)
    from sojourn import training

    training.train(config, experiment)
    show(RunFolder(config.run))
    return 0


def _on_data(arguments: list[str]) -> list[str]:
    """`sft --data FILE` as `data --algorithm sft --data FILE`: the recipe that trains on a data set."""
    name = arguments[0]
    if name in recipes.available() or name.endswith(".py"):
        return arguments
    from sojourn.objectives.presets import PRESETS

    return ["data", "--algorithm", name, *arguments[1:]] if name in PRESETS else arguments


train.takes_arguments = True  # type: ignore[attr-defined]


def show(folder: RunFolder) -> None:
    """Success before and after, and where to look further."""
    console = Console()
    console.print(rates(folder.evals()))
    console.print(f"summary: {folder.path / 'summary.json'}", soft_wrap=True)
    console.print(f"report:  {folder.path / 'report.html'}", soft_wrap=True)
