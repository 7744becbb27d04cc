"""`sojourn train RECIPE [--field value ...]`: every field of the recipe's config is an option, nested ones with a dot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Console

from sojourn.cli import recipe as recipes
from sojourn.cli.arms import scaled
from sojourn.cli.table import rates
from sojourn.store import RunFolder

HELP = """usage: sojourn train RECIPE [--field value ...]

RECIPE is a name (`sojourn recipes` lists them) or a file NAME.py; `sojourn train RECIPE --help` lists its fields.
An algorithm (sft, dpo, kto, awr, grpo, ...: `sojourn explain` lists them) with --data FILE trains on a data set.
A run folder that is there already is resumed.
  --scale NAME    begin with the values that the recipe declares for that scale, as `paper`: the published model, data and numbers
  --dry-run       only check the plan, and print it with its memory and its cost; no model is loaded"""


def train(arguments: list[str]) -> int:
    """Train, and show what came of it."""
    if not arguments or arguments[0].startswith("-"):
        print(HELP)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    import tyro

    arguments = _on_data(arguments)
    recipe = recipes.load(arguments[0])
    options, rest = tyro.cli(
        Options, prog=f"sojourn train {arguments[0]}", args=arguments[1:], return_unknown_args=True, add_help=False
    )
    begin: dict[str, Any] = {"default": scaled(recipe, options.scale)} if options.scale else {}
    config = tyro.cli(
        recipe.config,
        prog=f"sojourn train {arguments[0]}",
        description=recipes.summary(recipe.path),
        args=rest,
        **begin,
    )
    experiment = recipe.parts(config)
    if options.dry_run:
        from sojourn.cli.plan import plan

        for line in plan(config, experiment):
            print(line)
        return 0
    from sojourn import training

    training.train(config, experiment)
    show(RunFolder(config.run))
    return 0


@dataclass(frozen=True, kw_only=True)
class Options:
    """Beside the fields of the config."""

    scale: str = ""
    dry_run: bool = False


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
