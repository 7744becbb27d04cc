"""What breaks in an episode is classed; the others go on; statistics never mix the two."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from helpers import engine_for, small

from sojourn.agents import react
from sojourn.core import (
    Action,
    ContextFull,
    Environment,
    Episode,
    EpisodeGroup,
    FailureKind,
    InfrastructureError,
    Observation,
    Standing,
    StopReason,
    Task,
    Transition,
    UserCodeError,
)
from sojourn.credit import columns, grpo
from sojourn.engine import SamplingParams
from sojourn.policy import Limits, Policy, Program, Session
from sojourn.policy.running import UserCode
from sojourn.rendering import ChatRenderer
from sojourn.rendering.protocols import PlainText
from sojourn.training import Rollout


class Troubled(Environment):
    """Two turns, each paid 1; `task.data["trouble"]` says what goes wrong, in the second turn if nothing else is said."""

    open_worlds = 0
    trouble: str | None = None

    def __init__(self) -> None:
        type(self).open_worlds += 1
        self.turns = 0

    async def reset(self, task: Task, *, seed: int) -> Observation:
        self.trouble = task.data.get("trouble")
        if self.trouble == "crash in reset":
            raise KeyError("no such world")
        return Observation.of("x" * task.data.get("length", 5))

    async def step(self, action: Action) -> Transition:
        self.turns += 1
        if self.turns == 2:
            await self._fail()
        paid: Any = None if self.trouble == "nothing paid" else 1.0
        return Transition(Observation.of("more"), paid, terminated=self.turns == 2)

    async def _fail(self) -> None:
        if self.trouble == "infrastructure":
            raise InfrastructureError("the sandbox died")
        if self.trouble in ("crash", "crash twice"):
            raise ZeroDivisionError("bug in the world")
        if self.trouble == "timeout of its own":
            raise TimeoutError("the web server")
        if self.trouble == "refused":
            try:
                raise ConnectionRefusedError(111, "Connection refused")
            except OSError as error:
                raise RuntimeError("the client's own error") from error
        if self.trouble == "cancel":
            raise asyncio.CancelledError
        if self.trouble == "hang":
            await asyncio.Event().wait()

    async def close(self) -> None:
        type(self).open_worlds -= 1
        if self.trouble in ("crash in close", "crash twice"):
            raise OSError("cannot remove the sandbox")
        if self.trouble == "hang in close":
            await asyncio.Event().wait()


def rollout(program: Program = react, *, environment: Callable[[], Environment] = Troubled, **settings: Any) -> Rollout:
    loaded, protocol = small(), PlainText()
    engine = engine_for(loaded, max_context=settings.pop("max_context", 300), max_batch=8)
    policy = Policy("actor", engine, ChatRenderer(loaded.tokenizer, protocol), protocol, SamplingParams(max_tokens=4))
    return Rollout(environment, program, {"actor": policy}, settings.pop("limits", Limits()), **settings)


def play(task: Task, **settings: Any) -> Episode:
    """The episode of `task`, played beside two that nothing troubles."""
    groups = asyncio.run(rollout(**settings).groups([Task("fine"), Task("fine too"), task], size=1, seed=0))
    assert [group.episodes[0].stop for group in groups[:2]] == [StopReason.TERMINATED] * 2
    return groups[2].episodes[0]


@pytest.mark.parametrize(
    ("trouble", "said"),
    [("infrastructure", "the sandbox died"), ("timeout of its own", "the web server"), ("refused", "Connection refused")],
)
def test_what_breaks_beneath_is_an_infrastructure_failure_that_says_what(trouble: str, said: str) -> None:
    episode = play(Task("t", {"trouble": trouble}))
    assert (episode.stop, episode.standing) == (StopReason.FAILED, Standing.NO_RESULT)
    assert [failure.kind for failure in episode.failures] == [FailureKind.INFRASTRUCTURE]
    assert said in episode.failures[0].message


@pytest.mark.parametrize(
    ("trouble", "said"), [("crash", "bug in the world"), ("crash in reset", "no such world"), ("nothing paid", "None")]
)
def test_an_error_of_the_users_code_stops_the_run_and_names_the_task(trouble: str, said: str) -> None:
    with pytest.raises(UserCodeError, match=f"task 'the one'(.|\n)*{said}"):
        play(Task("the one", {"trouble": trouble}))


@pytest.mark.parametrize("place", ["episode", "agent", "action"])
def test_a_reward_that_a_program_writes_past_the_door_is_refused_too(place: str) -> None:
    async def pays(session: Session) -> None:
        context, action = await session.act(session.open(await session.reset()))
        await session.step(context, action)
        places = {"episode": session.episode.reward, "action": context.tree[context.span].reward}
        terms = places[place] if place in places else session.episode.paid.setdefault("a", {})
        terms["mine"] = float("nan")

    with pytest.raises(UserCodeError, match="reward 'mine' is nan"):
        asyncio.run(rollout(pays).groups([Task("t")], size=1, seed=0))


@pytest.mark.parametrize("settings", [{"concurrency": 0}, {"retries": -1}])
def test_a_rollout_that_could_play_nothing_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        rollout(**settings)


def test_errors_of_the_users_code_count_against_a_budget_if_the_run_has_one() -> None:
    code = UserCode(max_errors=2)
    episodes = [play(Task("t", {"trouble": "crash"}), code=code) for _ in range(2)]
    assert [(e.failures[0].kind, e.valid, code.errors) for e in episodes] == [(FailureKind.CODE, False, 2)] * 2
    with pytest.raises(UserCodeError, match="max_errors"):
        play(Task("t", {"trouble": "crash"}), code=code)


@pytest.mark.parametrize("trouble", ["crash in close", "hang in close"])
def test_an_episode_that_has_ended_stands_even_if_its_world_does_not_close(trouble: str) -> None:
    episode = play(Task("t", {"trouble": trouble}), limits=Limits(step_seconds=0.3))
    assert (episode.stop, episode.valid, episode.total) == (StopReason.TERMINATED, True, 2.0)
    assert episode.standing is Standing.DEGRADED
    assert "clos" in episode.failures[0].where


def test_a_world_that_also_breaks_when_closed_hides_nothing() -> None:
    first, second = play(Task("t", {"trouble": "crash twice"}), code=UserCode(max_errors=1)).failures
    assert "bug in the world" in first.message
    assert "cannot remove the sandbox" in second.message


def test_a_wait_that_the_world_cancels_is_a_failure_and_is_told() -> None:
    heard: list[str] = []
    groups = asyncio.run(
        rollout().groups([Task("a"), Task("t", {"trouble": "cancel"})], size=1, seed=0, done=lambda e: heard.append(e.id))
    )
    assert len(heard) == 2
    assert (groups[1].episodes[0].stop, groups[1].episodes[0].valid) == (StopReason.FAILED, False)


def test_what_broke_beneath_is_played_again() -> None:
    class Flaky(Troubled):
        worlds = 0

        async def reset(self, task: Task, *, seed: int) -> Observation:
            Flaky.worlds += 1
            if Flaky.worlds % 2:
                raise ConnectionResetError("the browser went away")
            return await super().reset(task, seed=seed)

    (group,) = asyncio.run(rollout(environment=Flaky, retries=1).groups([Task("t")], size=1, seed=0))
    (episode,) = group.episodes
    assert (episode.attempts, episode.valid, episode.total, episode.failures) == (2, True, 2.0, [])


def test_what_was_paid_in_an_attempt_that_broke_is_forgotten() -> None:
    async def paid_first(session: Session) -> None:
        session.pay("agent", 1.0)
        if session.episode.attempts == 1:
            raise ConnectionResetError("the browser went away")
        await react(session)

    (group,) = asyncio.run(rollout(program=paid_first, retries=1).groups([Task("t")], size=1, seed=0))
    assert (group.episodes[0].attempts, group.episodes[0].total) == (2, 3.0)


class Picking(Environment):
    """Pays for what was picked only when asked; never ends by itself."""

    picked = 0

    async def reset(self, task: Task, *, seed: int) -> Observation:
        return Observation.of("x" * task.data.get("length", 5))

    async def step(self, action: Action) -> Transition:
        self.picked += 1
        return Transition(Observation.of("more"), {})

    async def truncate(self) -> Transition:
        return Transition(reward={"picked": self.picked / 10}, truncated=True, info={"success": self.picked > 4})


@pytest.mark.parametrize(
    ("settings", "stop"),
    [({"limits": Limits(max_turns=5)}, StopReason.TURN_LIMIT), ({"max_context": 75}, StopReason.TOKEN_LIMIT)],
)
def test_a_limit_is_not_the_end_of_a_world_which_scores_what_stands(settings: dict[str, Any], stop: StopReason) -> None:
    (group,) = asyncio.run(rollout(environment=Picking, **settings).groups([Task("t")], size=1, seed=0))
    (episode,) = group.episodes
    turns = len(episode.actions)
    assert (episode.stop, episode.rewards, episode.success) == (stop, {"picked": turns / 10}, turns > 4)
    assert episode.tree[episode.actions[-1]].reward == {"picked": turns / 10}


def test_a_program_that_returns_early_has_its_world_scored() -> None:
    async def twice(session: Session) -> None:
        context = session.open(await session.reset())
        for _ in range(2):
            context, action = await session.act(context)
            context = context.observe(*(await session.step(context, action)).messages)

    (group,) = asyncio.run(rollout(twice, environment=Picking).groups([Task("t")], size=1, seed=0))
    assert (group.episodes[0].stop, group.episodes[0].total) == (StopReason.RETURNED, 0.2)


def test_blocking_code_misses_its_deadline_and_later_holds_nobody_up() -> None:
    """The world's own `sleep` is far beyond the deadline; a neighbour that waits on the loop for less than its own is not blamed."""

    class Sleeper(Troubled):
        async def _fail(self) -> None:
            if self.trouble == "sleep":
                time.sleep(0.5)
            await asyncio.sleep(0.01)

    code = UserCode()
    tasks = [Task("quick"), Task("s", {"trouble": "sleep"}), Task("quick too")]
    for holds in (False, True):
        assert code.holds == holds
        with pytest.warns(RuntimeWarning, match="held the event loop") if not holds else nullcontext():
            groups = asyncio.run(
                rollout(environment=Sleeper, limits=Limits(step_seconds=0.2), code=code).groups(tasks, size=1, seed=0)
            )
        first, slow, last = (group.episodes[0] for group in groups)
        assert (first.stop, last.stop, slow.stop) == (StopReason.TERMINATED, StopReason.TERMINATED, StopReason.FAILED)
        assert "Sleeper" in slow.failures[0].message
        assert "step_seconds" in slow.failures[0].message


