"""A program that searches: best first, in a world that can go back, and the whole tree is trained."""

from __future__ import annotations

import asyncio
import heapq

import numpy as np
from helpers import paths_of, unique_prefixes
from one_group import played, trained

from sojourn.core import Action, Context, Environment, Kind, Observation, Restorable, StopReason, Task, Transition
from sojourn.credit import LeafRelative, columns
from sojourn.policy import Session


class Climb(Environment):
    """A height that a word moves up by its plain characters; each step is paid by what it gained."""

    height = 0.0

    async def reset(self, task: Task, *, seed: int) -> Observation:
        return Observation.of("Climb.")

    async def step(self, action: Action) -> Transition:
        gained = sum(char.isascii() for char in action.text) / 10
        self.height += gained
        return Transition(Observation.of(f"You are at {self.height:.1f}."), gained)

    def snapshot(self) -> object:
        return self.height

    def restore(self, snapshot: object) -> None:
        assert isinstance(snapshot, float)
        self.height = snapshot


async def best_first(session: Session) -> None:
    """Expand the highest place, two words from each."""
    world = session.environment
    assert isinstance(world, Climb)
    frontier: list[tuple[float, int, Context]] = [(0.0, 0, session.open(await session.reset()))]
    for _ in range(3):
        height, _, place = heapq.heappop(frontier)
        for _ in range(2):
            world.restore(-height)
            spoken, action = await session.act(place)
            seen = await session.step(spoken, action)
            heapq.heappush(frontier, (-world.height, len(session.episode.actions), spoken.observe(*seen.messages)))
    session.stop(StopReason.TERMINATED)


def test_a_whole_search_tree_is_played_and_trained() -> None:
    run = played(Climb, best_first, size=2, seed=1)
    assert isinstance(Climb(), Restorable)
    for episode in run.group.episodes:
        tree = episode.tree
        assert len(episode.actions) == 6
        for one, other in zip(episode.actions[::2], episode.actions[1::2], strict=True):
            assert tree[one].parent == tree[other].parent  # siblings after one prompt
            assert tree[one].tokens.tolist() != tree[other].tokens.tolist()
        leaves = [s for s in episode.actions if not any(tree[i].kind == Kind.ACTION for i in below(tree, s))]
        assert sorted(episode.leaves) == leaves
    learned = asyncio.run(trained(run, LeafRelative()))
    assert learned.metrics["trained_tokens"] == sum(len(e.tree[s].tokens) for e in run.group.episodes for s in e.actions)
    assert learned.metrics["unique_tokens"] == unique_prefixes([path[:-1] for path in paths_of(run.group)])


def below(tree, span: int) -> list[int]:  # type: ignore[no-untyped-def]
    children = list(tree.children(span))
    return children + [i for child in children for i in below(tree, child)]


def test_what_the_search_gained_is_paid_where_it_was_gained() -> None:
    """Along any path, rewards add up to the height that the world says there."""
    run = played(Climb, best_first, size=2)
    table = columns([run.group])
    for row, span in enumerate(table.span_S.tolist()):
        path = run.group.tree.actions(span)
        said = run.group.tree[run.group.tree.children(span)[0]].message
        assert said is not None
        height = float(said.text.removeprefix("You are at ").removesuffix("."))
        assert abs(sum(run.group.tree[i].reward["reward"] for i in path) - height) < 0.051
        assert table.parent_S[row] == -1 or table.span_S[table.parent_S[row]] == path[-2]
    assert np.all(table.trained_S)
