"""`sojourn eval --endpoint URL --model NAME --recipe RECIPE`: our worlds, played by any OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import arg

from sojourn.cli import recipe as recipes
from sojourn.cli.table import rates
from sojourn.core import NotEmpty, Range, check, distinct
from sojourn.store import RunFolder, to_row, write_episodes
from sojourn.store import write_json as write

CONCURRENCY = 8
"""Requests at once, unless the field says otherwise: servers have limits."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure a model that an OpenAI-compatible server has.  OPENAI_API_KEY is its key."""

    endpoint: Annotated[str, NotEmpty()]
    """Its address, as in http://127.0.0.1:8000/v1."""
    model: Annotated[str, NotEmpty()]
    """What it calls the model."""
    recipe: Annotated[str, NotEmpty()]
    """Whose held-out tasks."""
    tasks: Annotated[int, Range(1)] = 64
    """Held-out tasks of each level."""
    as_text: bool = False
    """Describe tools and read calls in text, as training does, instead of the API's own."""
    write_json: Annotated[str, arg(name="json")] = ""
    """Write the numbers into this file, too."""
    out: str = ""
    """Write numbers and episodes into this folder."""

    def __post_init__(self) -> None:
        check(self)


def evaluate(arguments: list[str]) -> None:
    """Parse, play, tell."""
    import tyro

    from sojourn import models
    from sojourn.cli.evaluate import HELP, level_rows
    from sojourn.rendering import ChatRenderer
    from sojourn.serve.endpoint import Elsewhere, Endpoint, poster
    from sojourn.training import Rollout

    options, rest = tyro.cli(Options, prog="sojourn eval", args=arguments, return_unknown_args=True)
    chosen = recipes.load(options.recipe)
    start = chosen.config(concurrency=CONCURRENCY, max_context=1 << 20, eval_tasks=options.tasks)
    config = tyro.cli(chosen.config, prog="sojourn eval", description=HELP, default=start, args=rest)
    experiment = chosen.parts(config)
    renderer = ChatRenderer(models.tiny().tokenizer, experiment.protocol)
    policy = Endpoint(
        name="actor",
        engine=Elsewhere(config.max_context),
        renderer=renderer,
        protocol=experiment.protocol,
        sampling=config.sampling(),
        model=options.model,
        post=poster(options.endpoint, os.environ.get("OPENAI_API_KEY", "")),
        native=not options.as_text,
    )
    rollout = Rollout(
        experiment.environment, experiment.program, {"actor": policy}, config.limits(), config.concurrency,
        retries=config.retries, seats=experiment.seats, kept=experiment.kept,
    )  # fmt: skip
    source = experiment.tasks
    tasks = [task for level in source.levels for task in distinct(source, "test", level, options.tasks)]
    groups = asyncio.run(rollout.groups(tasks, size=1, seed=config.seed))
    rows = level_rows(groups, "sampled")
    console = Console()
    console.print(f"{options.model} at {options.endpoint}, tasks of {chosen.path}", soft_wrap=True)
    console.print(rates(rows))
    page = {"endpoint": options.endpoint, "model": options.model, "recipe": str(chosen.path), "rows": rows}
    if options.write_json:
        write(Path(options.write_json), page)
    if options.out:
        write(Path(options.out) / "eval.json", page)
        found = [
            to_row(episode, group.key, renderer.decode, phase="eval-now-sampled")
            for group in groups
            for episode in group.episodes
        ]
        write_episodes(RunFolder(options.out).episodes_path("eval-now-sampled", 0), found)
