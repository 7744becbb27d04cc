"""The engine computes beside the event loop: the loop goes on, batches do not depend on timing, and nothing is left stuck."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_faithful, engine_for, prompt, sample_all, small, steps_later

from sojourn.core import InfrastructureError
from sojourn.engine import Completion, SamplingParams, batch, llama
from sojourn.engine.local import LocalEngine
from sojourn.phases import recording

GREEDY = SamplingParams(max_tokens=6, temperature=0.0)
LONG = replace(GREEDY, max_tokens=300)
PATIENCE = 30.0
"""Seconds after which a test that would hang fails instead."""


def before_each_pass(engine: LocalEngine, heard: Callable[[int], None]) -> None:
    """`heard` is told, in the engine's thread, how many tokens come before each forward pass."""
    engine.model.get_input_embeddings().register_forward_pre_hook(lambda _, inputs: heard(inputs[0].numel()))


class Gate:
    """Holds every pass of an engine until it is opened."""

    def __init__(self, engine: LocalEngine) -> None:
        self.open, self.reached = threading.Event(), threading.Event()
        before_each_pass(engine, self._wait)

    def _wait(self, tokens: int) -> None:
        self.reached.set()
        assert self.open.wait(PATIENCE), "nobody opened the gate"


def test_the_loop_goes_on_while_a_pass_is_computed() -> None:
    """The pass waits for what only the loop can do."""
    engine = engine_for(small())
    gate = Gate(engine)

    async def tool() -> None:
        while not gate.reached.is_set():
            await asyncio.sleep(1e-3)
        gate.open.set()

    async def both() -> Completion:
        return (await asyncio.gather(engine.sample(prompt(10), GREEDY), tool()))[0]

    assert len(asyncio.run(both()).tokens) == 6


def talk_in_small_steps(*engines: LocalEngine) -> list[tuple[int, int]]:
    """Which engine ran how many tokens in each pass, for programs that think for many turns of the loop before they ask the next engine."""
    passes: list[tuple[int, int]] = []
    for index, engine in enumerate(engines):
        before_each_pass(engine, lambda tokens, index=index: passes.append((index, tokens)))  # type: ignore[misc]

    async def program(number: int) -> None:
        tokens = prompt(20 + number, seed=number)
        for turn in range(4):
            for _ in range(7 * number):
                await asyncio.create_task(asyncio.sleep(0))
            engine = engines[(number + turn) % len(engines)]
            answer = await engine.sample(tokens, SamplingParams(max_tokens=2 + number, seed=turn))
            tokens = np.concatenate([tokens, answer.tokens, prompt(3, seed=turn)])
            await engine.score(tokens)

    async def everybody() -> None:
        loops.append(asyncio.get_running_loop())
        await asyncio.gather(*map(program, range(4)))

    asyncio.run(everybody())
    return passes


loops: list[asyncio.AbstractEventLoop] = []


def dawdle(_: int) -> None:
    """A pass that does not end before the event loop has turned a thousand times."""
    turned = threading.Event()

    async def turn() -> None:
        for _ in range(1000):
            await asyncio.sleep(0)
        turned.set()

    asyncio.run_coroutine_threadsafe(turn(), loops[-1])
    assert turned.wait(PATIENCE)


@pytest.mark.parametrize("number", [1, 2])
def test_who_shares_a_pass_does_not_depend_on_how_long_passes_take(number: int) -> None:
    """Nor on which engine is the slower one."""
    quick = talk_in_small_steps(*(engine_for(small()) for _ in range(number)))
    for slower in range(number):
        engines = [engine_for(small()) for _ in range(number)]
        before_each_pass(engines[slower], dawdle)
        assert talk_in_small_steps(*engines) == quick
    assert max(tokens for _, tokens in quick) > 50, "nothing ran together"