@pytest.mark.parametrize("trouble", ["hang", "hang in close"])
def test_a_world_that_hangs_is_named_with_its_episode_and_what_to_do(trouble: str) -> None:
    episode = play(Task("t", {"trouble": trouble}), limits=Limits(step_seconds=0.3))
    assert (episode.stop is StopReason.FAILED) == (trouble == "hang")
    message = episode.failures[0].message
    assert episode.id in message
    assert ("close" in message) == (trouble == "hang in close")
    assert "step_seconds" in message


def test_a_world_that_cannot_be_made_is_an_infrastructure_failure() -> None:
    made = iter([Troubled, Troubled])

    def environment() -> Environment:
        try:
            return next(made)()
        except StopIteration:
            raise OSError("no more processes") from None

    episode = play(Task("t"), environment=environment)
    assert "no more processes" in episode.failures[0].message
    assert not episode.valid


def test_a_full_context_is_the_policys_own_budget() -> None:
    episode = play(Task("t", {"length": 500}))
    assert episode.stop is StopReason.TOKEN_LIMIT
    assert [failure.kind for failure in episode.failures] == [FailureKind.BUDGET]
    assert episode.valid
    assert "300" in episode.failures[0].message


def test_what_breaks_in_concurrent_branches_is_classed_by_the_worst() -> None:
    async def branching(session: Session, *errors: Exception) -> None:
        async def fail(error: Exception) -> None:
            raise error

        async with asyncio.TaskGroup() as branches:
            for error in errors:
                branches.create_task(fail(error))

    full = play(Task("t"), program=lambda s: branching(s, ContextFull("full")) if s.task.id == "t" else react(s))
    assert full.stop is StopReason.TOKEN_LIMIT
    with pytest.raises(UserCodeError, match="bug"):
        play(Task("t"), program=lambda s: branching(s, ContextFull("full"), KeyError("bug")) if s.task.id == "t" else react(s))


