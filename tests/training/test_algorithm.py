"""A published algorithm by name: each one trains a step or says why it cannot, and a critic learns beside the policy."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import small
from small_run import config, experiment

from sojourn.agents import markov, react
from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.core import Action, Environment, Observation, StopReason, Task, Transition
from sojourn.credit import Columns, Then, VTrace, Whiten, columns, critic_targets, value_targets
from sojourn.learner import Critic, Learner, OptimizerConfig
from sojourn.objectives import ValueLoss
from sojourn.objectives.presets import PRESETS
from sojourn.policy import Program
from sojourn.store import RunFolder, read_episodes
from sojourn.training import Trainer, algorithm, train

LACKS = {
    "sft": "imitates all that it is shown",
    "dft": "imitates all that it is shown",
    "distillation": "needs a teacher",
    "igpo": "the right answer is, but the task does not know it",
}
"""What the trainer, or this world, does not give an algorithm: it says so."""


@pytest.mark.parametrize("name", PRESETS)
def test_every_algorithm_trains_or_says_what_it_lacks(name: str, tmp_path: Path) -> None:
    settings = config(tmp_path, tmp_path, algorithm=name)
    if name in LACKS:
        with pytest.raises(ValueError, match=LACKS[name]):
            asyncio.run(Trainer(settings, experiment(), small()).train_step())
        return
    trainer = Trainer(settings, experiment(), small())
    before = [p.detach().clone() for p in trainer.model.parameters()]
    _, metrics = asyncio.run(trainer.train_step())
    moved = any(not torch.equal(p, old) for p, old in zip(trainer.model.parameters(), before, strict=True))
    warming = trainer.experiment.critic is not None and not trainer.experiment.critic.policy_learns(0)
    assert moved != (warming or metrics["trained_tokens"] == 0)
    assert ("value_loss" in metrics) == (PRESETS[name].critic is not None)
    assert np.isfinite(metrics.get("loss", 0.0))


def test_epochs_and_minibatches_cut_a_rollout_into_whole_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, update = [], Learner.update

    def recorded(learner: Learner, groups: Any, table: Columns, *rest: Any, fresh: bool, **how: Any) -> dict[str, float]:
        seen.append((table.valid_E, table.group_E, fresh))
        return update(learner, groups, table, *rest, fresh=fresh, **how)

    monkeypatch.setattr(Learner, "update", recorded)
    trainer = Trainer(config(tmp_path, tmp_path, groups=5, epochs=3, minibatches=2), experiment(), small())
    asyncio.run(trainer.train_step())
    assert [fresh for _, _, fresh in seen] == [True] + 5 * [False]
    for (first, group_E, _), (second, _, _) in zip(seen[::2], seen[1::2], strict=True):
        assert (first ^ second).all()
        assert {len(set(first[group_E == g])) for g in range(5)} == {1}
        assert {int(first.sum()), int(second.sum())} == {8, 12}
    assert len({first.tobytes() for first, _, _ in seen[::2]}) > 1, "every epoch has its own order"


def test_groups_without_signal_are_replaced_while_rounds_are_left(tmp_path: Path) -> None:
    """A world that pays nothing on its first two questions: both groups are dropped, two others are sampled in their place."""

    def reward(prompt: str, completion: str) -> float:
        return 0.0 if prompt in ("Say a.", "Say b.") else float(sum(completion.encode()) % 7)

    prompts = ["Say a.", "Say b.", *(f"Say {number}." for number in range(6))]
    for rounds, sampled in ((1, 2), (2, 4), (9, 4)):
        settings = config(tmp_path, tmp_path, algorithm="dapo", groups=2, sampling_rounds=rounds)
        trainer = Trainer(settings, experiment(reward, prompts=prompts), small())
        groups, metrics = asyncio.run(trainer.train_step())
        assert len(groups) == sampled
        assert len({group.key for group in groups}) == sampled
        assert metrics["episodes"] == sampled * settings.group_size
        assert metrics["ledger/ZeroSignal"] == 2 * len(groups[0].episodes)
        assert (metrics["trained_tokens"] > 0) == (rounds > 1)


def test_the_greedy_episode_is_remax_s_baseline(tmp_path: Path) -> None:
    trainer = Trainer(config(tmp_path, tmp_path, algorithm="remax"), experiment(), small())
    groups, _ = asyncio.run(trainer.train_step())
    table, advantage_T = trainer.last[:2]
    fresh = Trainer(config(tmp_path, tmp_path), experiment(), small())  # the weights that sampled
    for number, played in enumerate(groups):
        (greedy,) = asyncio.run(fresh.rollout(temperature=0.0).groups([played.task], size=1, seed=1))
        mine_T = table.group_E[table.episode_S[table.row_T]] == number
        expected = table.return_E[table.episode_S[table.row_T]][mine_T] - greedy.episodes[0].total
        np.testing.assert_allclose(advantage_T[mine_T], expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("turn_ppo", [0.99, 0.99, 1, 1]), ("ppo_plain", [1, 1, 1, 1]), ("ragen", [0.95, 0.95, 1, 1]), ("grpo", [1, 1, 1, 1])],
)
def test_the_critic_discounts_as_the_credit_does(name: str, expected: list[float]) -> None:
    """Two actions of two tokens, paid 1 at the end."""
    table = replace(columns([group([Script([Turn(2), Turn(2)], final=1.0)])]), value_T=np.array([0.3, -0.2, 0.7, 0.1]))
    np.testing.assert_allclose(critic_targets(PRESETS[name].credit or algorithm.no_credit, table), expected)


def test_the_critic_s_targets_hold_the_penalties_that_the_credit_subtracts() -> None:
    """Beta 0.05 times log pi / ref of 0.4, 0, -0.2 and 1, summed from each token to the end."""
    table = columns([group([Script([Turn(2), Turn(2)], final=1.0)])])
    assert table.logp_T is not None
    table = replace(table, value_T=np.array([0.3, -0.2, 0.7, 0.1]), ref_logp_T=table.logp_T - [0.4, 0.0, -0.2, 1.0])
    assert PRESETS["ppo"].credit is not None
    np.testing.assert_allclose(critic_targets(PRESETS["ppo"].credit, table), [0.94, 0.96, 0.96, 0.95])


def test_under_v_trace_the_critic_learns_v_trace_s_values() -> None:
    """IMPALA, eq. 1 for one action of two tokens, paid 1: ratios 0.5 and 2, both capped at 1."""
    table = columns([group([Script([Turn(2)], final=1.0)])])
    assert table.logp_T is not None
    ratio, value = np.array([0.5, 2.0]), np.array([0.25, 0.5])
    table = replace(table, value_T=value, policy_logp_T=table.logp_T + np.log(ratio))
    second = value[1] + (1 - value[1])
    first = value[0] + 0.5 * (value[1] - value[0]) + 0.5 * (1 - value[1])
    for credit in (VTrace(), Then(credit=VTrace(), transforms=(Whiten(),))):
        np.testing.assert_allclose(critic_targets(credit, table), [first, second])


@pytest.mark.parametrize("name", ["ppo", "impala"])
def test_the_trainer_gives_the_critic_these_targets(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy is off its reference and off what sampled; with values of 0 a target is what is still to be earned."""
    seen = []
    monkeypatch.setattr(Critic, "update", lambda critic, groups, table, target_T: seen.append(target_T) or {})
    monkeypatch.setattr(Learner, "reference_logp", lambda learner, groups, table, chosen_T: table.logp_T - 1.0)
    trainer = Trainer(config(tmp_path, tmp_path, algorithm=name), experiment(), small())
    groups, _ = asyncio.run(trainer.train_step())
    (target_T,) = seen
    expected = []
    for episode in (episode for each in groups for episode in each.episodes):
        left = np.arange(len(episode.tree[episode.actions[0]].tokens), 0, -1)
        expected += (episode.total - (0.05 * left if name == "ppo" else 0.0 * left)).tolist()
    np.testing.assert_allclose(target_T, expected, atol=1e-5)


