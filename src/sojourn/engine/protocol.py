"""What every engine does: continue a token sequence, and say how likely each token was.

An engine sees token ids only.  The trajectory tree, messages and tools are not its business, so that the local engine, vLLM and
an HTTP gateway are exchangeable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

from sojourn.core import Floats, Ints, Range, check


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingParams:
    """How to sample one completion."""

    max_tokens: Annotated[int, Range(1)] = 256
    """Tokens at most.  Raise it when completions are cut (`stop="length"`)."""
    temperature: Annotated[float, Range(0)] = 1.0
    """Divides the logits.  0 is greedy; higher is more varied."""
    top_k: Annotated[int, Range(0)] = 0
    """Keep the k likeliest tokens; 0 keeps all."""
    top_p: Annotated[float, Range(0, 1, above=True)] = 1.0
    """Keep the smallest set of tokens with this probability mass; 1 keeps all."""
    min_p: Annotated[float, Range(0, 1)] = 0.0
    """Keep tokens at least this likely relative to the likeliest; 0 keeps all."""
    stop: tuple[str, ...] = ()
    """Texts that end the completion; the tokens that complete one are kept."""
    thinking: tuple[str, str] | None = None
    """Texts that open and close a part in which `stop` does not count."""
    in_thinking: bool = False
    """Whether the context ends inside such a part."""
    ends: tuple[int, ...] = ()
    """Ids that end the completion, beside those that the model has for it: the end of turn of the chat template."""
    seed: int = 0
    """The request's own randomness: the same seed and context give the same tokens, whoever else is in the batch."""
    allowed: tuple[tuple[int, ...], ...] | None = None
    """If given, the completion is one of these token sequences; log-probabilities are renormalised over what is legal."""
    adapter: str | None = None
    """Which of the model's adapters samples; "" for the model without any, None for the one that is active in it."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, slots=True)
class Completion:
    """A sampled continuation.

    tokens: shape (n,), with the end-of-turn token or the tokens of the stop text, if one ended it.
    logprobs: shape (n,), natural log, of the distribution that was sampled from (after temperature, truncation, constraints).
    version: of the weights that sampled the last token.
    ended: whether the last token is one that ends a turn, and so no text.
    """

    tokens: Ints
    logprobs: Floats
    stop: Literal["stop", "length"]
    version: int = 0
    ended: bool = False


class Engine(Protocol):
    """Tokens in, tokens out.  Raises `ContextFull` when there is no room and `InfrastructureError` when it broke or took too long.

    Calls of `sample` and `score` may overlap as they like.  `update` and `close` may not overlap with them.
    """

    @property
    def max_context(self) -> int:
        """Tokens that a context may hold, completion included."""
        ...

    @property
    def version(self) -> int:
        """Of the weights that sample now."""
        ...

    @property
    def sampled_tokens(self) -> int:
        """Sampled so far, over all requests."""
        ...

    @property
    def computed_tokens(self) -> int:
        """That went through the model so far.  What is stored or shared is computed once, so this is less than what contexts hold."""
        ...

    async def sample(self, tokens: Ints, params: SamplingParams) -> Completion:
        """Continue `tokens`, (n,), at least one.  A call that is cancelled costs nothing more after the running step."""
        ...

    async def score(self, tokens: Ints, adapter: str | None = None) -> Floats:
        """Log-probability of each token given those before it, shape (n,); the first is 0.  `adapter` as in `SamplingParams`."""
        ...

    def update(self, version: int) -> None:
        """The weights are those of `version` now: nothing that was computed with earlier ones is used again.

        Raises `ValueError` while requests are in flight: what they return would be of two policies.
        """
        ...

    async def close(self) -> None:
        """Give back what the engine holds.  Requests in flight fail."""
        ...
