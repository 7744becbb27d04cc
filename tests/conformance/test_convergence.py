"""Every on-policy algorithm, learning from samples as in training, ends at the optimal policy of a small world.

The world of `tabular`, two turns.  A small reward at once tempts away from the prize, and the policy starts out tempted: what credits
an action with its own reward, or the last turn alone, stays where it is.  What divides returns by a group's own deviation stays there
too, and is shown a world without temptation.  Each update samples groups of episodes, feeds what the algorithm reads (a critic that
learns beside it, fresh rollouts, greedy ones, a teacher), and takes two steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np
import pytest
import torch
from inside import inside
from tabular import Adam, Batch, Fed, Floats, Path, World, ascent, rows, softmax, table, trained_tokens, uphill

from sojourn.credit import Columns, Normaliser, PassKBest, StepRelative, critic_targets, reads
from sojourn.objectives import CriticInputs
from sojourn.objectives.inputs import compares
from sojourn.objectives.presets import PRESETS, Preset, preset
from sojourn.objectives.presets.offline import OFFLINE

TEMPTING = World(turns=2, pay=((0.0625, 0.0), (0.0, 0.0)))
"""A small reward for staying away from the prize."""
HONEST = World(turns=2, pay=((0.0, 0.0625), (0.0, 0.0)))
"""The same for going towards it."""
START = np.array([[0.4, -0.4], [-0.4, 0.4]])
UPDATES, EPOCHS, EPISODES = 60, 2, 64


def best(world: World) -> list[int]:
    """The best action in each state, of all four policies that take no chances."""
    certain = {choice: np.eye(2)[list(choice)] for choice in product(range(2), repeat=2)}
    return list(max(certain, key=lambda choice: world.worth(certain[choice])))


class Critic:
    """A table of values by turn and state, and after each choice; it starts at 0 and learns by the preset's loss."""

    def __init__(self, algorithm: Preset, world: World) -> None:
        self.algorithm = algorithm
        self.before = torch.zeros(world.turns, 2, dtype=torch.float64, requires_grad=True)
        self.chosen = torch.zeros(world.turns, 2, 2, dtype=torch.float64, requires_grad=True)
        self.optimizer = torch.optim.Adam([self.before, self.chosen], lr=0.05)

    def learn(self, columns: Columns, paths: list[Path]) -> None:
        assert self.algorithm.critic is not None and self.algorithm.credit is not None
        old, target = torch.tensor(columns.value_T), torch.tensor(critic_targets(self.algorithm.credit, columns))
        state, action, turn = map(torch.tensor, rows(paths))
        for _ in range(4):
            value = torch.stack([self.before[turn, state], self.chosen[turn, state, action]], 1).reshape(-1)
            loss, _ = self.algorithm.critic(CriticInputs(value=value, old_value=old, target=target, tokens=len(value)))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()


