"""What parts declare is what they read, composites add up, and coefficients that move are inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from inside import inside

from sojourn.conformance.batches import batch
from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.credit import (
    BiLevelGae,
    Columns,
    Distillation,
    EntropyBonus,
    Gae,
    InformationGain,
    KlInReward,
    PassK,
    ProcessRewards,
    StepRelative,
    Sum,
    Then,
    VTrace,
    Whiten,
    columns,
    critic_targets,
    declares,
    dr_grpo,
    grpo,
    reads,
    value_targets,
)
from sojourn.credit.needs import COLUMNS, TRAITS, coefficients, reader, refusals, traits
from sojourn.objectives import (
    Dpo,
    Importance,
    Kl,
    Kto,
    Mix,
    PolicyGradient,
    Reference,
    SecondMoment,
    Supervised,
    TopEntropy,
    Unclipped,
    ValueLoss,
)
from sojourn.objectives.inputs import compares, imitates, reach
from sojourn.objectives.presets import PRESETS, check, preset

FILLED = [name for name in COLUMNS if name not in ("ref_logp", "old_logp", "blind_logp")]
CREDITS = [name for name, each in PRESETS.items() if each.credit is not None]


def full() -> Columns:
    """All columns that can be declared, each with numbers of its own."""
    scripts = [
        Script([Turn(2, anchor="s", reward={"information": 0.25}), Turn(2)], final=f, success=f > 0) for f in (1.0, 0, 0, 0.5)
    ]
    c = columns([group(scripts, key=key) for key in ("g", "h")])
    draw = np.random.default_rng(0)
    size = {"T": len(c.row_T), "S": len(c.span_S), "E": len(c.final_E)}
    numbers = {name: draw.random(size[name[-1]]) for name in FILLED}
    return replace(c, after_S=np.zeros(size["S"]), **numbers)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CREDITS)
def test_a_credit_reads_the_columns_that_it_declares_and_no_other(name: str) -> None:
    """Without a declared column it says so; without all others it gives what it gave."""
    credit, c = preset(name).credit, full()
    assert credit is not None
    declared = reads(credit)
    others = {column: None for column in FILLED if column not in declared}
    np.testing.assert_array_equal(credit(c), credit(replace(c, **others)))  # type: ignore[arg-type]
    for column in declared - {"policy_logp_T"}:  # where nobody fills that, it is the policy that sampled
        with pytest.raises(ValueError, match=column):
            credit(replace(c, **{column: None}))


def test_every_declared_word_is_known() -> None:
    for each in PRESETS.values():
        assert reads(each.credit, each.objective) <= COLUMNS.keys()
        assert traits(each.credit, each.objective) <= TRAITS.keys()
        assert not reads(*each.filters)


def test_composites_add_up_at_any_depth() -> None:
    credit = Then(credit=Sum(parts=(KlInReward(credit=Gae()), grpo()), weights=(1.0, 1.0)), transforms=(Whiten(), EntropyBonus()))
    assert reads(credit) == {"value_T", "ref_logp_T", "policy_logp_T", "entropy_T"}
    assert reads(InformationGain(credit=credit)) == reads(credit) | {"answer_S"}
    assert reads(Then(credit=Gae(granularity="turn", monte_carlo=True), transforms=(Whiten(),))) == {"value_S"}
    assert traits(Then(credit=VTrace(), transforms=())) == {"weighs"} and traits(Distillation()) == {"teacher"}
    loss = Mix(
        parts=(PolicyGradient(kl=Kl(), corrections=(SecondMoment(),), focus=TopEntropy()), Supervised()), weights=(1.0, 0.1)
    )
    assert reads(loss) == {"ref_logp", "old_logp", "entropy_T"}
    assert traits(loss) == {"weighs", "rounding", "imitates", "on-policy"}
    assert imitates(loss) and not imitates(PolicyGradient())
    assert reader("entropy_T", credit, loss) == "EntropyBonus" and reader("ref_logp", credit, loss) == "Kl"
    assert reader("value_S", credit, loss) == ""


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (PolicyGradient(), {"weighs"}),
        (PolicyGradient(granularity="none", trust_region=Unclipped()), {"on-policy", "no ratio"}),
        (PolicyGradient(granularity="none", trust_region=Unclipped(), corrections=(Importance(),)), {"weighs", "no ratio"}),
        (PolicyGradient(corrections=(Importance(action="mask", low=0.5),)), {"weighs", "on-policy"}),
        (PolicyGradient(corrections=(Importance(action="mask", low=0.5),), centre="behaviour"), {"weighs"}),
        (Kto(), {"imitates"}),
    ],
)
def test_what_an_objective_makes_of_older_samples(objective: Any, expected: set[str]) -> None:
    assert traits(objective) == expected


def test_a_function_declares_what_it_reads() -> None:
    @declares("value_T", "entropy_T")
    def mine(columns: Columns) -> np.ndarray:
        assert columns.value_T is not None
        return columns.return_E[columns.episode_S[columns.row_T]] - columns.value_T

    assert reads(mine) == {"value_T", "entropy_T"} and reads(lambda columns: 0) == frozenset()
    assert reads(Then(credit=mine, transforms=(Whiten(),))) == {"value_T", "entropy_T"}
    assert reader("value_T", KlInReward(credit=mine)) == "mine"
    own = replace(preset("ppo_plain"), credit=mine)
    check(own, "mine")
    with pytest.raises(ValueError, match="there is no critic"):
        replace(own, critic=None)
    with pytest.raises(ValueError, match=r"@declares\('value_T'\)"):
        replace(own, credit=lambda columns: mine(columns))
    with pytest.raises(ValueError, match=r"declares\('values_T'\): nobody fills such a column; did you mean \['value_T'"):
        declares("values_T")


def test_a_filter_cannot_read_what_is_filled_after_it() -> None:
    @declares("value_T")
    def late(columns: Columns) -> np.ndarray:
        return columns.valid_E

    with pytest.raises(ValueError, match="a filter reads value_T, which is filled after the filters"):
        replace(preset("ppo_plain"), filters=(late,))


def test_groups_that_are_too_small_are_refused_through_any_wrapping() -> None:
    wrapped = KlInReward(credit=Then(credit=Sum(parts=(Gae(), PassK(k=4)), weights=(1.0, 1.0)), transforms=(Whiten(),)))
    assert list(refusals(3, wrapped)) == ["pass@4 with groups of 3; raise the group size, or lower k"]
    assert not list(refusals(4, wrapped))
    for credit in (grpo(), ProcessRewards(), StepRelative(bucket="turn"), Dpo(), Mix(parts=(Dpo(),), weights=(1.0,))):
        assert next(refusals(1, credit)).startswith("a group of one has no ") and not list(refusals(2, credit))
    for alone in (Gae(), StepRelative(bucket="siblings"), Dpo(compares="actions"), lambda columns: 0):
        assert not list(refusals(1, alone))


def test_pairs_are_made_for_a_preference_within_a_mix() -> None:
    assert compares(Mix(parts=(Supervised(), Dpo(compares="actions")), weights=(1.0, 1.0))) == "actions"
    assert compares(Mix(parts=(Supervised(),), weights=(1.0,))) is None and compares(max) is None  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one part compares episodes and another actions"):
        Mix(parts=(Dpo(), Dpo(compares="actions")), weights=(1.0, 1.0))


def test_a_mix_s_divergence_and_bonus_follow_their_targets_like_any_other() -> None:
    loss = Mix(parts=(PolicyGradient(kl=Kl(coefficient=0.2), entropy=0.01), Supervised()), weights=(1.0, 0.1))
    assert coefficients(KlInReward(credit=grpo(), coefficient=0.5), loss) == {"kl_coefficient": 0.5, "entropy_coefficient": 0.01}
    inputs = batch(moved=0.1)
    moved = replace(inputs, coefficients={"kl_coefficient": 0.7, "entropy_coefficient": 0.3})
    written = Mix(parts=(PolicyGradient(kl=Kl(coefficient=0.7), entropy=0.3), Supervised()), weights=(1.0, 0.1))
    assert loss(moved)[0].item() == written(inputs)[0].item() != loss(inputs)[0].item()
    assert loss(moved.take(inputs.sequence == 0))[0].item() == written(inputs.take(inputs.sequence == 0))[0].item()


def test_a_penalty_in_the_reward_follows_its_target() -> None:
    credit, c = KlInReward(credit=dr_grpo(), coefficient=0.5), full()
    moved = replace(c, coefficients={"kl_coefficient": 0.125})
    np.testing.assert_array_equal(credit(moved), replace(credit, coefficient=0.125)(c))


def test_a_bonus_of_a_batch_decides_how_far_an_advantage_works() -> None:
    inputs = batch()
    for objective, bonus, expected in (
        (PolicyGradient(), 0.0, "token"),
        (PolicyGradient(), 0.1, None),
        (PolicyGradient(entropy=0.01), 0.0, "token"),
    ):
        assert reach(objective, replace(inputs, coefficients={"entropy_coefficient": bonus})) == expected
    assert reach(PolicyGradient(entropy=0.01), inputs) is None and reach(Supervised(), inputs) is None


@pytest.mark.parametrize("wrap", [lambda c: c, lambda c: Then(credit=c, transforms=(Whiten(),))])
def test_the_critic_s_targets_go_through_composites(wrap: Any) -> None:
    c = full()
    two_levels = BiLevelGae(gamma=0.9, gamma_turn=0.5)
    np.testing.assert_array_equal(critic_targets(wrap(two_levels), c), value_targets(c, gamma=0.9, gamma_turn=0.5))
    summed = Sum(parts=(grpo(), wrap(two_levels)), weights=(1.0, 1.0))
    np.testing.assert_array_equal(critic_targets(summed, c), critic_targets(two_levels, c))
    penalised = KlInReward(credit=wrap(two_levels), coefficient=0.5)
    np.testing.assert_array_equal(critic_targets(penalised, c), critic_targets(two_levels, penalised.paid(c)))
    np.testing.assert_array_equal(critic_targets(lambda columns: 0, c), value_targets(c))


def test_presets_name_a_reference_exactly_if_something_reads_it() -> None:
    for each in PRESETS.values():
        read = reads(each.credit, each.objective) & {"ref_logp", "ref_logp_T"}
        assert bool(read) == (each.reference.kind != "none"), each.title
        kinds = {type(part) for part in inside((each.credit, each.objective))}
        assert ("value_T" in reads(each.credit)) == (each.critic is not None), kinds
    with pytest.raises(ValueError, match="nothing reads it"):
        replace(preset("dapo"), reference=Reference(kind="frozen"))
    with pytest.raises(ValueError, match="never reads a value"):
        replace(preset("dapo"), critic=ValueLoss())
    assert torch.is_tensor(preset("dapo").objective(batch())[0])