def test_kto_calls_a_solved_group_good() -> None:
    credit = PRESETS["kto"].credit
    assert credit is not None
    assert (credit(columns([group([Script([Turn(2)], final=1.0), Script([Turn(1)], final=1.0)])])) > 0).all()


class Ladder(Environment):
    """Pays 1, 2 and 4 for its three steps, whatever is said, and can go back."""

    async def reset(self, task: Task, *, seed: int) -> Observation:
        self._at = 0
        return Observation.of("Climb.")

    async def step(self, action: Action) -> Transition:
        self._at += 1
        return Transition(Observation.of(f"Rung {self._at}."), 2.0 ** (self._at - 1), terminated=self._at == 3)

    def snapshot(self) -> object:
        return self._at

    def restore(self, snapshot: object) -> None:
        assert isinstance(snapshot, int)
        self._at = snapshot


@pytest.mark.parametrize("program", [react, markov])
def test_monte_carlo_values_are_what_is_still_to_be_paid(program: Program, tmp_path: Path) -> None:
    """The value of a state is known here, so every advantage is 0; and looking ahead changes nothing of what was said."""
    played = {}
    for name in ("vine_ppo", "grpo"):
        parts = replace(experiment(), environment=Ladder, program=program)
        trainer = Trainer(config(tmp_path, tmp_path, algorithm=name, value_rollouts=2, seed=1), parts, small())
        groups, _ = asyncio.run(trainer.train_step())
        episodes = [episode for each in groups for episode in each.episodes]
        played[name] = [[episode.tree[span].tokens.tolist() for span in episode.actions] for episode in episodes]
        assert {episode.total for episode in episodes} == {7.0}
        values = [[episode.tree[span].value for span in episode.actions] for episode in episodes]
        assert values == [[7.0, 6.0, 4.0] if name == "vine_ppo" else [None] * 3] * len(episodes)
        assert not trainer.last.advantage_T.any()
    assert played["vine_ppo"] == played["grpo"]


