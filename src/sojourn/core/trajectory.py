"""The trajectory tree: every token of a group of episodes, stored once.

A `Span` is a run of tokens with one author.  Spans hang under their parent, so a conversation is a path, a group of answers is a
fan-out, a search is a tree, and a rewritten context is a new root that remembers its source.  The path from a root to a span is
exactly the token sequence that the engine saw.  Engine, credit and learner all read this one structure; the loss mask follows
from `Span.kind` alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sojourn.core.message import Message, ToolSpec

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

ROOT = -1

Stop = Literal["stop", "length", "context"]
"""Why a sampled action ended; see `Span`."""


class Kind(IntEnum):
    """Who wrote a span."""

    OBSERVATION = 0
    """The world: environment, user, tool, and the template's glue."""
    ACTION = 1
    """The policy: sampled, token by token.  Only these tokens are trained by policy gradients."""
    FORCED = 2
    """The harness, in the policy's name (a forced thought, a demonstration)."""


@dataclass(slots=True)
class Span:
    """A run of tokens with one author.

    tokens: ids, shape (n,).  logprobs: shape (n,), of the distribution really sampled; ACTION spans only.
    policy: name of the policy that sampled it; version: the policy's weights at its last token.
    turn: how many actions precede it on its path.  agent: who speaks, in multi-agent programs.
    reward: named terms paid for this action.  source: for a root, the span whose context it rewrites.
    anchor: the environment's state key before this action, where it has one.
    allowed: for a constrained action, the token sequences that were legal.
    value: of the state before this action, where fresh rollouts estimated it.
    truncated: whether unlikely tokens could not be sampled (top-k, top-p, min-p), which no learner can score.
    stop: why a sampled action ended: "stop" (the policy ended it, or a stop text did), "length" (`max_tokens`), "context" (no room).
    """

    parent: int
    tokens: Ints
    kind: Kind
    logprobs: Floats | None = None
    policy: str | None = None
    version: int = 0
    turn: int = 0
    agent: str = "agent"
    reward: dict[str, float] = field(default_factory=dict)
    message: Message | None = None
    source: int | None = None
    anchor: Hashable = None
    temperature: float = 1.0
    allowed: tuple[tuple[int, ...], ...] | None = None
    value: float | None = None
    truncated: bool = False
    stop: Stop | None = None

    @property
    def cut(self) -> bool:
        """Whether the action was cut off before the policy ended it."""
        return self.stop in ("length", "context")


class HistoryRewritten(ValueError):
    """Raised by `Renderer.extend` when the chat template writes earlier messages differently now that others follow (it removes
    the thinking of earlier turns, say).  The context then goes on in a new root; see `Context.observe`."""