def test_every_world_is_closed() -> None:
    Troubled.open_worlds = 0
    troubles = ("infrastructure", "crash", "crash in reset", None, None, None, None)
    tasks = [Task(f"{i}", {"trouble": trouble}) for i, trouble in enumerate(troubles)]
    asyncio.run(rollout(code=UserCode(max_errors=9)).groups(tasks, size=2, seed=0))
    assert Troubled.open_worlds == 0


def test_a_cancelled_rollout_closes_its_worlds() -> None:
    Troubled.open_worlds = 0

    async def cancel() -> None:
        task = asyncio.create_task(rollout().groups([Task("t", {"trouble": "hang"})], size=4, seed=0))
        for _ in range(60):
            await asyncio.sleep(0)
        assert Troubled.open_worlds > 0
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cancel())
    assert Troubled.open_worlds == 0


def test_failed_episodes_leave_the_statistics() -> None:
    """The failed one had earned 1 before it failed: neither that nor a 0 enters the group's mean."""

    async def one_in_four_fails(session: Session) -> None:
        await react(session)
        if session.episode.id.endswith("/3"):
            raise InfrastructureError("lost")
        session.episode.reward = {"bonus": float(session.episode.id[-1])}

    (group,) = asyncio.run(rollout(one_in_four_fails).groups([Task("t")], size=4, seed=0))
    assert [episode.valid for episode in group.episodes] == [True, True, True, False]
    table = columns([group])
    advantage = grpo()(table)
    by_episode = [np.unique(advantage[table.episode_S[table.row_T] == e]) for e in range(4)]
    np.testing.assert_allclose(np.concatenate(by_episode), [-1, 0, 1, 0], atol=1e-5)  # of returns 2, 3, 4