@dataclass
class Run:
    """One run of an algorithm."""

    name: str
    world: World = TEMPTING
    size: int = 4
    seed: int = 0
    logits: Floats = field(default_factory=START.copy)

    def __post_init__(self) -> None:
        self.algorithm = preset(self.name)
        self.draw = np.random.default_rng(self.seed)
        self.critic = Critic(self.algorithm, self.world) if self.algorithm.critic else None
        self.reference = softmax(self.logits)
        if self.name == "distillation":
            self.reference = 0.02 + 0.96 * np.eye(2)[best(self.world)]

    def sampled(self, policy: Floats, count: int, world: World | None = None) -> list[Path]:
        paths = (world or self.world).paths
        chance = np.array([path.chance(policy) for path in paths])
        return [paths[i] for i in self.draw.choice(len(paths), count, p=chance / chance.sum())]

    def fed(self, policy: Floats) -> Fed:
        """What the algorithm reads: the critic's values, the mean of nine fresh rollouts from each state, one greedy return a group."""
        turns = self.world.turns
        before, chosen, baseline = np.zeros((turns, 2)), np.zeros((turns, 2, 2)), np.zeros(EPISODES)
        assert self.algorithm.credit is not None
        if self.critic:
            before, chosen = self.critic.before.detach().numpy().copy(), self.critic.chosen.detach().numpy().copy()
        if "value_S" in reads(self.algorithm.credit):
            for turn, state in product(range(turns), range(2)):
                rest = replace(self.world, turns=turns - turn, start=state)
                before[turn, state] = np.mean([path.total for path in self.sampled(policy, 9, rest)])
        if "baseline_E" in reads(self.algorithm.credit):
            greedy = self.sampled(np.eye(2)[policy.argmax(1)], EPISODES // self.size)
            baseline = np.repeat([path.total for path in greedy], self.size)
        return Fed(policy=policy, reference=self.reference, before=before, chosen=chosen, baseline=baseline)

    def learned(self) -> Floats:
        """The policy after all updates."""
        climb = Adam(0.15)
        for _ in range(UPDATES):
            policy = softmax(self.logits)
            paths = self.sampled(policy, EPISODES)
            batch = Batch(table([paths[i : i + self.size] for i in range(0, EPISODES, self.size)]), paths)
            fed = self.fed(policy)
            tokens = trained_tokens(self.algorithm, batch, fed)
            for _ in range(EPOCHS if len(tokens["state"]) else 0):
                self.logits = self.logits + climb(uphill(self.algorithm, [tokens], self.logits))
            if self.critic:
                self.critic.learn(fed.columns(batch.columns, paths), paths)
        return softmax(self.logits)


ON_POLICY = [name for name, each in PRESETS.items() if name not in OFFLINE and not compares(each.objective) and name != "papo"]


def own_deviation(name: str) -> bool:
    """Whether a group's returns are divided by the group's own deviation."""
    parts = list(inside(preset(name)))
    whole_batch = any(isinstance(part, StepRelative) and part.bucket == "batch" for part in parts)
    return not whole_batch and any(
        isinstance(part, PassKBest) or (isinstance(part, Normaliser) and part.deviation == "group") for part in parts
    )


@pytest.mark.parametrize("name", [name for name in ON_POLICY if name != "tree_rpo"])  # without forks it trains no second choice
def test_samples_lead_to_the_optimal_policy(name: str) -> None:
    world = HONEST if own_deviation(name) else TEMPTING
    policy = Run(name, world, size=8 if name == "passk" else 4).learned()
    chosen = policy[[0, 1], best(world)]
    assert chosen.min() > 0.9, f"the best actions are taken with {chosen}"


def pull(name: str, world: World) -> float:
    """Where the expected gradient over pairs leads in the first state: positive is to the prize."""
    policy = softmax(START)
    fed = Fed(policy=policy, reference=policy, before=np.zeros((2, 2)), chosen=np.zeros((2, 2, 2)))
    pairs = product(world.paths, repeat=2)
    batches = [Batch(table([pair]), pair, pair[0].chance(policy) * pair[1].chance(policy)) for pair in pairs]
    return float(ascent(preset(name), batches, fed)[0, best(world)[0]])


@pytest.mark.parametrize("name", ["dapo", "grpo", "mt_grpo", "grpo_process", "gdpo", "passk_best"])
def test_divided_by_their_own_deviation_small_rewards_outvote_a_rare_prize(name: str) -> None:
    """Most pairs differ by 1/16 only, and it counts as much as the prize; the policy gradient leads to the prize."""
    assert TEMPTING.gradient(softmax(START))[0, best(TEMPTING)[0]] > 0
    assert pull("dr_grpo", TEMPTING) > 0
    assert pull(name, TEMPTING) < 0 < pull(name, HONEST)


@pytest.mark.parametrize("name", ["mt_grpo", "grpo_process", "gdpo"])
def test_what_compares_turn_rewards_by_themselves_stays_tempted(name: str) -> None:
    """The reward of a turn has the say of the outcome, however small it is: pay turns for what leads to the outcome."""
    assert Run(name).learned()[0, best(TEMPTING)[0]] < 0.1
