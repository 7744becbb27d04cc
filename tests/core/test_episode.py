"""Rewards by name, and which failures take an episode out of the statistics."""

from __future__ import annotations

import numpy as np
import pytest

from sojourn.core import ROOT, Episode, EpisodeGroup, Failure, FailureKind, Kind, Span, StopReason, Task, TrajectoryTree


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
