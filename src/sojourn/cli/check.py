"""`sojourn check ENV`: is a world sound, can it be cheated, can it be learned?

First the contract (`environments.check`), then agents that need no model, then the report; with `--model`, what that model scores now.  ENV is
a name of `sojourn envs`, or `file.py:name` of your own.  The exit code is 1 if there is a finding.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console
from rich.table import Column, Table
from tyro.conf import Positional, arg

from sojourn.store import write_json as write

if TYPE_CHECKING:
    from sojourn.environments import World
    from sojourn.environments.learnability import Learnability, Score

EVERY = "all"


def check(
    environment: Positional[str],
    count: int = 3,
    max_steps: int = 50,
    model: str = "",
    max_tokens: int = 256,
    write_json: Annotated[str, arg(name="json")] = "",
) -> int:
    """Try whether a world is sound, whether it can be cheated, and whether it can be learned.

    Args:
        environment: A name as in `sojourn envs`; or FILE.py:NAME, a World, a function that makes one, or an environment's class with a
            static method `tasks`; or `all`: one line for each world that is installed here.
        count: Tasks of each level and split that are played.
        max_steps: Actions of an episode at most.
        model: What this model, or this run's policy, scores now, too.
        max_tokens: Tokens that it may say at once.
        write_json: Write the report into this file, too.
    """
    console = Console(soft_wrap=True, highlight=False)
    if environment == EVERY:
        return _every(console, count, max_steps, write_json)
    world = load(environment)
    for line in contract(world, count, max(max_steps, 100)):
        console.print(line, markup=False)
    from sojourn.environments.learnability import learnability

    report = learnability(world, count=count, max_steps=max_steps)
    scored = _scored(world, model, count, max_steps, max_tokens) if model else {}
    show(console, report, scored)
    if write_json:
        write(Path(write_json), {"environment": environment, **asdict(report), "model": scored})
    return int(bool(report.findings))


def contract(world: World[Any], count: int, max_steps: int) -> list[str]:
    """What was checked, a line each.  Raises ValueError for the first thing that is wrong."""
    from sojourn.core import MultiAgentEnvironment
    from sojourn.environments import check_environment, check_multi_agent

    several = isinstance(world.make(), MultiAgentEnvironment)
    return check_multi_agent(world, count=count) if several else check_environment(world, count=count, max_steps=max_steps)


def load(name: str) -> World[Any]:
    """The world of a name of `sojourn envs`, or of `file.py:name`.  Raises ValueError with what there is."""
    from sojourn.environments import find

    path, _, wanted = name.rpartition(":")
    if not path.endswith(".py"):
        if name.endswith(".py"):
            raise ValueError(f"{name}: say which world of it, {name}:NAME")
        return find(name)
    if not Path(path).is_file():
        raise ValueError(f"there is no file {path}")
    from sojourn.cli.recipe import import_file

    module = import_file(Path(path))
    if not hasattr(module, wanted):
        raise ValueError(f"{path} has no '{wanted}'; it has {', '.join(n for n in vars(module) if not n.startswith('_'))}")
    return _as_world(getattr(module, wanted), f"{path}:{wanted}")


def _as_world(found: Any, where: str) -> World[Any]:
    from sojourn.environments import World

    tasks: Any = getattr(found, "tasks", None)
    if isinstance(found, type) and callable(tasks):
        return World(found, tasks())
    made = found() if callable(found) and not isinstance(found, (World, type)) else found
    if not isinstance(made, World):
        raise ValueError(
            f"{where} is a {type(made).__name__ if not isinstance(found, type) else 'class without a static method `tasks`'}; expected "
            "a World(make, tasks), a function that returns one, or an environment's class with a static method `tasks`"
        )
    return made


def show(console: Console, report: Learnability, scored: Mapping[str, Any]) -> None:
    """The report for people."""
    table = Table(
        Column("agent", no_wrap=True), "episodes", "solved", "return", "deviation", "range", "steps", "faulty", box=None
    )
    for name, score in report.agents.items():
        table.add_row(name, *cells(score))
    best = max(report.hacks, key=lambda name: (report.hacks[name].share, report.hacks[name].mean), default=None)
    if best:
        table.add_row(f"hack: {best}", *cells(report.hacks[best]))
    console.print(table)
    console.print(f"hacks: {len(report.hacks)} were tried, the best is shown")
    every = [*report.agents.values(), *report.hacks.values()]
    console.print(f"rewards: returns from {min(each.low for each in every):g} to {max(each.high for each in every):g}")
    console.print(f"groups: {report.flat:.0%} of groups of 8 random episodes all earn the same; they would teach GRPO nothing")
    console.print(f"leaks: {report.shared} of {report.compared} held-out tasks are training tasks; ", end="")
    console.print(f"{report.alike} of {report.begun} look like one at first")
    console.print(f"longest observation: {report.longest} characters")
    if scored:
        console.print(
            f"{scored['model']}: solves {scored['solved']} of {scored['episodes']} held-out episodes, return {scored['mean']:.3g}; "
            f"{scored['flat']:.0%} of its groups of {scored['group']} all earn the same; {scored['faulty']:.0%} of its episodes have a fault"
        )
    for finding in report.findings:
        console.print(f"FINDING: {finding}", markup=False)
    if not report.findings:
        console.print("no findings")


def cells(score: Score) -> tuple[str, ...]:
    spread = f"{score.low:g} to {score.high:g}"
    return (
        str(score.episodes), f"{score.share:.0%}", f"{score.mean:.3g}", f"{score.deviation:.3g}", spread, f"{score.steps:.1f}",
        f"{score.faulty:.0%}",
    )  # fmt: skip


def _every(console: Console, count: int, max_steps: int, write_json: str) -> int:
    """Contract and report of each world that is here, a line as soon as it is known."""
    from sojourn.core import InfrastructureError
    from sojourn.environments import ENVIRONMENTS, find
    from sojourn.environments.learnability import learnability

    rows: dict[str, Any] = {}
    for pattern, listing in ENVIRONMENTS.items():
        fixed, _, variable = pattern.partition("<")
        names = [fixed + each for each in listing.examples] if variable else [pattern]
        if not names:
            console.print(f"{pattern}: skipped: it needs data of your own", markup=False)
        for example in names:
            try:
                world = find(example)
                contract(world, count, 100)
                report = learnability(world, count=count, max_steps=max_steps)
            except ImportError as error:
                rows[example] = {"skipped": str(error)}
                console.print(f"{example}: skipped: {error}", markup=False)
                continue
            except (ValueError, InfrastructureError) as error:
                rows[example] = {"findings": [str(error)]}
            else:
                rows[example] = asdict(report)
            findings = rows[example]["findings"]
            console.print(f"{example}: {'sound' if not findings else '; '.join(findings)}", markup=False)
            if write_json:
                write(Path(write_json), rows)
    return int(any(row.get("findings") for row in rows.values()))


def _scored(world: World[Any], model: str, count: int, max_steps: int, max_tokens: int) -> dict[str, Any]:
    """What a model scores on held-out tasks, in groups of `GROUP`."""
    from sojourn.agents import react
    from sojourn.core import MultiAgentEnvironment, distinct
    from sojourn.engine import SamplingParams
    from sojourn.engine.local import LocalEngine
    from sojourn.environments.learnability import GROUP
    from sojourn.policy import Limits, Policy
    from sojourn.rendering import PROTOCOLS, ChatRenderer
    from sojourn.training import Rollout
    from sojourn.training.weights import load as load_model

    made = world.make()
    if isinstance(made, MultiAgentEnvironment):
        raise ValueError("--model plays worlds with one agent; for several, `sojourn play ENV --model` puts it in a seat")
    spoken = PROTOCOLS["xml" if made.tools else "text"](tuple(made.tools))
    loaded = load_model(model)
    tasks = [task for level in world.tasks.levels for task in distinct(world.tasks, "test", level, count)]

    async def measure() -> list[Any]:
        engine = LocalEngine(loaded.model, loaded.tokenizer, max_context=4096, max_batch=32)
        policy = Policy("actor", engine, ChatRenderer(loaded.tokenizer, spoken), spoken, SamplingParams(max_tokens=max_tokens))
        rollout = Rollout(world.make, react, {"actor": policy}, limits=Limits(max_turns=max_steps), concurrency=32, retries=2)
        try:
            return await rollout.groups(tasks, size=GROUP, seed=0)
        finally:
            await engine.close()

    groups = asyncio.run(measure())
    episodes = [episode for group in groups for episode in group.valid]
    stops = Counter(episode.stop.value for episode in episodes if episode.stop)
    flat = [len({episode.total for episode in group.valid}) < 2 for group in groups]
    return {
        "model": model,
        "group": GROUP,
        "episodes": len(episodes),
        "solved": sum(episode.success for episode in episodes),
        "mean": sum(episode.total for episode in episodes) / max(len(episodes), 1),
        "flat": sum(flat) / max(len(flat), 1),
        "faulty": sum(bool(episode.failures) for episode in episodes) / max(len(episodes), 1),
        "stops": dict(stops),
    }
