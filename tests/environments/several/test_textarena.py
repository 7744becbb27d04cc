"""TextArena's games: nobody hears its own words again, and games side by side are what they would be alone."""

from __future__ import annotations

import asyncio
import random

import pytest

from sojourn.core import Action
from sojourn.environments import check_multi_agent, find, from_textarena

pytest.importorskip("textarena")


def test_an_agent_reads_what_happened_since_it_acted_and_not_its_own_words() -> None:
    async def play() -> None:
        world = from_textarena("TicTacToe-v0")
        game = world.make()
        first = await game.reset(world.tasks.task("train", "default", 0), seed=0)
        assert "You are Player 0" in first["0"].messages[0].text
        await game.step({"0": Action("[4]")})
        seen = await game.step({"1": Action("[0]")})
        text = seen.observations["0"].messages[0].text
        assert "[Player 1] [0]" in text or "Player 1" in text
        assert "You are Player 0" not in text and "[Player 0] [4]" not in text

    asyncio.run(play())


def test_games_side_by_side_are_what_they_would_be_alone() -> None:
    world = from_textarena("KuhnPoker-v0")

    async def rounds(*indices: int) -> list[list[str]]:
        """All that is shown in each game, step by step in turn."""
        games = [world.make() for _ in indices]
        shown: list[list[str]] = [[] for _ in indices]
        for game, index, said in zip(games, indices, shown, strict=True):
            seen = await game.reset(world.tasks.task("train", "default", index), seed=0)
            said += [each.messages[0].text for each in seen.values()]
        for _ in range(8):
            for game, said in zip(games, shown, strict=True):
                transition = await game.step({game.acting()[0]: Action("[check]")})
                said += [each.messages[0].text for each in transition.observations.values()]
        return shown

    before = random.getstate()
    alone = [asyncio.run(rounds(index))[0] for index in (0, 1)]
    assert asyncio.run(rounds(0, 1)) == alone
    assert alone[0] != alone[1]
    assert random.getstate() == before, "nobody else's random numbers are touched"


@pytest.mark.parametrize("name", ["KuhnPoker-v0", "TicTacToe-v0", "SecretMafia-v0"])
def test_games_are_sound(name: str) -> None:
    assert check_multi_agent(find(f"textarena/{name}"), count=1)


def test_players_are_as_many_as_the_game_takes() -> None:
    assert len(from_textarena("SecretMafia-v0").make().agents) == 6
    with pytest.raises(ValueError, match="does not start with 3 players"):
        from_textarena("KuhnPoker-v0", players=3)
    with pytest.raises(ValueError, match="cannot make"):
        from_textarena("Kuhn")
