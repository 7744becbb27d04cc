"""PettingZoo both ways: its episodes are the library's own, and ours pass its checkers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sojourn.core import Action, FailureKind, MultiAgentEnvironment
from sojourn.environments import World, check_multi_agent, find, from_openspiel, from_pettingzoo

pettingzoo = pytest.importorskip("pettingzoo")
pytest.importorskip("pygame")


def test_an_episode_in_turn_is_the_library_s_own() -> None:
    from pettingzoo.classic import tictactoe_v3

    theirs, world = tictactoe_v3.env(), from_pettingzoo("tictactoe")

    async def play() -> None:
        ours, task = world.make(), world.tasks.task("train", "default", 0)
        seen = await ours.reset(task, seed=0)
        theirs.reset(seed=task.data["seed"])
        for cell in (0, 3, 1, 4, 2):
            agent = theirs.agent_selection
            assert ours.acting() == (agent,)
            mask = theirs.observe(agent)["action_mask"]
            assert ours.legal(agent) == tuple(str(i) for i in range(9) if mask[i])
            assert seen[agent].messages[0].text == str(theirs.observe(agent)["observation"])
            theirs.step(cell)
            transition = await ours.step({agent: Action(str(cell))})
            seen = transition.observations
            assert transition.rewards == {name: float(reward) for name, reward in theirs.rewards.items()}
        assert transition.terminated and transition.rewards == {"player_1": 1.0, "player_2": -1.0}

    asyncio.run(play())


def test_who_acts_at_once_is_asked_at_once_and_a_cut_is_no_end() -> None:
    async def play() -> None:
        world = from_pettingzoo("rps_v2", ("rock", "paper", "scissors"))
        ours = world.make()
        await ours.reset(world.tasks.task("train", "default", 0), seed=0)
        told = await ours.step({"player_0": Action("well"), "player_1": Action("paper")})
        assert told.failures[0].kind is FailureKind.MODEL
        assert ours.acting() == ("player_0",), "what the other chose stands"
        assert (await ours.step({"player_0": Action("rock")})).rewards == {"player_0": -1.0, "player_1": 1.0}
        while ours.acting():
            last = await ours.step({agent: Action("rock") for agent in ours.acting()})
        assert last.truncated and not last.terminated, "the library stops after so many rounds"

    asyncio.run(play())


@pytest.mark.parametrize("name", ["tictactoe", "connect_four", "rps"])
def test_environments_are_sound(name: str) -> None:
    assert check_multi_agent(find(f"pettingzoo/{name}"), count=1)


def test_what_cannot_be_played_is_refused() -> None:
    with pytest.raises(ValueError, match="tictactoe_v3"):
        from_pettingzoo("tic")
    with pytest.raises(ValueError, match="9 actions, 2 words"):
        from_pettingzoo("tictactoe", ("a", "b"))


@pytest.fixture(params=["kuhn_poker", "matrix_rps"])
def ours(request: pytest.FixtureRequest) -> tuple[World[MultiAgentEnvironment], tuple[str, ...]]:
    pytest.importorskip("pyspiel")
    words = {"kuhn_poker": ("Pass", "Bet"), "matrix_rps": ("Rock", "Paper", "Scissors")}[request.param]
    return from_openspiel(request.param), words


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_ours_pass_the_library_s_checkers(ours: Any) -> None:
    from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test, seed_test

    from sojourn.environments.several.as_pettingzoo import AsAec, AsParallel

    api_test(AsAec(*ours), num_cycles=30)
    parallel_api_test(AsParallel(*ours), num_cycles=30)
    seed_test(lambda: AsAec(*ours), num_cycles=30)
    parallel_seed_test(lambda: AsParallel(*ours), num_cycles=30)


def test_there_and_back_is_the_same_game() -> None:
    """Our game as PettingZoo's as ours: observations, legal actions and rewards of an episode."""
    pytest.importorskip("pyspiel")
    from sojourn.environments.several.as_pettingzoo import AsAec

    plain = from_openspiel("kuhn_poker")
    there = AsAec(plain, ("Pass", "Bet"))
    there.reset(seed=3)
    environment = plain.make()
    seen = asyncio.run(environment.reset(plain.tasks.task("train", "default", 3), seed=0))
    (agent,) = seen
    assert there.agent_selection == agent
    assert there.infos[agent]["text"] == seen[agent].messages[0].text
    assert bytes(there.observe(agent)["observation"]).rstrip(b"\0").decode() == seen[agent].messages[0].text
    for number, word in ((1, "Bet"), (0, "Pass")):
        there.step(number)
        last = asyncio.run(environment.step({environment.acting()[0]: Action(word, answer=word)}))
    assert there.rewards == last.rewards
    assert all(there.terminations.values())