@pytest.mark.parametrize("limit", ["max_turns", "max_acts"])
def test_monte_carlo_values_where_turns_run_out_are_what_the_turns_left_can_earn(limit: str, tmp_path: Path) -> None:
    """Two turns, or acts, of the three: 1 + 2, then 2, then nothing."""
    parts = replace(experiment(), environment=Ladder, program=react)
    settings: dict[str, Any] = {"algorithm": "vine_ppo", "value_rollouts": 2, limit: 2}
    trainer = Trainer(config(tmp_path, tmp_path, **settings), parts, small())
    groups, _ = asyncio.run(trainer.train_step())
    episodes = [episode for each in groups for episode in each.episodes]
    assert {episode.stop for episode in episodes} == {StopReason.TURN_LIMIT}
    assert {tuple(episode.tree[span].value for span in episode.actions) for episode in episodes} == {(3.0, 2.0)}
    assert not trainer.last.advantage_T.any()


@pytest.mark.parametrize("name", ["sft", "rft", "awr", "dpo", "step_dpo", "kto", "grpo"])
def test_stored_episodes_are_learned_from_without_sampling(name: str, tmp_path: Path, model: Path) -> None:
    train(config(tmp_path / "first", model, steps=2, eval_tasks=0, keep_episodes_every=1), experiment())
    stored = {row["id"] for row in read_episodes(tmp_path / "first", "phase = 'train'")}
    settings = config(tmp_path / name, model, algorithm=name, learn_from=str(tmp_path / "first"), groups=2)
    trainer = Trainer(settings, experiment(), small())
    before, seen = [p.detach().clone() for p in trainer.model.parameters()], []
    for _ in range(2):
        groups, metrics = asyncio.run(trainer.train_step())
        seen += [episode.id for group in groups for episode in group.episodes]
        assert np.isfinite(metrics["loss"])
    assert set(seen) == stored, "two steps of two groups go once through all four"
    assert trainer.engine.sampled_tokens == 0
    assert any(not torch.equal(p, old) for p, old in zip(trainer.model.parameters(), before, strict=True))


def test_a_run_without_episodes_is_refused(tmp_path: Path, model: Path) -> None:
    train(config(tmp_path / "first", model, steps=1, eval_tasks=0, keep_episodes_every=0), experiment())
    with pytest.raises(ValueError, match="found no episodes"):
        Trainer(config(tmp_path, model, learn_from=str(tmp_path / "first")), experiment(), small())


