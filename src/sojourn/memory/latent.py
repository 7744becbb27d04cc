"""Latent memory: a pool of vectors that every write overwrites a part of."""

from __future__ import annotations


def retention(writes: int, *, dropped: int, size: int) -> float:
    """Share of what was written once that is still there after so many further writes.  [MemoryLLM, arXiv 2402.04624]

        (1 - K / N)^s

    writes: s, later ones.  dropped: K vectors that each of them overwrites, drawn uniformly.  size: N vectors of the pool.
    It is what recall is held against: a memory that recalls less than it retains reads badly.

    >>> round(retention(29, dropped=256, size=7680), 3)
    0.374
    """
    if not 0 <= dropped <= size:
        raise ValueError(f"retention(dropped={dropped}, size={size}): a write overwrites vectors of the pool, 0 to {size}")
    return float((1 - dropped / size) ** writes)
