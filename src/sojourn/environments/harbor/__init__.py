"""Harbor task folders as a world: a shell in the sandbox, judged by the task's own tests.

The one idea: the tests come into the box only when the agent is done, into a folder that is emptied first, and run in a shell of their own, so
that nothing the agent has set, defined or left there is used.  See `folder` for what runs here, and what is refused and why.
"""

from __future__ import annotations

import base64
import json
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sojourn.core import Action, Failure, FailureKind, InfrastructureError, Observation, Task, ToolCall, Transition
from sojourn.environments.harbor.folder import LINKED, HarborTask, Refused, read
from sojourn.environments.small.common import split_of
from sojourn.environments.tools import ToolEnvironment
from sojourn.environments.world import TaskList, World
from sojourn.tools import Limits, Sandbox, Shell, Unconfined, Workspace
from sojourn.tools.sandbox.inside.warden import HOME

REWARDS = ("/logs/verifier/reward.json", "/logs/verifier/reward.txt")
CLEAN = "PATH=/usr/bin:/bin HOME=/logs/home PYTHONNOUSERSITE=1 PYTHONDONTWRITEBYTECODE=1 LANG=C.UTF-8"

__all__ = ["Harbor", "Refused", "harbor_world", "sorted_out"]


def harbor_world(folder: str) -> World:
    """The tasks in a folder of task folders (or of one); those that can't run here are left out (`sorted_out` says why).

    Raises ValueError if none can.
    """
    runs, refused = sorted_out(folder)
    if not runs:
        why = "; ".join(f"{name}: {reason}" for name, reason in refused.items()) or "there is no folder with a task.toml"
        raise ValueError(f"no Harbor task in {folder} can run here: {why}")
    tasks = [Task(f"harbor/{task.name}", {"folder": str(task.folder), "digest": task.digest}) for task in runs]
    held_out = [task for task in tasks if split_of(task.data["digest"]) == "test"]
    if len(tasks) > 1 and len(held_out) in (0, len(tasks)):
        held_out = tasks[-1:]
    train = [task for task in tasks if task not in held_out] or tasks
    return World(Harbor, TaskList(train, held_out if train is not tasks else []))


def sorted_out(folder: str) -> tuple[list[HarborTask], Mapping[str, str]]:
    """The tasks that run here; and of the others, by name, why not."""
    root, runs, refused = Path(folder).expanduser(), list[HarborTask](), dict[str, str]()
    for path in [root] if (root / "task.toml").exists() else sorted(each.parent for each in root.glob("*/task.toml")):
        try:
            runs.append(read(path))
        except Refused as error:
            refused[path.name] = str(error)
    return runs, refused