def test_a_run_with_a_critic_goes_on_as_if_it_had_never_stopped(tmp_path: Path, model: Path) -> None:
    for run, steps in (("whole", (4,)), ("stopped", (2, 4))):
        for count in steps:
            settings = config(tmp_path / run, model, algorithm="ppo", steps=count, eval_every=0)
            (tmp_path / run / "config.json").unlink(missing_ok=True)  # the number of steps is part of it
            train(settings, experiment())
    whole, stopped = ([row["value_loss"] for row in RunFolder(tmp_path / run).metrics()] for run in ("whole", "stopped"))
    assert len(whole) == 4
    assert whole == stopped


@pytest.mark.parametrize("dropped", [False, True])
def test_a_critic_s_step_computes_what_it_learns_from_and_nothing_else(dropped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    critic, table = critic_for(), columns(CUT)
    table = critic.valued(CUT, table)
    kept = replace(table, valid_E=table.valid_E & (table.group_E == 1)) if dropped else table
    tokens: list[int] = []
    values = Critic._values
    monkeypatch.setattr(Critic, "_values", lambda each, batch: (tokens.append(len(batch.row)), values(each, batch))[1])
    critic.update(CUT, kept, value_targets(table))
    assert sum(tokens) == kept.valid_E[kept.episode_S][kept.row_T].sum()


def critic_for(**settings: int) -> Critic:
    """A critic whose head is not 0."""
    critic = Critic(small().model, OptimizerConfig(), ValueLoss(), **settings)
    torch.nn.init.normal_(critic.head.weight, generator=torch.Generator().manual_seed(0))
    return critic


CUT = [
    group([Script([Turn(3), Turn(2)], final=1.0), Script([Turn(4), Turn(1)], stop=StopReason.TURN_LIMIT)]),
    group([Script([Turn(2)], branches=[Script([Turn(3)]), Script([Turn(1)])]), Script([Turn(5)])], key="h", seed=1),
]


@pytest.mark.parametrize("budget", [1, 30, 4096])
def test_values_are_those_of_each_branch_alone(budget: int) -> None:
    plain, table = small().model, columns(CUT)
    critic = critic_for(token_budget=budget)
    valued = critic.valued(CUT, table)
    expected, after = [], np.zeros(len(table.span_S))
    tree_of = [each.tree for each in CUT for _ in each.episodes]
    for row, span in enumerate(table.span_S.tolist()):
        tree = tree_of[table.episode_S[row]]
        path, own = torch.from_numpy(tree.tokens(span)), len(tree[span].tokens)
        with torch.no_grad():
            states = critic.head(plain.base_model(path[None]).last_hidden_state[0])[:, 0].numpy()
        expected += states[len(path) - own - 1 : -1].tolist()
        if table.leaf_S[row] and table.bootstraps_E[table.episode_S[row]]:
            after[row] = states[-1]
    np.testing.assert_allclose(valued.value_T, expected, atol=1e-4)
    np.testing.assert_allclose(valued.after_S, after, atol=1e-4)
    assert np.count_nonzero(after) == 1


def test_a_critic_that_knows_the_size_of_returns_learns_in_that_unit() -> None:
    """Targets and scale twenty times as large: values are twenty times as large after every step."""
    table = columns(CUT[:1])
    learned = []
    for scale in (1.0, 20.0):
        critic = Critic(small().model, OptimizerConfig(learning_rate=3e-3), ValueLoss(scale=scale))
        for _ in range(3):
            critic.update(CUT[:1], critic.valued(CUT[:1], table), scale * np.ones(len(table.row_T)))
        learned.append(critic.valued(CUT[:1], table).value_T)
    assert learned[0].min() > 0
    np.testing.assert_allclose(learned[1], 20 * learned[0], rtol=1e-4)


def test_a_critic_learns_what_episodes_return() -> None:
    critic = Critic(small().model, OptimizerConfig(learning_rate=3e-3), ValueLoss())
    table = critic.valued(CUT[:1], columns(CUT[:1]))
    assert not table.value_T.any(), "the head starts at 0"
    for _ in range(40):
        table = critic.valued(CUT[:1], columns(CUT[:1]))
        critic.update(CUT[:1], table, value_targets(table))
    paid = table.episode_S[table.row_T] == 0
    np.testing.assert_allclose(table.value_T[paid], [0.5, 1, 1, 1, 1], atol=0.2)  # both episodes begin in the same state
