"""A world small enough to write out, with a table for a policy: all its paths with their chances, and its exact policy gradient.

Two states.  In each turn the policy takes one of two actions and the world moves by chance; an episode ends in END, or is cut after
`turns` turns.  An action is said in two tokens, the choice and an end of turn that is certain.  Exact numbers come from dynamic
programming in numpy; measured ones go through groups, columns, credit, filters and loss as in training.

Arrays over states and actions have the shape (2, 2), gradients too: they are taken at the logits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from inside import inside
from numpy.typing import NDArray

from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.core import EpisodeGroup, StopReason
from sojourn.credit import Columns, keep
from sojourn.objectives import ClipCov, Denominators, KlCov, LossInputs, SecondMoment, TopEntropy
from sojourn.objectives.presets import Preset

Floats = NDArray[np.float64]

END = 2
MOVES = np.array([[[0.875, 0.125, 0.0], [0.125, 0.875, 0.0]], [[0.125, 0.0, 0.875], [0.0, 0.75, 0.25]]])
"""Chance of each next state, or of END, after each action in each state."""
PAY = np.array([[0.125, 0.0], [0.0, 0.125]])
"""Reward of each action in each state.  It tempts: the prize lies the other way."""
PRIZE = 0.75
"""Reward for reaching END."""
ANSWER = np.array([-1.0, -0.25])
"""Log-probability of a task's right answer in each state."""
WHOLE_BATCH = (ClipCov, KlCov, SecondMoment, TopEntropy)


def softmax(logits: Floats) -> Floats:
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)


@dataclass(frozen=True)
class Path:
    """One way an episode can go.  `last` is the state after it, or END; `luck` the world's part of its chance."""

    states: tuple[int, ...]
    actions: tuple[int, ...]
    last: int
    luck: float
    pay: tuple[float, ...]

    @property
    def prize(self) -> float:
        return PRIZE if self.last == END else 0.0

    @property
    def total(self) -> float:
        return sum(self.pay) + self.prize

    @property
    def earned(self) -> Floats:
        """Reward of each turn, the prize with the last."""
        return np.array([*self.pay[:-1], self.pay[-1] + self.prize])

    def chance(self, policy: Floats) -> float:
        return self.luck * float(np.prod(policy[self.states, self.actions]))

    def scores(self, policy: Floats) -> Floats:
        """Gradient of the log-probability of each choice, shape (turns, 2, 2)."""
        result = np.zeros((len(self.states), 2, 2))
        for turn, (state, action) in enumerate(zip(self.states, self.actions, strict=True)):
            result[turn, state] = np.eye(2)[action] - policy[state]
        return result


@dataclass(frozen=True)
class World:
    """`turns` turns from `start`.  after: what the two states are worth where an episode is cut, for credit with a critic."""

    turns: int = 2
    start: int = 0
    pay: tuple[tuple[float, float], ...] = tuple(map(tuple, PAY.tolist()))
    after: tuple[float, float] = (0.0, 0.0)

    @cached_property
    def paths(self) -> list[Path]:
        return list(self._paths((), (), self.start, 1.0))

    def _paths(self, states: tuple[int, ...], actions: tuple[int, ...], state: int, luck: float) -> Iterable[Path]:
        if state == END or len(states) == self.turns:
            yield Path(states, actions, state, luck, tuple(self.pay[s][a] for s, a in zip(states, actions, strict=True)))
            return
        for action in range(2):
            for following in np.flatnonzero(MOVES[state, action]).tolist():
                yield from self._paths(
                    (*states, state), (*actions, action), following, luck * float(MOVES[state, action, following])
                )

    def action_values(self, policy: Floats, pay: Floats | None = None) -> Floats:
        """Expected reward from each action on, by the turns that were played before: shape (turns, 2, 2)."""
        ahead, found = np.array([*self.after, 0.0]), []
        for _ in range(self.turns):
            values = (np.array(self.pay) if pay is None else pay) + MOVES @ ahead + PRIZE * MOVES[:, :, END]
            found.append(values)
            ahead = np.append((policy * values).sum(1), 0.0)
        return np.array(found[::-1])

    def visits(self, policy: Floats) -> Floats:
        """Chance to act in each state in each turn, shape (turns, 2)."""
        chance = [np.eye(2)[self.start]]
        for _ in range(self.turns - 1):
            chance.append(np.einsum("s,sa,sax->x", chance[-1], policy, MOVES)[:2])
        return np.array(chance)

    def worth(self, policy: Floats) -> float:
        """Expected return."""
        return float(policy[self.start] @ self.action_values(policy)[0, self.start])

    def gradient(self, policy: Floats, pay: Floats | None = None) -> Floats:
        """Policy gradient of the expected return: sum over turns and states of visits x policy x (Q - V)."""
        values = self.action_values(policy, pay)
        advantage = values - (policy * values).sum(-1, keepdims=True)
        return np.einsum("ts,sa,tsa->sa", self.visits(policy), policy, advantage)


