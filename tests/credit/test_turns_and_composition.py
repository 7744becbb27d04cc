"""Turn rewards, sums of credits, transforms, dense rewards."""

from dataclasses import replace

import numpy as np
import pytest

from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.credit import (
    GDPO,
    MTGRPO,
    Bounded,
    Distillation,
    EntropyBonus,
    InformationGain,
    KlInReward,
    Normaliser,
    PositiveOnly,
    ProcessRewards,
    Sum,
    Then,
    TokenReturns,
    Whiten,
    columns,
    dr_grpo,
    grpo,
    rloo,
)

PLAIN = Normaliser(deviation="none")


def searching(tool: tuple[float, float], answer: tuple[float, float]) -> list[Script]:
    return [Script([Turn(2, reward=t), Turn(1, reward=a)]) for t, a in zip(tool, answer, strict=True)]


def test_mt_grpo_is_piecewise_constant() -> None:
    """Outcome advantages +-.5, turn advantages -+1 (kappa 1): -.5 before the result, .5 after."""
    c = columns([group(searching((0.0, 2.0), (1.0, 0.0)))])
    assert MTGRPO(normaliser=PLAIN)(c).tolist() == [-0.5, -0.5, 0.5, 0.5, 0.5, -0.5]
    assert MTGRPO(normaliser=PLAIN, kappa=0.5)(c).tolist() == [0, 0, 0.5, 0, 0, -0.5]


def test_mt_grpo_takes_what_single_tokens_earn_for_their_turns() -> None:
    """Paid on the last token of a turn, or on the turn."""
    on_turn = columns([group([Script([Turn(2, reward=r), Turn(1)], final=1.0) for r in (1.0, 0.0)])])
    on_token = columns([group([Script([Turn(2), Turn(1)], final=1.0)] * 2)])
    on_token = replace(on_token, penalty_T=np.array([0.0, 1.0, 0.0, 0.0, 0.0, 0.0]))
    assert MTGRPO()(on_token).tolist() == MTGRPO()(on_turn).tolist()


def test_mt_grpo_tells_turn_rewards_by_name() -> None:
    """The last action's own term belongs to the outcome: 1 + 4 + 50 against 0."""
    paid = Script([Turn(1, reward={"tool": 2.0, "style": 4.0}), Turn(1, reward={"tool": 50.0})], final=1.0)
    c = columns([group([paid, Script([Turn(1, reward={"tool": 0.0}), Turn(1)])])])
    outcome, tool = 55 / 2, 2 / 2
    assert MTGRPO(normaliser=PLAIN, turn_terms=("tool",))(c).tolist() == [outcome + tool, outcome, -outcome - tool, -outcome]


@pytest.mark.parametrize("credit", [MTGRPO, ProcessRewards])
def test_a_turn_term_that_nobody_was_paid_is_refused(credit: type) -> None:
    c = columns([group([Script([Turn(1, reward={"tool": 2.0}), Turn(1)], final=1.0), Script([Turn(), Turn()])])])
    with pytest.raises(ValueError, match=r"turn_terms names 'tol', but no action was paid such a term \(paid: final, tool\)"):
        credit(turn_terms=("tool", "tol"))(c)
    with pytest.raises(ValueError, match="turn_terms names 'final'"):
        credit(turn_terms=("final",))(c)
    answers = columns([group([Script([Turn()], final=1.0), Script([Turn()])])])
    assert credit(turn_terms=("tool",), normaliser=PLAIN)(answers).tolist() == [0.5, -0.5], "no turn, nothing to pay"


def test_an_action_without_the_term_is_in_no_turn_statistics() -> None:
    scripts = [Script([Turn(1, reward={"p": p}), Turn(1)]) for p in (3.0, 1.0)]
    silent = [Script([Turn(1), Turn(1)]) for _ in range(5)]
    c = columns([group([*scripts, *silent])])
    outcome_free = ProcessRewards(turn_terms=("p",), normaliser=PLAIN)(c)
    assert outcome_free.tolist() == [1.0, 0.0, -1.0, 0.0] + 10 * [0.0]
    assert MTGRPO(turn_terms=("p",), normaliser=PLAIN)(c).tolist() == outcome_free.tolist()


