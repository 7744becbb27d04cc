"""The refusal of parts that make no sense together: of a preset, and of an experiment of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, Protocol

from sojourn.credit import (
    GPG,
    OPO,
    Band,
    BiLevelGae,
    Credit,
    Distillation,
    Filter,
    Gae,
    KlInReward,
    LeafRelative,
    MaxRL,
    Normaliser,
    OptimalTokenBaseline,
    PassK,
    PassKBest,
    VTrace,
)
from sojourn.objectives.controllers import EntropyTarget, KlTarget, Reference
from sojourn.objectives.critic import ValueLoss
from sojourn.objectives.inputs import Objective
from sojourn.objectives.kl import Kl
from sojourn.objectives.kto import Kto
from sojourn.objectives.policy_gradient import PolicyGradient
from sojourn.objectives.preference import Dpo, Ipo

NEEDS_CRITIC = (BiLevelGae, Gae, VTrace)
NEEDS_REFERENCE = (Distillation, Dpo, Ipo, Kl, KlInReward, Kto)
NEEDS_GROUP = (GPG, MaxRL, OPO, OptimalTokenBaseline, PassK, PassKBest)


class Parts(Protocol):
    """What an algorithm is made of: a preset, or an experiment of one's own."""

    @property
    def credit(self) -> Credit | None: ...
    @property
    def objective(self) -> Objective: ...
    @property
    def filters(self) -> tuple[Filter, ...]: ...
    @property
    def critic(self) -> ValueLoss | None: ...
    @property
    def reference(self) -> Reference: ...
    @property
    def kl_target(self) -> KlTarget | None: ...
    @property
    def entropy_target(self) -> EntropyTarget | None: ...


def walk(part: Any) -> Iterator[Any]:
    """A part and the parts within it."""
    if isinstance(part, tuple):
        for item in part:
            yield from walk(item)
    elif part is not None and not isinstance(part, str | int | float | bool):
        yield part
        if is_dataclass(part):
            for field in fields(part):
                yield from walk(getattr(part, field.name))


def check(whole: Parts, title: str, *, group_size: int | None = None) -> None:
    """Refuse what cannot work, with the reason and the fix.  `title` begins the message; `group_size`: episodes in a group, where it
    is known."""
    parts = list(walk((whole.credit, whole.objective, *whole.filters)))
    _check_critic(whole, title, parts)
    wants = [type(part).__name__ for part in parts if isinstance(part, NEEDS_REFERENCE)]
    if wants and whole.reference.kind == "none":
        raise ValueError(f"{title}: {wants[0]} needs a reference policy; set reference.kind 'frozen', or drop it")
    if whole.kl_target is not None and not any(isinstance(part, Kl | KlInReward) for part in parts):
        raise ValueError(
            f"{title}: a KL target, but no KL term whose coefficient could follow it; add Kl or KlInReward, or drop it"
        )
    if whole.entropy_target is not None and not any(isinstance(part, PolicyGradient) for part in parts):
        raise ValueError(f"{title}: an entropy target, but no objective with an entropy bonus; use PolicyGradient, or drop it")
    if group_size is not None:
        _check_group(title, parts, group_size)


def _check_critic(whole: Parts, title: str, parts: list[Any]) -> None:
    needs = any(isinstance(part, NEEDS_CRITIC) for part in parts if not (isinstance(part, Gae) and part.monte_carlo))
    if needs and whole.critic is None:
        raise ValueError(f"{title}: its credit reads values but there is no critic; add one, or use a group baseline")
    if not needs and whole.critic is not None:
        raise ValueError(
            f"{title}: a critic is trained but its credit never reads a value (a group is its baseline); drop it, or use Gae"
        )
    weighed = any(isinstance(part, PolicyGradient) and _weighs(part) for part in parts)
    if weighed and any(isinstance(part, VTrace) for part in parts):
        raise ValueError(
            f"{title}: V-trace advantages carry the importance weight, and the objective applies it twice; use granularity "
            "'none' and no weighing correction"
        )


def _weighs(objective: PolicyGradient) -> bool:
    return objective.granularity != "none" or any(correction.weighs for correction in objective.corrections)


def _check_group(title: str, parts: list[Any], size: int) -> None:
    for part in parts:
        if isinstance(part, PassK) and size < part.k:
            raise ValueError(f"{title}: pass@{part.k} with groups of {size}; raise the group size, or lower k")
        if isinstance(part, Band) and not any(part.low <= wins / size <= part.high for wins in range(size + 1)):
            raise ValueError(
                f"{title}: no group of {size} has a share of successes in the band {part.low:g} to {part.high:g}, so nothing would be "
                "trained; widen the band, or raise the group size"
            )
        if size < 2 and getattr(part, "compares", None) == "episodes":
            raise ValueError(f"{title}: a group of one has no pair to compare; raise the group size to 2 or more")
    relative = sum(isinstance(part, Normaliser) and "group" in (part.mean, part.deviation) for part in parts)
    elsewhere = (getattr(part, "bucket", "") in ("batch", "siblings") or isinstance(part, LeafRelative) for part in parts)
    relative -= sum(elsewhere)  # whose normalisers compare within the batch, or within one episode that is a tree
    if size < 2 and (relative > 0 or any(isinstance(part, NEEDS_GROUP) for part in parts)):
        raise ValueError(f"{title}: a group of one has no baseline and trains nothing; raise the group size to 2 or more")
