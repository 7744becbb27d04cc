"""A run of two roles with a league and a curriculum that plays, small enough for a test; as a script, one that kills itself.

python tests/two_roles_run.py RUN_FOLDER MODEL_FOLDER RANK KILL_AT

A moment of the run is the start of a Python or C function, in any thread: KILL_AT is its number.  With 0 the run ends by itself, and its
last line says how many there were.  A player learns against its former selves what a proposer, who learns, too, has staked.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pennies import Pennies
from small_run import config as small_config

from sojourn.agents import table
from sojourn.core import Action, Environment, Episode, JointTransition, Observation, Task, Transition
from sojourn.credit import dr_grpo
from sojourn.curriculum import Proposing, Uniform
from sojourn.environments import TaskList
from sojourn.objectives import Kl, PolicyGradient, Reference
from sojourn.policy import Session
from sojourn.rendering.protocols import PlainText
from sojourn.training import Experiment, Former, Role, TrainConfig, train


class Staked(Pennies):
    """Matching pennies for what the task says."""

    async def reset(self, task: Task, *, seed: int) -> Mapping[str, Observation]:
        self.stake = task.data["stake"]
        return await super().reset(task, seed=seed)

    async def step(self, actions: Mapping[str, Action]) -> JointTransition:
        told = await super().step(actions)
        gains = {agent: self.stake * float(gain) for agent, gain in told.rewards.items()}  # type: ignore[arg-type]
        return JointTransition(told.observations, gains, terminated=told.terminated, info={"success": gains["even"] > 0})


class Asking(Environment):
    """Takes a proposal: a stake for each plain character."""

    async def reset(self, task: Task, *, seed: int) -> Observation:
        return Observation.of(f"Stake {task.id}.")

    async def step(self, action: Action) -> Transition:
        return Transition(reward={}, terminated=True, info={"stake": sum(char.isascii() for char in action.text)})


async def propose(session: Session) -> None:
    context, action = await session.act(session.open(await session.reset(), agent="proposer"))
    await session.step(context, action)


def proposal(episode: Episode) -> Task | None:
    stake = episode.info["stake"]
    return Task("staked", {"stake": stake}) if stake else None


class Diary:
    """Which episodes were played, in the order in which they ended: what outlives an episode."""

    def __init__(self) -> None:
        self.played: list[str] = []

    def state(self) -> Any:
        return self.played

    def load_state(self, state: Any) -> None:
        self.played = list(state)


async def noting(session: Session) -> None:
    await table(session)
    session.kept["diary"].played.append(session.episode.id)


def tasks(name: str) -> TaskList:
    return TaskList([Task(f"{name} {i}", {"stake": 1 + i}) for i in range(5)], [Task(f"{name} test", {"stake": 9})])


def config(run: Path, model: Path, rank: int) -> TrainConfig:
    settings: dict[str, Any] = {"steps": 6, "groups": 5, "group_size": 4, "max_context": 300, "eval_every": 3, "lora_rank": rank}
    return small_config(run, model, **settings)


def experiment(rank: int) -> Experiment:
    """rank: of the player's adapter, and so of its former selves; 0 trains all its weights.  The proposer trains all of its own."""
    roles = {
        "player": Role(
            lora_rank=rank, objective=PolicyGradient(kl=Kl(coefficient=0.1)), reference=Reference(kind="average", every=2)
        ),
        "proposer": Role(lora_rank=0),
        "past": Role(former=Former(of="player", every=1, most=3, present=0.2)),
    }
    return Experiment(
        environment=Staked,
        tasks=tasks("given"),
        protocol=PlainText(),
        curriculum=Proposing(tasks("ask"), proposal, Uniform(tasks("given")), size=2, environment=Asking, program=propose),
        program=noting,
        credit=dr_grpo(),
        roles=roles,
        seats={"even": "player", "odd": "past", "proposer": "proposer"},
        kept={"diary": Diary()},
    )


def kill_at(moment: int) -> itertools.count[int]:
    """End this process at the moment of this number, as a power cut would; returns what counts them."""
    moments = itertools.count(1)

    def look(frame: Any, event: str, argument: Any) -> None:
        if event in ("call", "c_call") and next(moments) == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(look)
    sys.setprofile(look)
    return moments


if __name__ == "__main__":
    run, model, (rank, moment) = Path(sys.argv[1]), Path(sys.argv[2]), map(int, sys.argv[3:])
    seen = kill_at(moment)
    train(config(run, model, rank), experiment(rank))
    sys.setprofile(None)
    print(next(seen))
