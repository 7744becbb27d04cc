"""Players: roles at work, each with its model, its engine, and what it learns with.

A frozen role has no learner.  Roles on one base share its model and its engine, each with its adapter.  A role of former selves has a
league; its selves are adapters beside that of the role whose they were, or, where that trains all weights, models with an engine each.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sojourn.core import EpisodeGroup
from sojourn.engine import Engine
from sojourn.engine.adapters import active, trained
from sojourn.engine.local import LocalEngine
from sojourn.policy import Policy
from sojourn.policy.session import stable_hash
from sojourn.rendering import ChatRenderer
from sojourn.training import setup
from sojourn.training.checkpoint import LEAD, Stateful, Trained
from sojourn.training.config import Experiment, TrainConfig
from sojourn.training.league import NOW, League
from sojourn.training.learning import Learning
from sojourn.training.roles import Role, bases, cast
from sojourn.training.seats import lived, views
from sojourn.training.weights import Lora, add_adapters, drop_adapter


class Engines(Protocol):
    """Makes the engine that samples from a model; all else of the trainer knows engines by `engine.protocol` alone."""

    def __call__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: TrainConfig, *, max_batch: int
    ) -> Engine: ...


def local(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: TrainConfig, *, max_batch: int) -> Engine:
    """The engine in this process, which samples from the tensors that are trained."""
    return LocalEngine(
        model, tokenizer, max_batch=max_batch, max_context=config.max_context, sample_seconds=config.sample_seconds
    )


class Player:
    """A role with weights of its own, all of a model's or an adapter's.

    model: in place of the one that the config names.  base: the player whose model this one has, too.  sharing: roles that its model
    samples for.  agents: who it speaks for; none: for all.  engine: makes what samples.
    """

    league: League | None = None

    def __init__(
        self,
        name: str,
        role: Role,
        config: TrainConfig,
        experiment: Experiment,
        agents: Sequence[str] = (),
        *,
        model: setup.Model | None = None,
        base: Player | None = None,
        sharing: int = 1,
        engine: Engines = local,
    ) -> None:
        self.name, self.role, self.agents, self.make_engine = name, role, agents, engine
        self.config, self.experiment = role.config(config), role.experiment(experiment)
        self.began_with: str = base.began_with if base else self.config.model
        ready = setup.prepare(self.config, self.experiment, base or model, role.adapter(name, self.config))
        self.model, self.tokenizer = ready.model, ready.tokenizer
        self.adapter = ready.adapter
        if not role.trained:  # whatever adapters other roles put beside it
            self.adapter = "" if base else active(self.model)
        self.renderer = ChatRenderer(self.tokenizer, self.experiment.protocol, self.config.template)
        self.engine: Engine = base.engine if base else self._engine(self.model, sharing)
        self.learning: Learning | None = None
        if role.trained:
            self.learning = Learning(self.config, self.experiment, ready, self.renderer, name)

    def _engine(self, model: PreTrainedModel, sharing: int = 1) -> Engine:
        return self.make_engine(model, self.tokenizer, self.config, max_batch=self.config.concurrency * sharing)

    def policy(self, **sampling: Any) -> Policy:
        """Who samples now; `sampling` overrides sampling parameters."""
        return self._policy(self.engine, self.adapter, sampling, version=None if self.role.trained else 0)

    def _policy(self, engine: Engine, adapter: str | None, sampling: Mapping[str, Any], version: int | None = None) -> Policy:
        """version: of the weights, where it is not the engine's: that counts the steps of what is trained on it."""
        params = replace(self.config.sampling(), adapter=adapter, **sampling)
        return Policy(self.name, engine, self.renderer, self.experiment.protocol, params, version)

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
        """What is trained, by name; of an adapter without its own name."""
        return dict(trained(self.model, self.adapter))

    def saved(self, *, lead: bool) -> dict[str, Stateful]:
        """What a checkpoint holds of it, by file.  The weights and the optimizer of the lead have names of their own."""
        learning, prefix = self.learning, "" if lead else f"{self.name}."
        if learning is None:
            return {}
        found: dict[str, Stateful] = {}
        if not lead:
            found = {"weights": Trained(self.model, self.adapter), "optimizer": learning.learner.optimizer}
        if learning.critic is not None:
            found["critic"] = learning.critic
        if learning.learner.reference is not None and self.experiment.reference.every:
            found["reference"] = learning.learner.reference
        return {f"{prefix}{name}": each for name, each in found.items()}

    def facts(self, *, lead: bool = False) -> dict[str, Any]:
        """What others must know to load its weights from a checkpoint, fit for JSON (`weights.origin`)."""
        file = (LEAD if lead else f"{self.name}.weights.pt") if self.learning else ""
        return {"model": self.began_with, "lora_rank": self.config.lora_rank if self.role.trained else 0, "file": file}


