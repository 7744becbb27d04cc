"""The suite: every check by name, and how to run them against an adapter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sojourn.conformance import credit_checks as credit
from sojourn.conformance import objective_checks as objective
from sojourn.conformance.adapter import Adapter, NotOffered


@dataclass(frozen=True)
class Result:
    """passed: None if the implementation does not offer what the check asks for."""

    passed: bool | None
    detail: str


CHECKS: dict[str, Callable[[Adapter], str]] = {
    "I1 observations do not reach advantages": credit.observations_do_not_reach_advantages,
    "I1 observation values do not reach gradients": objective.observation_values_do_not_reach_gradients,
    "I2 splitting a turn in two changes nothing": credit.splitting_a_turn_changes_nothing,
    "I3 padded and packed rows give one gradient": objective.the_layout_does_not_matter,
    "I4 micro-batches of equal size give one gradient": objective.micro_batches_do_not_matter,
    "I4 micro-batches of any size give one gradient": objective.uneven_micro_batches_do_not_matter,
    "I5 more contexts leave group statistics": credit.exporting_more_contexts_leaves_statistics,
    "I6 permutation of a group": credit.permuting_a_group_permutes_advantages,
    "I6 equal rewards and groups of one give exactly 0": credit.equal_rewards_and_single_episodes_give_exactly_zero,
    "I7 shift and scale of rewards": credit.shift_and_scale_of_rewards,
    "I8 an infrastructure failure is no sample": credit.an_infrastructure_failure_is_no_sample,
    "I9 the first update is REINFORCE": objective.the_first_update_is_reinforce,
    "I10 log-probabilities are of the sampled distribution": objective.log_probabilities_are_of_the_sampled_distribution,
    "I11 every turn is credited for what follows": credit.every_turn_is_credited_for_what_follows,
    "I12 cut bootstraps, ended does not": credit.what_is_cut_bootstraps_and_what_ends_does_not,
    "I13 autograd agrees with finite differences": objective.autograd_agrees_with_finite_differences,
    "I14 GiGPO with unique states is Dr. GRPO": credit.gigpo_with_unique_states_is_dr_grpo,
    "I14 GSPO on single tokens is token clipping": objective.on_single_tokens_gspo_is_token_clipping,
    "I14 decoupled PPO without staleness is PPO": objective.without_staleness_the_decoupled_objective_is_ppo,
}


def run(adapter: Adapter) -> dict[str, Result]:
    """Hold an implementation against every check.  A check that crashes has failed."""
    return {name: _one(check, adapter) for name, check in CHECKS.items()}


def _one(check: Callable[[Adapter], str], adapter: Adapter) -> Result:
    try:
        return Result(True, check(adapter))
    except NotOffered as reason:
        return Result(None, str(reason))
    except AssertionError as seen:
        return Result(False, str(seen))
    except Exception as error:  # another's code may raise anything, and that is a result
        return Result(False, f"{type(error).__name__}: {error}")


def as_table(results: dict[str, Result]) -> str:
    """The results as a Markdown table."""
    words = {True: "passed", False: "FAILED", None: "not offered"}
    rows = [f"| {name} | {words[result.passed]} | {result.detail} |" for name, result in results.items()]
    return "\n".join(["| check | result | detail |", "|---|---|---|", *rows])
