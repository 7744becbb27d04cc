"""The sides of a benchmark do the same work: counted tokens, equal gradients."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import paths_of, small, unique_prefixes
from rich.console import Console
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from sojourn.bench.decode import Clocked, generate, generate_continuously, sample
from sojourn.bench.decode_peers import step_seconds
from sojourn.bench.limit import PASSES, bare_products, cache_reads
from sojourn.bench.measure import Result, Spread, alternate
from sojourn.bench.ours import Loop, Shape, prompt
from sojourn.bench.small import clocked
from sojourn.bench.update import episodes, padded_rows
from sojourn.credit import columns, dr_grpo
from sojourn.engine.native import kernels
from sojourn.learner import Learner, OptimizerConfig
from sojourn.objectives import PolicyGradient


def test_our_loop_samples_what_the_script_says_and_a_group_pays_its_prompt_once() -> None:
    costs = []
    for group in (1, 6):
        shape = Shape(prompts=2, group=group, turns=1, action_tokens=5, prompt_tokens=40)
        loop = Loop(small(), shape)
        loop.rollout()
        assert loop.engine.sampled_tokens == shape.sampled == 2 * group * 5
        costs.append(loop.engine.computed_tokens - 2 * group * 4)  # the last token is sampled, never computed
    assert costs[1] - costs[0] <= 2 * 5, "each member computes at least its last prompt token"
    assert costs[1] < 1.2 * costs[0]


def test_siblings_that_say_the_same_cost_what_one_of_them_does() -> None:
    shape = Shape(group=8, turns=3, action_tokens=5, prompt_tokens=40, observation_tokens=30)
    costs = {}
    for equal, different in ((0.0, 8), (0.5, 5), (1.0, 1)):
        loop = Loop(small(), shape, equal=equal)
        (group,) = loop.rollout()
        said = {tuple(int(t) for span in e.actions for t in group.tree[span].tokens) for e in group.episodes}
        assert len(said) == different
        assert loop.computed_tokens == unique_prefixes([path[:-1] for path in paths_of(group)])
        costs[equal] = loop.computed_tokens
    assert costs[0.0] - costs[1.0] >= 7 * 2 * 30, "at the least the observations of seven"


def test_calls_of_kernels_are_clocked_while_asked() -> None:
    own = kernels(torch.float32) or pytest.skip("no C compiler here")
    x, weight = torch.ones(2, 3), torch.ones(3)
    with clocked(own) as spent:
        assert torch.equal(own.norm(x, weight, 0.0), x)
        own.gate(x, x)
    own.gate(x, x)
    assert len(spent) == 2 and min(spent) > 0


def test_padded_rows_and_the_tree_have_one_gradient() -> None:
    group = episodes(0.5, 4, 24)
    for span in group.tree.spans:
        span.tokens = span.tokens % 250
    table = columns([group])
    advantage_T = dr_grpo()(table)
    ours, plain = small().model, small().model
    learner = Learner(ours, OptimizerConfig(max_grad_norm=1e9))
    learner.optimizer.step = lambda: 0.0  # type: ignore[method-assign]
    learner.update([group], table, advantage_T, PolicyGradient())
    padded_rows(plain, group, advantage_T)
    for p, expected in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, expected.grad, atol=2e-5, rtol=2e-3)


def test_the_limit_multiplies_every_linear_layer_and_reads_every_key() -> None:
    model = small().model
    weights = sum(layer.weight.numel() for layer in model.modules() if isinstance(layer, torch.nn.Linear))
    with FlopCounterMode(display=False) as counter:
        assert bare_products(model, 3)["plain"]() > 0
    assert counter.get_total_flops() == (1 + PASSES) * 2 * 3 * weights
    config = model.config
    dim = config.hidden_size // config.num_attention_heads
    with Summed() as summed:
        assert cache_reads(model, 3, 10)() > 0
    assert summed.sizes == (1 + PASSES) * [2 * config.num_hidden_layers * 3 * config.num_key_value_heads * dim * 10]


class Summed(TorchDispatchMode):
    """How many numbers each sum adds."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.sum.default:
            self.sizes.append(args[0].numel())
        return func(*args, **kwargs or {})


def test_sides_take_turns_and_the_warm_up_does_not_count() -> None:
    order: list[str] = []
    taken = alternate({name: lambda name=name: order.append(name) for name in "ab"}, 2)  # type: ignore[misc]
    assert order == list("ababab")
    assert all(len(each.values) == 2 and min(each.values) >= 0 for each in taken.values())


def test_a_spread_is_its_median_and_its_ends() -> None:
    spread = Spread((4.0, 1.0, 2.0)).each(lambda value: 2 * value)
    assert spread.page() == {"median": 4.0, "low": 2.0, "high": 8.0}
    assert str(spread) == "4 (2 to 8)"


def test_a_side_that_returns_a_float_has_timed_itself() -> None:
    assert alternate({"a": iter([1.0, 2.0, 3.0]).__next__}, 2)["a"].values == (2.0, 3.0)


def test_we_and_both_ways_of_transformers_sample_what_is_asked() -> None:
    loaded = small()
    prompts = [prompt(loaded.tokenizer, 5, number) for number in range(3)]
    engine = Clocked(loaded.model, loaded.tokenizer, max_batch=3, max_context=10)
    assert sample(engine, prompts, 4) > 0  # each asserts the number of tokens
    assert generate(small().model, prompts, 4) > 0
    assert generate_continuously(small().model, prompts, 4) > 0


def test_a_step_is_timed_where_all_rows_decode() -> None:
    late, early = [3.0, 4.0, 6.0, 8.0], [0.0, 1.0, 4.0, 6.0]
    assert step_seconds([late, early], 4) == 6.0 - 4.0
    in_step = [[step + 1e-3 * row for step in range(5)] for row in range(3)]
    assert step_seconds(in_step, 5) == pytest.approx(1.0, abs=1e-9)
    with pytest.raises(AssertionError, match=r"sampled \[4, 3\] tokens, asked for 4"):
        step_seconds([late, early[:3]], 4)
    with pytest.raises(AssertionError, match="ended before the last began"):
        step_seconds([[5.0, 6.0], [1.0, 2.0]], 2)


def test_what_was_measured_is_in_the_file_before_the_rest(tmp_path: Path) -> None:
    result = Result("x", file=tmp_path / "x.json")
    result.add({"a": Spread((1.0, 3.0))})
    assert json.loads((tmp_path / "x.json").read_text())["rows"] == [{"a": {"median": 2.0, "low": 1.0, "high": 3.0}}]


def test_a_result_names_what_was_skipped_and_where_it_was_measured() -> None:
    result = Result("x", rows=[{"a": 1, "b": 0.5}], ratios={"r": 2.0}, skipped={"peer": "not installed"})
    console = Console(record=True, width=100, file=io.StringIO())
    result.show(console)
    shown = console.export_text()
    assert "r = 2" in shown
    assert "skipped peer: not installed" in shown
    assert result.page()["ratios"] == {"r": 2.0}
    assert {"processor", "versions", "commit", "threads"} <= set(result.page()["machine"])
    assert np.isfinite(result.page()["machine"]["threads"])