def test_the_weights_do_not_change_under_a_request() -> None:
    engine = engine_for(small())

    async def change() -> None:
        task = asyncio.create_task(engine.sample(prompt(10), LONG))
        await asyncio.sleep(0)
        await steps_later(engine, 2)
        with pytest.raises(ValueError, match=r"version 1 while 1 requests are in flight: await or cancel"):
            engine.update(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        engine.update(1)

    asyncio.run(change())
    assert engine.version == 1


def test_an_update_waits_for_the_step_of_requests_that_were_cancelled() -> None:
    engine, reference = engine_for(small()), small()
    gate = Gate(engine)
    ended: list[bool] = []
    step = engine._batch.step
    engine._batch.step = lambda: (step(), ended.append(True))[0]  # type: ignore[method-assign, func-returns-value]

    async def change() -> None:
        task = asyncio.create_task(engine.sample(prompt(10), LONG))
        while not gate.reached.is_set():
            await asyncio.sleep(1e-3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not ended
        threading.Thread(target=gate.open.set).start()
        engine.update(1)
        assert ended

    asyncio.run(change())
    (completion,) = sample_all(engine, [(prompt(10), GREEDY)])
    assert_faithful(reference, prompt(10), completion, GREEDY)


def test_a_loop_that_was_left_in_the_middle_leaves_the_engine_usable() -> None:
    """Not by asyncio.run, which cancels what it leaves."""
    engine, reference = engine_for(small()), small()
    left = asyncio.new_event_loop()
    waiting = left.create_task(engine.sample(prompt(20), LONG))
    left.run_until_complete(asyncio.sleep(0.01))
    left.close()
    (completion,) = sample_all(engine, [(prompt(20), GREEDY)])
    assert_faithful(reference, prompt(20), completion, GREEDY)
    engine.update(1)
    waiting._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_second_running_loop_is_refused_with_a_sentence() -> None:
    engine = engine_for(small())
    gate = Gate(engine)
    first = threading.Thread(target=lambda: sample_all(engine, [(prompt(10), GREEDY)]))
    first.start()
    assert gate.reached.wait(PATIENCE)
    with pytest.raises(ValueError, match=r"serves another event loop"):
        sample_all(engine, [(prompt(10), GREEDY)])
    gate.open.set()
    first.join()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every step of an engine takes one second: what its clock says goes on by one at every second look."""
    looks = [0.0]

    def look() -> float:
        looks[0] += 0.5
        return looks[0] // 1

    monkeypatch.setattr(batch, "perf_counter", look)
    return looks


def test_a_request_that_takes_too_long_fails_by_name_and_the_others_go_on(clock: list[float]) -> None:
    engine = engine_for(small(), sample_seconds=9.5)

    async def both() -> list[Any]:
        requests = [engine.sample(prompt(n, seed=n), replace(GREEDY, max_tokens=t, seed=n)) for n, t in ((30, 8), (20, 50))]
        return await asyncio.gather(*requests, return_exceptions=True)

    answered, late = asyncio.run(both())
    assert len(answered.tokens) == 8
    assert isinstance(late, InfrastructureError)
    assert "the request of 20 tokens with seed 20 has sampled 10 of 50 tokens in 10 s of computing (raise sample_seconds" in str(
        late
    )
    assert engine._cache.free == len(engine._cache.slots)


def test_waiting_for_others_is_not_a_request_s_own_work(clock: list[float]) -> None:
    engine = engine_for(small(), sample_seconds=9.5, max_batch=1)
    answers = sample_all(engine, [(prompt(20, seed=n), replace(GREEDY, max_tokens=8)) for n in range(4)])
    assert [len(answer.tokens) for answer in answers] == [8] * 4


def test_a_step_that_does_not_end_fails_all_and_the_engine_goes_on_when_it_does() -> None:
    engine, reference = engine_for(small(), sample_seconds=0.05), small()
    gate = Gate(engine)

    async def stuck() -> list[Any]:
        requests = [engine.sample(prompt(n), GREEDY) for n in (10, 20)]
        return await asyncio.gather(*requests, return_exceptions=True)

    for error in asyncio.run(stuck()):
        assert isinstance(error, InfrastructureError)
        assert "a step of 2 requests has not ended after 0.05 s (raise sample_seconds" in str(error)
    gate.open.set()
    engine._batch.seconds = PATIENCE
    (completion,) = sample_all(engine, [(prompt(20), GREEDY)])
    assert_faithful(reference, prompt(20), completion, GREEDY)


def test_phases_of_the_thread_are_recorded() -> None:
    with recording() as events:
        sample_all(engine_for(small()), [(prompt(20), GREEDY)])
    assert [event.name for event in events] == ["prefill"] + 5 * ["decode"]


def test_a_closed_engine_fails_what_is_in_flight() -> None:
    engine = engine_for(small())

    async def close() -> list[Any]:
        task = asyncio.create_task(engine.sample(prompt(10), LONG))
        await asyncio.sleep(0)
        await steps_later(engine, 2)
        await engine.close()
        return await asyncio.gather(task, return_exceptions=True)

    (error,) = asyncio.run(close())
    assert isinstance(error, InfrastructureError) and "closed" in str(error)
    assert not engine._cache.segments and engine._cache.free == len(engine._cache.slots)


def test_a_process_ends_in_the_middle_of_a_request() -> None:
    if llama.kernels(torch.float32) is None:
        pytest.skip("once is enough: another process does not know how these tests are run")
    script = (
        "import asyncio, numpy\n"
        "from sojourn.engine import SamplingParams\n"
        "from sojourn.engine.local import LocalEngine\n"
        "from sojourn.models import tiny\n"
        "loaded = tiny(hidden=32, layers=1)\n"
        "engine = LocalEngine(loaded.model, loaded.tokenizer)\n"
        "async def leave():\n"
        "    asyncio.get_running_loop().create_task(engine.sample([1, 2, 3], SamplingParams(max_tokens=900)))\n"
        "    await asyncio.sleep(0.05)\n"
        "asyncio.run(leave())\n"
        "print('left')\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=170)
    assert (ran.returncode, ran.stdout.strip(), ran.stderr) == (0, "left", "")
