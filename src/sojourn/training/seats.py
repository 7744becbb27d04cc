"""Who earned what: episodes as single agents lived them.

The one idea: a role learns from rows (episode, agent), grouped by (group, agent).  So the first player of a game is compared with other
first players and never with the second, and credit, filters and losses stay as they are: they read groups of episodes, and a seat's view of
a group is one.  What is paid to all (`Episode.reward`) is paid to each; what an agent's actions earned, and what it was paid at the end
(`Episode.paid`), is its own.

    one group of two episodes, seats a and b          views of a role that sits on both
    0/0: a acts, b acts, paid {a: +1, b: -1}          0#a: 0/0#a returns +1, 0/1#a returns -1
    0/1: a acts, b acts, paid {a: -1, b: +1}          0#b: 0/0#b returns -1, 0/1#b returns +1
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sojourn.core import Episode, EpisodeGroup


def views(groups: Sequence[EpisodeGroup], agents: Sequence[str]) -> list[EpisodeGroup]:
    """The groups as each of `agents` lived them, group by group, agent by agent."""
    return [_view(group, agent) for group in groups for agent in agents]


def lived(groups: Sequence[EpisodeGroup], agents: Sequence[str]) -> list[EpisodeGroup]:
    """The groups in which one of `agents` acted, or nobody did; all of them for no agents.  What others did alone, as a proposer does, is
    not theirs, and must not count in their denominators."""
    return [group for group in groups if not agents or not (acted := acting(group)) or acted & set(agents)]


def acting(group: EpisodeGroup) -> set[str]:
    """Who acted in it."""
    return {group.tree[span].agent for episode in group.episodes for span in episode.actions}


def _view(group: EpisodeGroup, agent: str) -> EpisodeGroup:
    lived = [_lived(episode, agent) for episode in group.episodes]
    return replace(group, key=f"{group.key}#{agent}", episodes=lived)


def _lived(episode: Episode, agent: str) -> Episode:
    """The episode with the agent's actions alone, and what it earned: paid to all, and to it."""
    mine = [span for span in episode.actions if episode.tree[span].agent == agent]
    on_path = {span for action in mine for span in episode.tree.path(action)[:-1]}
    reward = dict(episode.reward)
    for name, value in episode.paid.get(agent, {}).items():
        reward[name] = reward.get(name, 0.0) + value
    return replace(
        episode,
        id=f"{episode.id}#{agent}",
        actions=mine,
        leaves=[span for span in mine if span not in on_path],
        reward=reward,
        paid={},
        info=_own(episode.info, agent),
    )


def _own(info: Mapping[str, Any], agent: str) -> dict[str, Any]:
    """`info` with `success/<agent>` as the agent's success."""
    own = f"success/{agent}"
    return dict(info) | ({"success": info[own]} if own in info else {})
