"""TRL's GRPO loss under the checks: the example of an adapter for another's code.

`GRPOTrainer._compute_loss` is called as it is, on a stand-in for the trainer that holds the configuration and hands over our
log-probabilities in place of a model's.  Micro-batches are put together as the trainer does: one call for each, with its number of
accumulation steps and its global count of tokens, losses added.  TRL computes advantages inside its generation step, mixed with
sampling, so what concerns advantages is not asked here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from trl import GRPOTrainer  # type: ignore[import-not-found, import-untyped, unused-ignore]

from sojourn.conformance.adapter import NotOffered, Rows
from sojourn.core import EpisodeGroup

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

DEFAULTS: dict[str, Any] = {
    "beta": 0.0, "epsilon_low": 0.2, "epsilon_high": 0.2, "importance_sampling_level": "token", "top_entropy_quantile": 1.0,
    "max_completion_length": 3000, "off_policy_mask_threshold": None, "use_vllm": False, "vllm_importance_sampling_correction": False,
    "aux_loss_enabled": False, "use_adaptive_entropy": False, "entropy_coef": 0.0, "_entropy_bonus_enabled": False,
}  # fmt: skip


class Trl:
    """TRL's loss functions."""

    def __init__(self) -> None:
        self.name = f"trl {version('trl')}"

    def advantages(
        self, algorithm: str, groups: Sequence[EpisodeGroup], *, value: float = 0.0, after: float = 0.0
    ) -> NDArray[np.float64]:
        raise NotOffered("TRL's advantages are computed inside its generation step")

    def sampled_logprobs(self, logits: Tensor, *, temperature: float, top_p: float, legal: Sequence[int] | None) -> Tensor:
        raise NotOffered("sampling belongs to the engine that TRL drives")

    def loss(self, algorithm: str, rows: Rows, micro_batches: Sequence[Sequence[int]]) -> Tensor:
        if algorithm not in SETTINGS:
            raise NotOffered(f"{algorithm} is not mapped to a TRL loss type")
        return torch.stack(
            [self._micro(SETTINGS[algorithm], rows, list(micro), len(micro_batches)) for micro in micro_batches]
        ).sum()

    def _micro(self, settings: dict[str, Any], rows: Rows, micro: list[int], steps: int) -> Tensor:
        part = {name: value[torch.tensor(micro)] for name, value in vars(rows).items()}
        trainer = _trainer(settings, steps, part["logp"], part["entropy"])
        count, width = part["mask"].shape
        inputs = {
            "prompt_ids": torch.zeros(count, 1, dtype=torch.long),
            "prompt_mask": torch.ones(count, 1, dtype=torch.long),
            "completion_ids": torch.zeros(count, width, dtype=torch.long),
            "completion_mask": torch.ones(count, width, dtype=torch.long),
            "tool_mask": part["mask"].long(),
            "advantages": part["advantage"],
            "old_per_token_logps": part["old_logp"],
            "ref_per_token_logps": part["ref_logp"],
            "num_items_in_batch": rows.mask.sum(),
        }
        loss: Tensor = GRPOTrainer._compute_loss(trainer, None, inputs)
        return loss


def _trainer(settings: dict[str, Any], steps: int, logp: Tensor, entropy: Tensor) -> Any:
    """A stand-in that has what `_compute_loss` reads."""
    chosen = DEFAULTS | settings
    args = SimpleNamespace(
        delta=chosen.get("delta"), use_bias_correction_kl=False, sapo_temperature_pos=1.0, sapo_temperature_neg=1.05,
        steps_per_generation=steps,
    )  # fmt: skip
    accelerator = SimpleNamespace(
        num_processes=1, sync_gradients=True, gather=lambda x: x, gather_for_metrics=lambda x: x,
        reduce=lambda x, reduction: x, pad_across_processes=lambda x, **how: x,
    )  # fmt: skip
    trainer = SimpleNamespace(
        **chosen, args=args, accelerator=accelerator, model=SimpleNamespace(training=True), current_gradient_accumulation_steps=steps,
        _metrics={"train": defaultdict(list)}, _get_per_token_logps_and_entropies=lambda *a, **k: (logp, entropy.detach(), None),
    )  # fmt: skip
    trainer.get_high_entropy_mask = lambda *a: GRPOTrainer.get_high_entropy_mask(trainer, *a)
    return trainer
