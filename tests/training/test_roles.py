"""Several roles learn in one run, each from its own; who never acts, or is only listened to, changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import small
from pennies import Pennies, game
from small_run import config

from sojourn.agents import table
from sojourn.core import Action
from sojourn.policy import Session
from sojourn.rendering.protocols import PlainText
from sojourn.store import RunFolder
from sojourn.training import Experiment, Former, Role, Trainer, train, turn_about

BOTH = {"even": "even", "odd": "odd"}


def played(parts: Experiment, tmp_path: Path, steps: int = 1, **changes: Any) -> tuple[Trainer, list[dict[str, Any]]]:
    trainer = Trainer(config(tmp_path, tmp_path, **({"max_context": 300} | changes)), parts, small())
    return trainer, [asyncio.run(trainer.train_step())[1] for _ in range(steps)]


def weights(trainer: Trainer, role: str) -> list[torch.Tensor]:
    return [p.detach().clone() for p in trainer.players[role].model.parameters()]


def same(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_two_roles_learn_in_one_rollout_and_from_opposite_returns(tmp_path: Path) -> None:
    trainer, (metrics,) = played(game({"even": Role(), "odd": Role()}, BOTH), tmp_path)
    assert metrics["even/reward"] == -metrics["odd/reward"]
    assert metrics["reward"] == 0.0
    assert metrics["even/ledger/trained"] == metrics["odd/ledger/trained"] == 8
    before = list(small().model.parameters())
    assert not same(weights(trainer, "even"), before)
    assert not same(weights(trainer, "odd"), before)
    assert not same(weights(trainer, "even"), weights(trainer, "odd"))


def test_one_role_on_both_seats_compares_each_seat_with_itself(tmp_path: Path) -> None:
    trainer, (metrics,) = played(game({"self": Role()}, {"even": "self", "odd": "self"}), tmp_path)
    assert metrics["ledger/trained"] == 16, "two rows an episode"
    table_, advantage_T = trainer.last[:2]
    assert len(np.unique(table_.group_E)) == 4, "two groups, two seats"
    sums = np.bincount(table_.episode_S[table_.row_T], advantage_T / table_.length_S[table_.row_T])
    for group in range(4):
        mine = table_.group_E == group
        assert abs(sums[mine].sum()) < 1e-9


def test_a_role_that_never_acts_changes_no_bit(tmp_path: Path) -> None:
    without, _ = played(game({"even": Role(), "odd": Role()}, BOTH), tmp_path, steps=2)
    with_it, _ = played(game({"even": Role(), "odd": Role(), "idle": Role()}, {**BOTH, "nobody": "idle"}), tmp_path, steps=2)
    for role in ("even", "odd"):
        assert same(weights(without, role), weights(with_it, role))
    assert same(weights(with_it, "idle"), list(small().model.parameters()))


def test_a_frozen_partner_is_no_more_than_what_it_says(tmp_path: Path) -> None:
    """The partner's tokens, put into its mouth by a script, teach the other role the same to the bit."""
    frozen = {"even": Role(), "odd": Role(learns=False)}
    live = Trainer(config(tmp_path, tmp_path, max_context=300), game(frozen, BOTH), small())
    groups, _ = asyncio.run(live.train_step())
    script = {
        episode.id: [episode.tree[span].message.text for span in episode.actions if episode.tree[span].agent == "odd"]  # type: ignore[union-attr]
        for group in groups
        for episode in group.episodes
    }

    async def scripted(session: Session) -> None:
        lines = iter(script[session.episode.id])
        seen = await session.reset_all()
        contexts = {agent: session.open(seen[agent], agent=agent) for agent in Pennies.agents}
        while not session.done:
            spoken, action = await session.act(contexts["even"], legal=("l", "r"))
            line = Action(next(lines))
            heard = session.say(contexts["odd"], line)
            seen = await session.step_all({"even": (spoken, action), "odd": (heard, line)})
            contexts = {"even": spoken.observe(*seen["even"].messages), "odd": heard.observe(*seen["odd"].messages)}

    other, _ = played(replace(game(frozen, BOTH), program=scripted), tmp_path)
    assert same(weights(live, "even"), weights(other, "even"))
    assert not same(weights(live, "even"), list(small().model.parameters()))


