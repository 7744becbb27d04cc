"""OpenSpiel's games: the library's own episode, what must be hidden is hidden, and a policy's exploitability in closed form."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from helpers import small

from sojourn.agents import table
from sojourn.core import Action, Episode, FailureKind, JointTransition, TrajectoryTree
from sojourn.engine import SamplingParams
from sojourn.engine.local import LocalEngine
from sojourn.environments import check_multi_agent, find, from_openspiel
from sojourn.policy import Policy, Session
from sojourn.policy.legal import legal_chances
from sojourn.policy.session import Limits
from sojourn.rendering import ChatRenderer
from sojourn.rendering.protocols import PlainText

pyspiel = pytest.importorskip("pyspiel")


def said(*texts: str) -> list[Action]:
    return [Action(text, answer=text) for text in texts]


def play(name: str, index: int, texts: Sequence[str], **settings: Any) -> list[JointTransition]:
    """One agent speaks after the other."""
    world = from_openspiel(name, **settings)

    async def go() -> list[JointTransition]:
        environment = world.make()
        await environment.reset(world.tasks.task("train", "default", index), seed=0)
        return [await environment.step({environment.acting()[0]: action}) for action in said(*texts)]

    return asyncio.run(go())


@pytest.mark.parametrize("first", ["a", "b"])
def test_who_plays_first_changes_from_task_to_task_and_the_deal_does_not(first: str) -> None:
    world = from_openspiel("kuhn_poker")

    async def cards(index: int) -> tuple[str, str]:
        environment = world.make()
        seen = await environment.reset(world.tasks.task("train", "default", index), seed=0)
        (agent,) = seen
        return agent, environment.state.to_string()  # type: ignore[attr-defined]

    index = {"a": 4, "b": 5}[first]
    assert asyncio.run(cards(index))[0] == first
    assert asyncio.run(cards(4))[1] == asyncio.run(cards(5))[1]


def test_a_bet_that_is_not_called_wins_the_ante_whatever_the_cards() -> None:
    for index in range(6):
        *_, last = play("kuhn_poker", index, ["Bet", "Pass"])
        first, second = ("a", "b") if index % 2 == 0 else ("b", "a")
        assert last.terminated
        assert last.rewards == {first: 1.0, second: -1.0}
        assert last.info == {f"success/{first}": True, f"success/{second}": False}


def test_who_is_to_act_reads_its_card_and_what_was_said() -> None:
    (after,) = play("kuhn_poker", 0, ["Pass"])
    (text,) = [seen.messages[0].text for agent, seen in after.observations.items() if agent == "b"]
    assert text.splitlines()[0] in ("0p", "1p", "2p")
    assert text.splitlines()[1] == "Your actions: Pass, Bet"


def test_who_acts_at_once_is_asked_at_once_and_a_fault_moves_nothing() -> None:
    async def go() -> None:
        world = from_openspiel("matrix_rps")
        environment = world.make()
        await environment.reset(world.tasks.task("train", "default", 0), seed=0)
        assert environment.acting() == ("a", "b")
        rock, well = said("Rock", "Well")
        faulty = await environment.step({"a": rock, "b": well})
        assert list(faulty.observations) == ["b"]
        assert faulty.failures[0].kind is FailureKind.MODEL
        assert environment.acting() == ("b",), "what a chose stands"
        last = await environment.step({"b": said("Paper")[0]})
        assert last.terminated and last.rewards == {"a": -1.0, "b": 1.0}

    asyncio.run(go())


@pytest.mark.parametrize(
    "name", ["kuhn_poker", "leduc_poker", "tic_tac_toe", "matrix_rps", "goofspiel(num_cards=4,imp_info=True)"]
)
def test_games_are_sound(name: str) -> None:
    assert check_multi_agent(find(f"openspiel/{name}"), count=2)


def test_the_checker_draws_anew_what_an_agent_cannot_know() -> None:
    assert "saw no difference" in check_multi_agent(from_openspiel("kuhn_poker"))[-1]
    with pytest.raises(ValueError, match="'a' saw it"):
        check_multi_agent(from_openspiel("kuhn_poker", show=lambda state, player: str(state)))


@pytest.mark.parametrize(
    ("name", "message"),
    [("kuhn", "kuhn_poker"), ("mfg_garnet", "mean-field"), ("negotiation", "draws its chances itself")],
)
def test_games_that_cannot_be_played_are_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_openspiel(name)


def test_actions_that_read_alike_are_refused() -> None:
    with pytest.raises(ValueError, match="one text"):
        play("kuhn_poker", 0, ["x"], say=lambda state, player, action: "x")


def policy(temperature: float = 1.0) -> Policy:
    loaded = small()
    engine = LocalEngine(loaded.model, loaded.tokenizer, max_context=200)
    renderer = ChatRenderer(loaded.tokenizer, PlainText())
    return Policy("actor", engine, renderer, PlainText(), SamplingParams(temperature=temperature))


@pytest.mark.parametrize("temperature", [1.0, 0.5, 0.0])
def test_chances_of_legal_texts_are_those_that_sampling_reports(temperature: float) -> None:
    """Texts that part at the first letter, at the second, and where one is the start of another."""
    who, legal = policy(temperature), ("go", "get", "gets", "stay")
    world = from_openspiel("kuhn_poker")

    async def go() -> tuple[Any, dict[str, float]]:
        context = TrajectoryTree().new_context(
            (await world.make().reset(world.tasks.task("train", "default", 0), seed=0))["a"].messages, renderer=who.renderer
        )
        reported = {}
        for seed in range(40):
            child, action = await who.act(context.prompted(), seed=seed, legal=legal)
            logps = child.tree[child.span].logprobs
            assert logps is not None
            reported[action.text] = float(np.exp(logps.sum()))
        return await legal_chances(who, context, legal), reported

    chances, reported = asyncio.run(go())
    assert chances.sum() == pytest.approx(1.0)
    for text, chance in reported.items():
        assert chances[legal.index(text)] == pytest.approx(chance, abs=1e-5)


def uniform(game: Any) -> dict[str, dict[int, float]]:
    return {key: {0: 0.5, 1: 0.5} for key in KUHN_STATES}


KUHN_STATES = [card + said_ for card in "012" for said_ in ("", "p", "b", "pb")]


def equilibrium(alpha: float) -> Mapping[str, Mapping[int, float]]:
    """Kuhn's family of equilibria: the chance to bet at each information state.  [Kuhn 1950]"""
    bets = {
        "0": alpha, "1": 0.0, "2": 3 * alpha, "0pb": 0.0, "1pb": alpha + 1 / 3, "2pb": 1.0,
        "0p": 1 / 3, "1p": 0.0, "2p": 1.0, "0b": 0.0, "1b": 1 / 3, "2b": 1.0,
    }  # fmt: skip
    return {key: {0: 1 - bet, 1: bet} for key, bet in bets.items()}


