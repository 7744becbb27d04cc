"""TRL's GRPO loss under the checks: the example of an adapter for another's code.

`GRPOTrainer._compute_loss` is called as it is, on a stand-in for the trainer that holds the configuration and hands over our
log-probabilities in place of a model's.  Micro-batches are put together as the trainer does: one call for each, with its number of
accumulation steps and its global count of tokens, losses added; ranks as data parallelism does, losses averaged.  TRL computes
advantages inside its generation step, mixed with sampling, so what concerns advantages is not asked here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, distributed
from trl import GRPOTrainer  # type: ignore[import-not-found, import-untyped, unused-ignore]

from sojourn.conformance.adapter import Adapter, NotOffered
from sojourn.conformance.algorithms import LENGTH
from sojourn.conformance.rows import Rows
from sojourn.core import EpisodeGroup
from sojourn.objectives.aggregation import Over

SETTINGS: dict[str, dict[str, Any]] = {
    "grpo": {"loss_type": "grpo", "beta": 0.04},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "dapo": {"loss_type": "dapo", "epsilon_high": 0.28},
    "lite_ppo": {"loss_type": "dapo"},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon_low": 3e-4, "epsilon_high": 4e-4},
    "luspo": {"loss_type": "luspo", "importance_sampling_level": "sequence", "epsilon_low": 2e-3, "epsilon_high": 2.5e-3},
    "cispo": {"loss_type": "cispo", "epsilon_high": 5.0},
    "sapo": {"loss_type": "sapo"},
    "intellect2": {"loss_type": "dapo", "beta": 0.001, "delta": 4.0},
    "top_entropy": {"loss_type": "dapo", "epsilon_high": 0.28, "top_entropy_quantile": 0.2},
}
"""TRL's arguments for each of our names; what is not named is at its default below."""

AGGREGATIONS: dict[Over, str] = {"tokens": "dapo", "sequences": "grpo", "sequence_sums": "luspo", "constant": "dr_grpo"}
"""TRL's loss types by what their mean runs over, all with PPO's clip."""

DEFAULTS: dict[str, Any] = {
    "beta": 0.0, "epsilon_low": 0.2, "epsilon_high": 0.2, "importance_sampling_level": "token", "top_entropy_quantile": 1.0,
    "max_completion_length": LENGTH, "off_policy_mask_threshold": None, "use_vllm": False, "vllm_importance_sampling_correction": False,
    "aux_loss_enabled": False, "use_adaptive_entropy": False, "entropy_coef": 0.0, "_entropy_bonus_enabled": False,
}  # fmt: skip


class Trl(Adapter):
    """TRL's loss functions."""

    def __init__(self) -> None:
        self.name = f"trl {version('trl')}"

    def advantages(self, algorithm: str, groups: Sequence[EpisodeGroup], **given: Any) -> Any:
        raise NotOffered("TRL's advantages are computed inside its generation step")

    def model_gradient(self, algorithm: str, model: Any, groups: Sequence[EpisodeGroup], advantage: Any, **given: Any) -> Any:
        raise NotOffered("TRL trains rows, and takes no groups of episodes that were sampled elsewhere")

    def loss(
        self, algorithm: str, rows: Rows, micro_batches: Sequence[Sequence[int]], *, aggregation: Over | None = None
    ) -> Tensor:
        if algorithm not in SETTINGS:
            raise NotOffered(f"{algorithm} is not mapped to a TRL loss type")
        settings = SETTINGS[algorithm]
        if aggregation is not None:
            if aggregation not in AGGREGATIONS or algorithm != "lite_ppo":
                raise NotOffered(f"TRL has no mean over {aggregation}")
            settings = {"loss_type": AGGREGATIONS[aggregation]}
        ranks, tokens = distributed.get_world_size() if distributed.is_initialized() else 1, _gather(rows.mask.sum()[None]).sum()
        shares = [rows.take(micro) for micro in micro_batches]
        return torch.stack([_loss(_trainer(settings, part, len(shares), ranks), part, tokens) for part in shares]).sum() / ranks

    def reported(self, algorithm: str, rows: Rows) -> Mapping[str, float]:
        """How much is clipped; TRL reports no ratio."""
        trainer = _trainer(SETTINGS[algorithm], rows, 1, 1)
        _loss(trainer, rows, rows.mask.sum())
        said = trainer._metrics["train"]
        clipped = said["cispo_clip_ratio" if trainer.loss_type == "cispo" else "clip_ratio/region_mean"]
        return {"clipped": clipped[0]} if clipped else {}


def _loss(trainer: Any, rows: Rows, tokens: Tensor) -> Tensor:
    """TRL's loss of some rows; `tokens` are those of the whole batch, over all ranks."""
    count, width = rows.mask.shape
    inputs = {
        "prompt_ids": torch.zeros(count, 1, dtype=torch.long),
        "prompt_mask": torch.ones(count, 1, dtype=torch.long),
        "completion_ids": torch.zeros(count, width, dtype=torch.long),
        "completion_mask": torch.ones(count, width, dtype=torch.long),
        "tool_mask": rows.mask.long(),
        "advantages": rows.advantage,
        "old_per_token_logps": rows.old_logp,
        "ref_per_token_logps": rows.ref_logp,
        "num_items_in_batch": tokens,
    }
    loss: Tensor = GRPOTrainer._compute_loss(trainer, None, inputs)
    return loss


def _trainer(settings: dict[str, Any], rows: Rows, steps: int, ranks: int) -> Any:
    """A stand-in that has what `_compute_loss` reads."""
    chosen = DEFAULTS | settings
    args = SimpleNamespace(
        delta=chosen.get("delta"), use_bias_correction_kl=False, sapo_temperature_pos=1.0, sapo_temperature_neg=1.05,
        steps_per_generation=steps,
    )  # fmt: skip
    accelerator = SimpleNamespace(
        num_processes=ranks, sync_gradients=True, gather=_gather, gather_for_metrics=_gather, reduce=lambda x, reduction: x,
        pad_across_processes=lambda x, **how: x,
    )  # fmt: skip
    trainer = SimpleNamespace(
        **chosen, args=args, accelerator=accelerator, model=SimpleNamespace(training=True), current_gradient_accumulation_steps=steps,
        _metrics={"train": defaultdict(list)}, _get_per_token_logps_and_entropies=lambda *a, **k: (rows.logp, rows.entropy, None),
    )  # fmt: skip
    trainer.get_high_entropy_mask = lambda *a: GRPOTrainer.get_high_entropy_mask(trainer, *a)
    return trainer


def _gather(own: Tensor) -> Tensor:
    """Of all ranks; lengths may differ."""
    if not distributed.is_initialized():
        return own
    shares: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(shares, own)
    return torch.cat(shares)
