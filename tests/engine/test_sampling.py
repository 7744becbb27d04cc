"""Sampling by inversion: exact frequencies in closed form, and numbers that are really uniform."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import sampled_distribution
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.engine import SamplingParams
from sojourn.engine.sampling import restrict, sample, uniform


def test_uniform_numbers_fill_the_unit_interval_evenly() -> None:
    """Chi-square over 64 cells, for the numbers of one request and for the first numbers of many: far below the 99.99 % quantile."""
    for numbers in ([uniform(7, i) for i in range(20_000)], [uniform(s, 0) for s in range(20_000)]):
        counts = np.bincount((np.array(numbers) * 64).astype(int), minlength=64)
        assert len(counts) == 64
        chi_square = ((counts - 20_000 / 64) ** 2 / (20_000 / 64)).sum()
        assert chi_square < 115


def test_uniform_numbers_of_neighbours_are_uncorrelated() -> None:
    grid = np.array([[uniform(seed, index) for index in range(200)] for seed in range(200)]) - 0.5
    for product in (grid[1:] * grid[:-1], grid[:, 1:] * grid[:, :-1]):
        assert abs(product.mean() * 12) < 4 / np.sqrt(product.size)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 1000),
    vocabulary=st.sampled_from([2, 17, 255, 256, 257, 700]),
    scale=st.floats(0.1, 6.0),
    forbidden=st.floats(0.0, 0.9),
)
def test_a_grid_of_uniforms_gives_each_token_its_exact_share(seed: int, vocabulary: int, scale: float, forbidden: float) -> None:
    """Inverting n evenly spaced numbers gives token t between floor(n p) and ceil(n p) + 1 hits: no sampling noise."""
    draw = np.random.default_rng(seed)
    logits = torch.from_numpy(draw.normal(size=vocabulary) * scale).float()
    logits[torch.from_numpy(draw.random(vocabulary) < forbidden)] = -torch.inf
    logits[int(draw.integers(vocabulary))] = 0.0
    n = 4000
    tokens, logprobs = sample(logits.repeat(n, 1), [(i + 0.5) / n for i in range(n)])
    p = logits.double().softmax(-1)
    hits = torch.bincount(tokens, minlength=vocabulary)
    assert (hits - n * p).abs().max() < 1.01
    torch.testing.assert_close(logprobs.double(), p.log()[tokens], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("u", [0.0, 1 - 2**-53], ids=["lowest", "highest"])
def test_the_ends_of_the_interval_never_give_a_forbidden_token(u: float) -> None:
    logits = torch.full((1, 600), -torch.inf)
    logits[0, 300:302] = 0.0
    tokens, logprobs = sample(logits, [u])
    assert tokens.item() == (300 if u == 0 else 301)
    assert logprobs.item() == pytest.approx(np.log(0.5))


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000),
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.0]),
    top_k=st.sampled_from([0, 1, 3, 40]),
    top_p=st.sampled_from([0.1, 0.7, 0.95, 1.0]),
    min_p=st.sampled_from([0.0, 0.01, 0.5]),
    constrained=st.booleans(),
)
def test_restrictions_are_those_of_their_definitions(
    seed: int, temperature: float, top_k: int, top_p: float, min_p: float, constrained: bool
) -> None:
    logits = np.random.default_rng(seed).normal(size=40) * 2
    legal = [3, 5, 8, 13, 21, 34] if constrained else None
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    restricted = restrict(torch.from_numpy(logits)[None].clone(), [params], [legal])[0].log_softmax(-1).numpy()
    np.testing.assert_allclose(np.exp(restricted), np.exp(sampled_distribution(logits, params, legal)), atol=1e-9)


def test_rows_are_restricted_each_by_its_own_parameters() -> None:
    logits = torch.randn(3, 30, generator=torch.Generator().manual_seed(0))
    params = [SamplingParams(top_k=2), SamplingParams(temperature=0.5), SamplingParams(top_p=0.3)]
    together = restrict(logits.clone(), params, [None, [1, 2], None])
    alone = [restrict(logits[i : i + 1].clone(), [p], [[1, 2] if i == 1 else None])[0] for i, p in enumerate(params)]
    torch.testing.assert_close(together, torch.stack(alone), rtol=0, atol=0)