def test_exploitability_is_the_known_one() -> None:
    from sojourn.environments.several.exploitability import exploitability

    game = pyspiel.load_game("kuhn_poker")
    assert exploitability(game, uniform(game)) == pytest.approx(11 / 24)
    for alpha in (0.0, 0.2, 1 / 3):
        assert exploitability(game, equilibrium(alpha)) == pytest.approx(0.0, abs=1e-12)


def test_the_table_of_a_policy_is_what_it_does_in_play() -> None:
    """The chances in the table are those that an episode's actions report, at every information state that it meets."""
    from sojourn.environments.several.exploitability import tabular

    world = from_openspiel("kuhn_poker", show=lambda state, player: str(state.information_state_string(player)))
    who = policy()

    async def go() -> tuple[dict[str, dict[int, float]], list[tuple[str, str, float]]]:
        met = []
        for index in range(8):
            task = world.tasks.task("train", "default", index)
            episode, environment = Episode(str(index), task, TrajectoryTree()), world.make()
            session = Session(episode, environment, {"actor": who}, seed=index, limits=Limits())
            await table(session)
            for span in episode.actions:
                done = episode.tree[span]
                before = episode.tree[episode.tree.path(span)[-2]]
                while before.message is None:
                    before = episode.tree[before.parent]
                assert done.message is not None and done.logprobs is not None
                met.append((before.message.text, done.message.text, float(np.exp(done.logprobs.sum()))))
        return await tabular(world.make(), who), met  # type: ignore[arg-type]

    found, met = asyncio.run(go())
    assert sorted(found) == sorted(KUHN_STATES)
    for key, text, chance in met:
        assert found[key][{"Pass": 0, "Bet": 1}[text]] == pytest.approx(chance, abs=1e-5)
