"""A policy handle: which engine answers, how messages become tokens, how text becomes an action, how to sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sojourn.core import ROOT, Action, Context, ContextFull, Kind, Message, Renderer, Span, assistant
from sojourn.engine import Engine, SamplingParams
from sojourn.rendering.protocols import ActionProtocol
from sojourn.rendering.reading import read, spoken

GLUE = 16
"""Tokens that a chat template puts around a message, at most."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Who acts.  Which policies are trained, the trainer says (`credit.columns(trained=...)`)."""

    name: str
    engine: Engine
    renderer: Renderer
    protocol: ActionProtocol
    sampling: SamplingParams = SamplingParams()
    version: int | None = None
    """Of the weights that sample, where it is not the engine's: of a former self, whose engine others share."""

    async def act(
        self,
        prompt: Context,
        *,
        seed: int,
        anchor: object = None,
        legal: Sequence[str] = (),
        most: int | None = None,
        stop: Sequence[str] = (),
    ) -> tuple[Context, Action]:
        """Sample one action after `prompt` (`Context.prompted`); returns the child context and what was said.

        legal: if given, the action is one of these texts, and log-probabilities are renormalised over them token by token.
        most: tokens that it may have; a legal action is always said whole.  stop: texts that end it, beside the policy's own.
        Raises `ContextFull` if the engine has no room for another token, or for one of the legal actions.
        """
        tokens = prompt.tokens
        begun = self.renderer.begun(prompt.messages, prompt.tools)
        room = self.engine.max_context - len(tokens)
        allowed = tuple(tuple(self.renderer.as_sampled(text)) for text in legal) or self.sampling.allowed
        longest = max(map(len, allowed)) if allowed else min(self.sampling.max_tokens, most or self.sampling.max_tokens)
        if room < (longest if allowed else 1):
            raise ContextFull(f"context of {len(tokens)} tokens, policy '{self.name}' holds {self.engine.max_context}")
        params = replace(
            self.sampling,
            max_tokens=min(longest, room),
            stop=(*self.sampling.stop, *self.protocol.stop, *stop),
            ends=(*self.sampling.ends, *self.renderer.ends),
            thinking=self.protocol.thinking,
            in_thinking=read(begun, self.protocol.thinking).thinking,
            allowed=allowed,
            seed=seed,
        )
        completion = await self.engine.sample(tokens, params)
        said = completion.tokens[:-1] if completion.ended else completion.tokens
        text = self.renderer.decode(said.tolist())
        action = self._read(self._open(prompt, begun), text)
        span = Span(
            prompt.span,
            completion.tokens,
            Kind.ACTION,
            logprobs=completion.logprobs,
            policy=self.name,
            version=completion.version if self.version is None else self.version,
            turn=prompt.turn,
            agent=prompt.agent,
            message=assistant(text, action.calls),
            anchor=anchor,
            temperature=params.temperature,
            allowed=params.allowed,
            truncated=bool(params.top_k) or params.top_p < 1 or params.min_p > 0,
            stop="stop" if completion.stop == "stop" else "length" if params.max_tokens < room else "context",
        )
        return prompt.acted(span, assistant(text, action.calls)), action

    def fit(self, context: Context | None, messages: Sequence[Message], share: float) -> tuple[Message, ...]:
        """The messages as this policy can read them after `context`: what is longer than `share` of what the engine holds, or leaves
        no room for an answer, loses its middle."""
        held = self.engine.max_context
        used = len(context.tokens) if context else 0
        answer = min(self.sampling.max_tokens, held // 4) + GLUE * (1 + len(messages))
        return self.renderer.shorten(messages, max(0, min(int(share * held), held - used - answer)))

    def _open(self, prompt: Context, begun: str) -> str:
        """Of what stands of a turn the part that belongs to the next action: what the policy has said in it has been acted on already,
        but for the thinking that it is in; what was put in after that has not."""
        put, span = "", prompt.tree[prompt.span]
        while span.kind == Kind.FORCED and span.parent != ROOT:
            put = (span.message.text if span.message else "") + put
            span = prompt.tree[span.parent]
        if span.kind != Kind.ACTION:
            return begun
        thinks = self.protocol.thinking
        return (thinks[0] if thinks and read(begun.removesuffix(put), thinks).thinking else "") + put

    def _read(self, begun: str, text: str) -> Action:
        """The action in `text`, where `begun` stands before it in the same turn."""
        action = self.protocol.parse(begun + text)
        if not begun:
            return action
        answer = action.answer
        if answer is None and not action.calls and action.fault is None:
            answer = spoken(begun + text, self.protocol.thinking)
        return replace(action, text=text, answer=answer)
