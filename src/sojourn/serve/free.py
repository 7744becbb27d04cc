"""A policy that answers whoever has the key: no episodes, nothing is trained.

The one idea: it is the same gateway on one endless episode, so answers that come back are known again here, too; when its tree has grown
large it begins anew.  Here a client's temperature, top_p and seed are honoured, which in training are the run's.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

from starlette.requests import Request

from sojourn.core import Action, Context, Episode, Task, TrajectoryTree
from sojourn.policy import Limits, Policy, Session
from sojourn.policy.session import stable_hash
from sojourn.serve.gateway import Gateway
from sojourn.serve.recorder import Recorder
from sojourn.serve.wire import Asked

MOST_SPANS = 4096
"""In the tree; then a new one is begun."""
ENDLESS = 1 << 40


class Talk(Recorder):
    """Conversations outside of any episode."""

    def __init__(self, policy: Policy) -> None:
        episode = Episode("talk", Task("talk"), TrajectoryTree())
        super().__init__(
            Session(episode, SimpleNamespace(tools=()), {policy.name: policy}, seed=0, limits=Limits(max_turns=ENDLESS))
        )

    async def act(self, context: Context, policy: str, asked: Asked) -> tuple[Context, Action]:
        own = self.session.policies[policy]
        temperature = own.sampling.temperature if asked.temperature is None else asked.temperature
        top_p = own.sampling.top_p if not asked.top_p else asked.top_p
        sampling = replace(own.sampling, temperature=temperature, top_p=top_p)
        seed = stable_hash("talk", self.calls if asked.seed is None else asked.seed)
        return await replace(own, sampling=sampling).act(context.prompted(), seed=seed, most=asked.most, stop=asked.stop)


class FreeGateway(Gateway):
    """Lets its policy answer every call with the gateway's key."""

    def __init__(self, policy: Policy, *, key: str = "", log: str = "") -> None:
        super().__init__(key=key, log=log)
        self._policy, self._talk = policy, Talk(policy)
        self.models = (policy.name,)

    def recorder(self, request: Request) -> Recorder:
        self.authorise(request)
        if len(self._talk.session.episode.tree) > MOST_SPANS:
            self._talk = Talk(self._policy)
        return self._talk
