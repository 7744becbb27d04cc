"""Named algorithms: all of them run, contradictions are refused, and they explain themselves."""

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
import torch
from inside import inside

from sojourn.conformance.batches import batch
from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.credit import LEGEND, OPO, Band, Columns, Gae, KlInReward, Then, VTrace, Whiten, columns, grpo
from sojourn.objectives import (
    Clip,
    Importance,
    Kl,
    Mix,
    PolicyGradient,
    Reference,
    Supervised,
    TopEntropy,
    Unclipped,
    ValueLoss,
)
from sojourn.objectives.presets import PRESETS, Preset, check, explain, preset, table
from sojourn.objectives.presets.explain import field_words


def example() -> object:
    """A batch that has every column that any estimator reads."""
    scripts = [
        Script([Turn(2, anchor="s", reward={"information": 0.25}), Turn(2)], final=f, success=f > 0)
        for f in (1.0, 0, 0, 0.5, 0, 0, 0, 0)
    ]
    c = columns([group(scripts, key=key) for key in ("g", "h")])
    draw = np.random.default_rng(0)
    tokens, rows, episodes = int(c.length_S.sum()), len(c.span_S), len(c.final_E)
    names = ("policy_logp_T", "ref_logp_T", "value_T")
    per_token = {name: draw.normal(size=tokens) * 0.1 for name in names} | {"square_T": np.exp(2 * c.logp_T)}
    per_token["entropy_T"] = draw.random(tokens)
    return replace(
        c,
        **per_token,
        value_S=draw.normal(size=rows),
        answer_S=draw.normal(size=rows),
        after_S=np.zeros(rows),
        baseline_E=np.zeros(episodes),
    )  # type: ignore[arg-type]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_turns_rewards_into_a_gradient(name: str) -> None:
    algorithm = preset(name)
    c = example()
    if algorithm.credit is not None:
        advantage = algorithm.credit(c)  # type: ignore[arg-type]
        assert advantage.shape == c.logp_T.shape and np.isfinite(advantage).all() and np.abs(advantage).max() > 0  # type: ignore[attr-defined]
    inputs = batch(moved=0.05, stale=0.05)
    loss, metrics = algorithm.objective(inputs)
    (gradient,) = torch.autograd.grad(loss, inputs.logp)
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 0
    assert all(np.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("name", [name for name, each in PRESETS.items() if each.credit is not None])
def test_groups_of_which_nothing_is_left_get_nothing(name: str) -> None:
    """A filter dropped one group, or both: no credit raises."""
    credit, c = preset(name).credit, example()
    assert credit is not None and isinstance(c, Columns)
    nobody = replace(c, valid_E=np.zeros_like(c.valid_E))
    assert credit(nobody).tolist() == [0.0] * len(c.row_T)
    one = replace(c, valid_E=c.group_E == 0)
    mine = (c.group_S == 0)[c.row_T]
    assert np.isfinite(credit(one)).all() and not credit(one)[~mine].any()


def test_there_are_many_and_each_names_its_paper() -> None:
    assert len(PRESETS) >= 30
    assert all(each.paper and each.title for each in PRESETS.values())


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match="no algorithm is called 'grop'; did you mean grpo"):
        preset("grop")
    with pytest.raises(ValueError, match="one of reinforce, "):
        preset("%%")


