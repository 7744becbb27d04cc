"""The local engine: samples from a Hugging Face model in this process, sharing its parameters with the learner.

Every step runs the new tokens of all running requests as one flat row through the model: the next token of some, the fresh
observation of others, the common prefix of several once.  Requests join and leave at any step; there is no barrier.  Keys and
values stay in the KV cache until the weights change, so a later turn computes only what is new.

Steps run in a thread (`engine.worker`), everything else on the event loop: it takes in requests, starts a step when it has come to
rest, and hands out the answers.  Between steps the running batch belongs to the loop, during a step to the thread.

    loop     sample, sample -> at rest -> start         tools, timers ...      answers, next turns -> at rest -> start
    thread                                 admit, forward, draw                                                admit, ...
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future, wait
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sojourn.core import ContextFull, Floats, InfrastructureError, Ints
from sojourn.engine import worker
from sojourn.engine.attention import attach
from sojourn.engine.batch import RunningBatch
from sojourn.engine.cache import Cache, Shape
from sojourn.engine.deterministic import CHUNK
from sojourn.engine.protocol import Completion, SamplingParams
from sojourn.engine.request import Request

T = TypeVar("T")


class LocalEngine:
    """Continuous batching over a Hugging Face causal language model.

    model: used as it is; its parameters may be trained between samples, and adapters added, then call `update`.
    max_batch: requests that run at once.  Raise it for throughput while memory lasts; others wait.
    max_context: tokens of a context, completion included.
    shared_tokens: of prefixes that several contexts share, kept at most between requests; raise it for many long prompts.
    deterministic: a request's log-probabilities are the same bits whoever else is in the batch; much slower.
    sample_seconds: a request fails with `InfrastructureError` after so many seconds of steps that it was part of (time in the queue
    does not count), and so do all when one step takes that long.  Raise it for large models on slow machines.

    One event loop at a time uses an engine; when that has ended another may.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_batch: int = 64,
        max_context: int = 1024,
        shared_tokens: int = 1 << 16,
        deterministic: bool = False,
        sample_seconds: float = 1800.0,
    ) -> None:
        attach(model)
        config = model.config.get_text_config()
        self.model = model
        self.tokenizer = tokenizer
        embedding: Any = model.get_input_embeddings()
        self._vocabulary = len(embedding.weight)
        self._max_context: int = min(max_context, config.max_position_embeddings)
        _refuse_two_rotations(config, self._max_context)
        self._cache = Cache(Shape.of(model), max_batch, -(-self._max_context // CHUNK) * CHUNK, shared_tokens=shared_tokens)
        self._batch = RunningBatch(
            model, tokenizer, self._cache, end_tokens(model, tokenizer), seconds=sample_seconds, deterministic=deterministic
        )
        self._live: set[Request] = set()  # those that somebody waits for
        self._arrived: list[Request] = []
        self._serving: asyncio.Task[None] | None = None
        self._step: Future[list[Request]] | None = None
        self._score: Future[Floats] | None = None  # the last of each

    @property
    def max_context(self) -> int:
        return self._max_context

    @property
    def version(self) -> int:
        return self._batch.version

    @property
    def sampled_tokens(self) -> int:
        return self._batch.sampled_tokens

    @property
    def computed_tokens(self) -> int:
        return self._batch.computed_tokens

    async def sample(self, tokens: Ints | Sequence[int], params: SamplingParams) -> Completion:
        """See `Engine.sample`."""
        prompt = self._checked(tokens)
        if len(prompt) >= self._max_context:
            raise ContextFull(f"a context of {len(prompt)} tokens, the engine holds {self._max_context}")
        params = replace(params, max_tokens=min(params.max_tokens, self._max_context - len(prompt)))
        shift = self._batch.shift(params.adapter)
        self._wake()
        future = asyncio.get_running_loop().create_future()
        request = Request(prompt + shift, params, future, self._batch.stops(params), shift)
        self._live.add(request)
        self._arrived.append(request)
        try:
            return await request.future
        finally:
            self._live.discard(request)

    async def score(self, tokens: Ints | Sequence[int], adapter: str | None = None) -> Floats:
        """See `Engine.score`.  One forward pass, at temperature 1; `adapter` as in `SamplingParams`."""
        prompt, shift = self._checked(tokens), self._batch.shift(adapter)
        if len(prompt) > self._max_context:
            raise ContextFull(f"a context of {len(prompt)} tokens, the engine holds {self._max_context}")
        async with worker.turn():
            self._score = worker.submit(lambda: self._batch.score(prompt, shift))
            return await self._result(self._score, f"the score of {len(prompt)} tokens")

    def update(self, version: int) -> None:
        """See `Engine.update`: the shared weights have changed, and what was computed with the old ones is forgotten.

        A step that runs on for requests that were cancelled is waited for.
        """
        if waiting := sum(not request.future.get_loop().is_closed() for request in self._live):
            raise ValueError(
                f"the weights change to version {version} while {waiting} requests are in flight: await or cancel them first"
            )
        last: list[Future[Any]] = [job for job in (self._step, self._score) if job]
        if wait(last, self._batch.seconds).not_done:
            raise self._stuck("a step")
        self._live.clear()
        self._arrived.clear()
        self._batch.forget()
        self._batch.version = version

    async def close(self) -> None:
        """See `Engine.close`."""
        self._fail(InfrastructureError("local engine: it was closed"))
        await self._last_step()
        self._arrived.clear()
        self._batch.forget()

    def _checked(self, tokens: Ints | Sequence[int]) -> Ints:
        """The ids as an array.  Raises `ValueError` for what is no sequence of ids of this model."""
        ids = np.asarray(tokens)
        if ids.ndim != 1 or not len(ids) or not np.issubdtype(ids.dtype, np.integer):
            raise ValueError(
                f"an engine takes token ids, a sequence of at least one integer, not {type(tokens).__name__} of shape {ids.shape} and type "
                f"{ids.dtype}; encode texts with the tokenizer first"
            )
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= self._vocabulary:
            wrong = low if low < 0 else high
            raise ValueError(
                f"token id {wrong} is not in the model's vocabulary of {self._vocabulary}: is it another tokenizer's?"
            )
        return ids.astype(np.int64, copy=False)

    def _wake(self) -> None:
        """Let this event loop serve requests, if it does not already."""
        loop = asyncio.get_running_loop()
        if self._serving is not None and not self._serving.done():
            other = self._serving.get_loop()
            if other is loop:
                return
            if other.is_running():
                raise ValueError("this engine serves another event loop, in another thread; give each an engine of its own")
            self._fail(InfrastructureError("local engine: the event loop that asked has ended"))
        self._serving = loop.create_task(self._serve())

    async def _serve(self) -> None:
        """Step after step while there is anything to compute."""
        me = asyncio.current_task()
        try:
            while True:
                async with worker.turn():
                    if not await self._next():
                        return
                    self._step = worker.submit(self._batch.step)
                    for request in await self._result(self._step, f"a step of {len(self._live)} requests"):
                        request.tell()
        except BaseException as error:  # every waiter hears of it, and the engine can go on
            if self._serving is me:
                broken = error if isinstance(error, InfrastructureError) else InfrastructureError(f"local engine: {error!r}")
                broken.__cause__ = None if broken is error else error
                self._fail(broken)
            if not isinstance(error, Exception):
                raise

    async def _next(self) -> bool:
        """Let all that can come come, and join the batch; returns whether there is anything to compute."""
        await self._last_step()
        await worker.at_rest()
        if self._batch.broken:
            self._batch.forget()
        self._batch.waiting += self._arrived
        self._arrived = []
        self._batch.keep(self._live)
        return bool(self._batch.waiting or self._batch.running)

    async def _last_step(self) -> None:
        """Wait for a step that is still running though nobody waits for what it finds."""
        if self._step and not self._step.done() and not await worker.ended(self._step, self._batch.seconds):
            raise self._stuck("an earlier step")

    async def _result(self, job: Future[T], what: str) -> T:
        if not await worker.ended(job, self._batch.seconds):
            raise self._stuck(what)
        return job.result()

    def _stuck(self, what: str) -> InfrastructureError:
        return InfrastructureError(
            f"local engine: {what} has not ended after {self._batch.seconds:g} s (raise sample_seconds, or lower max_batch or max_context)"
        )

    def _fail(self, error: InfrastructureError) -> None:
        """All that is in flight fails.  The thread may be at it still, so the batch is not touched."""
        for request in self._live:
            if not request.future.done() and not request.future.get_loop().is_closed():
                request.future.set_exception(error)
        self._live.clear()


def _refuse_two_rotations(config: Any, max_context: int) -> None:
    """LongRoPE turns all positions of a pass by other angles once one of them lies beyond the length that the model was first trained
    with; in a running batch that would change the others' keys.  [arXiv 2402.13753]"""
    rope = getattr(config, "rope_parameters", None) or {}
    original = rope.get("original_max_position_embeddings") or max_context
    if rope.get("rope_type") == "longrope" and max_context > original:
        raise ValueError(
            f"model type '{config.model_type}' turns positions otherwise in contexts of more than {original} tokens (longrope), and the engine "
            f"runs short and long ones together: set max_context to {original}, it is {max_context}"
        )


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids that end a turn: the generation config's and the tokenizer's."""
    config = getattr(model, "generation_config", None)
    listed = getattr(config, "eos_token_id", None)
    ids = [listed] if isinstance(listed, int) else list(listed or [])
    return frozenset([*ids, tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else ids)
