"""The search driver: which node comes next by hand, what is found, and that what is reported is what was used."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from math import log, sqrt
from typing import Any

import numpy as np
import pytest
from helpers import engine_for, small
from one_group import TASK, Played, played, policy, trained

from sojourn.agents import react
from sojourn.agents.search import (
    Node,
    Search,
    among,
    beam,
    best,
    best_first,
    best_leaf,
    listed,
    mean,
    never,
    played_out,
    sampled,
    score,
    uct,
)
from sojourn.core import Action, Environment, Kind, Observation, StopReason, Task, Transition, UserCodeError
from sojourn.credit import LeafRelative, TreeRPO, columns
from sojourn.environments.small.blocks import Blocks, plan
from sojourn.policy import Session
from sojourn.training import Rollout


class Words(Environment):
    """The state is what was said so far; `MOVES` says what may follow, `PAID` what is earned by it.  What may not be followed is the end."""

    MOVES: Mapping[str, str] = {}
    PAID: Mapping[str, float] = {}

    def __init__(self) -> None:
        self.said = ""
        self.steps = 0

    async def reset(self, task: Task, *, seed: int) -> Observation:
        return Observation.of("Go.")

    def legal_actions(self) -> Sequence[str]:
        return list(self.MOVES[self.said])

    async def step(self, action: Action) -> Transition:
        self.steps += 1
        self.said += action.text
        over = self.said not in self.MOVES
        return Transition(
            Observation.of(self.said),
            self.PAID.get(self.said, 0.0),
            terminated=over,
            info={"said": self.said, "steps": self.steps},
        )

    def snapshot(self) -> object:
        return self.said

    def restore(self, snapshot: object) -> None:
        assert isinstance(snapshot, str)
        self.said = snapshot


def chains(length: int) -> dict[str, str]:
    """Two ways from the start, and no choice on either."""
    return {"": "ab"} | {arm * n: arm for arm in "ab" for n in range(1, length)}


def guesses(table: Mapping[str, float]) -> Any:
    """A value function: what the table says of what was said."""

    async def value(session: Session, node: Node) -> float:
        return table[node.info["said"]]

    return value


class Watched:
    """A way of selecting that notes what it selected."""

    def __init__(self, select: Any) -> None:
        self.select, self.rounds = select, []  # type: ignore[var-annotated]

    def __call__(self, root: Node) -> Sequence[Node]:
        chosen = self.select(root)
        self.rounds.append([node.info.get("said", "") for node in chosen])
        return list(chosen)


def searched(world: type[Environment], search: Search, *, task: Task = TASK) -> Played:
    return played(world, search, size=1, task=task)


def node(**fields: Any) -> Node:
    return Node(context=None, snapshot=None, **fields)  # type: ignore[arg-type]


def test_the_score_is_that_of_uct() -> None:
    child = node(parent=node(visits=4), visits=2, quality=0.5)
    assert score(child, 1.0) == pytest.approx(0.5 + sqrt(log(4) / 2))
    assert score(child, 1.0) == pytest.approx(1.3325546)
    assert score(child, 0.0) == 0.5
    assert score(node(parent=node(visits=4)), 0.0) == np.inf


def test_back_up_by_mean_and_by_maximum() -> None:
    for back_up, qualities in ((mean, [1 / 3, 0.0, 0.5]), (best, [1.0, 0.0, 1.0])):
        root = node()
        for below, worth in ((0, 0.0), (1, 0.0), (1, 1.0)):
            if below == len(root.children):
                root.children.append(node(parent=root))
            back_up(node(parent=root.children[below], earned=worth))
        assert [root.quality, *(child.quality for child in root.children)] == pytest.approx(qualities)
        assert [root.visits, *(child.visits for child in root.children)] == [3, 1, 2]


def test_uct_goes_where_the_scores_by_hand_say() -> None:
    """Arms worth 0.5 and 0.4, c = 0.2.  After the first round N_a = N_b = 1:
    a .667 b .567 | a .648 b .610 | a .6360 b .6355 | a .627 b .654 | a .634 b .589"""

    class World(Words):
        MOVES = chains(9)

    select = Watched(uct(0.2))
    table = {"a" * n: 0.5 for n in range(1, 9)} | {"b" * n: 0.4 for n in range(1, 9)}
    searched(World, Search(select=select, propose=listed, value=guesses(table), steps=7, depth=20))
    assert [said for (said,) in select.rounds[:6]] == ["", "a", "aa", "aaa", "b", "aaaa"]


def test_best_first_expands_what_is_worth_most_and_counts_what_is_earned() -> None:
    """a is guessed at 0.3, b at 0.5; b's children earn nothing more and are worth 0.1 and 0.2; a's earn 0.4."""

    class World(Words):
        MOVES = {"": "ab", "a": "xy", "b": "xy", "ax": "z", "ay": "z", "bx": "z", "by": "z"}
        PAID = {"ax": 0.4}

    table = {"a": 0.3, "b": 0.5, "bx": 0.1, "by": 0.2, "ax": 0.0, "ay": 0.25}
    select = Watched(best_first)
    searched(World, Search(select=select, propose=listed, value=guesses(table), stop=never))
    assert [said for (said,) in select.rounds[:-1]] == ["", "b", "a", "ax", "ay", "by", "bx"]
    assert select.rounds[-1] == []


@pytest.mark.parametrize(("width", "expanded"), [(1, [1, 1, 1]), (2, [1, 2, 2]), (3, [1, 2, 3]), (8, [1, 2, 4])])
def test_a_beam_expands_at_most_its_width_of_every_level(width: int, expanded: list[int]) -> None:
    class World(Words):
        MOVES = {"": "ab"} | dict.fromkeys("ab", "ab") | {first + second: "ab" for first in "ab" for second in "ab"}

    select = Watched(beam(width))
    table = {"a": 1.0, "b": 2.0, "aa": 0.1, "ab": 0.4, "ba": 0.3, "bb": 0.2}
    run = searched(World, Search(select=select, propose=listed, value=guesses(table), stop=never))
    assert [len(chosen) for chosen in select.rounds] == [*expanded, 0]
    assert select.rounds[2] == (["ba"] if width == 1 else ["ab", "ba", "bb", "aa"][:width])
    assert run.group.episodes[0].info["search"]["nodes"] == 1 + 2 * sum(expanded)


async def perfect(session: Session, node: Node) -> float:
    """What is really still to be earned, a little less for every move: by the world's own planner."""
    world = session.environment
    assert isinstance(world, Blocks)
    return float(0.9 ** len(plan(world.state, world._goal)))


