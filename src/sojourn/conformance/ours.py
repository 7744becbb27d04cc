"""Our own implementation under the checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sojourn.conformance.adapter import NotOffered, Rows
from sojourn.core import EpisodeGroup
from sojourn.credit import columns
from sojourn.engine import SamplingParams
from sojourn.engine.sampling import restrict
from sojourn.objectives import BatchRule, Denominators, LossInputs
from sojourn.objectives.presets import preset


class Ours:
    """`sojourn.credit` and `sojourn.objectives`."""

    name = "sojourn"

    def advantages(
        self, algorithm: str, groups: Sequence[EpisodeGroup], *, value: float = 0.0, after: float = 0.0
    ) -> NDArray[np.float64]:
        credit = preset(algorithm).credit
        if credit is None:
            raise NotOffered(f"{algorithm} reads no advantage")
        c = columns(groups)
        tokens, rows = int(c.length_S.sum()), len(c.span_S)
        return credit(replace(c, value_T=np.full(tokens, value), value_S=np.full(rows, value), after_S=np.full(rows, after)))

    def loss(self, algorithm: str, rows: Rows, micro_batches: Sequence[Sequence[int]]) -> Tensor:
        objective = preset(algorithm).objective
        whole = flatten(rows)
        if isinstance(objective, BatchRule):
            whole = objective.prepare(whole)
        parts = [objective(whole.take(torch.isin(whole.sequence, torch.tensor(micro))))[0] for micro in micro_batches]
        return torch.stack(parts).sum()

    def sampled_logprobs(self, logits: Tensor, *, temperature: float, top_p: float, legal: Sequence[int] | None) -> Tensor:
        params = SamplingParams(temperature=temperature, top_p=top_p)
        return restrict(logits[None].clone(), [params], [legal])[0].log_softmax(-1)


def flatten(rows: Rows) -> LossInputs:
    """The action tokens of all rows."""
    sequence = torch.arange(len(rows.mask))[:, None].expand_as(rows.mask)[rows.mask]
    prompt = rows.prompt[sequence]
    return LossInputs(
        logp=rows.logp[rows.mask],
        old_logp=rows.old_logp[rows.mask],
        behaviour_logp=rows.behaviour_logp[rows.mask],
        ref_logp=rows.ref_logp[rows.mask],
        advantage=rows.advantage[rows.mask],
        entropy=rows.entropy[rows.mask],
        sequence=sequence,
        turn=rows.turn[rows.mask],
        prompt=prompt,
        counts=Denominators.count(sequence, prompt),
    )
