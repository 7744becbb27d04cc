"""Rewards by name, and which failures take an episode out of the statistics."""

from __future__ import annotations

import asyncio
import subprocess
from concurrent.futures.process import BrokenProcessPool
from http.client import IncompleteRead

import numpy as np
import pytest

from sojourn.core import (
    ROOT,
    Episode,
    EpisodeGroup,
    Failure,
    FailureKind,
    Kind,
    Span,
    StopReason,
    Task,
    TrajectoryTree,
    broke_beneath,
)


def episode(*span_rewards: dict[str, float], **fields: object) -> Episode:
    tree = TrajectoryTree()
    spans = [tree.add(Span(ROOT, np.array([1]), Kind.ACTION, reward=dict(reward))) for reward in span_rewards]
    return Episode("e", Task("t"), tree, spans, **fields)  # type: ignore[arg-type]


def test_terms_of_actions_and_of_the_end_add_up_by_name() -> None:
    played = episode({"format": 0.5}, {"format": 0.25, "goal": 1.0}, reward={"goal": 2.0})
    assert played.rewards == {"goal": 3.0, "format": 0.75}
    assert played.total == 3.75
    assert played.reward == {"goal": 2.0}


@pytest.mark.parametrize(
    ("kind", "valid"), [(FailureKind.MODEL, True), (FailureKind.BUDGET, True), (FailureKind.INFRASTRUCTURE, False)]
)
def test_only_the_infrastructures_failures_make_an_episode_invalid(kind: FailureKind, valid: bool) -> None:
    failed = episode({}, failures=[Failure(kind, "here", "broke")])
    assert failed.valid is valid
    assert len(EpisodeGroup("g", failed.task, failed.tree, [failed, episode({})]).valid) == 1 + valid


def test_success_is_what_the_world_says_else_a_positive_return() -> None:
    assert episode({"r": 1.0}).success
    assert not episode({"r": -1.0}).success
    assert not episode({"r": 1.0}, info={"success": False}).success


def test_what_was_cut_bootstraps_and_what_ended_does_not() -> None:
    cut = {StopReason.TRUNCATED, StopReason.TURN_LIMIT, StopReason.TOKEN_LIMIT}
    assert {reason for reason in StopReason if reason.bootstraps} == cut


@pytest.mark.parametrize(
    ("error", "beneath"),
    [
        (IncompleteRead(b""), True),
        (asyncio.IncompleteReadError(b"", 1), True),
        (subprocess.TimeoutExpired("a server", 1.0), True),
        (BrokenProcessPool("a worker died"), True),
        (OSError(28, "No space left on device"), True),
        (FileNotFoundError("a path that is wrong"), False),
        (KeyError("a name that is wrong"), False),
        (subprocess.CalledProcessError(1, "a command that is wrong"), False),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_server_that_hangs_up_is_no_bug_of_the_code(error: Exception, beneath: bool) -> None:
    assert broke_beneath(error) is beneath
    wrapped = RuntimeError("the client's own error")
    wrapped.__cause__ = error
    assert broke_beneath(wrapped) is beneath
