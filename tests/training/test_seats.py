"""A role learns from what its own agents did and earned: rows are (episode, agent), groups (group, agent)."""

from __future__ import annotations

import numpy as np

from sojourn.core import Episode, EpisodeGroup, Kind, Span, StopReason, Task, TrajectoryTree
from sojourn.credit import columns, dr_grpo
from sojourn.training.seats import views


def game(gains: list[float]) -> EpisodeGroup:
    """Zero-sum games: `a` moves, then `b`; `a` is paid its gain on its move, `b` the opposite at the end; all are paid 0.5."""
    tree, task = TrajectoryTree(), Task("t")
    group = EpisodeGroup("g", task, tree)
    prompts = {agent: tree.add(Span(-1, np.arange(3), Kind.OBSERVATION, agent=agent)) for agent in "ab"}
    for number, gain in enumerate(gains):
        episode = Episode(f"g/{number}", task, tree, reward={"shared": 0.5}, stop=StopReason.TERMINATED)
        for agent in "ab":
            reward = {"win": gain} if agent == "a" else {}
            span = Span(prompts[agent], np.arange(2) + number, Kind.ACTION, np.zeros(2, np.float32), agent=agent, reward=reward)
            episode.actions.append(tree.add(span))
        episode.paid["b"] = {"win": -gain}
        episode.info = {"success/a": gain > 0, "success/b": gain < 0}
        group.episodes.append(episode)
    return group


def test_each_agent_has_its_own_return_and_its_own_group() -> None:
    table = columns(views([game([1.0, -1.0, 1.0])], ["a", "b"]))
    np.testing.assert_allclose(table.return_E, [1.5, -0.5, 1.5, -0.5, 1.5, -0.5])
    assert table.group_E.tolist() == [0, 0, 0, 1, 1, 1]
    assert table.success_E.tolist() == [True, False, True, False, True, False]
    assert table.agent_S.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_zero_sum_game_is_no_group_without_signal() -> None:
    """Together the two of them always earn the same; apart each is held against others of its seat."""
    group = game([1.0, -1.0])
    assert not dr_grpo()(columns([group])).any()
    table = columns(views([group], ["a", "b"]))
    np.testing.assert_allclose(dr_grpo()(table)[table.start_S[:-1]], [1.0, -1.0, -1.0, 1.0])


def test_what_one_agent_earns_changes_nothing_for_another() -> None:
    one, other = game([1.0, -1.0]), game([1.0, -1.0])
    for episode in other.episodes:
        episode.paid["b"] = {"win": 100.0}
    a_of = [columns(views([group], ["a"])) for group in (one, other)]
    np.testing.assert_array_equal(a_of[0].return_E, a_of[1].return_E)


def test_a_view_leaves_the_group_as_it_is() -> None:
    group = game([1.0])
    views([group], ["a"])[0].episodes[0].reward["more"] = 1.0
    assert group.episodes[0].reward == {"shared": 0.5}
    assert len(group.episodes[0].actions) == 2
