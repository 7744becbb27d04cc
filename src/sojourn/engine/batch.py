"""The running batch: what one step of the local engine computes.

A step takes in who waits, runs the new tokens of all running requests as one flat row through the model, and samples one token for each.
It is plain synchronous code without a lock: the engine calls it from its thread, one step after another, and touches nothing in here
while a step runs.

Requests whose contexts are equal stand on one slot and are one row, until they sample different tokens.  As a policy learns, siblings
say more and more the same, and cost less and less:

    step 1   "P Q" for all four           one row; they sample  a a a b    the last goes on in a copy of the slot
    step 2   "P Q a" for three, "P Q b"   two rows; they sample a c a d    one of the three leaves
    step 3   "P Q a a" for two, ...       three rows

Requests of different adapters run in one batch, and what one has stored must never be taken for the other.  So the KV cache knows a
token as its id plus a multiple of the vocabulary for the adapter, and nothing in the cache need know of adapters:

    vocabulary 256, adapters a and b:   "hi" is [104, 105] without an adapter, [360, 361] for a, [616, 617] for b
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from time import perf_counter

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sojourn.core import Floats, InfrastructureError, Ints
from sojourn.engine import adapters
from sojourn.engine.admission import ATTEND_ONCE, admit
from sojourn.engine.attention import Plan, windows_of
from sojourn.engine.cache import Cache, Segment, Slot
from sojourn.engine.deterministic import CHUNK, FixedPlan
from sojourn.engine.linear import PackedModel
from sojourn.engine.llama import FusedModel
from sojourn.engine.plan import EnginePlan, Piece
from sojourn.engine.protocol import Completion, SamplingParams
from sojourn.engine.request import Request
from sojourn.engine.sampling import legal_next, restrict, sample, uniform
from sojourn.engine.stops import StopTexts
from sojourn.phases import phase


class RunningBatch:
    """The requests of one engine, and its KV cache.

    ends: ids that end a completion.  seconds: a request fails after so many of computing.  broken: a step began and did not end, so the
    cache may claim keys and values that were never written.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        cache: Cache,
        ends: frozenset[int],
        *,
        seconds: float,
        deterministic: bool,
    ) -> None:
        config = model.config.get_text_config()
        self.cache, self.ends, self.seconds, self.deterministic = cache, ends, seconds, deterministic
        self.waiting: list[Request] = []
        self.running: list[Request] = []
        self.broken = False
        self.version = 0
        self.sampled_tokens = 0
        self.computed_tokens = 0
        self._model, self._tokenizer = model, tokenizer
        self._vocabulary = len(model.get_input_embeddings().weight)  # type: ignore[arg-type, union-attr, unused-ignore]
        self._adapters: tuple[str, ...] | None = None
        self._runner = _runner(model)
        self._softcap: float | None = getattr(config, "final_logit_softcapping", None)
        self._group = config.num_attention_heads // cache.shape.kv_heads
        self._windows = windows_of(model)
        self._finished: list[Request] = []
        self._pieces: dict[int, str] = {}

    def stops(self, params: SamplingParams) -> StopTexts:
        """What notices the stop texts of a request."""
        return StopTexts(params, self._text)

    def shift(self, adapter: str | None) -> int:
        """What the KV cache adds to the ids of a request with this adapter.  Raises `ValueError` for one that is not there."""
        if self._adapters is None:
            self._adapters = adapters.names(self._model)
        known = self._adapters
        if adapter is None and not known:
            return 0
        name = adapters.active(self._model) if adapter is None else adapter
        if name not in ("", *known) or (not known and adapters.active(self._model)):
            raise ValueError(
                f"a request asks for the adapter '{name}' of a model whose adapters that can be chosen are: {', '.join(known) or 'none'} (plain "
                "LoRA ones on linear layers can; after adding one, call update)"
            )
        return self._vocabulary * (1 + known.index(name)) if name else 0

    def step(self) -> list[Request]:
        """One forward pass for all that run; returns the requests that have their answer now, in the order in which they asked: where
        they lie in the KV cache must not decide who goes on first."""
        began, self.broken, self._finished = perf_counter(), True, []
        if self.deterministic:
            self._one_by_one()
        else:
            self._together()
        seconds = perf_counter() - began
        for request in list(self.running):
            request.seconds += seconds
            if request.seconds > self.seconds:
                self._finish(request, self._late(request))
        self._release()
        self.broken = False
        return sorted(self._finished, key=lambda request: request.number)

    def score(self, tokens: Ints, shift: int = 0) -> Floats:
        """See `Engine.score`: one forward pass, at temperature 1, that leaves the cache as it is.  shift: of the adapter."""
        segment = Segment.empty(self.cache.shape, tokens)
        plan = EnginePlan(self.cache, [], [Piece(segment, 0, len(tokens), 0)], self._group, self._windows)
        logits = self._forward(plan, (tokens + shift).tolist(), range(len(tokens)), range(len(tokens) - 1))
        target = torch.from_numpy(tokens[1:])[:, None]
        scores = logits.float().log_softmax(-1).gather(1, target)[:, 0]
        return np.concatenate([np.zeros(1, np.float32), scores.numpy().astype(np.float32)])

    def keep(self, wanted: Collection[Request]) -> None:
        """Forget the other requests: nobody waits for them any more."""
        self.running = [r for r in self.running if r in wanted]
        self.waiting = [r for r in self.waiting if r in wanted]
        self._release()

    def _release(self) -> None:
        """Slots that no running request stands on are idle."""
        busy = {request.slot.index for request in self.running}
        for slot in self.cache.slots:
            slot.busy = slot.index in busy

    def forget(self) -> None:
        """Drop all requests, keys, values and copies of weights."""
        self.keep(())
        self.cache.clear()
        self._runner, self._adapters = _runner(self._model), None
        self.broken = False

    def _together(self) -> None:
        """All new tokens as one flat row: first those of segments, parents first, then those of running requests."""
        admission = admit(self.cache, self.waiting, len(self.cache.slots) - len(self.running))
        self.running += admission.admitted
        self.waiting = admission.waiting
        ids: list[int] = []
        filling: list[Piece[Segment]] = []
        for each in admission.filling:
            new = each.segment.path[each.stored :].tolist()
            filling.append(Piece(each.segment, len(ids), len(new), each.stored))
            ids += new
        slots: list[Piece[Slot]] = []
        rows: list[int] = []
        row_of: list[int] = []
        self.running.sort(key=lambda request: request.slot.index)  # as they lie in the KV cache
        for request in self.running:
            slot = request.slot
            if not slots or slots[-1].owner is not slot:
                new = request.after(slot.length)
                slots.append(Piece(slot, len(ids), len(new), slot.length))
                slot.extend(np.asarray(new))
                ids += new
                rows.append(len(ids) - 1)
                self.cache.reserve(slot.length - slot.start)
            row_of.append(len(rows) - 1)
        positions = [position for f in filling for position in range(f.past, f.past + f.count)]
        positions += [position for s in slots for position in range(s.past, s.past + s.count)]
        with phase("decode" if 2 * len(slots) > len(ids) else "prefill"):  # what most of the tokens are
            logits = self._forward(EnginePlan(self.cache, slots, filling, self._group, self._windows), ids, positions, rows)
            for each in admission.filling:
                each.segment.filled = True
            if self.running:
                self._draw(list(self.running), logits[row_of] if len(row_of) > len(rows) else logits)
                self._part()

    def _part(self) -> None:
        """Requests that stand on one slot and have sampled different tokens go on apart, on copies of it."""
        taken: set[int] = set()
        slots: dict[tuple[int, int], Slot] = {}
        for request in self.running:
            own = request.slot.index, request.sampled[-1]
            if own not in slots:
                slots[own] = self.cache.copy(request.slot) if request.slot.index in taken else request.slot
                taken.add(request.slot.index)
            request.slot = slots[own]

    def _one_by_one(self) -> None:
        """The same, one request after the other, in shapes that depend on positions alone.  Who waits joins after another has been
        computed, and so finds what the two have in common."""
        for request in list(self.running):
            self._alone(request)
        while self.waiting and self.cache.free:
            request = self.waiting.pop(0)
            request.slot = self.cache.claim(self.cache.match(request.prompt), request.prompt, ATTEND_ONCE)
            self.running.append(request)
            self._alone(request)

    def _alone(self, request: Request) -> None:
        slot, end = request.slot, len(request)
        self.cache.reserve(end + CHUNK)
        for first in range(slot.length // CHUNK * CHUNK, end, CHUNK):
            ids = (request.after(first)[:CHUNK] + [request.shift] * CHUNK)[:CHUNK]
            plan = FixedPlan(self.cache, slot, first, self._group, self._windows)
            logits = self._forward(plan, ids, range(first, first + CHUNK), [(end - 1) % CHUNK])
        slot.extend(np.asarray(request.after(slot.length)))
        self._draw([request], logits)

    def _forward(self, plan: Plan, ids: Sequence[int], positions: Sequence[int], rows: Sequence[int]) -> torch.Tensor:
        """Logits (len(rows), V) of the flat tokens `rows`; `ids` are those of the KV cache."""
        self.computed_tokens += len(ids)
        mix = None
        if self._adapters:
            number, ids = (each.tolist() for each in np.divmod(np.asarray(ids), self._vocabulary))
            mix = adapters.mix(number, self._adapters)
        with torch.no_grad():
            logits = self._runner.logits(plan, ids, positions, rows, mix)
        return logits.float().div_(self._softcap).tanh_().mul_(self._softcap) if self._softcap else logits

    def _draw(self, requests: Sequence[Request], logits: torch.Tensor) -> None:
        """Sample a token for each request from its row of logits."""
        logits = restrict(logits, [r.params for r in requests], [self._legal(r) for r in requests])
        tokens, logprobs = sample(logits, [uniform(r.params.seed, len(r.logprobs)) for r in requests])
        if logprobs.isnan().any():
            raise ValueError(
                "a log-probability is NaN: look for NaN or infinite weights (a learning rate too high, a broken checkpoint)"
            )
        for request, token, logprob in zip(requests, tokens.tolist(), logprobs.tolist(), strict=True):
            self._append(request, token, logprob)
        self._release()

    def _append(self, request: Request, token: int, logprob: float) -> None:
        request.sampled.append(token)
        request.logprobs.append(logprob)
        self.sampled_tokens += 1
        ended = token in self.ends or token in request.params.ends
        stop = ended or request.stops.completed_by(token)
        if request.params.allowed is not None:
            stop = not self._legal(request)
        if stop or len(request.logprobs) >= request.params.max_tokens:
            self._finish(request, request.completed("stop" if stop else "length", self.version, ended=ended))

    def _finish(self, request: Request, answer: Completion | InfrastructureError) -> None:
        self.running.remove(request)
        request.answer = answer
        self._finished.append(request)

    def _late(self, request: Request) -> InfrastructureError:
        return InfrastructureError(
            f"local engine: the request of {len(request.prompt)} tokens with seed {request.params.seed} has sampled {len(request.sampled)} of "
            f"{request.params.max_tokens} tokens in {request.seconds:.3g} s of computing (raise sample_seconds, which is {self.seconds:g}, or "
            "lower max_tokens or max_batch)"
        )

    def _legal(self, request: Request) -> list[int] | None:
        return None if request.params.allowed is None else legal_next(request.params.allowed, request.sampled)

    def _text(self, tokens: Sequence[int]) -> str:
        """The text of tokens that follow others."""
        if len(tokens) == 1 and tokens[0] in self._pieces:
            return self._pieces[tokens[0]]
        anchor = self._tokenizer.encode("a", add_special_tokens=False)  # SentencePiece drops a first space
        text = str(self._tokenizer.decode([*anchor, *tokens])).removeprefix("a")
        if len(tokens) == 1:
            self._pieces[tokens[0]] = text
        return text


def _runner(model: PreTrainedModel) -> FusedModel | PackedModel:
    """Computes `model` with the weights and adapters that it has now."""
    return FusedModel(model) if FusedModel.runs(model) else PackedModel(model)
