"""One sampling request on its way through the local engine."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

import numpy as np

from sojourn.core import InfrastructureError, Ints
from sojourn.engine.cache import Slot
from sojourn.engine.protocol import Completion, SamplingParams
from sojourn.engine.stops import StopTexts


@dataclass(eq=False, slots=True)
class Request:
    """A prompt, and what has been sampled after it.

    prompt: as the KV cache knows it, `shift` added to each id (`RunningBatch.shift`).  sampled: plain ids.
    future: whoever waits; only the event loop touches it.  slot: where its keys and values are, once it runs.  seconds: that the engine
    has spent on steps with this request in them.  answer: what the future will hear.  number: in the order of asking.
    """

    prompt: Ints
    params: SamplingParams
    future: asyncio.Future[Completion]
    stops: StopTexts
    shift: int = 0
    slot: Slot = field(init=False)
    sampled: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    seconds: float = 0.0
    answer: Completion | InfrastructureError | None = None
    number: int = field(default_factory=count().__next__)

    def __len__(self) -> int:
        return len(self.prompt) + len(self.sampled)

    def after(self, position: int) -> list[int]:
        """Its tokens from `position` on, as the KV cache knows them."""
        own = position - len(self.prompt)
        sampled = [token + self.shift for token in self.sampled[max(own, 0) :]] if self.shift else self.sampled[max(own, 0) :]
        return sampled if own >= 0 else [*self.prompt[position:].tolist(), *sampled]

    def completed(self, stop: Literal["stop", "length"], version: int, *, ended: bool) -> Completion:
        """All that was sampled, as the answer."""
        return Completion(np.asarray(self.sampled, np.int64), np.asarray(self.logprobs, np.float32), stop, version, ended)

    def tell(self) -> None:
        """Hand the answer to whoever waits, if anybody still does."""
        if self.future.done():
            return
        if isinstance(self.answer, InfrastructureError):
            self.future.set_exception(self.answer)
        elif self.answer is not None:
            self.future.set_result(self.answer)