def test_information_is_what_an_action_added_to_the_right_answer() -> None:
    """Log-probabilities -4, -1, -2 and -3, -3 before the actions: gains 3, -1 and 0; the last actions have none."""
    c = columns([group([Script([Turn(), Turn(), Turn()], final=1.0), Script([Turn(), Turn()])])])
    c = replace(c, answer_S=np.array([-4.0, -1.0, -2.0, -3.0, -3.0]))
    gain, mean = np.array([3.0, -1.0, 0.0]), 2 / 3
    first, second, other = gain - mean
    igpo = InformationGain(credit=ProcessRewards(turn_terms=("information",), normaliser=PLAIN))
    assert igpo(c) == pytest.approx([first + second + 0.5, second + 0.5, 0.5, other - 0.5, -0.5])
    with pytest.raises(ValueError, match="answer_S"):
        igpo(replace(c, answer_S=None))


def test_igpo_in_its_paper_s_form_pays_probabilities_and_has_one_pool() -> None:
    """Probabilities of the answer 1/4, 1/2 and 1/2, 1/4: gains 1/4 and -1/4, outcomes 1 and 0 in the same pool, whose mean is 1/4."""
    c = columns([group([Script([Turn(), Turn()], final=1.0), Script([Turn(), Turn()])])])
    c = replace(c, answer_S=np.log([0.25, 0.5, 0.5, 0.25]))
    inner = ProcessRewards(turn_terms=("information",), pooled=True, normaliser=PLAIN)
    igpo = InformationGain(credit=inner, measure="probability")
    assert igpo(c) == pytest.approx([0.0 + 0.75, 0.75, -0.5 - 0.25, -0.25])
    # divided by the deviation of the pool: squares 0, 9/16, 1/4, 1/16 over 3
    scaled = InformationGain(credit=replace(inner, normaliser=Normaliser(epsilon=0.0)), measure="probability")
    assert scaled(c) == pytest.approx(np.array([0.75, 0.75, -0.75, -0.25]) / np.sqrt(0.875 / 3))
    assert "mean(r | r and R_outcome in the group)" in inner.formula and "I_s = p(answer" in igpo.formula
    with pytest.raises(ValueError, match="use bucket='group'"):
        ProcessRewards(pooled=True, bucket="turn")


def test_a_pool_leaves_broken_episodes_out() -> None:
    scripts = [Script([Turn(), Turn()], final=1.0), Script([Turn(), Turn()]), Script([Turn(), Turn()], final=9.0, failed=True)]
    c = columns([group(scripts)])
    c = replace(c, answer_S=np.log([0.25, 0.5, 0.5, 0.25, 0.1, 0.9]))
    inner = ProcessRewards(turn_terms=("information",), pooled=True, normaliser=PLAIN)
    assert InformationGain(credit=inner, measure="probability")(c) == pytest.approx([0.75, 0.75, -0.75, -0.25, 0.0, 0.0])


def test_mt_grpo_compares_turn_rewards_at_the_same_turn_of_valid_episodes() -> None:
    scripts = [Script([Turn(1, reward=a), Turn(1, reward=b), Turn(1)]) for a, b in ((1.0, 10.0), (3.0, 20.0))]
    c = columns([group([*scripts, Script([Turn(1, reward=99.0), Turn(1)], failed=True)])])
    assert MTGRPO(normaliser=PLAIN)(c).tolist() == [-1, -5, 0, 1, 5, 0, 0, 0]


def test_process_rewards_are_normalised_and_summed_forward() -> None:
    c = columns(
        [group([Script([Turn(1, reward=1.0), Turn(1, reward=3.0), Turn(1)], final=1.0), Script([Turn(1, reward=2.0), Turn(1)])])]
    )
    # turn rewards 1, 3, 2: centred -1, 1, 0.  outcomes 1, 0: centred .5, -.5
    assert ProcessRewards(normaliser=PLAIN)(c).tolist() == [0.5, 1.5, 0.5, -0.5, -0.5]
    assert ProcessRewards(normaliser=PLAIN, gamma=0.5)(c).tolist() == [-1 + 0.5 * 1.25, 1 + 0.25, 0.5, -0.25, -0.5]