class Harbor(ToolEnvironment):
    """One task, with tool `shell(command)`; a text without a call ends it.

    Reward: what the task's tests write: the terms of reward.json, or `reward` of reward.txt.  Tests that write neither pay 0, for the
    oracle shows that they write it where nobody is in their way; the failure is the model's.  `success`: all terms are at least 1.
    `task.data`: `folder`, and a `digest` of all files in it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._work: Workspace | None = None

    async def reset(self, task: Task, *, seed: int) -> Observation:
        await self.close()
        self._read = read(Path(task.data["folder"]))
        self._solved, self.tool_calls, self._faults = False, 0, 0
        sandbox = Sandbox.best()
        if sandbox.kind != "bubblewrap":
            raise Unconfined("Harbor's tasks need bubblewrap: apt-get install bubblewrap, see docs/sandbox.md")
        limits = Limits(
            timeout_s=self._read.command_s, memory_mb=self._read.memory_mb, disk_mb=self._read.disk_mb, output_chars=8000
        )
        self._work = Workspace(limits, sandbox=replace(sandbox, links=LINKED))
        self.equip([Shell(workspace=self._work)])
        await self._build(self._work)
        return Observation.of(f"{self._read.instruction}\n\nYou are in {self._read.workdir}. Say that you are done to end.")

    async def _build(self, work: Workspace) -> None:
        await self._must(
            work, f"mkdir -p {' '.join(f'{name}' for name in LINKED)} logs/agent logs/verifier logs/artifacts logs/home"
        )
        for source, target in self._read.files:
            await work.write(target.lstrip("/"), (self._read.folder / "environment" / source).read_bytes())
        exports = "; ".join(f"export {name}={shlex.quote(value)}" for name, value in self._read.environment.items())
        for command in self._read.build:
            await self._must(work, f"{exports + '; ' if exports else ''}{command}")
        await work.shell(
            f"{exports + '; ' if exports else ''}mkdir -p {shlex.quote(self._read.workdir)}; cd {self._read.workdir}"
        )

    async def answer(self, action: Action) -> Transition:
        """The agent is done: let the tests judge."""
        reward, problem = await self._verify()
        success = bool(reward) and all(value >= 1 for value in reward.values())
        failures = (Failure(FailureKind.MODEL, "tests", problem),) if problem else ()
        return Transition(reward=reward or {"reward": 0.0}, terminated=True, failures=failures, info={"success": success})

    async def truncate(self) -> Transition:
        """At a limit of turns the tests judge what there is, as in Harbor."""
        return replace(await self.answer(Action("")), terminated=False, truncated=True)

    async def _verify(self) -> tuple[dict[str, float], str]:
        """What the tests pay, or why they pay nothing."""
        assert self._work is not None
        work = self._work
        places = " ".join(f"{HOME}/{name}" for name in ("tests", "solution", "logs"))
        clear = f"chmod -R u+rwX {places} 2>/dev/null; rm -rf {places} && mkdir -p {places} {HOME}/logs/verifier {HOME}/logs/home"
        ran = await work.shell(clear, fresh=True)
        if ran.code != 0:
            return {}, f"the places of the tests could not be cleared: {ran.output[-300:]}"
        for path, data in _files(self._read.folder / "tests"):
            await work.write(f"tests/{path}", data)
        ran = await work.shell(
            f"cd {shlex.quote(self._read.workdir)} && exec env -i {CLEAN} bash --noprofile --norc /tests/test.sh",
            timeout_s=self._read.verify_s,
            fresh=True,
        )
        for place in REWARDS:
            try:
                return read_reward((await work.read(place.lstrip("/"))).decode(errors="replace"), place), ""
            except FileNotFoundError:
                continue
            except (ValueError, OSError) as error:
                return {}, f"{place}: {error}"
        return {}, f"the tests left no reward ({ran.fault or f'exit code {ran.code}'}): {ran.output[-300:]}"

    def oracle(self) -> Action:
        """Writes the task's own solution and runs it, then says that it is done.  Raises LookupError where there is none."""
        if self._solved:
            return Action("Done.", answer="Done.")
        if not (self._read.folder / "solution/solve.sh").exists():
            raise LookupError("the task comes without a solution")
        self._solved = True
        written = [
            f"mkdir -p $(dirname /solution/{path}) && echo {base64.b64encode(data).decode()} | base64 -d > /solution/{path}"
            for path, data in _files(self._read.folder / "solution")
        ]
        command = " && ".join([*written, f"cd {self._read.workdir}", "bash /solution/solve.sh"])
        return Action("", (ToolCall("shell", {"command": command}),))

    async def close(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            await work.close()

    async def _must(self, work: Workspace, command: str) -> None:
        ran = await work.shell(command, timeout_s=60.0)
        if ran.fault is not None or ran.code:
            raise InfrastructureError(f"{self._read.name}: its image cannot be made, {command:.100}: {ran.output[-300:]}")


def read_reward(text: str, place: str) -> dict[str, float]:
    """
    >>> read_reward("0.5", "reward.txt"), read_reward('{"tests": 1}', "reward.json")
    ({'reward': 0.5}, {'tests': 1.0})
    """
    found: Any = json.loads(text) if place.endswith(".json") else {"reward": float(text)}
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, (int, float)) for value in found.values()):
        raise ValueError(f"expected numbers by name, found {text:.80}")
    if not all(math.isfinite(value) for value in found.values()):
        raise ValueError(f"a reward is not finite: {text:.80}")
    return {str(name): float(value) for name, value in found.items()}


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    found: Sequence[Path] = sorted(each for each in folder.rglob("*") if each.is_file())
    yield from ((str(path.relative_to(folder)), path.read_bytes()) for path in found)