def test_when_most_fail_the_error_names_the_first() -> None:
    tasks = [Task("a"), Task("b", {"trouble": "infrastructure"}), Task("c", {"trouble": "refused"})]
    with pytest.raises(InfrastructureError, match=r"4 of 6 episodes failed, first 1:b/0[^\n]*\n.*the sandbox died"):
        asyncio.run(rollout().groups(tasks, size=2, seed=0))


def test_when_no_context_has_room_for_an_action_the_error_says_so() -> None:
    with pytest.raises(ValueError, match="max_context"):
        asyncio.run(rollout().groups([Task("a", {"length": 400}), Task("b", {"length": 500})], size=2, seed=0))


def tokens(groups: list[EpisodeGroup]) -> list[list[int]]:
    return [e.tree.tokens(e.actions[-1]).tolist() for group in groups for e in group.episodes]


def test_what_is_said_depends_on_the_seed_and_not_on_the_concurrency() -> None:
    def played(concurrency: int, seed: int) -> list[list[int]]:
        return tokens(asyncio.run(rollout(concurrency=concurrency).groups([Task("a"), Task("b")], size=3, seed=seed)))

    assert played(1, seed=7) == played(2, seed=7) == played(64, seed=7) != played(64, seed=8)


def test_a_group_shares_its_world_and_its_prompt() -> None:
    seeds: dict[str, set[int]] = {}

    class Seeded(Troubled):
        async def reset(self, task: Task, *, seed: int) -> Observation:
            seeds.setdefault(task.id, set()).add(seed)
            return await super().reset(task, seed=seed)

    groups = asyncio.run(rollout(environment=Seeded).groups([Task("a"), Task("b")], size=3, seed=0))
    assert [len(found) for found in seeds.values()] == [1, 1]
    assert seeds["a"] != seeds["b"]
    for group in groups:
        assert len({episode.tree.path(episode.actions[0])[0] for episode in group.episodes}) == 1
        assert len(group.tree.children(-1)) == 1


def test_leaves_are_where_contexts_end() -> None:
    async def forked(session: Session) -> None:
        first, _ = await session.act(session.open(await session.reset()))
        for _ in range(2):
            await session.act(first.observe(*Observation.of("go on").messages))
        session.stop(StopReason.TERMINATED)

    (group,) = asyncio.run(rollout(forked).groups([Task("a")], size=1, seed=0))
    (episode,) = group.episodes
    assert episode.leaves == episode.actions[1:]
