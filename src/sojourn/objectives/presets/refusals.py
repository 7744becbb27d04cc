"""The refusal of parts that make no sense together: of a preset, and of an experiment of one's own.

Parts say what they need (`sojourn.credit.needs`); here it is compared with what there is.
"""

from __future__ import annotations

from typing import Protocol

from sojourn.credit import Credit, Filter, reads
from sojourn.credit.needs import coefficients, reader, refusals, traits
from sojourn.objectives.controllers import EntropyTarget, KlTarget, Reference
from sojourn.objectives.critic import ValueLoss
from sojourn.objectives.inputs import Objective


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


def reference_reader(whole: Parts) -> str:
    """The part that reads the reference, by name; "" if none does."""
    learns = whole.credit, whole.objective
    return reader("ref_logp_T", *learns) or reader("ref_logp", *learns)


def check(whole: Parts, title: str, *, group_size: int | None = None) -> None:
    """Refuse what cannot work, with the reason and the fix.  `title` begins the message; `group_size`: episodes in a group, where it
    is known."""
    learns = whole.credit, whole.objective
    _check_values(whole, title)
    if (wanting := reference_reader(whole)) and whole.reference.kind == "none":
        raise ValueError(f"{title}: {wanting} needs a reference policy; set reference.kind 'frozen', or drop it")
    if early := reads(*whole.filters):
        raise ValueError(f"{title}: a filter reads {min(early)}, which is filled after the filters; make it a credit, or drop it")
    moved = coefficients(*learns)
    if whole.kl_target is not None and "kl_coefficient" not in moved:
        raise ValueError(
            f"{title}: a KL target, but no KL term whose coefficient could follow it; add Kl or KlInReward, or drop it"
        )
    if whole.entropy_target is not None and "entropy_coefficient" not in moved:
        raise ValueError(f"{title}: an entropy target, but no objective with an entropy bonus; use PolicyGradient, or drop it")
    if group_size is not None and (reason := next(refusals(group_size, *learns, *whole.filters), "")):
        raise ValueError(f"{title}: {reason}")


def _check_values(whole: Parts, title: str) -> None:
    """Raise for values that nobody gives or nobody reads, and for a weight that is applied twice."""
    needs = "value_T" in reads(whole.credit, whole.objective)
    if needs and whole.critic is None:
        raise ValueError(f"{title}: its credit reads values but there is no critic; add one, or use a group baseline")
    if not needs and whole.critic is not None:
        raise ValueError(
            f"{title}: a critic is trained but its credit never reads a value (a group is its baseline); drop it, or use Gae (a credit that "
            "is a function says so with @declares('value_T'))"
        )
    if "weighs" in traits(whole.credit) & traits(whole.objective):
        raise ValueError(
            f"{title}: V-trace advantages carry the importance weight, and the objective applies it twice; use granularity "
            "'none' and no weighing correction"
        )