GROUPED = PolicyGradient()


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"credit": grpo(), "objective": GROUPED, "critic": ValueLoss()}, "never reads a value .a group is its baseline."),
        ({"credit": Gae(), "objective": GROUPED}, "reads values but there is no critic"),
        ({"credit": grpo(), "objective": PolicyGradient(kl=Kl())}, "Kl needs a reference policy"),
        ({"credit": KlInReward(credit=grpo()), "objective": GROUPED}, "KlInReward needs a reference policy"),
        ({"credit": grpo(), "objective": GROUPED, "reference": Reference(kind="frozen")}, "nothing reads it"),
        ({"credit": VTrace(), "objective": GROUPED, "critic": ValueLoss()}, "applies it twice"),
        (
            {
                "credit": VTrace(),
                "objective": PolicyGradient(granularity="none", trust_region=Unclipped(), corrections=(Importance(),)),
                "critic": ValueLoss(),
            },
            "applies it twice",
        ),
        (
            {
                "credit": Then(credit=VTrace(), transforms=(Whiten(),)),
                "objective": Mix(parts=(PolicyGradient(), Supervised()), weights=(1.0, 0.1)),
                "critic": ValueLoss(),
            },
            "applies it twice",
        ),
        ({"credit": grpo(), "objective": Mix(parts=(PolicyGradient(kl=Kl()),), weights=(1.0,))}, "Kl needs a reference policy"),
    ],
)
def test_contradictions_are_refused_with_the_reason(parts: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        Preset(title="mine", paper="none", **parts)
    assert str(error.value).startswith("mine: ")


def test_groups_too_small_for_the_baseline_are_refused() -> None:
    for name in ("grpo", "gigpo", "reinforce_pp_baseline", "lite_ppo", "opo", "gpg", "passk_best"):
        with pytest.raises(ValueError, match="a group of one has no baseline"):
            check(preset(name), "mine", group_size=1)
        check(preset(name), "mine", group_size=2)
    check(preset("reinforce"), "mine", group_size=1)
    check(preset("ppo"), "mine", group_size=1)
    with pytest.raises(ValueError, match="pass@4 with groups of 3"):
        check(preset("passk"), "mine", group_size=3)
    check(preset("passk"), "mine", group_size=4)
    with pytest.raises(ValueError, match="a group of one has no pair"):
        check(preset("dpo"), "mine", group_size=1)
    for one_tree in ("step_reinforce", "arpo", "tree_rpo"):
        check(preset(one_tree), "mine", group_size=1)
    with pytest.raises(ValueError, match="a group of one has no baseline"):
        check(replace(preset("opo"), credit=OPO()), "mine", group_size=1)


def test_a_band_that_no_group_can_reach_is_refused() -> None:
    """Of 2 episodes 0, 1 or 2 are right: 0, 0.5 or 1.  Of 3 it may be a third."""
    narrow = replace(preset("r_zero"), filters=(Band(low=0.3, high=0.4),))
    with pytest.raises(ValueError, match=r"mine: no group of 2 has a share of successes in the band 0\.3 to 0\.4"):
        check(narrow, "mine", group_size=2)
    check(narrow, "mine", group_size=3)


@pytest.mark.parametrize(
    ("part", "numbers", "reason"),
    [
        (Clip, {"high": -0.5}, r"Clip\(high=-0\.5\): must lie at or above 0"),
        (Clip, {"low": float("nan")}, r"Clip\(low=nan\)"),
        (TopEntropy, {"share": 20}, "between 0 and 1"),
        (Kl, {"coefficient": -1.0}, "at or above 0"),
        (Gae, {"gamma": 1.1}, "between 0 and 1"),
        (ValueLoss, {"clip": -0.1}, "at or above 0"),
        (Reference, {"kind": "reset"}, "how many rollouts lie between renewals"),
    ],
)
def test_numbers_without_sense_are_refused_where_they_are_written(part: type, numbers: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        part(**numbers)


def test_explanations_show_formula_parts_constants_and_knobs() -> None:
    text = explain("dapo")
    for expected in (
        "dapo: DAPO  [arXiv 2503.14476]",
        "loss = sum_t w_t [ c_t f(r_t, A_t) + beta KL_t - eta H_t ]",
        "high = 0.28: How far a ratio may rise",
        "1 / N ",
        "r_t = exp(l_t)",
        "ZeroSignal",
        "constant  clip 0.2 / 0.28",
        "note      refill the batch",
    ):
        assert expected in text, expected
    assert "reference" not in explain("dapo").split("objective")[0]
    assert "critic" in explain("vapo") and "kind = 'frozen'" in explain("grpo") and "OPO: Length-weighted" in explain("opo")
    assert "-(4 / tau) sigmoid(tau (r - 1)) A" in explain("sapo")
    assert "loss = sum_t" not in explain("dpo")


@pytest.mark.parametrize("name", PRESETS)
def test_an_explanation_begins_with_the_advantage_where_there_is_one(name: str) -> None:
    head = explain(name).split("\n\n")[1]
    has_credit = preset(name).credit is not None
    assert (f"({LEGEND})" in head.splitlines()) == has_credit
    assert any(line.startswith("A") and " = " in line for line in head.splitlines()) == has_credit


def test_the_advantage_is_put_together_from_the_parts_in_their_order() -> None:
    assert explain("ppo").split("\n\n")[1].splitlines()[:3] == [
        "r_t <- r_t - beta l_t,  l_t = log pi - log pi_ref",
        "A_t = delta_t + gamma lambda A_{t+1},  delta_t = r_t + gamma V_{t+1} - V_t",
        "A_t <- (A_t - mean(A_t | tokens of the batch)) / (std(A_t | tokens of the batch) + epsilon)",
    ]
    assert "A = (R - mean(R | group)) / (std(R | group) + epsilon)\n" in explain("grpo")
    assert "A = R - mean(R | the others in the group)\n" in explain("rloo")
    assert "A = R\n" in explain("reinforce")


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("dpo", "-log s(beta m)"),
        ("ipo", "(m - 1 / (2 beta))^2"),
        ("kto", "lam_D (1 - s(beta D - z0)) if good"),
        ("awr", "-exp(A / beta) log pi"),
        ("rft", "-log pi"),
        ("vapo", "loss of each part"),
    ],
)
def test_other_losses_show_their_formula_too(name: str, formula: str) -> None:
    assert formula in explain(name)


