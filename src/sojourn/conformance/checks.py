"""The suite: every check by name, and how to run them against an adapter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sojourn.conformance import choice_numbers as choices
from sojourn.conformance import coincidence_checks as same
from sojourn.conformance import credit_checks as credit
from sojourn.conformance import gradient_checks as numeric
from sojourn.conformance import group_numbers as groups
from sojourn.conformance import layout_checks as layout
from sojourn.conformance import model_checks as model
from sojourn.conformance import start_checks as start
from sojourn.conformance import turn_checks as turn
from sojourn.conformance import turn_numbers as turns
from sojourn.conformance import value_numbers as values
from sojourn.conformance.adapter import Adapter, NotOffered


@dataclass(frozen=True)
class Result:
    """passed: None if the implementation does not offer what the check asks for."""

    passed: bool | None
    detail: str


CHECKS: dict[str, Callable[[Adapter], str]] = {
    "I1 observations do not reach advantages": credit.observations_do_not_reach_advantages,
    "I1 observation values do not reach gradients": layout.observation_values_do_not_reach_gradients,
    "I1 what the world said is not trained": model.what_the_world_said_is_not_trained,
    "I2 splitting a turn in two changes no advantage": credit.splitting_a_turn_changes_nothing,
    "I2 splitting a turn in two changes no gradient": layout.splitting_a_turn_changes_no_gradient,
    "I3 padded and packed rows give one gradient": layout.the_layout_does_not_matter,
    "I3 own layout, branches alone and padded rows give one gradient": model.every_layout_gives_one_gradient,
    "I4 micro-batches of equal size give one gradient": layout.micro_batches_do_not_matter,
    "I4 micro-batches of any size give one gradient": layout.uneven_micro_batches_do_not_matter,
    "I4 any number of ranks gives one gradient": layout.ranks_do_not_matter,
    "I5 a shared ancestor is trained once": model.a_shared_ancestor_is_trained_once,
    "I5 more contexts leave group statistics": credit.exporting_more_contexts_leaves_statistics,
    "I6 permutation of a group": credit.permuting_a_group_permutes_advantages,
    "I6 equal rewards give exactly 0": credit.equal_rewards_give_exactly_zero,
    "I6 a group of one gives exactly 0": credit.a_group_of_one_gives_exactly_zero,
    "I7 shift and scale of rewards": credit.shift_and_scale_of_rewards,
    "I8 an infrastructure failure is no sample": credit.an_infrastructure_failure_is_no_sample,
    "I8 a failure means what its class says": credit.a_failure_means_what_its_class_says,
    "I8 a broken episode leaves the update": model.a_broken_episode_leaves_the_update,
    "I9 the first update is REINFORCE": start.the_first_update_is_reinforce,
    "I9 at the first update nothing is clipped": start.at_the_first_update_nothing_is_clipped,
    "I10 log-probabilities are of the sampled distribution": start.log_probabilities_are_of_the_sampled_distribution,
    "I11 the place of a reward in its turn does not matter": turn.the_place_of_a_reward_in_its_turn_does_not_matter,
    "I11 a reward credits the turn that caused it": turn.a_reward_credits_the_turn_that_caused_it,
    "I11 every turn is credited for what follows": turn.every_turn_is_credited_for_what_follows,
    "I12 cut bootstraps, ended does not": turn.what_is_cut_bootstraps_and_what_ends_does_not,
    "I12 a cut is an end that pays its future": turn.a_cut_is_an_end_that_pays_its_future,
    "I13 gradients are those of the formulas": numeric.gradients_are_those_of_the_formulas,
    "I13 the critic's loss and gradient": numeric.the_critic_descends_to_its_targets,
    "I14 GiGPO with unique states is Dr. GRPO": same.gigpo_with_unique_states_is_dr_grpo,
    "I14 without turn rewards and forks credit is of groups": same.without_turn_rewards_and_forks_credit_is_of_groups,
    "I14 GAE of turns of one token is GAE of tokens": same.on_turns_of_one_token_gae_of_turns_is_that_of_tokens,
    "I14 on-policy V-trace is Monte-Carlo GAE": same.on_policy_v_trace_is_monte_carlo_gae,
    "I14 GSPO on single tokens is token clipping": same.on_single_tokens_gspo_is_token_clipping,
    "I14 corrections without staleness do nothing": same.without_staleness_corrections_do_nothing,
    "I14 means over equal lengths coincide": same.on_equal_lengths_means_coincide,
    "N1 returns against a group, a batch, another rollout": groups.returns_are_compared_as_the_papers_say,
    "N1 bounded advantages": groups.bounds_hold_on_both_sides,
    "N1 whitened token returns": groups.batches_are_whitened_over_tokens,
    "N1 a divergence in the reward": groups.divergences_are_taken_off_the_reward,
    "N1 several terms": groups.terms_are_compared_one_by_one,
    "N1 pass@k": groups.passing_once_in_k_is_credited,
    "N1 the optimal token baseline": groups.tokens_have_the_baseline_of_least_variance,
    "N1 entropy in the advantage": groups.uncertain_tokens_weigh_more,
    "N2 states that come again": turns.states_that_come_again_are_compared,
    "N2 paid turns": turns.paid_turns_are_credited,
    "N2 information gain": turns.what_an_action_taught_is_credited,
    "N2 returns of actions": turns.returns_of_actions_are_compared,
    "N3 leaves of a tree": turns.leaves_hand_their_advantage_up,
    "N3 branches of a tree": turns.branches_are_compared_where_they_part,
    "N4 generalised advantages": values.advantages_with_values_are_those_of_the_definition,
    "N4 a worked example": values.the_number_of_a_worked_example,
    "N4 a fork": values.at_a_fork_the_future_is_the_mean_of_the_branches,
    "N4 lambda by length": values.long_answers_look_further,
    "N4 turns, then tokens": values.turns_come_first_and_then_their_tokens,
    "N4 V-trace off-policy": values.v_trace_off_policy,
    "N4 the critic's targets": values.the_critic_predicts_returns,
    "N5 tokens of high covariance": numeric.tokens_of_high_covariance_are_held,
    "N5 the entropy bonus": numeric.entropies_are_raised,
    "N5 means over uneven rows": numeric.means_are_those_of_their_names,
    "N5 what is reported as clipped": numeric.what_is_clipped_is_reported,
    "N6 filters": choices.groups_are_kept_or_dropped,
    "N6 resampling on correct": choices.successes_without_flaws_are_kept,
    "N6 pairs": choices.the_best_is_paired_with_the_worst,
    "N7 rewards of lengths": choices.lengths_are_paid,
    "N7 rewards of calls": choices.calls_are_paid,
    "N7 rewards of proposed tasks": choices.proposed_tasks_are_paid,
    "N7 coefficients that follow a target": choices.coefficients_follow_their_targets,
}


def run(adapter: Adapter) -> dict[str, Result]:
    """Hold an implementation against every check.  A check that crashes has failed."""
    return {name: outcome(check, adapter) for name, check in CHECKS.items()}


def outcome(check: Callable[[Adapter], str], adapter: Adapter) -> Result:
    """Of one check."""
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
