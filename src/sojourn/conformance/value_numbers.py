"""Numbers of credit with values of states, and of what the critic should predict.

Advantages are summed up from their definition, A_t = sum_k (product of gamma lambda) delta_{t+k}, not by the recursion.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from sojourn.conformance.adapter import Adapter, Given
from sojourn.conformance.numbers import Case, following, hold, near, said, scaled, spread
from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.conformance.turn_checks import gae_by_hand
from sojourn.core import EpisodeGroup, StopReason
from sojourn.credit.columns import Floats

VALUE = np.array([0.3, -0.2, 0.5, 0.1, 0.9, -0.4, 0.25, 0.6])
"""Of the state before each token of `played`."""
RATIO = np.array([0.5, 1.5, 2.5, 0.8, 1.2, 0.6, 3.0, 0.9])
"""pi / mu of each of these tokens."""
LOGP = np.array([-0.5, -1.0, -0.25, -2.0, -0.75, -1.5, -0.5, -1.0])
"""log mu."""
GAP = np.array([0.5, -1.0, 0.25, 2.0, -0.5, 1.0, -0.75, 0.1])
"""log mu - log pi_ref."""
AFTER = 2.0
"""Value of the state in which the second episode was cut."""
TOKENS = ((2, 1, 2), (1, 2))
PAID = ((0.5, 0.0, 0.25), (-1.0, 0.75))
"""Rewards of the turns; the first episode is paid 1 more at its end."""


def played() -> list[EpisodeGroup]:
    """An episode of 2 + 1 + 2 tokens that ends, and one of 1 + 2 that is cut."""
    turns = [[Turn(n, reward=r) for n, r in zip(*each, strict=True)] for each in zip(TOKENS, PAID, strict=True)]
    made = group([Script(turns[0], final=1.0), Script(turns[1], stop=StopReason.TRUNCATED)])
    said([made], LOGP.tolist())
    return [made]


REWARDS = (np.array([0.0, 0.5, 0.0, 0.0, 1.25]), np.array([-1.0, 0.0, 0.75]))
VALUES = (VALUE[:5], VALUE[5:])
AFTERS = (0.0, AFTER)


def of_tokens(gamma: float, lam: float, penalty: ArrayLike = 0.0) -> Floats:
    """Generalised advantages of the tokens of `played`."""
    off = np.split(np.broadcast_to(np.asarray(penalty, np.float64), VALUE.shape), [5])
    parts = zip(REWARDS, off, VALUES, AFTERS, strict=True)
    return np.concatenate([gae_by_hand(r - k, v, after, gamma, lam) for r, k, v, after in parts])


def of_turns(gamma: float, lam: float, value: tuple[Floats, Floats]) -> Floats:
    """Of its turns; the values of the states before them are given."""
    paid = (np.array([0.5, 0.0, 1.25]), np.array(PAID[1]))
    return np.concatenate([gae_by_hand(r, v, after, gamma, lam) for r, v, after in zip(paid, value, AFTERS, strict=True)])


BEFORE = (VALUE[[0, 2, 3]], VALUE[[5, 6]])
"""Values before the turns of `played`: of the states before their first tokens."""
EACH = [2, 1, 2, 1, 2]


def advantages_with_values_are_those_of_the_definition(adapter: Adapter) -> str:
    """lambda 0.95 (PPO) and 1 (StarPO-S) over tokens; over turns gamma 0.99, lambda 0.95, and lambda 0 with values of fresh rollouts
    (VinePPO: r + V' - V).  All but VinePPO's are whitened.  PPO with a reference is paid 0.05 (log pi - log pi_ref) less."""
    fresh = np.array([0.2, 0.6, 1.0, -0.5, 0.4])
    given = Given(value=VALUE, after=AFTER)
    vine = spread(of_turns(1.0, 0.0, (fresh[:3], fresh[3:])), EACH)
    cases = {
        "ppo_plain": Case(played(), scaled(of_tokens(1.0, 0.95)), given),
        "starpo_s": Case(played(), scaled(of_tokens(1.0, 1.0)), given),
        "ppo": Case(played(), scaled(of_tokens(1.0, 0.95, 0.05 * GAP)), Given(**given, ref_logp=LOGP - GAP)),
        "turn_ppo": Case(played(), scaled(spread(of_turns(0.99, 0.95, BEFORE), EACH)), given),
        "vine_ppo": Case(played(), vine, Given(**given, rollout_value=fresh)),
    }
    return f"{', '.join(hold(adapter, cases))}; an episode that ends and one that is cut"


def the_number_of_a_worked_example(adapter: Adapter) -> str:
    """r = 0 0 1, V = .2 .4 .6: .8 .6 .4 at lambda 1, and .751 .58 .4 at lambda .95.  V before a turn is that before its first token:
    turns of 2 and 1 tokens with gamma .9, lambda .5: delta = .9 * .6 - .2 = .34 and .4, so A = .34 + .45 * .4 = .52 and .4."""
    chain = [group([Script([Turn(2), Turn(1)], final=1.0)])]
    value = np.array([0.2, 0.4, 0.6])
    near(adapter.gae(chain, granularity="token", gamma=1.0, lam=1.0, value=value, after=0.0), [0.8, 0.6, 0.4], "lambda 1")
    near(adapter.gae(chain, granularity="token", gamma=1.0, lam=0.95, value=value, after=0.0), [0.751, 0.58, 0.4], "lambda 0.95")
    near(adapter.gae(chain, granularity="turn", gamma=0.9, lam=0.5, value=value, after=0.0), [0.52, 0.52, 0.4], "turns")
    return "three tokens, and two turns"


LEVELS: tuple[Literal["token", "turn"], ...] = ("token", "turn")


def at_a_fork_the_future_is_the_mean_of_the_branches(adapter: Adapter) -> str:
    """V = .5 before the trunk, .2 .4 .9 before its branches, which are paid 1, 0, 0.5; gamma .9, lambda .5.

    Branches: .8 -.4 -.4, mean 0; the trunk: .9 * .5 - .5 + .45 * 0 = -.05.  With branches paid 1, 0, 2 the last gets 1.1,
    their mean is .5, and the trunk gets -.05 + .45 * .5 = .175.
    """
    value = np.array([0.5, 0.2, 0.4, 0.9])
    for last, expected in ((0.5, [-0.05, 0.8, -0.4, -0.4]), (2.0, [0.175, 0.8, -0.4, 1.1])):
        branches = [Script([Turn(1, reward=r)]) for r in (1.0, 0.0, last)]
        tree = [group([Script([Turn(1)], branches=branches)])]
        for granularity in LEVELS:
            near(
                adapter.gae(tree, granularity=granularity, gamma=0.9, lam=0.5, value=value, after=0.0),
                expected,
                f"{granularity}s",
            )
    return "three branches, over tokens and over turns"


def long_answers_look_further(adapter: Adapter) -> str:
    """VAPO: lambda = 1 - 1 / (0.05 l): 1/2 for 40 tokens, 1/3 for 30, 0 for 10 (no lambda is below 0); whitened over all tokens."""
    sizes = ((25, 15), (10, 20), (10,))
    made = group([Script([Turn(n) for n in turns], final=float(k + 1)) for k, turns in enumerate(sizes)])
    lengths = [sum(turns) for turns in sizes]
    value = np.arange(sum(lengths)) % 7 / 4
    each = np.split(value, np.cumsum(lengths)[:-1])
    parts = [
        gae_by_hand(np.eye(n)[-1] * (k + 1), v, 0.0, 1.0, max(1 - 20 / n, 0.0))
        for k, (n, v) in enumerate(zip(lengths, each, strict=True))
    ]
    hold(adapter, {"vapo": Case([made], scaled(np.concatenate(parts)), Given(value=value))})
    return "vapo, answers of 40, 30 and 10 tokens"


def turns_come_first_and_then_their_tokens(adapter: Adapter) -> str:
    """RAGEN: A of turns with gamma and lambda 0.95; a turn's last token is paid A + V of its turn; within the turn gamma 1,
    lambda 0.95, and nothing beyond its last token.  Whitened."""
    turn = of_turns(0.95, 0.95, BEFORE)
    paid = turn + np.concatenate(BEFORE)
    values = np.split(VALUE, np.cumsum(EACH)[:-1])
    parts = [gae_by_hand(np.eye(len(v))[-1] * r, v, 0.0, 1.0, 0.95) for r, v in zip(paid, values, strict=True)]
    hold(adapter, {"ragen": Case(played(), scaled(np.concatenate(parts)), Given(value=VALUE, after=AFTER))})
    return "ragen, turns of 1 and 2 tokens"


def v_trace(reward: Floats, value: Floats, after: float, ratio: Floats) -> tuple[Floats, Floats]:
    """v_t = V_t + sum_k c_t .. c_{k-1} rho_k delta_k, and A_t = rho_t (r_t + v_{t+1} - V_t); rho = c = min(1, pi / mu).  [IMPALA]"""
    rho = np.minimum(ratio, 1.0)
    delta = rho * (reward + np.append(value[1:], after) - value)
    size = range(len(value))
    target = np.array([value[t] + sum(rho[t:k].prod() * delta[k] for k in size if k >= t) for t in size])
    return target, rho * (reward + np.append(target[1:], after) - value)


def v_trace_off_policy(adapter: Adapter) -> str:
    """Ratios of 0.5 to 3 between the learner and what sampled, caps of 1."""
    parts = [v_trace(r, v, after, x) for r, v, after, x in zip(REWARDS, VALUES, AFTERS, np.split(RATIO, [5]), strict=True)]
    given = Given(value=VALUE, after=AFTER, policy_logp=LOGP + np.log(RATIO))
    hold(adapter, {"impala": Case(played(), np.concatenate([advantage for _, advantage in parts]), given)})
    near(adapter.targets("impala", played(), **given), np.concatenate([target for target, _ in parts]), "targets")
    return "impala, advantages and targets"


def the_critic_predicts_returns(adapter: Adapter) -> str:
    """With lambda 1: what follows each token, gamma 1 (PPO), less what a reference takes off; with a discount of each turn (turn PPO
    0.99, RAGEN 0.95) a token's own turn is not discounted, and V' = 2 of the cut is."""
    given = Given(value=VALUE, after=AFTER)
    near(
        adapter.targets("ppo_plain", played(), **given),
        np.concatenate([following(REWARDS[0]), following(REWARDS[1]) + AFTER]),
        "ppo",
    )
    taken = np.split(0.05 * GAP, [5])
    with_reference = [following(r - k) + after for r, k, after in zip(REWARDS, taken, AFTERS, strict=True)]
    near(
        adapter.targets("ppo", played(), value=VALUE, after=AFTER, ref_logp=LOGP - GAP),
        np.concatenate(with_reference),
        "ppo with a reference",
    )
    for name, gamma in (("turn_ppo", 0.99), ("ragen", 0.95)):
        first = following([0.5, 0.0, 1.25], gamma)
        second = following([*PAID[1], AFTER], gamma)[:2]
        near(adapter.targets(name, played(), **given), spread([*first, *second], EACH), name)
    return "ppo, turn_ppo, ragen"