def test_r1_has_no_lower_bound_of_the_ratio() -> None:
    """A ratio of e^-3 and a bad action: GRPO stops pushing it down, R1 does not.  The KL term is flat where pi is the reference."""
    one = batch(((1,),), prompts=(0,))
    at = {"old_logp": -1.0, "behaviour_logp": -1.0, "ref_logp": -4.0, "advantage": -1.0}
    fallen = replace(one, pairs=None, **{name: torch.full_like(one.old_logp, value) for name, value in at.items()})
    slopes = []
    for name in ("grpo", "r1"):
        logp = torch.full_like(one.old_logp, -4.0).requires_grad_()
        slopes.append(torch.autograd.grad(preset(name).objective(replace(fallen, logp=logp))[0], logp)[0].item())
    assert slopes == pytest.approx([0.0, np.exp(-3.0)])


def test_the_token_weights_behind_a_sequence_mask_have_no_cap() -> None:
    inputs = batch(((2,),), prompts=(0,), seed=1)
    away = inputs.old_logp - torch.tensor([np.log(4.0), 0.0])  # weights 4 and 1, geometric mean 2: inside the band
    weight = torch.ones(2, dtype=torch.float64)
    for correction in preset("seq_mask_tis").objective.corrections:  # type: ignore[attr-defined]
        weight = weight * correction(replace(inputs, behaviour_logp=away))
    assert weight.tolist() == pytest.approx([4.0, 1.0])


def test_every_knob_of_every_preset_has_a_word() -> None:
    kinds = {type(part) for each in PRESETS.values() for part in inside(each) if is_dataclass(part) and part is not each}
    for kind in kinds:
        assert field_words(kind).keys() == {field.name for field in fields(kind)}, kind


def test_the_table_has_a_row_for_each() -> None:
    rows = {row[0]: row for row in table()}
    assert rows.keys() == PRESETS.keys()
    assert rows["dapo"][3:] == ["GroupRelative", "token / Clip(high=0.28)", "-", "tokens", "ZeroSignal"]
    assert rows["dpo"][4:] == ["Dpo", "-", "-", "reference frozen"]
    assert rows["icepop"][7] == "Importance(action=both, low=0.5, high=5)"
    assert rows["top_entropy"][7] == "TopEntropy; ZeroSignal" and "entropy 0.001" in rows["ragen"][7]