@dataclass(frozen=True, kw_only=True)
class Fed:
    """What is put into the columns beside rewards: tables of the policy, of its reference, and of a critic.

    values: of the state before each choice and after it, by turn, shapes (turns, 2) and (turns, 2, 2).
    """

    policy: Floats
    reference: Floats
    before: Floats
    chosen: Floats
    after: tuple[float, float] = (0.0, 0.0)
    baseline: float | Floats = 0.0

    def columns(self, table: Columns, paths: Sequence[Path]) -> Columns:
        """`table` with all that any credit reads."""
        state, action, turn = rows(paths)
        last = np.concatenate([[0] * (len(path.states) - 1) + [path.last] for path in paths])

        def said(choice: Floats, end: Floats | float) -> Floats:
            return np.stack([choice, np.broadcast_to(end, choice.shape)], 1).reshape(-1)

        logp = said(np.log(self.policy[state, action]), 0.0)
        return replace(
            table,
            logp_T=logp,
            policy_logp_T=logp,
            ref_logp_T=said(np.log(self.reference[state, action]), 0.0),
            square_T=said((self.policy**2).sum(1)[state], 1.0),
            entropy_T=said(entropy(self.policy)[state], 0.0),
            value_T=said(self.before[turn, state], self.chosen[turn, state, action]),
            value_S=self.before[turn, state],
            answer_S=ANSWER[state],
            after_S=np.array([*self.after, 0.0])[last],
            baseline_E=np.broadcast_to(self.baseline, table.final_E.shape),
        )


def rows(paths: Sequence[Path]) -> tuple[NDArray[np.int64], ...]:
    """State, action and turn of each action of a batch."""
    turns = [turn for path in paths for turn in range(len(path.states))]
    return np.concatenate([p.states for p in paths]), np.concatenate([p.actions for p in paths]), np.array(turns)


def entropy(policy: Floats) -> Floats:
    return -(policy * np.log(policy)).sum(-1)


def table(groups: Sequence[Sequence[Path]]) -> Columns:
    """Columns of a batch of groups, the short way: what `columns(written(groups))` reads.  An episode that reached END is a success."""
    paths = [path for group in groups for path in group]
    state, _, turn = rows(paths)
    length = [len(path.states) for path in paths]
    group = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    episode = np.repeat(np.arange(len(paths)), length)
    codes: dict[tuple[int, int], int] = {}
    pay, prize = np.concatenate([path.pay for path in paths]), np.array([path.prize for path in paths])
    ended, number = np.array([path.last == END for path in paths]), np.arange(len(state))
    in_group = np.concatenate([np.arange(n) for n in np.bincount(group[episode], minlength=len(groups))])
    terms = ({"final": prize} if prize.any() else {}) | {"turn": np.bincount(episode, pay)}
    paid = {"final": np.full(len(pay), np.nan), "turn": pay}
    zeros = np.zeros(len(state), np.int64)
    return Columns(
        span_S=1 + 2 * in_group,  # after the prompt, an observation after each action
        parent_S=np.where(turn > 0, number - 1, -1),
        turn_S=turn,
        context_S=group[episode],
        episode_S=episode,
        agent_S=zeros,
        anchor_S=np.array([codes.setdefault(key, len(codes)) for key in zip(group[episode], state, strict=True)]),
        length_S=zeros + 2,
        reward_S=pay,
        calls_S=zeros,
        trained_S=zeros == 0,
        forced_S=zeros > 0,
        cut_S=zeros > 0,
        group_E=group,
        final_E=prize,
        valid_E=np.ones(len(paths), bool),
        usable_E=np.ones(len(paths), bool),
        bootstraps_E=~ended,
        success_E=ended,
        terms_S={name: paid[name] for name in terms},
        terms_E=terms,
    )


def written(groups: Sequence[Sequence[Path]]) -> list[EpisodeGroup]:
    """The episodes of a batch of groups, as a rollout would leave them."""
    return [group([script(path) for path in paths], key=str(number)) for number, paths in enumerate(groups)]


def script(path: Path) -> Script:
    turns = [Turn(2, reward={"turn": pay}, anchor=state) for pay, state in zip(path.pay, path.states, strict=True)]
    ended = path.last == END
    return Script(turns, final=path.prize, stop=StopReason.TERMINATED if ended else StopReason.TRUNCATED, success=ended)


@dataclass(frozen=True)
class Batch:
    """A batch as the loss sees it: its columns, its paths, and its weight in the sum over batches."""

    columns: Columns
    paths: Sequence[Path]
    weight: float = 1.0


