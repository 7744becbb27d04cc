"""The local engine: samples from a Hugging Face model in this process, sharing its parameters with the learner.

Every step runs the new tokens of all running requests as one flat row through the model: the next token of some, the fresh
observation of others, the shared beginning of a group once.  Requests join and leave at any step; there is no barrier.  Keys and
values stay in the store until the weights change, so a later turn computes only what is new.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sojourn.core import ContextFull, Floats, InfrastructureError, Ints
from sojourn.engine.attention import Plan, attach
from sojourn.engine.cache import Cache, Segment, Shape, Slot, common_prefix
from sojourn.engine.fixed import CHUNK, FixedPlan
from sojourn.engine.fused import FusedModel
from sojourn.engine.packed import PackedModel
from sojourn.engine.plan import EnginePlan, Piece
from sojourn.engine.protocol import Completion, SamplingParams
from sojourn.engine.sampling import legal_next, restrict, sample, uniform
from sojourn.engine.stops import StopTexts
from sojourn.phases import phase

COMPUTE_ONCE = 4
"""A beginning of at least this many tokens that waiting requests have in common is computed once."""
ATTEND_ONCE = 48
"""From this length on it is also attended once for all of them; shorter ones are copied."""


@dataclass(eq=False, slots=True)
class _Request:
    """One sampling request on its way.  `tokens` is context and completion so far; `stored` of them are in the slot."""

    prompt: int
    tokens: list[int]
    params: SamplingParams
    future: asyncio.Future[Completion]
    stops: StopTexts
    slot: Slot = field(init=False)
    logprobs: list[float] = field(default_factory=list)

    @property
    def sampled(self) -> list[int]:
        return self.tokens[self.prompt :]


class LocalEngine:
    """Continuous batching over a Hugging Face causal language model.

    model: used as it is; its parameters may be trained between samples, then call `update`.
    max_batch: requests that run at once.  Raise it for throughput while memory lasts; others wait.
    max_context: tokens of a context, completion included.
    shared_tokens: of beginnings that several contexts share, kept at most between requests; raise it for many long prompts.
    deterministic: a request's log-probabilities are the same bits whoever else is in the batch; much slower.
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
    ) -> None:
        attach(model)
        config = model.config.get_text_config()
        self.model = model
        self.tokenizer = tokenizer
        self.version = 0
        self._max_context: int = min(max_context, config.max_position_embeddings)
        shape = Shape.of(model)
        self._softcap: float | None = getattr(config, "final_logit_softcapping", None)
        self._runner = FusedModel(model) if FusedModel.runs(model) else PackedModel(model)
        self._cache = Cache(shape, max_batch, -(-self._max_context // CHUNK) * CHUNK, shared_tokens=shared_tokens)
        self._deterministic = deterministic
        self._group = config.num_attention_heads // shape.kv_heads
        self._windows = windows_of(model)
        self._ends = end_tokens(model, tokenizer)
        self._waiting: list[_Request] = []
        self._running: list[_Request] = []
        self._task: asyncio.Task[None] | None = None
        self._pieces: dict[int, str] = {}
        self.sampled_tokens = 0
        self.computed_tokens = 0

    @property
    def max_context(self) -> int:
        return self._max_context

    async def sample(self, tokens: Ints, params: SamplingParams) -> Completion:
        """See `Engine.sample`."""
        if len(tokens) >= self._max_context:
            raise ContextFull(f"a context of {len(tokens)} tokens, the engine holds {self._max_context}")
        params = replace(params, max_tokens=min(params.max_tokens, self._max_context - len(tokens)))
        future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Request(len(tokens), tokens.tolist(), params, future, StopTexts(params, self._text)))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return await future

    async def score(self, tokens: Ints) -> Floats:
        """See `Engine.score`.  One forward pass, at temperature 1."""
        if len(tokens) > self._max_context:
            raise ContextFull(f"a context of {len(tokens)} tokens, the engine holds {self._max_context}")
        segment = Cache(self._cache.shape, 0, self._max_context).new_segment(tokens, None)
        plan = EnginePlan(self._cache, [], [Piece(segment, 0, len(tokens), 0)], self._group, self._windows)
        logits = self._forward(plan, tokens.tolist(), range(len(tokens)), range(len(tokens) - 1))
        target = torch.from_numpy(tokens[1:])[:, None]
        scores = logits.float().log_softmax(-1).gather(1, target)[:, 0]
        return np.concatenate([np.zeros(1, np.float32), scores.numpy().astype(np.float32)])

    def update(self, version: int) -> None:
        """The shared weights have changed: what was computed with the old ones is forgotten."""
        self.version = version
        self._runner.forget()
        self._cache.clear()

    async def _run(self) -> None:
        try:
            while self._drop_cancelled():
                if self._deterministic:
                    self._step_alone()
                else:
                    self._step()
                for _ in range(4):  # let finished requests ask again before the next step
                    await asyncio.sleep(0)
        except BaseException as error:  # every waiter hears of it, and the engine can go on
            self._abandon(error)
            if not isinstance(error, Exception):
                raise

    def _abandon(self, error: BaseException) -> None:
        """Let all requests fail; the store may claim keys and values that the broken step never wrote, so it is emptied."""
        broken = InfrastructureError(f"local engine: {error!r}")
        broken.__cause__ = error
        for request in self._waiting + self._running:
            if not request.future.done():
                request.future.set_exception(broken)
        for slot in self._cache.slots:
            slot.busy = False
        self._cache.clear()
        self._waiting, self._running = [], []

    def _drop_cancelled(self) -> bool:
        """Forget requests that nobody waits for; returns whether any is left."""
        for request in [r for r in self._running if r.future.done()]:
            self._running.remove(request)
            request.slot.busy = False
        self._waiting = [r for r in self._waiting if not r.future.done()]
        return bool(self._waiting or self._running)

    def _step(self) -> None:
        """Admit who fits, run one forward pass, sample a token for each running request."""
        ids: list[int] = []
        filling: list[Piece[Segment]] = []
        for segment in self._admit():
            filling.append(Piece(segment, len(ids), len(segment), segment.start))
            ids += segment.path[segment.start :].tolist()
        slots: list[Piece[Slot]] = []
        rows = []
        self._running.sort(key=lambda request: request.slot.index)  # as their keys and values lie
        for request in self._running:
            slot, new = request.slot, request.tokens[request.slot.length :]
            slots.append(Piece(slot, len(ids), len(new), slot.length))
            slot.extend(np.asarray(new))
            ids += new
            rows.append(len(ids) - 1)
            self._cache.reserve(slot.length - slot.start)
        positions = [position for f in filling for position in range(f.past, f.past + f.count)]
        positions += [position for s in slots for position in range(s.past, s.past + s.count)]
        with phase("decode" if 2 * len(slots) > len(ids) else "prefill"):  # what most of the tokens are
            logits = self._forward(EnginePlan(self._cache, slots, filling, self._group, self._windows), ids, positions, rows)
            if self._running:
                self._draw(list(self._running), logits)

    def _step_alone(self) -> None:
        """The same, one request after the other, in shapes that depend on positions alone."""
        self._admit()
        for request in list(self._running):
            slot, tokens = request.slot, request.tokens
            self._cache.reserve(len(tokens) + CHUNK)
            for first in range(slot.length // CHUNK * CHUNK, len(tokens), CHUNK):
                ids = (tokens[first : first + CHUNK] + [0] * CHUNK)[:CHUNK]
                plan = FixedPlan(self._cache, slot, first, self._group, self._windows)
                logits = self._forward(plan, ids, range(first, first + CHUNK), [(len(tokens) - 1) % CHUNK])
            slot.extend(np.asarray(tokens[slot.length :]))
            self._draw([request], logits)

    def _draw(self, requests: Sequence[_Request], logits: torch.Tensor) -> None:
        """Sample a token for each request from its row of logits."""
        logits = restrict(logits, [r.params for r in requests], [self._legal(r) for r in requests])
        tokens, logprobs = sample(logits, [uniform(r.params.seed, len(r.logprobs)) for r in requests])
        for request, token, logprob in zip(requests, tokens.tolist(), logprobs.tolist(), strict=True):
            self._append(request, token, logprob)

    def _forward(self, plan: Plan, ids: Sequence[int], positions: Sequence[int], rows: Sequence[int]) -> torch.Tensor:
        """Logits (len(rows), V) of the flat tokens `rows`."""
        self.computed_tokens += len(ids)
        with torch.no_grad():
            logits = self._runner.logits(plan, ids, positions, rows)
        return logits.float().div_(self._softcap).tanh_().mul_(self._softcap) if self._softcap else logits

    def _append(self, request: _Request, token: int, logprob: float) -> None:
        request.tokens.append(token)
        request.logprobs.append(logprob)
        self.sampled_tokens += 1
        ended = token in self._ends or token in request.params.ends
        stop = ended or request.stops.completed_by(token)
        if request.params.allowed is not None:
            stop = not self._legal(request)
        if stop or len(request.logprobs) >= request.params.max_tokens:
            self._running.remove(request)
            request.slot.busy = False
            if not request.future.done():
                request.future.set_result(
                    Completion(
                        np.asarray(request.sampled, np.int64),
                        np.asarray(request.logprobs, np.float32),
                        "stop" if stop else "length",
                        self.version,
                        ended,
                    )
                )

    def _legal(self, request: _Request) -> list[int] | None:
        return None if request.params.allowed is None else legal_next(request.params.allowed, request.sampled)

    def _text(self, tokens: Sequence[int]) -> str:
        """The text of tokens that follow others."""
        if len(tokens) == 1 and tokens[0] in self._pieces:
            return self._pieces[tokens[0]]
        anchor = self.tokenizer.encode("a", add_special_tokens=False)  # SentencePiece drops a first space
        text = str(self.tokenizer.decode([*anchor, *tokens])).removeprefix("a")
        if len(tokens) == 1:
            self._pieces[tokens[0]] = text
        return text

    def _admit(self) -> list[Segment]:
        """Give waiting requests a slot each; returns the segments that this step must fill, parents first.

        What new requests have in common goes into segments first; those requests then wait for the next step.
        """
        free = sum(not slot.busy for slot in self._cache.slots)
        chosen, later = self._waiting[:free], self._waiting[free:]
        matches = [self._cache.match(np.asarray(r.tokens)) for r in chosen]
        self._cache.evict(matches)
        fresh = [r for r, match in zip(chosen, matches, strict=True) if match.source is None]
        filled: list[Segment] = []
        if not self._deterministic:
            self._share(fresh, filled)
        held = []
        for request in chosen:
            match = self._cache.match(np.asarray(request.tokens))
            if match.base in filled:
                held.append(request)
            else:
                request.slot = self._cache.claim(match, ATTEND_ONCE)
                self._running.append(request)
        self._waiting = held + later
        return filled

    def _share(self, requests: Sequence[_Request], filled: list[Segment]) -> None:
        """Add to `filled` segments of what several requests begin with in common, as a tree: all of them, then those that go on
        alike."""
        if len(requests) < 2:
            return
        tokens = [np.asarray(r.tokens) for r in requests]
        length = min(min(common_prefix(tokens[0], t) for t in tokens[1:]), min(map(len, tokens)) - 1)
        parent = self._cache.segment_for(tokens[0][:length])
        if length - (len(parent.path) if parent else 0) >= COMPUTE_ONCE:
            filled.append(self._cache.new_segment(tokens[0][:length], parent))
        branches: dict[int, list[_Request]] = {}
        for request, ids in zip(requests, tokens, strict=True):
            branches.setdefault(int(ids[length]), []).append(request)
        if len(branches) > 1:
            for branch in branches.values():
                self._share(branch, filled)


def windows_of(model: PreTrainedModel) -> list[int | None]:
    """The sliding windows that the model's layers use; None stands for full attention."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"]  # without them, all layers are alike
    window = getattr(config, "sliding_window", None)
    return [None] + ([window] if window and "sliding_attention" in kinds else [])


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids that end a turn: the generation config's and the tokenizer's."""
    config = getattr(model, "generation_config", None)
    listed = getattr(config, "eos_token_id", None)
    ids = [listed] if isinstance(listed, int) else list(listed or [])
    return frozenset([*ids, tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else ids)
