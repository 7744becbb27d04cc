"""A published algorithm as a tuple of parts."""

from __future__ import annotations

from typing import Literal

from sojourn.credit import Credit, Filter
from sojourn.credit.ranges import checked
from sojourn.objectives.controllers import EntropyTarget, KlTarget, Reference
from sojourn.objectives.critic import ValueLoss
from sojourn.objectives.inputs import Objective
from sojourn.objectives.presets.refusals import check, reference_reader


@checked
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
    kl_target: KlTarget | None = None
    """What the KL coefficient follows; None keeps it."""
    entropy_target: EntropyTarget | None = None
    """What the entropy bonus follows; None keeps it."""
    program: Literal["", "tree", "branches", "notes"] = ""
    """The agent program that it is played with: a tree of siblings, branches where the policy is uncertain, or one that reads in pieces and
    keeps notes; "" for the recipe's own."""
    constants: tuple[str, ...] = ()
    """Where the numbers come from, one sentence each."""
    note: str = ""
    """What the tuple leaves to other rooms, or what differs from the paper."""

    def __post_init__(self) -> None:
        check(self, self.title)
        if self.reference.kind != "none" and not reference_reader(self):
            raise ValueError(
                f"{self.title}: reference.kind is '{self.reference.kind}' but nothing reads it; set 'none', or add kl"
            )