def ascent(algorithm: Preset, batches: Sequence[Batch], fed: Fed) -> Floats:
    """Minus the weighted sum of the gradients of the loss over batches, at the logits of the policy that sampled them."""
    together: dict[Any, list[Tokens]] = {}
    apart = any(isinstance(part, WHOLE_BATCH) for part in inside(algorithm))
    for number, batch in enumerate(batches):
        tokens = trained_tokens(algorithm, batch, fed)
        if len(tokens["state"]):
            counts = (tuple(np.bincount(tokens["sequence"]).tolist()), len(set(tokens["prompt"].tolist())))
            together.setdefault(number if apart else counts, []).append(tokens)
    return np.sum([uphill(algorithm, alike, np.log(fed.policy)) for alike in together.values()], axis=0)


Tokens = dict[str, NDArray[Any]]
"""Arrays over tokens, by name."""


def trained_tokens(algorithm: Preset, batch: Batch, fed: Fed) -> Tokens:
    """Trained tokens of a batch with their advantages; what a filter drops is no sample or is not trained, as in the trainer."""
    read = fed.columns(batch.columns, batch.paths)
    counted_E, kept_E, _ = keep(algorithm.filters, read)
    read = replace(read, valid_E=read.valid_E & counted_E)
    advantage = np.zeros(len(read.row_T)) if algorithm.credit is None else algorithm.credit(read)
    state, action, _ = rows(batch.paths)
    row, episode = read.row_T, read.episode_S[read.row_T]
    everything = {
        "advantage": advantage,
        "state": state[row],
        "action": action[row],
        "choice": np.tile([1.0, 0.0], len(read.span_S)),
        "behaviour": read.logp_T,
        "reference": read.ref_logp_T,
        "sequence": episode,
        "turn": row,
        "prompt": read.group_E[episode],
        "weight": np.full(len(row), batch.weight),
    }
    return {name: value[kept_E[episode]] for name, value in everything.items()}


def uphill(algorithm: Preset, alike: Sequence[Tokens], logits: Floats) -> Floats:
    """Minus the gradient of the loss of batches with equal counts, side by side: the counts are those of one.

    logits: of the policy now, which may have left the one that sampled.
    """
    theta = torch.tensor(logits, requires_grad=True)
    ids = {name: max(int(each[name].max()) for each in alike) + 1 for name in ("sequence", "turn", "prompt")}
    t: dict[str, torch.Tensor] = {name: torch.tensor(np.concatenate([each[name] for each in alike])) for name in alike[0]}
    place = torch.repeat_interleave(torch.arange(len(alike)), torch.tensor([len(each["state"]) for each in alike]))
    for name, size in ids.items():
        t[name] = t[name] + place * size
    table = theta.log_softmax(1)
    logp = t["choice"] * table[t["state"], t["action"]]
    spread = t["choice"] * -(table.exp() * table).sum(1)[t["state"]]
    leaves = [each.detach().requires_grad_() for each in (logp, spread)]
    one = Denominators.count(torch.tensor(alike[0]["sequence"]), torch.tensor(alike[0]["prompt"]))
    all_of = Denominators.count(t["sequence"], t["prompt"])
    inputs = LossInputs(
        logp=leaves[0],
        old_logp=t["behaviour"],
        behaviour_logp=t["behaviour"],
        ref_logp=t["reference"],
        advantage=t["advantage"],
        entropy=leaves[1],
        sequence=t["sequence"],
        turn=t["turn"],
        prompt=t["prompt"],
        counts=replace(one, tokens_per_sequence=all_of.tokens_per_sequence, tokens_per_prompt=all_of.tokens_per_prompt),
    )
    loss, _ = algorithm.objective(inputs)
    slopes = torch.autograd.grad(loss, leaves, allow_unused=True)
    slopes = [t["weight"] * (torch.zeros_like(logp) if slope is None else slope) for slope in slopes]
    (result,) = torch.autograd.grad([logp, spread], theta, slopes)
    return -np.asarray(result.numpy(), np.float64)


class Adam:
    """Adam on a small array, upwards: what one algorithm calls a small loss another calls a large one.  [arXiv 1412.6980]"""

    def __init__(self, rate: float) -> None:
        self.rate, self.first, self.second, self.steps = rate, 0.0, 0.0, 0

    def __call__(self, gradient: Floats) -> Floats:
        self.steps += 1
        self.first = 0.9 * self.first + 0.1 * gradient
        self.second = 0.99 * self.second + 0.01 * gradient**2
        mean, square = self.first / (1 - 0.9**self.steps), self.second / (1 - 0.99**self.steps)
        return np.asarray(self.rate * mean / (np.sqrt(square) + 1e-12))