@pytest.mark.parametrize("select", [best_first, beam(1), uct(0.0)], ids=["best first", "beam", "uct"])
@pytest.mark.parametrize("index", range(3))
def test_with_a_perfect_value_the_optimal_plan_is_found(select: Any, index: int) -> None:
    task = Blocks.tasks().task("train", "4", index)
    search = Search(select=Watched(select), propose=listed, value=perfect, back_up=best)
    (episode,) = searched(Blocks, search, task=task).group.episodes
    (found,) = [branch for branch in episode.branches if "goal" in episode.tree[branch[-1]].reward]
    assert len(found) == task.data["optimal"]
    assert len(search.select.rounds) == task.data["optimal"]  # type: ignore[attr-defined]
    assert episode.success and episode.stop is StopReason.TERMINATED


def text(run: Played) -> list[list[int]]:
    return [episode.tree.tokens(episode.actions[-1]).tolist() for episode in run.group.episodes]


class Count(Environment):
    """Four turns; each is paid by what was said."""

    turn = 0

    async def reset(self, task: Task, *, seed: int) -> Observation:
        return Observation.of("Say.")

    async def step(self, action: Action) -> Transition:
        self.turn += 1
        paid = sum(char.isascii() for char in action.text) / 10
        return Transition(Observation.of(f"{self.turn}"), paid, terminated=self.turn == 4, info={"turn": self.turn})

    async def truncate(self) -> Transition:
        return Transition(reward={"stands": float(self.turn)}, info={"cut": self.turn})

    def snapshot(self) -> object:
        return self.turn

    def restore(self, snapshot: object) -> None:
        assert isinstance(snapshot, int)
        self.turn = snapshot


