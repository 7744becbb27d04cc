"""Roles: sets of weights and how they learn; seats: which role speaks for which agent.

The one idea: a role is an experiment of its own on the same episodes.  What a `Role` leaves out is the experiment's, so a run with one role
reads as if there were no such thing; and what a role learns from are its own agents' rows (`training.seats`).

    roles = {"proposer": Role(credit=...), "solver": Role()}        two sets of weights, both learn
    seats = {"proposer": "proposer", "solver": "solver"}            an agent's name to its role
    roles = {"actor": Role(), "past": Role(former=Former(of="actor"))}      a league: the second seat is played by former selves
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any

from sojourn.core import Range, check
from sojourn.credit import Credit, Filter, Shaping
from sojourn.learner.optimizer import OptimizerConfig
from sojourn.objectives import EntropyTarget, KlTarget, Objective, Reference, ValueLoss
from sojourn.rendering.protocols import ActionProtocol
from sojourn.training.config import Experiment, TrainConfig
from sojourn.training.league import Former


@dataclass(frozen=True, kw_only=True)
class Role:
    """A set of weights and how it learns.  None: as the config or the experiment says."""

    model: str | None = None
    """A known name, a directory, a run folder, or RUN:ROLE, where RUN:ROLE@STEP is a former self.  Roles of one model have copies of their
    own, unless they share a `base`."""
    base: str | None = None
    """A role whose model is shared: this one is one more adapter on it, or, if it is frozen, the model without any.  The model is in memory
    once, and all its roles are sampled in one batch."""
    lora_rank: Annotated[int, Range(0)] | None = None
    """Rank of the adapter; 0 trains all weights."""
    learns: bool = True
    """False for a frozen partner: it is played, and never trained."""
    when: Callable[[int], bool] | None = None
    """In which steps it learns, by number from 0; None: in all.  `turn_about` makes roles take turns."""
    former: Former | None = None
    """It is played by former selves of a role, and does not learn."""
    protocol: ActionProtocol | None = None
    """How its actions are written."""
    temperature: Annotated[float, Range(0)] | None = None
    """Of its sampling; 0 is greedy."""
    max_tokens: Annotated[int, Range(1)] | None = None
    """Tokens of one action."""
    credit: Credit | None = None
    objective: Objective | None = None
    filters: tuple[Filter, ...] | None = None
    critic: ValueLoss | None = None
    reference: Reference | None = None
    kl_target: KlTarget | None = None
    entropy_target: EntropyTarget | None = None
    shaping: Mapping[str, Shaping] | None = None
    optimizer: OptimizerConfig | None = None
    """How its weights move."""

    def __post_init__(self) -> None:
        check(self)
        if self.base is not None and self.model is not None:
            raise ValueError(
                f"Role(base='{self.base}', model='{self.model}'): an adapter has the model of its base; drop one of them"
            )

    @property
    def trained(self) -> bool:
        return self.learns and self.former is None

    def adapter(self, name: str, config: TrainConfig) -> str | None:
        """What its adapter is called; None if all weights are its own, or if it does not learn.  `config` is that of the role."""
        return name if self.trained and config.lora_rank else None

    def learns_at(self, step: int) -> bool:
        """Whether it learns in the step of this number."""
        return self.trained and (self.when is None or self.when(step))

    def config(self, config: TrainConfig) -> TrainConfig:
        """The run's numbers for this role."""
        return replace(config, **_said(self, TrainConfig))

    def experiment(self, experiment: Experiment) -> Experiment:
        """The run's parts for this role."""
        return replace(experiment, **_said(self, Experiment))


def turn_about(number: int, count: int, steps: int = 1) -> Callable[[int], bool]:
    """`Role.when` of the role `number` of `count` that learn in turns of `steps` steps each.

    >>> [turn_about(1, 2, steps=2)(step) for step in range(6)]
    [False, False, True, True, False, False]
    """
    return lambda step: step // steps % count == number


def bases(name: str, roles: Mapping[str, Role], config: TrainConfig) -> list[str]:
    """The roles beneath the role `name`, its own base first.  Raises `ValueError` for a base that cannot be shared."""
    found: list[str] = []
    above, role = name, roles[name]
    while role.base is not None:
        if role.base in (name, *found):
            raise ValueError(
                f"role '{name}' is its own base, by way of {' and '.join(map(repr, [*found, role.base]))}: let one have a model"
            )
        base = roles[role.base]
        found.append(role.base)
        if base.former is not None:
            raise ValueError(
                f"role '{above}' (base) names '{role.base}', which former selves play: name '{base.former.of}', whose they were"
            )
        for each, who in ((role, above), (base, role.base)):
            if each.trained and not each.adapter(who, each.config(config)):
                raise ValueError(
                    f"role '{above}' has the base '{role.base}', and '{who}' trains all weights of the model that they share: give '{who}' a "
                    "lora_rank above 0, or let it not learn"
                )
        above, role = role.base, base
    return found


def _said(role: Role, kind: type[Any]) -> dict[str, Any]:
    """What the role says of the fields of a config or an experiment."""
    names = {field.name for field in fields(kind)} & {field.name for field in fields(role)}
    return {name: value for name in names if (value := getattr(role, name)) is not None}


def cast(experiment: Experiment) -> dict[str, Role]:
    """The roles of an experiment, one by default.  Raises `ValueError` for a seat, a base or a league that names no role."""
    roles = dict(experiment.roles) or {"actor": Role()}
    wanted = {f"seat '{agent}'": name for agent, name in experiment.seats.items()}
    for name, role in roles.items():
        wanted |= {f"role '{name}' (base)": role.base} if role.base is not None else {}
        wanted |= {f"role '{name}' (former)": role.former.of} if role.former is not None else {}
    for who, name in wanted.items():
        if name not in roles:
            raise ValueError(
                f"{who} names the role '{name}', which is not among {', '.join(roles)}: add it to roles, or correct the name"
            )
    for name, role in roles.items():
        if role.former is not None and not roles[role.former.of].trained:
            raise ValueError(f"role '{name}': the former selves of '{role.former.of}' are all alike, for it does not learn")
    return roles
