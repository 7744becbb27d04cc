"""Small episode groups written down by hand: what the checks and the tests feed to credit.

>>> example = group([Script([Turn(2), Turn(1)], final=1.0), Script([Turn(3)])])
>>> len(example.episodes), [len(episode.actions) for episode in example.episodes]
(2, [2, 1])
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np

from sojourn.core import (
    ROOT,
    Episode,
    EpisodeGroup,
    Failure,
    FailureKind,
    Kind,
    Message,
    Span,
    Standing,
    StopReason,
    Task,
    ToolCall,
    TrajectoryTree,
)


@dataclass(frozen=True)
class Turn:
    """One action of `tokens` tokens and the observation after it.

    rewrite: start a new context, rewritten from the one before.  linked: whether that context remembers its source.
    on_observation: pay `reward` on the observation instead of the action.
    """

    tokens: int = 1
    reward: float | dict[str, float] = 0.0
    anchor: Hashable = None
    observation: int = 2
    rewrite: bool = False
    linked: bool = True
    on_observation: bool = False
    calls: int = 0
    agent: str = "agent"
    policy: str = "actor"


@dataclass(frozen=True)
class Script:
    """One episode: a chain of turns, or a tree of them (a `Sequence` of `Script` as the last turn's branches).

    failed: something beneath it broke.  standing: what that means for its data; None for what a failure beneath means, no result.
    """

    turns: Sequence[Turn]
    final: float = 0.0
    stop: StopReason = StopReason.TERMINATED
    failed: bool = False
    standing: Standing | None = None
    success: bool | None = None
    branches: Sequence[Script] = field(default=())


def group(scripts: Sequence[Script], *, key: str = "g", seed: int = 0) -> EpisodeGroup:
    """An episode group with random token ids and log-probabilities."""
    tree = TrajectoryTree()
    built = EpisodeGroup(key, Task(key), tree)
    draw = np.random.default_rng(seed)
    prompt = tree.observe(Span(ROOT, np.arange(3), Kind.OBSERVATION))
    for number, script in enumerate(scripts):
        episode = Episode(f"{key}/{number}", built.task, tree, stop=script.stop)
        _play(episode, script, prompt, draw)
        if script.final:
            episode.reward = {"final": script.final}
        if script.failed:
            episode.failures = [Failure(FailureKind.INFRASTRUCTURE, "test", "broke", script.standing)]
        if script.success is not None:
            episode.info["success"] = script.success
        built.episodes.append(episode)
    return built


def _play(episode: Episode, script: Script, start: int, draw: np.random.Generator) -> None:
    last = start
    for turn in script.turns:
        last = _turn(episode, turn, last, draw)
    for branch in script.branches:
        _play(episode, branch, last, draw)


def _turn(episode: Episode, turn: Turn, last: int, draw: np.random.Generator) -> int:
    tree = episode.tree
    if turn.rewrite:
        source, before = (last, _turns(tree, last)) if turn.linked else (None, 0)
        last = tree.observe(Span(ROOT, draw.integers(0, 99, 3), Kind.OBSERVATION, source=source, turn=before))
    reward = dict(turn.reward) if isinstance(turn.reward, dict) else {"reward": turn.reward} if turn.reward else {}
    action = Span(
        last,
        draw.integers(0, 99, turn.tokens),
        Kind.ACTION,
        logprobs=-draw.random(turn.tokens).astype(np.float32),
        policy=turn.policy,
        agent=turn.agent,
        turn=_turns(tree, last),
        anchor=turn.anchor,
        message=Message("assistant", calls=(ToolCall("tool"),) * turn.calls),
        reward={} if turn.on_observation else reward,
    )
    episode.actions.append(tree.add(action))
    world = Span(episode.actions[-1], draw.integers(0, 99, turn.observation), Kind.OBSERVATION)
    world.reward = reward if turn.on_observation else {}
    return tree.add(world)


def _turns(tree: TrajectoryTree, span: int) -> int:
    """Actions on the path, and in the contexts that it was rewritten from."""
    return tree[tree.path(span)[0]].turn + len(tree.actions(span))
