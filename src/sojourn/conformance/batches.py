"""Small random micro-batches: what the checks and the tests feed to objectives."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sojourn.objectives import Denominators, LossInputs


def batch(
    turns: Sequence[Sequence[int]] = ((2, 1), (3,), (1, 1, 2), (4,)),
    *,
    prompts: Sequence[int] | None = None,
    moved: float = 0.0,
    stale: float = 0.0,
    token_advantages: bool = False,
    seed: int = 0,
) -> LossInputs:
    """A batch in float64 with a gradient at `logp`.

    turns: for each sequence, the tokens of each of its action spans.  prompts: group of each sequence; None puts two in one group.
    moved: how far (deviation, nats) the policy is from its start of the update; stale: how far that is from the one that sampled.
    token_advantages: whether each token has its own advantage; else each sequence.
    """
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([sum(spans) for spans in turns])
    tokens = int(lengths.sum())

    def normal(size: int) -> torch.Tensor:
        return torch.randn(size, generator=draw, dtype=torch.float64)

    sequence = torch.repeat_interleave(torch.arange(len(turns)), lengths)
    spans = [span for sequence_spans in turns for span in sequence_spans]
    group = torch.arange(len(turns)) // 2 if prompts is None else torch.tensor(prompts)
    old = -torch.rand(tokens, generator=draw, dtype=torch.float64) * 2 - 0.1
    advantage = normal(tokens) if token_advantages else normal(len(turns))[sequence]
    pairs = torch.tensor([[2 * k, 2 * k + 1] for k in range(len(turns) // 2)]).reshape(-1, 2)
    return LossInputs(
        logp=(old + moved * normal(tokens)).clamp(max=-1e-3).requires_grad_(),
        old_logp=old,
        behaviour_logp=(old + stale * normal(tokens)).clamp(max=-1e-3),
        advantage=advantage,
        sequence=sequence,
        turn=torch.repeat_interleave(torch.arange(len(spans)), torch.tensor(spans)),
        prompt=group[sequence],
        counts=Denominators.count(sequence, group[sequence], pairs=len(pairs)),
        ref_logp=old + 0.3 * normal(tokens),
        entropy=torch.rand(tokens, generator=draw, dtype=torch.float64).requires_grad_(),
        pairs=pairs,
        blind_logp=old + 0.3 * normal(tokens),
        blind_entropy=torch.rand(tokens, generator=draw, dtype=torch.float64),
    )