class Renderer(Protocol):
    """Messages to tokens, append-only.  `sojourn.rendering.ChatRenderer` is the implementation."""

    @property
    def ends(self) -> Set[int]:
        """Ids that end the assistant's turn."""
        ...

    def open(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[int]:
        """Tokens of a fresh conversation, without the prompt for an answer."""
        ...

    def extend(
        self, history: Sequence[Message], tools: Sequence[ToolSpec], new: Sequence[Message], last_token: int | None
    ) -> list[int]:
        """Tokens that `new` adds after `history`.  `last_token` is the last sampled id when `history` ends with an action (the
        template's end-of-turn is added only if the policy did not sample it), else None.  Raises `HistoryRewritten`."""
        ...

    def answer_prompt(self, history: Sequence[Message], tools: Sequence[ToolSpec]) -> list[int]:
        """Tokens that open the assistant's turn; none after an assistant's message, which the policy goes on with."""
        ...

    def begun(self, history: Sequence[Message], tools: Sequence[ToolSpec]) -> str:
        """What already stands of the turn that `answer_prompt` opens or goes on with; "" if nothing."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of sampled tokens, without the template's end-of-turn."""
        ...

    def as_sampled(self, text: str) -> list[int]:
        """Tokens of `text` as a policy ought to sample them, end-of-turn included."""
        ...

    def as_said(self, text: str) -> list[int]:
        """Tokens of `text` in the middle of the assistant's turn."""
        ...

    def shorten(self, messages: Sequence[Message], limit: int) -> tuple[Message, ...]:
        """The messages with the middle of long texts left out: `limit` tokens together at most."""
        ...


class TrajectoryTree:
    """Spans by id, in the order of their making; a child's id is greater than its parent's."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._children: dict[int, list[int]] = {ROOT: []}

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, span: int) -> Span:
        return self.spans[span]

    def children(self, span: int) -> Sequence[int]:
        """Ids of the children of `span`; of the roots for ROOT."""
        return self._children[span]

    def add(self, span: Span) -> int:
        """Store a span and return its id."""
        if not -1 <= span.parent < len(self.spans):
            raise ValueError(
                f"span {len(self.spans)}: its parent {span.parent} is not there; a parent is added before its children"
            )
        self.spans.append(span)
        index = len(self.spans) - 1
        self._children[span.parent].append(index)
        self._children[index] = []
        return index

    def observe(self, span: Span) -> int:
        """Store an observation, or find it: the same tokens after the same context are the same node.

        This is what makes a group share its prompt without anybody arranging it.
        """
        for sibling in self._children[span.parent]:
            other = self.spans[sibling]
            same = other.kind == span.kind and other.source == span.source and other.agent == span.agent
            if same and np.array_equal(other.tokens, span.tokens):
                return sibling
        return self.add(span)

    def path(self, span: int) -> list[int]:
        """Span ids from the root to `span`, inclusive; empty for ROOT."""
        ids = []
        while span != ROOT:
            ids.append(span)
            span = self.spans[span].parent
        return ids[::-1]

    def tokens(self, span: int) -> Ints:
        """The token sequence of the path that ends with `span`: what an engine sees."""
        parts = [self.spans[i].tokens for i in self.path(span)]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def actions(self, span: int) -> list[int]:
        """Ids of the action spans on the path to `span`."""
        return [i for i in self.path(span) if self.spans[i].kind == Kind.ACTION]

    def leaves(self) -> Iterator[int]:
        return (i for i in range(len(self.spans)) if not self._children[i])

    def new_context(
        self,
        messages: Sequence[Message],
        *,
        renderer: Renderer,
        tools: Sequence[ToolSpec] = (),
        agent: str = "agent",
        source: Context | None = None,
    ) -> Context:
        """Start a context.  With `source`, it is a rewrite of that context (a summary, a memory): a new root whose credit may
        cross to the spans it came from."""
        root = Span(
            ROOT,
            np.asarray(renderer.open(messages, tools), np.int64),
            Kind.OBSERVATION,
            turn=source.turn if source else 0,
            agent=agent,
            message=messages[-1] if messages else None,
            source=source.span if source else None,
        )
        return Context(self, self.observe(root), tuple(messages), renderer, tuple(tools), agent)


@dataclass(frozen=True, slots=True)
class Context:
    """A cursor in the tree: a path, and the messages it renders.  Immutable; every step returns a child."""

    tree: TrajectoryTree
    span: int
    messages: tuple[Message, ...]
    renderer: Renderer
    tools: tuple[ToolSpec, ...] = ()
    agent: str = "agent"

    @property
    def tokens(self) -> Ints:
        return self.tree.tokens(self.span)

    @property
    def turn(self) -> int:
        """How many actions the path holds, counting those of the contexts it was rewritten from."""
        last = self.tree[self.span]
        return last.turn + (last.kind == Kind.ACTION)

    def observe(self, *messages: Message) -> Context:
        """The context after the world said `messages`: a child, or a new root linked to this context where the chat template
        rewrites what was there."""
        try:
            ids = self.renderer.extend(self.messages, self.tools, messages, self._last_sampled())
        except HistoryRewritten:
            return self.rewrite(self.messages + messages)
        child = self._observation(ids, messages[-1] if messages else None)
        return replace(child, messages=self.messages + messages)

    def rewrite(self, messages: Sequence[Message]) -> Context:
        """A new context on `messages` with this one's tools and agent, linked to this one."""
        return self.tree.new_context(messages, renderer=self.renderer, tools=self.tools, agent=self.agent, source=self)

    def prompted(self) -> Context:
        """The context with the assistant's turn opened; what a policy samples from."""
        return self._observation(self.renderer.answer_prompt(self.messages, self.tools), None)

    def force(self, tokens: Sequence[int], message: Message, *, policy: str | None = None) -> Context:
        """The context after the harness put `message`, as `tokens`, into the policy's mouth."""
        span = Span(self.span, np.asarray(tokens, np.int64), Kind.FORCED, turn=self.turn, agent=self.agent, message=message)
        span.policy = policy
        return replace(self, span=self.tree.add(span), messages=(*self.messages, message))

    def acted(self, span: Span, message: Message) -> Context:
        """The context after the policy sampled `span`, read as `message`."""
        return replace(self, span=self.tree.add(span), messages=(*self.messages, message))

    def _observation(self, ids: Sequence[int], message: Message | None) -> Context:
        if len(ids) == 0:
            return self
        span = Span(self.span, np.asarray(ids, np.int64), Kind.OBSERVATION, turn=self.turn, agent=self.agent, message=message)
        return replace(self, span=self.tree.observe(span))

    def _last_sampled(self) -> int | None:
        last = self.tree[self.span]
        return int(last.tokens[-1]) if last.kind != Kind.OBSERVATION and len(last.tokens) else None
