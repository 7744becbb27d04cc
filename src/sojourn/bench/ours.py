"""Our side of the benchmarks: an engine that never stops early, prompts of a given length, episodes of scripted lengths."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from sojourn.agents import react
from sojourn.core import Action, Environment, EpisodeGroup, Ints, Observation, Task, Transition
from sojourn.credit import columns, dr_grpo
from sojourn.engine import Completion, SamplingParams
from sojourn.engine.local import LocalEngine
from sojourn.learner import Learner, OptimizerConfig
from sojourn.models import LoadedModel, load
from sojourn.objectives import PolicyGradient
from sojourn.policy import Limits, Policy, Session
from sojourn.policy.session import stable_hash
from sojourn.rendering import ChatRenderer
from sojourn.rendering.protocols import PlainText
from sojourn.training import Rollout
from sojourn.training.setup import precision

TEXT = (
    "The river runs down from the hills through two old towns and a wide green valley before it meets the sea. "
    "In spring the water is high and cold, and the mills along its banks grind day and night until the harvest is in. "
)


class Endless(LocalEngine):
    """Samples exactly `max_tokens` tokens: no token ends a turn."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._batch.ends = frozenset()

    async def sample(self, tokens: Ints | Sequence[int], params: SamplingParams) -> Completion:
        return await super().sample(tokens, replace(params, ends=()))


def own_precision() -> str:
    """The precision that this machine trains in."""
    return str(precision("auto")).removeprefix("torch.")


def smollm2(dtype: str = "auto") -> LoadedModel:
    """A SmolLM2-135M of its own; auto is the precision that this machine trains in."""
    loaded = load("smollm2-135m")
    loaded.model.to(dtype=precision(dtype))  # type: ignore[arg-type, call-arg, unused-ignore]
    return loaded


def prompt(tokenizer: PreTrainedTokenizerBase, length: int, number: int) -> Ints:
    """Real text of `length` tokens that differs from that of other numbers in its first word."""
    text = f"{number}. " + TEXT * (1 + length // 20)
    return np.asarray(tokenizer.encode(text, add_special_tokens=False)[:length], np.int64)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Episodes with scripted lengths: `prompts` tasks, each played `group` times, `turns` actions of `action_tokens`, and what the
    world says."""

    prompts: int = 1
    group: int = 8
    turns: int = 3
    action_tokens: int = 32
    prompt_tokens: int = 256
    observation_tokens: int = 32

    @property
    def sampled(self) -> int:
        return self.prompts * self.group * self.turns * self.action_tokens

    @property
    def context(self) -> int:
        """Tokens of a whole episode, with room for the template."""
        return self.prompt_tokens + self.turns * (self.action_tokens + self.observation_tokens + 24) + 64


class Scripted(Environment):
    """Says `start`, then `answer` after every action, and ends after `turns`.  The last action is paid by its text, so that a
    group has signal."""

    def __init__(self, start: str, answer: str, turns: int) -> None:
        self._start, self._answer, self._left = start, answer, turns

    async def reset(self, task: Task, *, seed: int) -> Observation:
        return Observation.of(f"{task.id}. {self._start}")

    async def step(self, action: Action) -> Transition:
        self._left -= 1
        return Transition(Observation.of(self._answer), float(len(set(action.text)) % 5), terminated=self._left == 0)


async def alike(session: Session, *, equal: int) -> None:
    """The agent loop; the first `equal` episodes of each group say the same, token for token."""
    group, _, number = session.episode.id.rpartition("/")
    if int(number) < equal:
        session.seed = stable_hash(group)
    await react(session)


class Loop:
    """Our rollout and our training step over episodes of one shape.  `computed_tokens`: by the engine, in the last rollout.

    equal: share of the episodes of a group that say the same, as siblings do when the policy converges.
    """

    def __init__(self, loaded: LoadedModel, shape: Shape, *, learning_rate: float = 0.0, equal: float = 0.0) -> None:
        self.shape, self.computed_tokens = shape, 0
        self.engine = Endless(loaded.model, loaded.tokenizer, max_batch=shape.prompts * shape.group, max_context=shape.context)
        self.learner = Learner(loaded.model, OptimizerConfig(learning_rate=learning_rate))
        protocol = PlainText()
        renderer = ChatRenderer(loaded.tokenizer, protocol)
        policy = Policy("actor", self.engine, renderer, protocol, SamplingParams(max_tokens=shape.action_tokens))
        start, answer = (
            str(loaded.tokenizer.decode(prompt(loaded.tokenizer, n, 0).tolist()))
            for n in (shape.prompt_tokens, shape.observation_tokens)
        )
        world = partial(Scripted, start, answer, shape.turns)
        program = partial(alike, equal=round(equal * shape.group))
        self._rollout = Rollout(world, program, {"actor": policy}, Limits(max_turns=shape.turns), shape.prompts * shape.group)

    def rollout(self) -> list[EpisodeGroup]:
        """Play all episodes, with an empty KV cache."""
        before = self.engine.computed_tokens
        self.engine.update(self.engine.version + 1)
        tasks = [Task(str(number)) for number in range(self.shape.prompts)]
        groups = asyncio.run(self._rollout.groups(tasks, size=self.shape.group, seed=self.engine.version))
        self.computed_tokens = self.engine.computed_tokens - before
        sampled = sum(len(group.tree[span].tokens) for group in groups for episode in group.episodes for span in episode.actions)
        assert sampled == self.shape.sampled, f"sampled {sampled} tokens, the script says {self.shape.sampled}"
        return groups

    def step(self) -> None:
        """Play and learn."""
        groups = self.rollout()
        table = columns(groups, trained=("actor",))
        self.learner.update(groups, table, dr_grpo()(table), PolicyGradient())
