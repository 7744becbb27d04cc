"""Every check of numbers catches the slips it is for, and the list of planted defects fits the source."""

from __future__ import annotations

import pytest

from sojourn.conformance import CHECKS, Adapter, mutation
from sojourn.conformance.adapter import NotOffered
from sojourn.conformance.checks import outcome
from sojourn.conformance.mutation import DEFECTS, Defect, planted
from sojourn.conformance.ours import Ours

CAUGHT: dict[str, list[str]] = {
    "N1 returns against a group, a batch, another rollout": [
        "returns - total / np.maximum(count, 1.0)", "np.where(columns.valid_E, columns.length_E, 0)", "columns.return_E - columns.baseline_E",
        "alpha * centred / self.scale", "np.divide(centred, mean + self.epsilon", "centred * count / np.maximum(count - 1, 1)",
        "np.maximum(count - unbiased, 1)", "_deviation(value, _bucket(group, self.deviation)", "columns.return_E[order[-2]]", "ddof=1",
        "bucket = _bucket(group, self.mean)", "total += weight * part(columns)", "np.maximum(advantage_T, 0.0)",
    ],
    "N1 bounded advantages": ["np.clip(advantage_T, -self.limit, self.limit)"],
    "N1 whitened token returns": ['mean="batch" if self.centre else "none"'],
    "N1 a divergence in the reward": [
        "return own - columns.ref_logp_T", "before - coefficient * divergence", '"k2": log**2 / 2', "dense.py: capped_exp(-log) - 1 + log",
        ", -log_ratio(columns), 0.0)", "np.full(len(reward), self.gamma)",
    ],
    "N1 several terms": ["total += self.weights.get(name, 1.0) * value", "spread_episodes(ACROSS(total, columns.group_E, columns.valid_E))"],
    "N1 pass@k": ["1 - comb(failures, k) / comb(tries, k)", "comb(failures - 1, k - 1)", "(1 - rate - others_fail) / sigma"],
    "N1 the optimal token baseline": ["1 - 2 * np.exp(columns.logp_T)", "+ columns.square_T", "np.cumsum(score_T[mine])"],
    "N1 entropy in the advantage": ["np.minimum(self.alpha * columns.entropy_T", "np.abs(advantage_T) / self.kappa"],
    "N2 states that come again": [
        "episode(columns) + self.omega * step(columns)", 'StepRelative(bucket="state", gamma=self.gamma',
        'bucket="state", gamma=self.gamma, normaliser', "delta_S[row] + decay * following.mean(row)",
    ],
    "N2 paid turns": [
        "outcome[columns.episode_S] + self.kappa * turn", 'buckets(columns, "turn"), paid_S', "backward_actions(columns, reward, self.gamma)",
        "return turn, paid, columns.return_E - np.bincount",
    ],
    "N2 information gain": ["mean_of_children(columns, known) - known"],
    "N2 returns of actions": ["_number(columns.group_S, columns.turn_S)", "backward_actions(columns, columns.earned_S, gamma)"],
    "N3 leaves of a tree": ['total if self.shared == "soft"', "result[row] += result[columns.parent_S[row]]"],
    "N3 branches of a tree": [
        "variance = mu * (1 - mu)", "value[row] - above[row] / depth[row]", "above[parent] + value[parent], depth[parent] + 1",
        "columns.group_S, columns.parent_S, columns.context_S",
    ],
    "N4 generalised advantages": ["after_actions(columns, value_T[columns.start_S[:-1]])", "required_values(columns)[columns.start_S[:-1]]"],
    "N4 a worked example": ["next_values(columns, value_T) - value_T", "self.gamma * after_actions(columns, before) - before"],
    "N4 a fork": ["backward_tokens(columns, delta, gamma_T * lam_T)", "self.beyond[row] / max(self.count[row], 1)"],
    "N4 lambda by length": ["1 - 1 / (self.alpha * length)"],
    "N4 turns, then tokens": [
        "self.gamma_turn * self.lam_turn) + before", "reward + self.gamma * following - value", "self.gamma_turn * after_actions(columns, before)",
    ],
    "N4 V-trace off-policy": [
        "np.minimum(self.rho_max, ratio) * delta", "np.minimum(self.c_max, ratio)", "next_values(columns, self.targets(columns))",
        "columns.policy_logp_T - columns.logp_T",
    ],
    "N4 the critic's targets": ["over_tokens(columns, value, gamma_T, lam) + value", "gamma_T[columns.start_S[1:] - 1] = gamma if"],
    "N5 tokens of high covariance": ["(advantage - advantage.mean()) * (logp - logp.mean())", "(value > self.low) & (value < self.high)"],
    "N5 the entropy bonus": ["loss_T - bonus * inputs.entropy"],
    "N5 means over uneven rows": [
        "(counts.sequences * counts.tokens_per_sequence[inputs.sequence])", "(counts.prompts * counts.tokens_per_prompt[inputs.prompt])",
    ],
    "N5 what is reported as clipped": ["(advantage > 0) & (ratio > 1 + self.high)"],
    "N6 filters": [
        "_spread(columns) > 0", "np.argsort(-spread[first]", "np.ceil(self.share * len(groups))", "(rate >= self.low) & (rate <= self.high)",
        "kept = ~columns.bootstraps_E",
    ],
    "N6 resampling on correct": ["np.argsort(-quality[wins]", "max(share, min(least, losses))"],
    "N6 pairs": ["order[::-1].tolist()", "np.argsort(-value_N[mine]", "value_N[good] - value_N[bad] > margin"],
    "N7 rewards of lengths": ["(limit - buffer - length_E) / buffer", "(budget_E - length_E) / scale", "right.min()"],
    "N7 rewards of calls": ["m * np.pi / (2 * m + smooth)", "m / (some + m) * np.pi", "== group)].min()"],
    "N7 rewards of proposed tasks": ["1 - 2 * np.abs(agreement_E - 0.5)", "1 - success_E, -0.5"],
    "N7 coefficients that follow a target": [
        "kl / self.nats - 1", "self.step if entropy < self.nats else -self.step", "coefficient if entropy <= self.nats",
        "new.to(old.dtype), self.rate", "share * (logp.detach() - behaviour_logp)",
    ],
    "I13 gradients are those of the formulas": [
        "log = (inputs.old_logp - inputs.behaviour_logp)", "rho.clamp(self.low, self.high)", "log = segment_mean(log, inputs.sequence)",
        "kept = order[mean < self.tau]", "kl.py: capped_exp(-log) - 1 + log", "torch.sigmoid(-value)", "self.smoothing * logsigmoid(-margin)",
        'inputs.turn if granularity == "turn" else inputs.sequence', "inputs.advantage > 0, self.tau_good", "moved > self.high",
        "torch.minimum(loss, bound)", "probability * (1 - probability)", "(1 - capped_exp(log))",
    ],
}  # fmt: skip
"""Texts of planted defects, with their file where others read alike, by the check that must see them."""


