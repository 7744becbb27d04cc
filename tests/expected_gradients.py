"""What an algorithm may follow in expectation, written down: the policy gradient of the world in `tabular`, and advantages of pairs.

Nothing here calls credit or objectives.  An advantage is a function of an episode and of the others in its group; summed over all
groups with their chances it is a gradient.

Wherever two episodes are compared by mean and deviation, the deviation is |R1 - R2| / sqrt 2, and the advantage is +-1 / sqrt 2: such
an algorithm follows the chance to win against a copy of itself, whatever the margin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, product
from math import sqrt

import numpy as np
from tabular import ANSWER, PAY, Fed, Floats, Path, World, entropy, softmax

POLICY = softmax(np.array([[0.6, -0.3], [0.1, -0.1]]))
REFERENCE = softmax(np.array([[-0.2, 0.4], [0.5, 0.0]]))
EVEN = World(turns=2, after=(0.25, 0.5))
"""All episodes have two turns: a mean over tokens is a constant factor."""
UNEVEN = World(turns=3)
"""Some episodes end a turn earlier."""
ONE_TURN = World(turns=1, start=1)
TRUE = Fed(
    policy=POLICY,
    reference=REFERENCE,
    before=(POLICY * EVEN.action_values(POLICY)).sum(-1),
    chosen=EVEN.action_values(POLICY),
    after=EVEN.after,
    baseline=0.375,
)
"""With the true values of all states."""
WRONG = Fed(
    policy=POLICY,
    reference=REFERENCE,
    before=np.array([[0.3, -0.1], [0.7, 0.2], [0.0, 0.5]]),
    chosen=np.array([[[0.2, 0.1], [0.6, -0.3]], [[0.4, 0.9], [0.1, 0.3]], [[0.0, 0.2], [0.1, 0.8]]]),
    after=EVEN.after,
    baseline=0.375,
)
"""With a critic that has learned nothing."""

Part = Callable[[World], Floats]
Formula = Callable[[Path, Sequence[Path]], Floats]
"""Advantages of the choices of an episode among the others of its group, shape (turns,)."""


# What an algorithm may follow.  Each gives a gradient at the logits, upwards.


def exact(share: float, *, in_reward: float = 0.0, bootstrapped: bool = False) -> Part:
    """The policy gradient.  in_reward: beta of a divergence from the reference in the reward."""

    def part(world: World) -> Floats:
        judged = world if bootstrapped else World(world.turns, world.start)
        return share * judged.gradient(POLICY, PAY - in_reward * np.log(POLICY / REFERENCE))

    return part


def groups(formula: Formula, over: str = "tokens", size: int = 2) -> Part:
    """An advantage written down, summed over all groups and all episodes in them.

    over: what the loss is a mean of; a weight for each kept token of an episode.
    """

    def part(world: World) -> Floats:
        total = np.zeros((2, 2))
        for paths in product(world.paths, repeat=size):
            chance = np.prod([path.chance(POLICY) for path in paths])
            tokens = [2 * len(path.states) for path in paths]
            for i, own in enumerate(paths):
                weight = {"tokens": 1 / sum(tokens), "sequences": 1 / size / tokens[i], "sums": 1 / size}[over]
                advantage = formula(own, paths[:i] + paths[i + 1 :])
                total += chance * weight * np.einsum("t,tsa->sa", advantage, own.scores(POLICY))
        return total

    return part


def pulled(world: World, slope: Floats) -> Floats:
    """A term of every token: its gradient in each state, in the mean over tokens."""
    return world.visits(POLICY).sum(0)[:, None] * slope / (2 * world.turns)


def to_reference(beta: float) -> Part:
    """Down KL(ref || pi), which is where the k3 loss leads."""
    return lambda world: pulled(world, -beta * (POLICY - REFERENCE))


def from_reference(beta: float) -> Part:
    """Down KL(pi || ref), in each state by itself: where k2, the unbiased k3 and distillation lead."""
    gap = np.log(POLICY / REFERENCE)
    return lambda world: pulled(world, -beta * POLICY * (gap - (POLICY * gap).sum(-1, keepdims=True)))


def uncertain(eta: float) -> Part:
    """Up the entropy in each state."""
    return lambda world: pulled(world, -eta * POLICY * (np.log(POLICY) + entropy(POLICY)[:, None]))


# Advantages written down.


def sign(value: float) -> float:
    return float(np.sign(value)) / sqrt(2)


def alike(value: float, path: Path) -> Floats:
    return np.full(len(path.states), value)


def wins(own: Path, others: Sequence[Path]) -> Floats:
    return alike(sign(own.total - others[0].total), own)


WINS = groups(wins)
WINS_BY_SEQUENCE = groups(wins, "sequences")


def returns(path: Path, gamma: float) -> Floats:
    """Discounted return that follows each turn."""
    turns = len(path.earned)
    return np.array([sum(gamma ** (k - t) * path.earned[k] for k in range(t, turns)) for t in range(turns)])


def scored(own: Floats, others: Floats) -> Floats:
    """Mean 0 and deviation 1 over both together; 0 where all are equal."""
    everything = np.concatenate([own, others])
    return (own - everything.mean()) / everything.std(ddof=1) if np.ptp(everything) else np.zeros(len(own))


def white(of_tokens: Callable[[Path], Floats]) -> Formula:
    """Something of each token (choice, end of turn, choice ...), whitened over the tokens of both episodes."""
    return lambda own, others: scored(of_tokens(own), of_tokens(others[0]))[::2]


def gae(path: Path, *, gamma: float = 1.0, lam: float = 1.0, beta: float = 0.0, granularity: str = "token") -> Floats:
    """The double sum A_t = sum_k (gamma lam)^k delta_{t+k} of arXiv 1506.02438, eq. 16, with the critic `WRONG`; shape (tokens,)."""
    turns = range(len(path.states))
    value = np.array(
        [(WRONG.before[t, s], WRONG.chosen[t, s, a]) for t, s, a in zip(turns, path.states, path.actions, strict=True)]
    )
    reward = np.stack([-beta * penalty(path), path.earned], 1)
    last = (*WRONG.after, 0.0)[path.last]
    if granularity == "turn":
        value, reward = value[:, :1], reward.sum(1, keepdims=True)
    value, reward = value.reshape(-1), reward.reshape(-1)
    delta = reward + gamma * np.append(value[1:], last) - value
    n = len(delta)
    advantage = np.array([sum((gamma * lam) ** (k - t) * delta[k] for k in range(t, n)) for t in range(n)])
    return np.repeat(advantage, 2) if granularity == "turn" else advantage


def penalty(path: Path) -> Floats:
    """log pi - log pi_ref of each choice."""
    return np.log(POLICY / REFERENCE)[path.states, path.actions]


def rewards_to_go(path: Path) -> Floats:
    """Of each token, lowered by 0.001 (log pi - log pi_ref) of each choice from it on."""
    reward = np.stack([-0.001 * penalty(path), path.earned], 1).reshape(-1)
    return np.cumsum(reward[::-1])[::-1]


def two_levels(path: Path) -> Floats:
    """RAGEN: the turn's advantage plus V is paid on its last token, then GAE within the turn with lambda 0.95."""
    result = []
    for t, (s, a, turn) in enumerate(
        zip(path.states, path.actions, gae(path, gamma=0.95, lam=0.95, granularity="turn")[::2], strict=True)
    ):
        before, chosen = WRONG.before[t, s], WRONG.chosen[t, s, a]
        end = turn + before - chosen
        result += [chosen - before + 0.95 * end, end]
    return np.array(result)


