"""Numbers of credit by turns and on trees: states that come again, turns that are paid, prefixes that branches share."""

from __future__ import annotations

from math import sqrt

import numpy as np

from sojourn.conformance.adapter import Adapter, Given
from sojourn.conformance.numbers import Case, hold, scaled, spread
from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.core import EpisodeGroup


def states_that_come_again_are_compared(adapter: Adapter) -> str:
    """GiGPO, gamma 0.95, means alone.  Episodes in states a b | a a | b, paid 0 1 | 0 0 | 0.5.

        R = 1, 0, 0.5: -0.5 from the mean;   G = 0.95 1 | 0 0 | 0.5
        a: 0.95 0 0, mean 0.316667: 0.633333 -0.316667 -0.316667;   b: 1 0.5, mean 0.75: 0.25 -0.25
        A = 1.133333 0.75 | -0.816667 -0.816667 | -0.25

    The other group visits a as well and is not compared with this one: R = 3, 1, alone in their states, A = 1, -1.  Discounted
    without a state, a third group of 1 + 1 actions gets what its episodes get.
    """
    one = group(
        [
            Script([Turn(2, anchor="a"), Turn(1, anchor="b", reward=1.0)]),
            Script([Turn(1, anchor="a"), Turn(1, anchor="a")]),
            Script([Turn(3, anchor="b", reward=0.5)]),
        ]
    )
    two = group([Script([Turn(1, anchor="a")], final=3.0), Script([Turn(1, anchor="c")], final=1.0)], key="h")
    three = group([Script([Turn(1), Turn(1)], final=1.0), Script([Turn(1), Turn(1)])], key="k")
    expected = spread(
        [1.133333, 0.75, -0.816667, -0.816667, -0.25, 1, -1, 0.5, 0.5, -0.5, -0.5], [2, 1, 1, 1, 3, 1, 1, 1, 1, 1, 1]
    )
    hold(adapter, {"gigpo": Case([one, two, three], expected)})
    return "two states that come again within and between episodes, one that another group shares, states that nobody knows"


def paid() -> EpisodeGroup:
    """Three episodes of 3, 3 and 2 turns; turns are paid 1 0.5 0 | 0 -0.5 0 | 0.5 1, the ends 1, 0, 1."""
    return group(
        [
            Script([Turn(2, reward=1.0), Turn(1, reward=0.5), Turn(1)], final=1.0),
            Script([Turn(1), Turn(2, reward=-0.5), Turn(1)]),
            Script([Turn(1, reward=0.5), Turn(3, reward=1.0)], final=1.0),
        ]
    )


PAID_TOKENS = [2, 1, 1, 1, 2, 1, 1, 3]


def paid_turns_are_credited(adapter: Adapter) -> str:
    """`paid`: outcomes are what the last turn and the end earn, 1, 0, 2: scaled 0, -1, 1.

    MT-GRPO: turns of the same number are compared: first 1, 0, 0.5: 1, -1, 0; second 0.5, -0.5: h, -h with h = sqrt 0.5; the last
    turn has no turn reward.  A = 1 h 0 | -2 -1-h -1 | 1 1.

    Process rewards: all earlier turns together, 1 .5 0 -.5 .5, mean .3, deviation s = sqrt(1.3 / 4); A sums what follows:
    .9/s .2/s 0 | -1.1/s-1 -.8/s-1 -1 | .2/s+1 1.
    """
    h, s = sqrt(0.5), sqrt(1.3 / 4)
    turns = [1, h, 0, -2, -1 - h, -1, 1, 1]
    process = [0.9 / s, 0.2 / s, 0, -1.1 / s - 1, -0.8 / s - 1, -1, 0.2 / s + 1, 1]
    return " and ".join(
        hold(
            adapter,
            {
                "mt_grpo": Case([paid()], spread(turns, PAID_TOKENS)),
                "grpo_process": Case([paid()], spread(process, PAID_TOKENS)),
            },
        )
    )


def what_an_action_taught_is_credited(adapter: Adapter) -> str:
    """IGPO.  log p(answer) before each action -3 -2 -1.5 | -2 -2.5 | -1: gains 1 .5 | -.5, mean 1/3, deviation s = sqrt(21 / 36).
    Outcomes 1, 0, 2 scale to 0, -1, 1.  A = (5/6)/s (1/6)/s 0 | -(5/6)/s-1 -1 | 1.  With p = .2 .6 .8 | .5 .3 | .1 gains of
    probability are 0.4 times these, so that scaled they are the same."""
    made = group([Script([Turn(1), Turn(2), Turn(1)], final=1.0), Script([Turn(2), Turn(1)]), Script([Turn(1)], final=2.0)])
    s = sqrt(21 / 36)
    expected = spread([5 / 6 / s, 1 / 6 / s, 0, -5 / 6 / s - 1, -1, 1], [1, 2, 1, 2, 1, 1])
    known = {"igpo": [-3.0, -2.0, -1.5, -2.0, -2.5, -1.0], "igpo_probability": np.log([0.2, 0.6, 0.8, 0.5, 0.3, 0.1])}
    hold(adapter, {name: Case([made], expected, Given(answer=np.array(each))) for name, each in known.items()})
    return "igpo, gains of different size and sign"