def defect_at(text: str) -> Defect:
    """The one whose file and text end like this."""
    (found,) = [defect for defect in DEFECTS if f"{defect.file}: {defect.before}".endswith(text)]
    return found


def test_every_check_of_numbers_has_a_defect() -> None:
    assert {name for name in CHECKS if name.startswith("N")} <= set(CAUGHT) <= set(CHECKS)


@pytest.mark.parametrize(("check", "text"), [(name, text) for name, texts in CAUGHT.items() for text in texts])
def test_a_planted_defect_is_caught(check: str, text: str) -> None:
    with planted(defect_at(text)):
        assert outcome(CHECKS[check], Ours()).passed is False
    if check.startswith("N"):
        assert CHECKS[check](Ours())


@pytest.mark.parametrize("defect", DEFECTS, ids=str)
def test_every_planted_text_stands_once_in_a_function(defect: Defect) -> None:
    with planted(defect):
        pass


def test_a_text_that_is_gone_is_named() -> None:
    with (
        pytest.raises(ValueError, match=r"'no such text' stands 0 times in credit/gae\.py"),
        planted(Defect("credit/gae.py", "no such text", "")),
    ):
        pass


def test_the_figure_names_the_survivors() -> None:
    seen = dict.fromkeys(DEFECTS[:3], "N1 pass@k") | {DEFECTS[3]: None}
    assert mutation.share(seen) == 0.75
    assert mutation.as_text(seen).splitlines()[1] == f"survived  {DEFECTS[3]}"
    assert "4 defects planted" in mutation.as_text(seen) and "3 caught (75%)" in mutation.as_text(seen)


def test_an_adapter_may_leave_out_what_it_does_not_offer() -> None:
    class Bare(Adapter):
        """Offers nothing."""

        name = "bare"

    results = {name: outcome(check, Bare()) for name, check in CHECKS.items() if name.startswith(("N", "I13", "I9", "I6"))}
    assert {result.passed for result in results.values()} == {None}
    with pytest.raises(NotOffered):
        Bare().formula("overlong")
