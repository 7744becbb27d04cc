"""Named algorithms: all of them run, contradictions are refused, and they explain themselves."""

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
import torch

from sojourn.conformance.batches import batch
from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.credit import Gae, KlInReward, VTrace, columns, grpo
from sojourn.objectives import Importance, Kl, PolicyGradient, Reference, Unclipped, ValueLoss
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
    names = ("policy_logp_T", "ref_logp_T", "entropy_T", "value_T")
    per_token = {name: draw.normal(size=tokens) * 0.1 for name in names} | {"square_T": np.exp(2 * c.logp_T)}
    return replace(c, **per_token, value_S=draw.normal(size=rows), after_S=np.zeros(rows), baseline_E=np.zeros(episodes))  # type: ignore[arg-type]


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
    ],
)
def test_contradictions_are_refused_with_the_reason(parts: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        Preset(title="mine", paper="none", **parts)
    assert str(error.value).startswith("mine: ")


def test_groups_too_small_for_the_baseline_are_refused() -> None:
    for name in ("grpo", "gigpo", "arpo", "reinforce_pp_baseline", "lite_ppo", "opo", "gpg", "passk_best"):
        with pytest.raises(ValueError, match="a group of one has no baseline"):
            check(preset(name), group_size=1)
        check(preset(name), group_size=2)
    check(preset("reinforce"), group_size=1)
    check(preset("ppo"), group_size=1)
    with pytest.raises(ValueError, match="pass@4 with groups of 3"):
        check(preset("passk"), group_size=3)
    check(preset("passk"), group_size=4)


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
    assert "critic" in explain("vapo") and "kind = 'frozen'" in explain("grpo") and "opo: Length-weighted" in explain("opo")
    assert "-(4 / tau) sigmoid(tau (r - 1)) A" in explain("sapo")
    assert "loss = sum_t" not in explain("dpo")


def test_every_knob_of_every_preset_has_a_word() -> None:
    kinds = {type(part) for each in PRESETS.values() for part in each.parts() if is_dataclass(part)}
    for kind in kinds:
        assert field_words(kind).keys() == {field.name for field in fields(kind)}, kind


def test_the_table_has_a_row_for_each() -> None:
    rows = {row[0]: row for row in table()}
    assert rows.keys() == PRESETS.keys()
    assert rows["dapo"][3:] == ["GroupRelative", "token / Clip(high=0.28)", "-", "tokens", "ZeroSignal"]
    assert rows["dpo"][4:] == ["Dpo", "-", "-", "reference frozen"]
    assert rows["icepop"][7] == "Importance(action=both, low=0.5, high=5)"
    assert rows["top_entropy"][7] == "TopEntropy; ZeroSignal" and "entropy 0.001" in rows["ragen"][7]