def returns_of_actions_are_compared(adapter: Adapter) -> str:
    """Episodes of 2, 2 and 1 actions, paid 1 1 | 0 0 | 3, and two of one action, paid 4 | 0.

    MAGRPO compares actions of one turn in one group, gamma 1: G = 2 1 | 0 0 | 3; first turns have the mean 5/3, second turns 1/2.
    Step REINFORCE compares all of the batch, gamma 0.95: G = 1.95 1 | 0 0 | 3 || 4 | 0.
    """
    one = group([Script([Turn(1, reward=1.0), Turn(2)], final=1.0), Script([Turn(1), Turn(1)]), Script([Turn(2)], final=3.0)])
    two = group([Script([Turn(1)], final=4.0), Script([Turn(1)])], key="h")
    lengths = [1, 2, 1, 1, 2, 1, 1]
    magrpo = [1 / 3, 0.5, -5 / 3, -0.5, 4 / 3, 2, -2]
    steps = scaled([1.95, 1, 0, 0, 3, 4, 0])
    cases = {"magrpo": Case([one, two], spread(magrpo, lengths)), "step_reinforce": Case([one, two], spread(steps, lengths))}
    return " and ".join(hold(adapter, cases))


def leaf(tokens: int, reward: float) -> Script:
    return Script([Turn(tokens, reward=reward)])


def leaves_hand_their_advantage_up(adapter: Adapter) -> str:
    """ARPO.  An action paid 0.5 with leaves paid 1, 0, 0.5, and an episode that gets 0: leaves 1.5, 0.5, 1 and 0, mean 0.75,
    deviation s = sqrt(1.25 / 3): (.75, -.25, .25, -.75) / s.  The shared action gets their sum (soft) or mean (hard): .75/s, .25/s.
    """
    s, lengths = sqrt(1.25 / 3), [3, 1, 2, 1, 2]
    made = [group([Script([Turn(3, reward=0.5)], branches=[leaf(1, 1.0), leaf(2, 0.0), leaf(1, 0.5)]), Script([Turn(2)])])]
    rest = [0.75 / s, -0.25 / s, 0.25 / s, -0.75 / s]
    cases = {"arpo": Case(made, spread([0.75 / s, *rest], lengths)), "arpo_hard": Case(made, spread([0.25 / s, *rest], lengths))}
    return " and ".join(hold(adapter, cases))


def branches_are_compared_where_they_part(adapter: Adapter) -> str:
    """A trunk with leaves 1, 0, 0, one with leaves 1, 0, and an action paid 1.

    TreeRPO: values 1/3, 1/2, 1 of the first actions, mean 11/18, sqrt(mu (1 - mu)) = sqrt(77) / 18: A = -5, -2, 7 over sqrt 77.
    Leaves of the first: mu = 1/3: (2, -1, -1) / sqrt 2; of the second: 1, -1.

    TreePO: values of leaves alone, the whole tree's 3/6.  Against it the first actions get -1/6, 0, 1/2; leaves against the mean
    of whole and trunk: 1 - 5/12, -5/12, -5/12 and 1/2, -1/2.  Then over the deviation of all tokens.
    """
    made = [
        group(
            [
                Script([Turn(2)], branches=[leaf(1, 1.0), leaf(2, 0.0), leaf(1, 0.0)]),
                Script([Turn(1)], branches=[leaf(1, 1.0), leaf(1, 0.0)]),
                Script([Turn(3)], final=1.0),
            ]
        )
    ]
    lengths, r = [2, 1, 2, 1, 1, 1, 1, 3], sqrt(77)
    rpo = [-5 / r, sqrt(2), -sqrt(0.5), -sqrt(0.5), -2 / r, 1, -1, 7 / r]
    po = spread([-1 / 6, 7 / 12, -5 / 12, -5 / 12, 0, 0.5, -0.5, 0.5], lengths)
    cases = {"tree_rpo": Case(made, spread(rpo, lengths)), "tree_po": Case(made, po / po.std(ddof=1))}
    return " and ".join(hold(adapter, cases))