@pytest.mark.parametrize("select", [uct(0.0), best_first, beam(1)], ids=["uct", "best first", "beam"])
def test_one_proposal_and_no_exploration_is_react_to_the_bit(select: Any) -> None:
    alone, search = played(Count, react, size=3), played(Count, Search(select=select, propose=sampled(1)), size=3)
    assert text(search) == text(alone)
    for one, other in zip(alone.group.episodes, search.group.episodes, strict=True):
        assert one.total == other.total and one.stop is other.stop
        assert [one.tree[s].reward for s in one.actions] == [other.tree[s].reward for s in other.actions]


class CountingEngine:
    """Counts what passes through."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.max_context, self.calls, self.tokens = engine, engine.max_context, 0, 0

    async def sample(self, tokens: Any, params: Any) -> Any:
        completion = await self.engine.sample(tokens, params)
        self.calls, self.tokens = self.calls + 1, self.tokens + len(completion.tokens)
        return completion


@pytest.mark.parametrize("value", [None, played_out(sampled(1))], ids=["no value", "playouts"])
def test_what_is_reported_is_what_engine_and_world_saw(value: Any) -> None:
    actor, worlds = small(), []
    engine = CountingEngine(engine_for(actor, max_context=400))

    class Seen(Count):
        steps = 0

        async def step(self, action: Action) -> Transition:
            self.steps += 1
            return await super().step(action)

    def make() -> Environment:
        worlds.append(Seen())
        return worlds[-1]

    search = Search(select=uct(), propose=sampled(2), acts=9, **({"value": value} if value else {}))
    rollout = Rollout(make, search, {"actor": policy("actor", actor, engine)})  # type: ignore[arg-type]
    (group,) = asyncio.run(rollout.groups([TASK], size=1, seed=0))
    (episode,) = group.episodes
    used = episode.info["search"]
    assert (used["acts"], used["sampled"], used["steps"]) == (engine.calls, engine.tokens, worlds[0].steps)
    assert 9 <= used["acts"] == len(episode.actions)
    assert value or used["acts"] == 10  # the last expansion is finished


def test_a_budget_of_steps_is_kept_to_exactly_and_one_of_tokens_to_one_expansion() -> None:
    exact = searched(Count, Search(select=beam(9), propose=sampled(2), steps=5)).group.episodes[0].info["search"]
    assert exact["steps"] == 5
    tokens = searched(Count, Search(select=beam(9), propose=sampled(2), sampled=20)).group.episodes[0].info["search"]
    assert 20 <= tokens["sampled"] < 20 + 2 * 6


def test_a_branch_that_ends_does_not_end_the_episode_and_the_best_speaks_for_it() -> None:
    class World(Words):
        MOVES = {"": "ab", "b": "xy"}
        PAID = {"a": 0.5, "bx": 1.0, "by": 0.25}

    (episode,) = searched(World, Search(select=beam(9), propose=listed)).group.episodes
    assert episode.info["said"] == "bx"
    assert sorted(episode.returns) == [0.25, 0.5, 1.0]
    assert episode.stop is StopReason.TERMINATED
    assert [episode.tree[s].kind for s in episode.actions] == [Kind.FORCED] * 4


def test_a_branch_at_its_depth_is_cut_and_scored() -> None:
    (episode,) = searched(Count, Search(select=beam(9), propose=sampled(2), depth=2)).group.episodes
    assert len(episode.actions) == 2 + 4
    leaves = [episode.tree[branch[-1]].reward["stands"] for branch in episode.branches]
    assert leaves == [2.0] * 4
    assert episode.stop is StopReason.TURN_LIMIT and episode.info["cut"] == 2


def test_where_nothing_came_to_an_end_the_best_leaf_is_cut() -> None:
    (episode,) = searched(Count, Search(select=best_first, propose=sampled(2), acts=3)).group.episodes
    stands = [span for span in episode.actions if "stands" in episode.tree[span].reward]
    gained = {branch[-1]: sum(episode.tree[s].reward.get("reward", 0) for s in branch) for branch in episode.branches}
    assert stands == [max(gained, key=gained.__getitem__)]
    assert episode.stop is StopReason.TURN_LIMIT


def test_siblings_are_sampled_where_the_world_stands() -> None:
    """The legal actions, and the key of the state, are those of the node."""

    class World(Words):
        MOVES = {"": "ab", "a": "cd", "b": "ef"}

        def state_key(self) -> str:
            return self.said

    (episode,) = searched(World, Search(select=beam(9), propose=among(3), stop=never)).group.episodes
    for branch in episode.branches:
        words = [message.text for span in branch if (message := episode.tree[span].message)]
        assert [episode.tree[span].anchor for span in branch] == ["", words[0]][: len(branch)]
        assert "".join(words) in ("ac", "ad", "be", "bf")


class SlowCount(Count):
    """Goes back through a server."""

    async def snapshot(self) -> object:  # type: ignore[override]
        await asyncio.sleep(0)
        return self.turn

    async def restore(self, snapshot: object) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        super().restore(snapshot)


def test_a_world_may_go_back_in_its_own_time() -> None:
    search = Search(select=uct(), propose=sampled(2), acts=12)
    assert text(played(SlowCount, search)) == text(played(Count, search))


def test_every_node_is_trained() -> None:
    """The whole tree: also what the search has left."""
    run = played(Unit, WHOLE, size=2, seed=1)
    learned = asyncio.run(trained(run, LeafRelative()))
    spans = [e.tree[s] for e in run.group.episodes for s in e.actions]
    assert len(spans) == 2 * (2 + 4)
    assert learned.metrics["trained_tokens"] == sum(len(span.tokens) for span in spans)


def test_the_nodes_are_compared_with_their_siblings() -> None:
    """TreeRPO on the tree as it was searched: a first word is worth the mean of what was said after it."""
    run = played(Unit, WHOLE, size=2, seed=1)
    table = columns([run.group])
    bits = {branch[-1]: run.group.tree[branch[-1]].reward["reward"] for e in run.group.episodes for branch in e.branches}
    first = {branch[0]: 0.0 for e in run.group.episodes for branch in e.branches}
    for branch in (branch for e in run.group.episodes for branch in e.branches):
        first[branch[0]] += bits[branch[1]] / 2
    mu = sum(first.values()) / 4
    expected = {span: (value - mu) / sqrt(mu * (1 - mu)) for span, value in first.items()}
    for one, other in (branches for e in run.group.episodes for branches in zip(e.branches[::2], e.branches[1::2], strict=True)):
        half = (bits[one[1]] + bits[other[1]]) / 2
        for span in (one[1], other[1]):
            expected[span] = (bits[span] - half) / sqrt(half * (1 - half)) if half == 0.5 else 0.0
    assert 0 < mu < 1
    np.testing.assert_allclose(TreeRPO()(table), [expected[table.span_S[row]] for row in table.row_T])


WHOLE = Search(select=beam(9), propose=sampled(2), stop=never, depth=2)


class Unit(Count):
    """Paid at the end, by one bit of what was said."""

    async def step(self, action: Action) -> Transition:
        self.turn += 1
        return Transition(
            Observation.of(f"{self.turn}"), float(len(action.text) % 2) if self.turn == 2 else 0.0, terminated=self.turn == 2
        )


def test_a_program_may_search_before_every_move() -> None:
    class World(Words):
        MOVES = chains(4)
        PAID = {"bbbb": 1.0}

    async def move_by_move(session: Session) -> None:
        at = Node(context=session.open(await session.reset()), snapshot=await session.snapshot())
        search = Search(select=uct(), propose=listed, value=played_out(listed), steps=9, depth=9)
        while at.stop is None:
            await search.grow(session, at)
            at = max(at.children, key=lambda child: child.quality)
            at.parent = None
        session.episode.info = dict(at.info)
        session.stop(at.stop)

    (episode,) = played(World, move_by_move, size=1).group.episodes
    assert episode.info["said"] == "bbbb"


def test_the_result_is_the_best_end_and_else_the_best_leaf() -> None:
    root = node()
    root.children = [node(earned=2.0), node(earned=1.0, stop=StopReason.TERMINATED), node(earned=1.0, stop=StopReason.TRUNCATED)]
    assert best_leaf(root) is root.children[1]
    root.children = root.children[:1]
    assert best_leaf(root) is root.children[0]


def test_a_world_that_cannot_go_back_is_named() -> None:
    class Forward(Environment):
        async def reset(self, task: Task, *, seed: int) -> Observation:
            return Observation.of("Go.")

        async def step(self, action: Action) -> Transition:
            return Transition(terminated=True)

    with pytest.raises(UserCodeError, match="Forward cannot go back to an earlier state"):
        searched(Forward, Search(select=best_first, propose=sampled(2)))