def test_process_rewards_by_name_reach_the_last_action_and_skip_what_broke() -> None:
    scripts = [
        Script([Turn(1, reward={"p": p}), Turn(1, reward={"p": q})], failed=f)
        for p, q, f in ((1, 2, False), (0, 9, False), (70, 70, True))
    ]
    c = columns([group(scripts)])
    mean = 12 / 4
    expected = [1 - mean + 2 - mean, 2 - mean, -mean + 9 - mean, 9 - mean, 0, 0]
    assert ProcessRewards(turn_terms=("p",), normaliser=PLAIN)(c).tolist() == pytest.approx(expected)


def test_sum_weighs_its_parts() -> None:
    c = columns([group([Script([Turn()], final=1.0), Script([Turn()])])])
    assert Sum(parts=(dr_grpo(), TokenReturns()), weights=(2.0, 0.5))(c).tolist() == [1.5, -1.0]


def test_whitening_counts_trained_tokens_of_valid_episodes_only() -> None:
    scripts = [
        Script([Turn(2), Turn(1, policy="partner")], final=3.0),
        Script([Turn(1)]),
        Script([Turn(1)], final=70.0, failed=True),
    ]
    c = columns([group(scripts)], trained=["actor"])
    white = Then(credit=TokenReturns(), transforms=(Whiten(),))(c)
    counted = np.array([3.0, 3.0, 0.0])
    expected = (counted - 2) / np.std(counted, ddof=1)
    assert white == pytest.approx([expected[0], expected[1], 0, expected[2], 0])
    assert Whiten(centre=False)(c, TokenReturns()(c)) == pytest.approx([3 / np.std(counted, ddof=1)] * 2 + [0, 0, 0])


def test_transforms_apply_in_order() -> None:
    c = columns([group([Script([Turn()], final=9.0), Script([Turn()])])])
    assert Then(credit=dr_grpo(), transforms=(PositiveOnly(), Bounded(limit=2.0)))(c).tolist() == [2.0, 0.0]
    assert Bounded(limit=2.0)(c, np.array([-9.0, 1.0])).tolist() == [-2.0, 1.0]


def test_the_entropy_bonus_never_flips_a_sign() -> None:
    c = replace(columns([group([Script([Turn(3)])])]), entropy_T=np.array([1.0, 9.0, 9.0]))
    assert EntropyBonus()(c, np.array([2.0, 2.0, -2.0])) == pytest.approx([2.4, 3.0, -1.0])
    with pytest.raises(ValueError, match="entropy_T"):
        EntropyBonus()(replace(c, entropy_T=None), np.zeros(3))


def test_gdpo_gives_every_term_the_same_say() -> None:
    """A term in thousands does not drown one in units."""
    scripts = [Script([Turn(1, reward={"a": a, "b": b})]) for a, b in ((1000.0, 0.0), (0.0, 1.0), (0.0, 0.0))]
    c = columns([group(scripts)])
    a = GDPO()(c)
    assert a == pytest.approx([a[0], a[0], -2 * a[0]], abs=1e-4)
    assert np.std(a, ddof=1) == pytest.approx(1, abs=1e-5)
    weighted = GDPO(weights={"b": 0.0})(c)
    assert weighted == pytest.approx(Normaliser()(np.array([1.0, 0.0, 0.0]), np.zeros(3, int)), abs=1e-5)


def paid(*rewards: dict[str, float], failed: tuple[int, ...] = (), key: str = "g") -> object:
    return group([Script([Turn(1, reward=reward)], failed=i in failed) for i, reward in enumerate(rewards)], key=key)


def test_gdpo_refuses_a_weight_for_a_term_that_nobody_was_paid() -> None:
    c = columns([paid({"format": 1.0, "answer": 0.0}, {"format": 0.0, "answer": 1.0})])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"weights names 'formt', .* \(paid: answer, format\); correct the name"):
        GDPO(weights={"format": 2.0, "formt": 0.5})(c)


