"""A published algorithm as a tuple of parts, and the refusal of tuples that make no sense."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from sojourn.credit import (
    GPG,
    BiLevelGae,
    Credit,
    Distillation,
    Filter,
    Gae,
    KlInReward,
    MaxRL,
    Normaliser,
    OptimalTokenBaseline,
    PassK,
    PassKBest,
    VTrace,
    opo,
)
from sojourn.objectives.controllers import Reference
from sojourn.objectives.critic import ValueLoss
from sojourn.objectives.inputs import Objective
from sojourn.objectives.kl import Kl
from sojourn.objectives.kto import Kto
from sojourn.objectives.policy_gradient import PolicyGradient
from sojourn.objectives.preference import Dpo, Ipo

NEEDS_CRITIC = (BiLevelGae, Gae, VTrace)
NEEDS_REFERENCE = (Distillation, Dpo, Ipo, Kl, KlInReward, Kto)
NEEDS_GROUP = (GPG, MaxRL, OptimalTokenBaseline, PassK, PassKBest)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One algorithm.  Raises ValueError, with the reason and the fix, if its parts contradict each other."""

    title: str
    """Its name."""
    paper: str
    """Where it was published."""
    credit: Credit | None
    """Rewards to advantages; None for objectives that read none."""
    objective: Objective
    """Advantages to a loss."""
    filters: tuple[Filter, ...] = ()
    """Which episodes are trained."""
    reference: Reference = Reference()
    """What the reference policy is."""
    critic: ValueLoss | None = None
    """How the critic learns; None for no critic."""
    constants: tuple[str, ...] = ()
    """Where the numbers come from, one sentence each."""
    note: str = ""
    """What the tuple leaves to other rooms, or what differs from the paper."""

    def __post_init__(self) -> None:
        check(self)

    def parts(self) -> Iterator[Any]:
        """Every configured part, outermost first."""
        for part in (self.credit, self.objective, *self.filters, self.reference, self.critic):
            yield from walk(part)


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


def check(preset: Preset, *, group_size: int | None = None) -> None:
    """Refuse what cannot work.  `group_size`: episodes in a group, where it is known."""
    parts, title = list(preset.parts()), preset.title
    _check_critic(preset, parts)
    wants = [type(part).__name__ for part in parts if isinstance(part, NEEDS_REFERENCE)]
    if wants and preset.reference.kind == "none":
        raise ValueError(f"{title}: {wants[0]} needs a reference policy; set reference.kind 'frozen', or drop it")
    if not wants and preset.reference.kind != "none":
        raise ValueError(f"{title}: reference.kind is '{preset.reference.kind}' but nothing reads it; set 'none', or add kl")
    if group_size is not None:
        _check_group(title, parts, group_size)


def _check_critic(preset: Preset, parts: list[Any]) -> None:
    needs = any(isinstance(part, NEEDS_CRITIC) for part in parts if not (isinstance(part, Gae) and part.monte_carlo))
    if needs and preset.critic is None:
        raise ValueError(f"{preset.title}: its credit reads values but there is no critic; add one, or use a group baseline")
    if not needs and preset.critic is not None:
        raise ValueError(
            f"{preset.title}: a critic is trained but its credit never reads a value (a group is its baseline); drop it, or use Gae"
        )
    objective = preset.objective
    if isinstance(preset.credit, VTrace) and isinstance(objective, PolicyGradient) and _weighs(objective):
        raise ValueError(
            f"{preset.title}: V-trace advantages carry the importance weight, and the objective applies it twice; use granularity "
            "'none' and no weighing correction"
        )


def _weighs(objective: PolicyGradient) -> bool:
    return objective.granularity != "none" or any(correction.weighs for correction in objective.corrections)


def _check_group(title: str, parts: list[Any], size: int) -> None:
    for part in parts:
        if isinstance(part, PassK) and size < part.k:
            raise ValueError(f"{title}: pass@{part.k} with groups of {size}; raise the group size, or lower k")
        relative = isinstance(part, Normaliser) and "group" in (part.mean, part.deviation)
        if size < 2 and (relative or part is opo or isinstance(part, NEEDS_GROUP)):
            raise ValueError(f"{title}: a group of one has no baseline and trains nothing; raise the group size to 2 or more")
