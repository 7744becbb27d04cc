"""Whether a world can be learned: what it pays agents that need no model, and what that means for training.

The one idea: all numbers come from the same few tasks of each level and split, so that agents can be compared; `findings` are those that a
world's author should act on.  An agent that does not read the task (`HACKERS`, silence) must not solve more than chance does: its
success is held against the random agent's by Wilson's intervals.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean, pstdev
from typing import Any

from sojourn.core import Environment, MultiAgentEnvironment, Observation, Split, Task, content, distinct, handover
from sojourn.environments.check import SPLITS
from sojourn.environments.probes import AGENTS, HACKERS, SEED, Played, Rule, Seat, play
from sojourn.environments.world import World
from sojourn.wilson import wilson

GROUP = 8
RETRIES = 3
LEAKS = 100
"""Tasks of each level and split that are compared; of so many as are played, what is observed first, too."""


@dataclass(frozen=True, slots=True)
class Score:
    """What an agent came to.  Broken episodes count in `broken` alone."""

    episodes: int
    solved: int
    mean: float
    deviation: float
    low: float
    high: float
    steps: float
    faulty: float
    """Share of the actions that were a fault of the model."""
    broken: Sequence[str]

    @property
    def share(self) -> float:
        return self.solved / self.episodes if self.episodes else 0.0


@dataclass(frozen=True, slots=True)
class Learnability:
    """The report.  hacks: the best and those that are a finding are what one looks at."""

    agents: Mapping[str, Score]
    hacks: Mapping[str, Score]
    flat: float
    """Share of groups of `GROUP` random episodes on one task that all earn the same: they teach GRPO nothing."""
    compared: int
    shared: int
    """Held-out tasks of those compared whose data are those of a training task."""
    begun: int
    alike: int
    """Held-out tasks of those begun whose first observation is that of a training task."""
    longest: int
    """Characters of the longest observation."""
    findings: Sequence[str]


def learnability(
    world: World[Any], *, count: int = 4, max_steps: int = 50, hackers: Mapping[str, Rule] = HACKERS
) -> Learnability:
    """Let all agents play `count` tasks of each level and split, the random one `GROUP` times.  Not to be called from async code."""
    return asyncio.run(_report(world, count, max_steps, hackers))


async def _report(world: World[Any], count: int, max_steps: int, hackers: Mapping[str, Rule]) -> Learnability:
    tasks = [task for split in SPLITS for level in world.tasks.levels for task in distinct(world.tasks, split, level, count)]
    played = {name: await _all(world, name, rule, tasks, max_steps) for name, rule in {**AGENTS, **hackers}.items()}
    scores = {name: score(episodes) for name, episodes in played.items()}
    if all(each.steps == 0 for each in played["oracle"]):
        del scores["oracle"]  # there is none
    agents, hacks = ({name: scores[name] for name in names if name in scores} for names in (AGENTS, hackers))
    groups = defaultdict(list)
    for each in played["random"]:
        if not each.broken:
            groups[each.task.id].append(each.earned)
    flat = [max(group) == min(group) for group in groups.values()]
    compared, shared = _shared(world)
    begun, alike = await _alike(world, count)
    longest = max((each.longest for episodes in played.values() for each in episodes), default=0)
    findings = [*_findings(agents, hacks), *_leaks(shared, compared)]
    share = fmean(flat) if flat else 1.0
    return Learnability(agents, hacks, share, compared, shared, begun, alike, longest, findings)


async def _all(world: World[Any], name: str, rule: Rule, tasks: Sequence[Task], max_steps: int) -> list[Played]:
    times = GROUP if name == "random" else 1
    return [
        await play(_seat(world), task, rule, Random(f"{name}/{task.id}/{i}"), max_steps) for task in tasks for i in range(times)
    ]


def _seat(world: World[Any]) -> Environment:
    made = world.make()
    return Seat(made) if isinstance(made, MultiAgentEnvironment) else made


def score(played: Sequence[Played]) -> Score:
    """Means and range of the episodes that have a result."""
    valid = [each for each in played if not each.broken]
    earned = [each.earned for each in valid] or [0.0]
    steps = sum(each.steps for each in valid)
    return Score(
        len(valid),
        sum(each.success for each in valid),
        fmean(earned),
        pstdev(earned),
        min(earned),
        max(earned),
        steps / len(valid) if valid else 0.0,
        sum(each.faults for each in valid) / steps if steps else 0.0,
        [f"{each.task.id}: {each.broken}" for each in played if each.broken],
    )


def _findings(agents: Mapping[str, Score], hacks: Mapping[str, Score]) -> Iterator[str]:
    chance, expert = agents["random"], agents.get("oracle")
    for name, each in {**agents, **hacks}.items():
        if each.broken:
            yield f"{name}: {len(each.broken)} episodes broke, first {each.broken[0]:.300}"
    for name, each in {"silent": agents["silent"], "parrot": agents["parrot"], **hacks}.items():
        if interval(each)[0] > interval(chance)[1]:
            yield (
                f"hack '{name}' solves {each.solved} of {each.episodes} without reading the task, the random agent {chance.solved} of "
                f"{chance.episodes}: judge what was asked"
            )
        elif expert and expert.mean > chance.mean and each.mean > (chance.mean + expert.mean) / 2 and each.share < expert.share:
            yield f"hack '{name}' earns {each.mean:.3g} without solving, the oracle {expert.mean:.3g}: pay for what is asked only"
    if expert and expert.mean <= chance.mean:
        yield f"the oracle earns {expert.mean:.3g}, the random agent {chance.mean:.3g}: nothing is to be learned"


def _leaks(shared: int, compared: int) -> Iterator[str]:
    if shared:
        yield f"{shared} of {compared} held-out tasks are training tasks: let a hash of the content decide the split"


def interval(each: Score) -> tuple[float, float]:
    """Wilson's 95 % interval of the share that is solved.  [Wilson 1927]

    >>> [round(bound, 3) for bound in interval(score([Played(Task("a"), success=True)] * 8))]
    [0.676, 1.0]
    """
    return wilson(each.share, each.episodes)


def _shared(world: World[Any]) -> tuple[int, int]:
    """Held-out tasks compared, and how many of them have the data of a training task of any level."""
    found: dict[Split, list[Task]] = {
        split: [task for level in world.tasks.levels for task in distinct(world.tasks, split, level, LEAKS)] for split in SPLITS
    }
    known = {content(task) for task in found["train"]}
    return len(found["test"]), sum(content(task) in known for task in found["test"])


async def _alike(world: World[Any], count: int) -> tuple[int, int]:
    """Held-out tasks begun, and how many of them look like a training task at first, case and white space apart."""
    first: dict[Split, list[str]] = {split: [] for split in SPLITS}
    for split in SPLITS:
        for level in world.tasks.levels:
            for task in distinct(world.tasks, split, level, 4 * count):
                environment = _seat(world)
                reset: Any = environment.reset(task, seed=SEED)
                seen: Observation = await handover.settled(reset)
                first[split].append(" ".join(" ".join(message.text for message in seen.messages).lower().split()))
                await environment.close()
    known = set(first["train"])
    return len(first["test"]), sum(text in known for text in first["test"])