def test_roles_take_turns(tmp_path: Path) -> None:
    roles = {"even": Role(when=turn_about(0, 2)), "odd": Role(when=turn_about(1, 2))}
    trainer = Trainer(config(tmp_path, tmp_path, max_context=300), game(roles, BOTH), small())
    moved, ledgers = [], []
    for _ in range(3):
        before = {role: weights(trainer, role) for role in roles}
        _, metrics = asyncio.run(trainer.train_step())
        moved.append([role for role in roles if not same(before[role], weights(trainer, role))])
        ledgers.append([metrics.get(f"{role}/ledger/not its turn", 0) for role in roles])
    assert moved == [["even"], ["odd"], ["even"]]
    assert ledgers == [[0, 8], [8, 0], [0, 8]]


def test_roles_may_have_parts_numbers_and_models_of_their_own(tmp_path: Path) -> None:
    small("qwen3").model.save_pretrained(tmp_path / "other")
    small("qwen3").tokenizer.save_pretrained(tmp_path / "other")
    roles = {"even": Role(), "odd": Role(model=str(tmp_path / "other"), temperature=0.5, protocol=PlainText(), lora_rank=2)}
    trainer, (metrics,) = played(game(roles, BOTH), tmp_path)
    assert trainer.players["odd"].model.config.model_type == "qwen3"
    assert metrics["odd/trained_tokens"] > 0
    assert all("lora" in name for name in trainer.players["odd"].weights())


def of(trainer: Trainer, role: str) -> list[torch.Tensor]:
    return [p.detach().clone() for p in trainer.players[role].weights().values()]


def on_one_base(**second: Any) -> dict[str, Role]:
    return {"even": Role(lora_rank=2), "odd": Role(base="even", lora_rank=2, **second)}


def test_two_adapters_on_one_base_learn_in_one_batch_what_they_learn_on_two(tmp_path: Path) -> None:
    """Apart each has a model and an engine of its own; together the base is there once and does not move."""
    shared, (together, _) = played(game(on_one_base(), BOTH), tmp_path, steps=2)
    apart, (separate, _) = played(game({"even": Role(lora_rank=2), "odd": Role(lora_rank=2)}, BOTH), tmp_path, steps=2)
    players = shared.players
    assert players["even"].model is players["odd"].model and players["even"].engine is players["odd"].engine
    assert together["even/reward"] == separate["even/reward"] and together["odd/reward"] == separate["odd/reward"]
    for role in BOTH:
        for one, other in zip(of(shared, role), of(apart, role), strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)
    assert not same(of(shared, "even"), of(shared, "odd"))
    first = dict(small().model.named_parameters())
    bases = {n.replace(".base_layer", ""): p for n, p in players["even"].model.named_parameters() if "lora_" not in n}
    assert bases.keys() == first.keys() and all(torch.equal(bases[name], p) for name, p in first.items())


