"""Players: roles at work, each with its model, its engine, and what it learns with.

A frozen role has no learner.  A role of former selves has a league, and a model and an engine for every former self that a step needs.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from sojourn.core import EpisodeGroup
from sojourn.engine.local import LocalEngine
from sojourn.policy import Policy
from sojourn.policy.session import stable_hash
from sojourn.rendering import ChatRenderer
from sojourn.training import setup
from sojourn.training.config import Experiment, TrainConfig
from sojourn.training.league import NOW, League
from sojourn.training.learning import Learning
from sojourn.training.roles import Role, cast
from sojourn.training.seats import lived, views


class Player:
    """A role with weights of its own.  `agents`: who it speaks for; none: for all."""

    league: League | None = None

    def __init__(
        self, name: str, role: Role, config: TrainConfig, experiment: Experiment, model: setup.Model | None, agents: Sequence[str]
    ) -> None:
        self.name, self.role, self.agents = name, role, agents
        self.config, self.experiment = role.config(config), role.experiment(experiment)
        self.model, self.tokenizer, reference = setup.prepare(self.config, self.experiment, model)
        self.renderer = ChatRenderer(self.tokenizer, self.experiment.protocol)
        self.engine = self._engine(self.model)
        self.learning: Learning | None = None
        if role.trained:
            self.learning = Learning(self.config, self.experiment, self.model, self.renderer, reference, name)

    def _engine(self, model: PreTrainedModel) -> LocalEngine:
        return LocalEngine(model, self.tokenizer, max_batch=self.config.concurrency, max_context=self.config.max_context)

    def policy(self, **sampling: Any) -> Policy:
        """Who samples now; `sampling` overrides sampling parameters."""
        params = replace(self.config.sampling(), **sampling)
        return Policy(self.name, self.engine, self.renderer, self.experiment.protocol, params)

    def policies(self, step: int, count: int, **sampling: Any) -> list[Policy]:
        """Who samples in each of `count` groups of a step."""
        return [self.policy(**sampling)] * count

    def view(self, groups: Sequence[EpisodeGroup]) -> list[EpisodeGroup]:
        """The groups as this role lived them."""
        return views(groups, self.agents) if self.agents else list(groups)

    def lived(self, groups: Sequence[EpisodeGroup]) -> list[EpisodeGroup]:
        """The same, without groups in which others acted alone."""
        return self.view(lived(groups, self.agents))

    def renew(self, step: int) -> None:
        """The step of this number begins, or has ended: what was computed with other weights, or by an evaluation, is forgotten."""
        self.engine.update(step)

    def weights(self) -> dict[str, Tensor]:
        """What is trained, by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}


class FormerPlayer(Player):
    """A role that former selves of another play."""

    def __init__(self, name: str, role: Role, of: Player, agents: Sequence[str]) -> None:
        assert role.former is not None
        self.name, self.role, self.agents, self.of = name, role, agents, of
        self.config, self.experiment = role.config(of.config), role.experiment(of.experiment)
        self.tokenizer, self.learning = of.tokenizer, None
        self.renderer = ChatRenderer(self.tokenizer, self.experiment.protocol)
        self.league = League(role.former)
        self.met: list[int] = []
        self._engines: dict[int, LocalEngine] = {}

    def policies(self, step: int, count: int, **sampling: Any) -> list[Policy]:
        assert self.league is not None
        draw = np.random.default_rng(stable_hash(self.config.seed, "league", self.name, step))
        self.met = self.league.draw(count, draw)
        return [self._former(version, **sampling) for version in self.met]

    def policy(self, **sampling: Any) -> Policy:
        """The newest former self."""
        assert self.league is not None
        return self._former(max(self.league.weights), **sampling)

    def renew(self, step: int) -> None:
        """Snapshots are taken when they are due; engines of selves that are kept no longer go."""
        assert self.league is not None
        if self.league.due(step):
            self.league.add(step, self.of.weights())
        self._engines = {version: engine for version, engine in self._engines.items() if version in self.league.weights}
        for version, engine in self._engines.items():
            engine.update(version)

    def record(self, groups: Sequence[EpisodeGroup]) -> None:
        """Note how the learner fared in the groups of the last `policies`."""
        assert self.league is not None
        for version, group in zip(self.met, groups, strict=True):
            for view in self.of.view([group]) if version != NOW else ():
                self.league.record(version, [episode.total for episode in view.valid])

    def _former(self, version: int, **sampling: Any) -> Policy:
        assert self.league is not None
        params = replace(self.config.sampling(), **sampling)
        if version == NOW:
            return Policy(self.name, self.of.engine, self.renderer, self.experiment.protocol, params)
        if version not in self._engines:
            model = copy.deepcopy(self.of.model).requires_grad_(False)
            model.load_state_dict(self.league.weights[version], strict=False)
            self._engines[version] = self._engine(model)
            self._engines[version].update(version)
        return Policy(self.name, self._engines[version], self.renderer, self.experiment.protocol, params)


def players(config: TrainConfig, experiment: Experiment, model: setup.Model | None) -> dict[str, Player]:
    """The roles of an experiment at work, former selves last.  `model`: of the first role, in place of the one that the config names."""
    roles = cast(experiment)
    agents = {name: [agent for agent, seat in experiment.seats.items() if seat == name] for name in roles}
    found: dict[str, Player] = {}
    for name, role in sorted(roles.items(), key=lambda item: item[1].former is not None):
        if role.former is not None:
            found[name] = FormerPlayer(name, role, found[role.former.of], agents[name])
        else:
            given = model if role.model is None else None
            # copies of their own: two roles never train the same tensors by accident
            found[name] = Player(name, role, config, experiment, copy.deepcopy(given) if found else given, agents[name])
    return found