def test_gdpo_takes_a_term_for_0_where_some_were_not_paid_it() -> None:
    """In one episode, or in none of a group's."""
    full = [paid({"a": 1.0, "b": 2.0}, {"a": 0.0, "b": 0.0}), paid({"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 0.0}, key="h")]
    bare = [paid({"a": 1.0, "b": 2.0}, {"a": 0.0}), paid({"a": 1.0}, {"a": 0.0}, key="h")]
    one, other = (GDPO(weights={"b": 3.0})(columns(each)) for each in (full, bare))  # type: ignore[arg-type]
    assert one.tolist() == other.tolist() and one.any()


def test_gdpo_does_not_ask_for_a_term_in_a_batch_without_signal() -> None:
    """Nobody came so far as to be judged, or all broke before."""
    credit = GDPO(weights={"answer": 2.0})
    for nobody in (paid({"reward": 0.0}, {"reward": 0.0}), paid({}, {}), paid({"a": 1.0}, {"a": 0.0}, failed=(0, 1))):
        assert credit(columns([nobody])).tolist() == [0.0, 0.0]  # type: ignore[list-item]


def test_kl_in_the_reward_lowers_what_follows() -> None:
    c = columns([group([Script([Turn(2)], final=1.0), Script([Turn(1)])])])
    c = replace(c, logp_T=np.array([-1.0, -1.0, -2.0]), ref_logp_T=np.array([-1.5, -1.25, -1.0]))
    log = np.array([0.5, 0.25, -1.0])
    assert KlInReward(credit=TokenReturns(), coefficient=0.1)(c) == pytest.approx([1 - 0.075, 1 - 0.025, 0.1])
    returns = np.array([1 - 0.075, 0.1])
    assert KlInReward(credit=rloo(), coefficient=0.1)(c)[[0, 2]] == pytest.approx(returns - returns[::-1])
    for estimator, value in (("k2", log**2 / 2), ("k3", np.exp(-log) - 1 + log)):
        last = KlInReward(credit=TokenReturns(), coefficient=0.1, estimator=estimator)(c)[1:]  # type: ignore[arg-type]
        assert last == pytest.approx([1 - 0.1 * value[1], -0.1 * value[2]])


def test_kl_in_the_reward_prefers_the_learners_own_log_probabilities_and_adds_to_penalties() -> None:
    c = columns([group([Script([Turn(1)])])])
    c = replace(c, policy_logp_T=np.array([-1.0]), ref_logp_T=np.array([-3.0]), penalty_T=np.array([-5.0]))
    assert KlInReward(credit=TokenReturns(), coefficient=0.5)(c) == pytest.approx([-6.0])
    with pytest.raises(ValueError, match="ref_logp_T"):
        KlInReward(credit=grpo())(replace(c, ref_logp_T=None))


def test_distillation_pays_what_the_teacher_thinks_likelier() -> None:
    c = columns([group([Script([Turn(1)]), Script([Turn(1)], failed=True)])])
    c = replace(c, logp_T=np.array([-3.0, -3.0]), ref_logp_T=np.array([-1.0, -1.0]))
    assert Distillation()(c).tolist() == [2.0, 0.0]


def test_gdpo_weighs_named_terms_and_takes_the_others_once() -> None:
    """Before the last whitening the three episodes have 3 z_a + z_b, with z the centred terms over their deviation."""
    a, b = np.array([4.0, 1.0, 0.0]), np.array([0.0, 1.0, 5.0])
    scripts = [Script([Turn(1, reward={"a": x, "b": y})]) for x, y in zip(a, b, strict=True)]
    got = GDPO(weights={"a": 3.0})(columns([group(scripts)]))
    mixed = 3 * (a - 5 / 3) / np.std(a, ddof=1) + (b - 2) / np.std(b, ddof=1)
    assert got == pytest.approx(mixed / np.std(mixed, ddof=1), abs=1e-4)