def test_a_base_may_stand_anywhere_and_be_frozen(tmp_path: Path) -> None:
    roles = {"even": Role(base="judge", lora_rank=2), "odd": Role(base="judge", learns=False), "judge": Role(learns=False)}
    trainer, (metrics,) = played(game(roles, BOTH), tmp_path)
    assert len({id(player.model) for player in trainer.players.values()}) == 1
    assert list(trainer.players) == ["even", "odd", "judge"] and trainer.lead.name == "even"
    assert metrics["trained_tokens"] > 0
    alone, _ = played(game({"even": Role(lora_rank=2), "odd": Role(learns=False)}, BOTH), tmp_path)
    for one, other in zip(of(trainer, "even"), of(alone, "even"), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


def test_an_adapter_that_never_acts_changes_no_bit(tmp_path: Path) -> None:
    without, _ = played(game(on_one_base(), BOTH), tmp_path, steps=2)
    idle = {**on_one_base(), "idle": Role(base="odd", lora_rank=3)}
    with_it, _ = played(game(idle, {**BOTH, "nobody": "idle"}), tmp_path, steps=2)
    for role in BOTH:
        assert same(of(without, role), of(with_it, role))
    assert all(not p.any() for name, p in with_it.players["idle"].weights().items() if "lora_B" in name)


def test_former_selves_of_an_adapter_are_adapters_on_its_base(tmp_path: Path) -> None:
    roles = {"actor": Role(lora_rank=2), "past": Role(former=Former(every=1, most=2, opponents="uniform"))}
    trainer, _ = played(game(roles, {"even": "actor", "odd": "past"}), tmp_path, steps=3)
    past, model = trainer.players["past"], trainer.model
    assert past.league is not None and sorted(past.league.weights) == [0, 3]
    assert past.model is model and past.engine is trainer.engine
    on_it = {name.split(".")[-2] for name, _ in model.named_parameters() if "lora_" in name}
    assert on_it == {"actor", "past@0", "past@3"}, "those that are kept, and no other"
    for name, p in model.named_parameters():
        if "past@" in name:
            version = int(name.split("@")[1].split(".")[0])
            assert torch.equal(p, past.league.weights[version][name.replace(f".past@{version}.", ".")]) and not p.requires_grad


def test_a_stopped_run_of_adapters_on_one_base_with_a_league_goes_on_to_the_bit(tmp_path: Path, model: Path) -> None:
    def parts() -> Experiment:
        roles = {
            "actor": Role(lora_rank=2),
            "second": Role(base="actor", lora_rank=3),
            "past": Role(former=Former(of="second", every=1, most=2)),
        }
        return game(roles, {"even": "second", "odd": "past"})

    for run, steps in (("whole", (3,)), ("stopped", (1, 3))):
        for count in steps:
            (tmp_path / run / "config.json").unlink(missing_ok=True)
            train(config(tmp_path / run, model, steps=count, eval_every=0, checkpoint_every=1, max_context=300), parts())
    timed = ("seconds", "tokens_per_second")
    whole, stopped = (
        [{name: v for name, v in row.items() if not name.startswith(timed)} for row in RunFolder(tmp_path / run).metrics()]
        for run in ("whole", "stopped")
    )
    assert whole == stopped


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        ({"even": Role(lora_rank=2), "odd": Role(base="even")}, "'odd' trains all weights of the model that they share"),
        ({"even": Role(), "odd": Role(base="even", lora_rank=2)}, "'even' trains all weights of the model that they share"),
        ({"even": Role(base="odd", lora_rank=1), "odd": Role(base="even", lora_rank=1)}, "is its own base"),
        (
            {"even": Role(lora_rank=1), "past": Role(former=Former(of="even")), "odd": Role(base="past", lora_rank=1)},
            "which former selves play: name 'even'",
        ),
    ],
)
def test_bases_that_cannot_be_shared_are_refused_before_a_model_is_loaded(
    roles: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sojourn.training.setup.load", lambda name: pytest.fail("loaded a model"))
    with pytest.raises(ValueError, match=said):
        Trainer(config(tmp_path, tmp_path), game(roles, BOTH))


@pytest.mark.parametrize("opponents", ["latest", "uniform", "prioritised"])
def test_a_league_meets_former_selves_and_keeps_the_score(opponents: Any, tmp_path: Path) -> None:
    roles = {"actor": Role(), "past": Role(former=Former(every=1, most=2, opponents=opponents))}
    trainer, rows = played(game(roles, {"even": "actor", "odd": "past"}), tmp_path, steps=3)
    league = trainer.players["past"].league
    assert league is not None
    assert sorted(league.weights) == [0, 3]
    assert sum(record.games for record in league.records.values()) == 3 * 8
    first = {name: p.detach() for name, p in small().model.named_parameters()}
    assert all(torch.equal(league.weights[0][name], value) for name, value in first.items() if name in league.weights[0])
    assert "past/reward" not in rows[0], "a former self does not learn"


def test_the_present_policy_on_a_league_s_seat_is_played_and_not_recorded(tmp_path: Path) -> None:
    roles = {"actor": Role(), "past": Role(former=Former(every=1, present=1.0))}
    trainer, rows = played(game(roles, {"even": "actor", "odd": "past"}), tmp_path, steps=2)
    league = trainer.players["past"].league
    assert league is not None and league.payoffs == {}
    assert trainer.players["past"].policies(5, 1)[0].engine is trainer.players["actor"].engine
    assert [row["ledger/trained"] for row in rows] == [8, 8], "one seat learns"


@pytest.mark.parametrize(
    ("roles", "seats", "said"),
    [
        ({"a": Role()}, {"even": "a", "odd": "b"}, "seat 'odd' names the role 'b'"),
        ({"a": Role(learns=False)}, {"even": "a", "odd": "a"}, "no role learns"),
        ({"a": Role(), "b": Role(former=Former(of="c"))}, {}, "'c'"),
        ({"a": Role(), "f": Role(learns=False), "b": Role(former=Former(of="f"))}, {}, "all alike"),
    ],
)
def test_roles_that_cannot_be_are_refused_before_a_model_is_loaded(
    roles: Any, seats: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sojourn.training.setup.load", lambda name: pytest.fail("loaded a model"))
    with pytest.raises(ValueError, match=said):
        Trainer(config(tmp_path, tmp_path), game(roles, seats))


def test_an_agent_without_a_seat_is_named(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="no policy 'actor' for agent 'odd'"):
        played(game({"even": Role()}, {"even": "even"}), tmp_path)


def test_a_stopped_run_of_two_roles_and_a_league_goes_on_to_the_bit(tmp_path: Path, model: Path) -> None:
    def parts() -> Experiment:
        roles = {"actor": Role(), "second": Role(when=turn_about(0, 2)), "past": Role(former=Former(every=1))}
        return game(roles, {"even": "actor", "odd": "past"})

    for run, steps in (("whole", (4,)), ("stopped", (1, 2, 4))):
        for count in steps:
            (tmp_path / run / "config.json").unlink(missing_ok=True)  # the number of steps is part of it
            train(config(tmp_path / run, model, steps=count, eval_every=0, checkpoint_every=1, max_context=300), parts())
    timed = ("seconds", "tokens_per_second")
    whole, stopped = (
        [
            {name: value for name, value in row.items() if not name.startswith(timed)}
            for row in RunFolder(tmp_path / run).metrics()
        ]
        for run in ("whole", "stopped")
    )
    assert whole == stopped
    league = RunFolder(tmp_path / "whole").league()
    assert league == RunFolder(tmp_path / "stopped").league()
    assert sum(games for *_, games, _ in league["past"]["payoffs"]) == 4 * 8, "four steps of eight episodes"
    assert "Former selves: past" in (tmp_path / "whole" / "report.html").read_text()
    assert RunFolder(tmp_path / "whole").summary()["ledger"] == RunFolder(tmp_path / "stopped").summary()["ledger"]


class Notes:
    """A memory over episodes: how often it was written to."""

    def __init__(self) -> None:
        self.count = 0

    def state(self) -> Any:
        return self.count

    def load_state(self, state: Any) -> None:
        self.count = state


def test_what_outlives_an_episode_is_in_the_checkpoint(tmp_path: Path, model: Path) -> None:
    async def noting(session: Session) -> None:
        await table(session)
        session.kept["notes"].count += 1

    counts = []
    for steps in (2, 3):
        notes = Notes()
        (tmp_path / "run" / "config.json").unlink(missing_ok=True)
        parts = replace(game({"self": Role()}, {"even": "self", "odd": "self"}), program=noting, kept={"notes": notes})
        train(config(tmp_path / "run", model, steps=steps, eval_tasks=0, checkpoint_every=1, max_context=300), parts)
        counts.append(notes.count)
    assert counts == [16, 24]
