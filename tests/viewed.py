"""Episodes that are no plain conversation, for tests of what shows them: a search, a rewritten context, agents, an attack on the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sojourn.core import ROOT, Episode, Kind, Message, Span, StopReason, Task, Text, ToolCall, TrajectoryTree, assistant, user
from sojourn.store import RunFolder, to_row, write_episodes


def encode(text: str) -> list[int]:
    return list(text.encode())


def decode(tokens: Sequence[int]) -> str:
    return bytes(tokens).decode(errors="replace")


ATTACK = "</span><script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"
"""What a model may write."""


class Maker:
    """Spans of an episode, one after another."""

    def __init__(self, name: str, task: str = "t", key: str = "g") -> None:
        self.tree = TrajectoryTree()
        self.episode = Episode(name, Task(task), self.tree, stop=StopReason.TERMINATED)
        self.key = key

    def see(self, text: str, after: int = ROOT, *, agent: str = "agent", source: int | None = None) -> int:
        span = Span(after, np.array(encode(text)), Kind.OBSERVATION, agent=agent, message=user(text), source=source)
        return self.tree.add(span)

    def say(self, text: str, after: int, *, agent: str = "agent", paid: float | None = None, **more: Any) -> int:
        tokens = np.array(encode(text))
        reward = {} if paid is None else {"reward": paid}
        logp = np.full(len(tokens), -0.5, np.float32)
        said = more.pop("message", assistant(text))
        span = Span(after, tokens, Kind.ACTION, logp, policy="actor", version=3, agent=agent, reward=reward, message=said, **more)
        self.episode.actions.append(self.tree.add(span))
        return self.episode.actions[-1]

    def row(self, step: int = 1, phase: str = "train", given: float | None = 0.5) -> dict[str, Any]:
        self.episode.leaves = list(self.tree.leaves())
        advantages = None
        if given is not None:
            advantages = {i: np.full(len(self.tree[i].tokens), given, np.float32) for i in self.episode.actions}
        return to_row(self.episode, self.key, decode, advantages, phase=phase, step=step)


def search_row() -> dict[str, Any]:
    """Two first moves; the second is gone on from twice.  Returns of the branches: 1, 2 and 4."""
    maker = Maker("search", "climb", "searched")
    root = maker.see("Climb.")
    maker.say("left", root, paid=1.0)
    right = maker.say("right", root, paid=2.0, value=2.5)
    maker.say("stay", right, paid=0.0)
    maker.say("jump", right, paid=2.0)
    maker.episode.info = {"search": {"nodes": 5, "depth": 2}}
    return maker.row()


def contexts_row() -> dict[str, Any]:
    """A context, and another that was rewritten from it after its action."""
    maker = Maker("contexts", "recall", "remembered")
    first = maker.say("I note: seven.", maker.see("Read this: seven."), paid=0.0)
    maker.say("It was seven.", maker.see("You noted: seven. What was it?", source=first), paid=1.0)
    return maker.row()


def agents_row() -> dict[str, Any]:
    """Two agents, each of whom sees its own cards."""
    maker = Maker("agents", "cards", "played")
    one, two = maker.see("You hold a king.", agent="north"), maker.see("You hold a queen.", agent="south")
    maker.say("bet", one, agent="north", paid=1.0)
    maker.say("call", two, agent="south", paid=-1.0)
    return maker.row()


def hostile_row() -> dict[str, Any]:
    """A model, a tool, a task and a level that attack the page."""
    maker = Maker("hostile" + ATTACK, ATTACK, ATTACK)
    call = Message("assistant", (Text(ATTACK),), (ToolCall(ATTACK, {"x": ATTACK}),))
    maker.say(ATTACK, maker.see(ATTACK, agent=ATTACK), agent=ATTACK, paid=0.0, message=call)
    maker.episode.info = {"note": ATTACK}
    return maker.row(given=0.0)


def write_special_run(path: Path) -> RunFolder:
    run = RunFolder(path)
    run.write_config({"seed": 1, "note": ATTACK})
    write_episodes(run.episodes_path("train", 1), [search_row(), contexts_row(), agents_row(), hostile_row()])
    run.log_step({"step": 1, "reward": 0.5, "ratio": 1.25, "entropy": 0.75, "failure": ATTACK, "failed": 1.0})
    run.close()
    return run