def same_state(own: Path, others: Sequence[Path]) -> Floats:
    """GiGPO: R - mean R, plus the return with gamma 0.95 from each choice, against all choices of the group in the same state."""
    (other,) = others
    mine, theirs = returns(own, 0.95), returns(other, 0.95)
    step = []
    for state, value in zip(own.states, mine, strict=True):
        there = [*mine[np.array(own.states) == state], *theirs[np.array(other.states) == state]]
        step.append(value - np.mean(there))
    return (own.total - other.total) / 2 + np.array(step)


def by_turn(own: Path, others: Sequence[Path]) -> Floats:
    """MT-GRPO, and process supervision where there are two turns: the first turn's own reward has as much say as the outcome."""
    (other,) = others
    outcome = sign(own.earned[-1] - other.earned[-1])
    return np.array([outcome + sign(own.pay[0] - other.pay[0]), outcome])


def informed(own: Path, others: Sequence[Path]) -> Floats:
    """IGPO: the first choice also wins by what its next state knows of the right answer; the rewards are the outcome."""
    (other,) = others
    outcome, gained = sign(own.total - other.total), sign(ANSWER[own.states[1]] - ANSWER[other.states[1]])
    return np.array([outcome + gained, outcome])


def by_variance(own: Path, others: Sequence[Path]) -> Floats:
    """OTB: the baseline at a turn weighs both returns from there by W, the sum over its tokens so far of 1 - 2 pi + sum_v pi^2."""
    weights = []
    for path in (own, others[0]):
        p = POLICY[path.states, path.actions]
        weights.append(np.cumsum(1 - 2 * p + (POLICY**2).sum(1)[list(path.states)]))
    share = weights[1] / (weights[0] + weights[1])
    return share * (returns(own, 1.0) - returns(others[0], 1.0))


def over_mean(own: Path, others: Sequence[Path]) -> Floats:
    """MaxRL: (R - mean) / mean."""
    total = own.total + others[0].total
    return alike((own.total - others[0].total) / total if total else 0.0, own)


def of_subsets(own: Path, others: Sequence[Path]) -> Floats:
    """Pass@4: the mean score of the 4-subsets of the group that an episode is in, a subset scoring 1 if one of it has the prize."""
    prizes = [own.prize, *(path.prize for path in others)]
    every = {chosen: float(any(prizes[i] for i in chosen)) for chosen in combinations(range(len(prizes)), 4)}
    spread = np.std(list(every.values()))
    mine = [score for chosen, score in every.items() if 0 in chosen]
    return alike((np.mean(mine) - np.mean(list(every.values()))) / spread if spread else 0.0, own)


