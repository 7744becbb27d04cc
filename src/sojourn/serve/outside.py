"""An agent of another SDK as an agent program: it is run as it is, asks a gateway, and what it was answered is trained.

    def agent(seat):                                              # yours; sync or async
        client = OpenAI(base_url=seat.base_url, api_key=seat.api_key)
        ...
        return answer                                             # a text for the world, or a number: the reward

    Experiment(..., program=Outside(agent))
    Experiment(..., program=Outside(["python", "agent.py"]))      # OPENAI_BASE_URL and OPENAI_API_KEY are set

The one idea: the gateway is in the process that trains, so an episode is on-policy and ends as any other: trained, filtered, or without a
result.  A command is given the task on its standard input, and its standard output is the answer; a last line {"reward": 0.5} is the reward.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sojourn.core import Action, Episode, InfrastructureError, Message, StopReason, Task, handover, named
from sojourn.policy import Session
from sojourn.serve.gateway import Gateway
from sojourn.serve.recorder import Recorder
from sojourn.serve.server import Running

TAIL = 2000
"""Characters of a command's standard error that an error shows."""


@dataclass(frozen=True, kw_only=True)
class Seat:
    """What an agent is given.  messages: what the world says first, as OpenAI writes it.  model: what to call the policy."""

    task: Task
    messages: list[dict[str, Any]]
    base_url: str
    api_key: str
    model: str

    @property
    def env(self) -> dict[str, str]:
        """The environment of a process that is an agent."""
        return {
            **os.environ,
            "OPENAI_BASE_URL": self.base_url,
            "OPENAI_API_BASE": self.base_url,
            "OPENAI_API_KEY": self.api_key,
            "OPENAI_MODEL": self.model,
        }


Agent = Callable[[Seat], Any]


@dataclass(kw_only=True)
class Outside:
    """The program of an agent that asks over HTTP.  `agent`: a function of its `Seat`, or a command."""

    agent: Agent | Sequence[str] = field(kw_only=False)
    seconds: float = 600.0
    """An agent that has not ended by then is stopped; the infrastructure is at fault, not the policy."""
    model: str = "actor"
    """The role that `Seat.model` names."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Other names of roles, for agents whose model's name is written into them: {"gpt-4o": "actor"}."""
    port: int = 0
    """Of the gateway; 0 for a free one."""

    def __post_init__(self) -> None:
        self._gateway, self._running = Gateway(aliases=self.aliases), None

    _running: Running | None = field(init=False, repr=False)
    _gateway: Gateway = field(init=False, repr=False)

    async def __call__(self, session: Session) -> None:
        """Play one episode."""
        seen = await session.reset()
        recorder = Recorder(session)
        key = self._gateway.add(recorder)
        seat = Seat(
            task=session.task, messages=[told(each) for each in seen.messages], base_url=self._server().base_url, api_key=key, model=self.model
        )  # fmt: skip
        try:
            value = await self._run(seat, session.episode)
        except Exception as error:
            if recorder.failed is not None:  # the agent fell over what we could not give it
                raise recorder.failed from error
            raise
        finally:
            await self._gateway.drop(key, "its agent has ended")
        if not session.episode.actions:
            raise ValueError("the agent ended without asking the policy once: give its client base_url and api_key of its seat")
        await settle(session, value)

    def _server(self) -> Running:
        """The gateway's server, one for each event loop."""
        if self._running is None or self._running.loop is not asyncio.get_running_loop():
            self._running = Running(self._gateway.app(), self.port)
        return self._running

    async def _run(self, seat: Seat, episode: Episode) -> Any:
        try:
            async with asyncio.timeout(self.seconds) as limit:
                if not callable(self.agent):
                    return await _command(self.agent, seat)
                if inspect.iscoroutinefunction(self.agent):
                    return await self.agent(seat)
                return await _in_thread(self.agent, seat)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise InfrastructureError(
                f"episode {episode.id}: the agent has not ended after {self.seconds:g} s (raise Outside.seconds)"
            ) from error


async def settle(session: Session, value: Any) -> None:
    """End the episode with what an agent returned: a number or named terms, a text that the world judges, or None.  What is paid is paid
    to the episode as a whole, for its agents and their branches all had part in it."""
    episode = session.episode
    if value is None:
        return
    if isinstance(value, str):
        world = session.environment
        action = Action(value, answer=value)
        judged = await session.runner.call(world.step, action, seconds=session.limits.step_seconds)
        transition = handover.transition(judged, world)
        episode.failures.extend(transition.failures)
        episode.info.update(transition.info)
        value = transition.reward
    elif not isinstance(value, Mapping):
        value = float(value) if isinstance(value, bool) else value
    for name, paid in named(value).items():
        episode.reward[name] = episode.reward.get(name, 0.0) + paid
    session.stop(StopReason.TERMINATED)


def told(message: Message) -> dict[str, Any]:
    """A message of the world as OpenAI writes it."""
    return {"role": message.role, "content": message.text}


async def _in_thread(function: Agent, seat: Seat) -> Any:
    """In a thread of its own: an agent may block, and one that never comes back must not hold the others, or the end of the process."""
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[Any] = loop.create_future()

    def hear(value: Any, error: BaseException | None) -> None:
        if not answered.done():
            answered.set_exception(error) if error else answered.set_result(value)

    def run() -> None:
        try:
            value, error = function(seat), None
        except BaseException as raised:
            value, error = None, raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(hear, value, error)

    threading.Thread(target=run, name=f"agent {seat.task.id}", daemon=True).start()
    return await answered


async def _command(command: Sequence[str], seat: Seat) -> Any:
    """Run a command on the task; it and its children are killed if it is not waited for."""
    task = {"id": seat.task.id, "messages": seat.messages}
    process = await asyncio.create_subprocess_exec(
        *command,
        env=seat.env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = await process.communicate(json.dumps(task).encode())
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{err.decode(errors='replace')[-TAIL:]}")
    return _reward_or_answer(out.decode(errors="replace"))


def _reward_or_answer(out: str) -> Any:
    """What a command has written: its last line may be the reward.

    >>> _reward_or_answer('thinking\\n{"reward": 0.5}\\n'), _reward_or_answer("42\\n")
    (0.5, '42')
    """
    last = out.strip().rpartition("\n")[2]
    try:
        value = json.loads(last)
    except ValueError:
        return out.strip()
    return value["reward"] if isinstance(value, dict) and "reward" in value else out.strip()