class FormerPlayer(Player):
    """A role that former selves of another play."""

    def __init__(self, name: str, role: Role, of: Player, agents: Sequence[str]) -> None:
        assert role.former is not None
        self.name, self.role, self.agents, self.of = name, role, agents, of
        self.config, self.experiment = role.config(of.config), role.experiment(of.experiment)
        self.tokenizer, self.learning, self.make_engine, self.began_with = of.tokenizer, None, of.make_engine, of.began_with
        self.renderer = ChatRenderer(self.tokenizer, self.experiment.protocol, self.config.template)
        self.league = League(role.former)
        self.met: list[int] = []
        self.engine, self.model, self.adapter = of.engine, of.model, of.adapter
        self._engines: dict[int, Engine] = {}
        self._adapters: set[int] = set()

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
        """Snapshots are taken when they are due; engines and adapters of selves that are kept no longer go."""
        assert self.league is not None
        if self.league.due(step):
            self.league.add(step, self.of.weights())
        if self.of.adapter:
            self._put_on()
            self.engine.update(step)
        self._engines = {version: engine for version, engine in self._engines.items() if version in self.league.weights}
        for version, engine in self._engines.items():
            engine.update(version)

    def _put_on(self) -> None:
        """Each snapshot that is kept is an adapter on the model of the role whose self it was."""
        assert self.league is not None
        for version in self._adapters - self.league.weights.keys():
            drop_adapter(self.model, self._called(version))
        for version in sorted(self.league.weights.keys() - self._adapters):
            add_adapters(self.model, Lora.of(vars(self.of.config)), 0, self._called(version), trained=False)
            Trained(self.model, self._called(version)).load_state_dict(self.league.weights[version])
        self._adapters = set(self.league.weights)

    def _called(self, version: int) -> str:
        return f"{self.name}@{version}"

    def record(self, groups: Sequence[EpisodeGroup]) -> None:
        """Note how the learner fared in the groups of the last `policies`."""
        assert self.league is not None
        for version, group in zip(self.met, groups, strict=True):
            for view in self.of.view([group]) if version != NOW else ():
                self.league.record(version, [episode.total for episode in view.valid])

    def saved(self, *, lead: bool) -> dict[str, Stateful]:
        assert self.league is not None
        return {f"{self.name}.league": self.league}

    def facts(self, *, lead: bool = False) -> dict[str, Any]:
        assert self.league is not None
        return self.of.facts() | {"file": f"{self.name}.league.pt", "versions": sorted(self.league.weights)}

    def _former(self, version: int, **sampling: Any) -> Policy:
        """The policy of a version: an adapter on the shared model, or, of whole weights, a model with an engine of its own."""
        assert self.league is not None
        if version == NOW:
            return self._policy(self.of.engine, self.of.adapter, sampling)
        if self.of.adapter:
            return self._policy(self.engine, self._called(version), sampling, version)
        if version not in self._engines:
            model = copy.deepcopy(self.of.model).requires_grad_(False)
            model.load_state_dict(self.league.weights[version], strict=False)
            self._engines[version] = self._engine(model)
            self._engines[version].update(version)
        return self._policy(self._engines[version], None, sampling)


def cast_of(everyone: Iterable[Player], step: int, count: int) -> list[dict[str, Policy]]:
    """The policies of all players, by name, in each of `count` groups of a step."""
    each_player = [player.policies(step, count) for player in everyone]
    return [{policy.name: policy for policy in group} for group in zip(*each_player, strict=True)]


def players(config: TrainConfig, experiment: Experiment, model: setup.Model | None, engine: Engines = local) -> dict[str, Player]:
    """The roles of an experiment at work, former selves last.  `model`: of the first role, in place of the one that the config names.
    `engine`: makes what samples."""
    roles = cast(experiment)
    beneath = {name: bases(name, roles, config) for name in roles}
    agents = {name: [agent for agent, seat in experiment.seats.items() if seat == name] for name in roles}
    found: dict[str, Player] = {}
    for name in sorted(
        roles, key=lambda name: (roles[name].former is not None, len(beneath[name]))
    ):  # bases before who stands on them
        role = roles[name]
        if role.former is not None:
            found[name] = FormerPlayer(name, role, found[role.former.of], agents[name])
        elif role.base is not None:
            found[name] = Player(name, role, config, experiment, agents[name], base=found[role.base])
        else:
            given = model if role.model is None else None
            # copies of their own: two roles never train the same tensors by accident
            own = copy.deepcopy(given) if found else given
            sharing = 1 + sum(name in others for others in beneath.values())
            found[name] = Player(name, role, config, experiment, agents[name], model=own, sharing=sharing, engine=engine)
    return {name: found[name] for name in sorted(roles, key=lambda name: roles[name].former is not None)}
