"""Checks of credit in time: which turn a reward belongs to, and what follows an episode's last action."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sojourn.conformance.adapter import Adapter
from sojourn.conformance.algorithms import VALUED
from sojourn.conformance.credit_checks import equal, offered, scripts
from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.core import StopReason

BY_TURN = (
    "step_reinforce", "mt_grpo", "grpo_process", "magrpo", "reinforce_pp", "reinforce_pp_baseline", "grpo", "arpo", "tree_po", "ragen",
    "turn_ppo", "ppo_plain", "impala",
)  # fmt: skip


def gae_by_hand(
    reward: NDArray[np.float64], value: NDArray[np.float64], after: float, gamma: float, lam: float
) -> NDArray[np.float64]:
    """A_t = sum over k of (gamma lam)^k (r_{t+k} + gamma V_{t+k+1} - V_{t+k}) of one chain of steps.  [arXiv 1506.02438, eq. 16]"""
    delta = reward + gamma * np.append(value[1:], after) - value
    return np.array([sum((gamma * lam) ** k * d for k, d in enumerate(delta[t:])) for t in range(len(delta))])


def the_place_of_a_reward_in_its_turn_does_not_matter(adapter: Adapter) -> str:
    """Paid on the action, on the observation it caused, or on its last token; turns of 2, 1 and 2 tokens."""
    names, paid = offered(adapter, BY_TURN), [(1.0, 0.0, 0.5), (0.0, 0.25, 0.0), (0.5, 0.0, 0.0)]

    def played(turns: int, **place: Any) -> list[Script]:
        return [Script([Turn(n, reward=r * turns, **place) for n, r in zip((2, 1, 2), each, strict=True)]) for each in paid]

    on_tokens = np.zeros((3, 5))
    on_tokens[:, [1, 2, 4]] = paid
    for name in names:
        on_action = adapter.advantages(name, [group(played(1))], value=0.25)
        assert on_action.any(), f"{name}: no advantage at all"
        on_world = adapter.advantages(name, [group(played(1, on_observation=True))], value=0.25)
        on_token = adapter.advantages(name, [group(played(0))], value=0.25, token_reward=on_tokens.reshape(-1))
        equal(on_action, on_world, f"{name}, on the observation")
        equal(on_action, on_token, f"{name}, on the last token")
    return f"{len(names)} estimators; on the action, on the observation it caused, on its last token"


def a_reward_credits_the_turn_that_caused_it(adapter: Adapter) -> str:
    """With lambda = 0 and no values, an advantage is what the step itself earned; turns of 2, 1 and 2 tokens."""
    expected = {
        "turn": [[1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 1]],
        "token": [[0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0] * 4 + [1]],
    }
    granularity: Literal["token", "turn"]
    for granularity in ("turn", "token"):
        for paid in range(3):
            for on_world in (False, True):
                turns = [Turn(n, reward=float(k == paid), on_observation=on_world) for k, n in enumerate((2, 1, 2))]
                seen = adapter.gae(
                    [group([Script(turns)])], granularity=granularity, gamma=1.0, lam=0.0, value=np.zeros(5), after=0.0
                )
                assert seen.tolist() == expected[granularity][paid], (
                    f"{granularity}s: a reward of turn {paid} credits {seen.tolist()}"
                )
    return "one-step advantages of turns and of tokens, paid on each of three turns"


def every_turn_is_credited_for_what_follows(adapter: Adapter) -> str:
    names = offered(adapter, BY_TURN)
    for name in names:
        late = adapter.advantages(name, [group(scripts([1.0, 0.0]))])
        assert late[0] > late[3], f"{name}: the first turn of the winner gets {late[0]:.3g}, that of the loser {late[3]:.3g}"
    return f"{len(names)} estimators, the reward at the end"


def what_is_cut_bootstraps_and_what_ends_does_not(adapter: Adapter) -> str:
    """Generalised advantages from their definition, for every way to stop; turns of 2 and 1 tokens."""
    value, reward, gamma, lam = np.array([0.5, -0.25, 1.0]), np.array([0.0, 0.5, 1.0]), 0.9, 0.8
    for stop in (StopReason.TERMINATED, StopReason.TRUNCATED, StopReason.TURN_LIMIT, StopReason.TOKEN_LIMIT):
        made = [group([Script([Turn(2, reward=0.5), Turn(1)], final=1.0, stop=stop)])]
        after = 0.0 if stop is StopReason.TERMINATED else 7.0
        by_token = adapter.gae(made, granularity="token", gamma=gamma, lam=lam, value=value, after=7.0)
        by_turn = adapter.gae(made, granularity="turn", gamma=gamma, lam=lam, value=value, after=7.0)
        equal(by_token, gae_by_hand(reward, value, after, gamma, lam), f"tokens, {stop.value}")
        equal(by_turn, gae_by_hand(reward[1:], value[[0, 2]], after, gamma, lam)[[0, 0, 1]], f"turns, {stop.value}")
    return "every way to stop, over tokens and over turns, with V' = 7"


def a_cut_is_an_end_that_pays_its_future(adapter: Adapter) -> str:
    """An episode that was cut where the state is worth V' gets what one gets that ends there and is paid gamma V'."""
    names = offered(adapter, VALUED)
    for name in names:
        turns = [Turn(2, reward=0.5), Turn(1)]
        ended = Script(turns, final=1.0 + 7.0 * VALUED[name])
        cut = Script(turns, final=1.0, stop=StopReason.TRUNCATED)
        seen = adapter.advantages(name, [group([ended, cut, Script([Turn(3)], final=0.25)])], value=0.25, after=7.0)
        equal(seen[:3], seen[3:6], name)
    return f"{len(names)} estimators that read values, V' = 7"
