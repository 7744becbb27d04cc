"""AdamW with float32 masters: small steps are not lost, and a saved state goes on to the bit."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from sojourn.learner import AdamW, OptimizerConfig


def layer(dtype: torch.dtype) -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(8, 8, bias=False, dtype=dtype)


def gradients(steps: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(1)
    return [torch.randn(8, 8, generator=draw) for _ in range(steps)]


def descend(model: nn.Linear, optimizer: AdamW, steps: list[Tensor]) -> None:
    for each in steps:
        model.weight.grad = each.to(model.weight.dtype)
        optimizer.step()


def test_bfloat16_weights_follow_float32_masters() -> None:
    """A step of 1e-5 is far below what bfloat16 can add to a weight of 0.1; two hundred of them are not."""
    config = OptimizerConfig(learning_rate=1e-5, max_grad_norm=1e9)
    model, start = layer(torch.bfloat16), layer(torch.bfloat16).weight.detach().float()
    descend(model, AdamW(model, config), [torch.ones(8, 8)] * 200)
    torch.testing.assert_close(model.weight.float(), (start - 200e-5).bfloat16().float(), atol=1e-4, rtol=1e-2)
    assert (model.weight.float() != start).float().mean() > 0.9


def test_small_updates_reach_bfloat16_weights_at_once() -> None:
    """One step of 1e-5, a fiftieth of the distance between numbers near 0.1: on average over the weights all of it arrives."""
    model = nn.Linear(400, 400, bias=False, dtype=torch.bfloat16)
    torch.nn.init.uniform_(model.weight, 0.07, 0.12, generator=torch.Generator().manual_seed(0))
    start = model.weight.detach().clone()
    optimizer = AdamW(model, OptimizerConfig(learning_rate=1e-5, max_grad_norm=1e9))
    assert all(torch.equal(master.bfloat16(), start) for master in optimizer.state_dict()["masters"]), "they round to the weights"
    descend(model, optimizer, [torch.ones(400, 400)])
    assert float((model.weight - start).float().mean()) == pytest.approx(-1e-5, rel=0.1)


def test_float32_weights_are_their_own_masters() -> None:
    """Equal to torch's AdamW, step by step."""
    model, plain = layer(torch.float32), layer(torch.float32)
    config = OptimizerConfig(learning_rate=1e-2, weight_decay=0.1, max_grad_norm=1e9)
    descend(model, AdamW(model, config), gradients(5))
    other = torch.optim.AdamW(plain.parameters(), lr=1e-2, betas=config.betas, weight_decay=0.1)
    for each in gradients(5):
        plain.weight.grad = each
        other.step()
    torch.testing.assert_close(model.weight, plain.weight)


def test_a_long_gradient_is_scaled_down_and_its_norm_told() -> None:
    model, short = layer(torch.float32), layer(torch.float32)
    optimizer = AdamW(model, OptimizerConfig(max_grad_norm=1.0))
    model.weight.grad = torch.full((8, 8), 5.0)
    assert optimizer.step() == pytest.approx(40.0)
    descend(short, AdamW(short, OptimizerConfig(max_grad_norm=1e9)), [torch.full((8, 8), 0.125)])
    torch.testing.assert_close(model.weight, short.weight)


def test_the_learning_rate_rises_from_nothing() -> None:
    model = layer(torch.float32)
    optimizer = AdamW(model, OptimizerConfig(learning_rate=1e-3, warmup_steps=4))
    rates = []
    for each in gradients(6):
        descend(model, optimizer, [each])
        rates.append(optimizer.learning_rate)
    assert rates == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3, 1e-3])


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("linear", [0.5, 1.0, 0.8, 0.6, 0.4, 0.2, 0.2]),
        ("cosine", [0.5, 1.0, 0.2 + 0.4 * (1 + 2**-0.5), 0.6, 0.6 - 0.4 * 2**-0.5, 0.2, 0.2]),
    ],
)
def test_the_learning_rate_falls_after_the_warm_up_and_stays(form: str, expected: list[float]) -> None:
    """Two steps up, four down to a fifth."""
    decay = {"decay": form, "decay_steps": 4, "final_rate": 0.2}
    model = layer(torch.float32)
    optimizer = AdamW(model, OptimizerConfig(learning_rate=1e-3, warmup_steps=2, **decay))
    rates = []
    for each in gradients(7):
        descend(model, optimizer, [each])
        rates.append(optimizer.learning_rate)
    assert rates == pytest.approx([1e-3 * share for share in expected])


@pytest.mark.parametrize("half", [{"decay": "cosine"}, {"decay_steps": 5}])
def test_half_a_decay_is_refused(half: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="a decay needs both"):
        OptimizerConfig(**half)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_state_goes_on_to_the_bit(dtype: torch.dtype) -> None:
    model, config = layer(dtype), OptimizerConfig(learning_rate=1e-3, warmup_steps=10)
    optimizer = AdamW(model, config)
    descend(model, optimizer, gradients(6)[:3])
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    descend(model, optimizer, gradients(6)[3:])
    other = layer(dtype)
    other.load_state_dict(weights)
    resumed = AdamW(other, config)
    resumed.load_state_dict(state)
    descend(other, resumed, gradients(6)[3:])
    assert torch.equal(model.weight, other.weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_gradient_that_is_no_number_moves_nothing_and_names_the_step(number: float, dtype: torch.dtype) -> None:
    model = layer(dtype)
    optimizer = AdamW(model, OptimizerConfig())
    descend(model, optimizer, gradients(2))
    before, state = model.weight.detach().clone(), copy.deepcopy(optimizer.state_dict())
    model.weight.grad = torch.ones(8, 8, dtype=dtype).index_fill(0, torch.tensor([3]), number)
    with pytest.raises(FloatingPointError, match=r"optimizer step 3: the norm of the gradient is (nan|inf)"):
        optimizer.step()
    assert torch.equal(model.weight, before)
    twin, other = layer(dtype), copy.deepcopy(state)
    fresh = AdamW(twin, OptimizerConfig())
    fresh.load_state_dict(other)
    twin.weight.data.copy_(before)
    descend(model, optimizer, gradients(1))
    descend(twin, fresh, gradients(1))
    assert torch.equal(model.weight, twin.weight), "it goes on as if nothing had been"