def each_term(own: Path, others: Sequence[Path]) -> Floats:
    """GDPO: the terms vote, each with its sign; where they disagree, what is added to deviations breaks the tie."""
    gaps = sum(own.pay) - sum(others[0].pay), own.prize - others[0].prize
    votes = sum(gap / 2 / (abs(gap) / sqrt(2) + 1e-6) for gap in gaps)
    return alike(votes / (abs(votes) * sqrt(2) + 1e-6), own)


def most_uncertain(own: Path, others: Sequence[Path]) -> Floats:
    """One token of eight is trained, the most uncertain; the second state is the more uncertain one, and nobody acts there twice."""
    there = np.array(own.states) == 1
    return wins(own, others) * there / max(sum(1 in path.states for path in (own, *others)), 1)


def held(formula: Formula, own: Path, others: Sequence[Path], beta: float) -> Floats:
    """The formula less the slope of the k3 loss, beta (1 - ref / pi), where the group is trained at all."""
    return formula(own, others) - beta * (1 - np.exp(-penalty(own)))


def in_band(own: Path, others: Sequence[Path]) -> Floats:
    """R-Zero: pairs with one success are trained."""
    return ((own.prize > 0) != (others[0].prize > 0)) * held(wins, own, others, 0.01)


def with_signal(formula: Formula) -> Part:
    """DAPO's filter with k3: pairs whose returns differ are trained, and held to the reference there only."""
    return groups(lambda own, others: (own.total != others[0].total) * held(formula, own, others, 0.001))


def centred(own: Path, others: Sequence[Path]) -> Floats:
    return alike((own.total - others[0].total) / 2, own)


def uncertain_with_signal(world: World) -> Floats:
    """Up the entropy, by 0.01, in the states of pairs whose returns differ."""
    slope = -POLICY * (np.log(POLICY) + entropy(POLICY)[:, None])
    total = np.zeros((2, 2))
    for own, other in product(world.paths, repeat=2):
        chance = own.chance(POLICY) * other.chance(POLICY) * (own.total != other.total)
        total += chance * 0.01 * sum(np.eye(2)[state][:, None] * slope[state] for state in own.states) / (2 * world.turns)
    return total


def uncut(own: Path, others: Sequence[Path]) -> Floats:
    """Cut episodes count in the comparison and are not trained; the mean is over the tokens that are."""
    share = (own.prize > 0) / max(sum(path.prize > 0 for path in (own, *others)), 1)
    return 2 * share * wins(own, others)


def tempered(own: Path, others: Sequence[Path]) -> Floats:
    """A + min(0.4 H, |A| / 2)."""
    advantage = wins(own, others)
    return advantage + np.minimum(0.4 * entropy(POLICY)[list(own.states)], np.abs(advantage) / 2)


def gated(own: Path, others: Sequence[Path]) -> Floats:
    """Wins of what counts: the early pay of an episode that did not end is nothing."""
    worth = [path.total if path.prize > 0 else path.pay[-1] for path in (own, others[0])]
    return alike(sign(worth[0] - worth[1]), own)


def by_entropy(own: Path, others: Sequence[Path]) -> Floats:
    """A over the episode's entropy, relative to the mean of both."""
    nll = [entropy(POLICY)[list(path.states)].mean() for path in (own, *others)]
    return wins(own, others) * np.mean(nll) / nll[0]


def first_choice(own: Path, others: Sequence[Path]) -> Floats:
    """TreeRPO without forks: only the first choices are siblings; (R - mu) / sqrt(mu (1 - mu))."""
    mean = (own.total + others[0].total) / 2
    first = 0.0 if own.total == others[0].total else (own.total - mean) / sqrt(mean * (1 - mean))
    return np.array([first, *[0.0] * (len(own.states) - 1)])


def prefixes(own: Path, others: Sequence[Path]) -> Floats:
    """TreePO without forks: the gap to the group's mean at the first choice, half of it at the second, over their deviation."""
    gap = (own.total - others[0].total) / 2
    mine = np.array([gap, gap, gap / 2, gap / 2])
    spread = np.std([*mine, *-mine], ddof=1)
    return mine[::2] / spread if spread else np.zeros(2)


def with_likelihood(formula: Formula, weight: float) -> Formula:
    """What has a positive advantage is imitated as well."""
    return lambda own, others: (advantage := formula(own, others)) + weight * (advantage > 0)


def with_imitation(own: Path, others: Sequence[Path]) -> Floats:
    """CHORD: 0.9 of the wins, and 0.1 pi (1 - pi) on the choices of the winner."""
    p = POLICY[own.states, own.actions]
    return 0.9 * wins(own, others) + 0.1 * (wins(own, others) > 0) * p * (1 - p)
