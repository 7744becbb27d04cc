"""A session: one agent program playing one episode, recorded.

An agent program is an async function of a session.  What it samples through `session.act` is stored in the trajectory tree token
for token; what the world pays in `session.step` lands on the action that earned it; what fails is classed.  A program that needs
more (several contexts, a search, two policies) uses the same four calls: `reset`, `open`, `act`, `step`; a search also `snapshot`,
`restore` and `explore`, which steps on one branch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from sojourn.core import (
    Action,
    BudgetSpent,
    Context,
    Episode,
    JointTransition,
    LegalActions,
    Message,
    Observation,
    Oracle,
    Restorable,
    Reward,
    StateKey,
    StopReason,
    Task,
    ToolSpec,
    Transition,
    assistant,
    handover,
    named,
)
from sojourn.policy.limits import Limits, Used
from sojourn.policy.policy import Policy
from sojourn.policy.running import Runner, UserCode
from sojourn.policy.turns import put_in

T = TypeVar("T")


def stable_hash(*parts: object) -> int:
    """A 63-bit hash that is the same in every process."""
    pieces = b"\x1f".join(part if isinstance(part, bytes) else str(part).encode() for part in parts)
    return int.from_bytes(blake2b(pieces, digest_size=8).digest(), "little") >> 1


def resumable(program: Program) -> Program:
    """Decorator of a program that can be started in the middle of an episode: all it knows is in its context and in the world, none in
    variables of its own.  Credit that plays on from every state (VinePPO) asks for it."""
    program.resumable = True  # type: ignore[attr-defined]
    return program


class Explored(NamedTuple):
    """What came of a step on one branch of a search.  stop: why the branch ended, None if it goes on."""

    observation: Observation
    stop: StopReason | None
    info: Mapping[str, Any]


class Session:
    """What an agent program holds: the world, the policies, and the episode being recorded.

    runner: runs the world's code; one for the episode.  seats: which policy speaks for an agent; "actor" for one that is not named.
    kept: what outlives an episode (a skill store, a memory), by name; it is in the run's checkpoint (`Experiment.kept`).
    """

    def __init__(
        self,
        episode: Episode,
        environment: Any,
        policies: Mapping[str, Policy],
        *,
        seed: int,
        limits: Limits,
        runner: Runner | None = None,
        seats: Mapping[str, str] = MappingProxyType({}),
        kept: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.episode = episode
        self.environment = environment
        self.policies = policies
        self.seats = seats
        self.kept = kept
        self.seed = seed
        self.limits = limits
        self.runner = runner or Runner(UserCode(), f"episode {episode.id}")
        self._begun = False
        self._steps = self._acts = self._sampled = 0
        self._drawn: Counter[int] = Counter()

    @property
    def task(self) -> Task:
        return self.episode.task

    @property
    def done(self) -> bool:
        return self.episode.stop is not None

    @property
    def used(self) -> Used:
        """What the episode has used so far, on all branches together."""
        return Used(self._acts, self._sampled, self._steps)

    async def reset(self, *, seed: int | None = None) -> Observation:
        """Start the world.  All episodes of a group get the same world seed."""
        answer = await self._ask(self.environment.reset, self.task, seed=self.task_seed if seed is None else seed)
        self._begun = True
        return handover.observation(answer, self.environment)

    @property
    def task_seed(self) -> int:
        """The world's seed: a function of the task alone, so that a group shares its world."""
        return stable_hash(self.task.id)

    async def close(self) -> None:
        """Let the world give back what it holds; the caller of the program does it."""
        await self._ask(self.environment.close)

    async def legal_actions(self) -> Sequence[str]:
        """The texts that are valid actions now, as the world lists them; none where it lists nothing."""
        world = self.environment
        return handover.legal(await self._ask(world.legal_actions), world) if isinstance(world, LegalActions) else ()

    async def oracle(self) -> Action:
        """A right next action.  Raises `ValueError` if the world knows none."""
        world = self.environment
        if not isinstance(world, Oracle):
            raise ValueError(f"{type(world).__name__} has no oracle to demonstrate with: give it a method `oracle() -> Action`")
        return handover.action(await self._ask(world.oracle), world)

    def open(
        self,
        start: Observation | Sequence[Message],
        *,
        policy: str | None = None,
        agent: str = "agent",
        tools: Sequence[ToolSpec] | None = None,
        source: Context | None = None,
    ) -> Context:
        """Open a context of `agent` on the given messages; with `source`, as a rewrite of that one.  `policy`: who will speak in it, if
        not the one on the agent's seat."""
        messages = start.messages if isinstance(start, Observation) else start
        handover.opening(messages, self, "open got")
        offered = self.environment.tools
        return self.episode.tree.new_context(
            tuple(messages),
            renderer=self._policy(policy, agent).renderer,
            tools=handover.tools(
                tools if tools is not None else offered(agent) if callable(offered) else offered, self.environment
            ),
            agent=agent,
            source=source,
        )

    async def act(
        self,
        context: Context,
        *,
        policy: str | None = None,
        legal: Sequence[str] = (),
        stop: Sequence[str] = (),
        most: int | None = None,
    ) -> tuple[Context, Action]:
        """Let the agent of the context speak; with `legal`, one of these texts and nothing else.  Acting twice from one context makes
        siblings.  `policy`: who speaks, if not the one on the agent's seat.  `stop`: texts that end this action, too; `most`: tokens of
        it; see `continue_with`."""
        prompt, speaker = context.prompted(), self._policy(policy, context.agent)
        most = min((each for each in (most, self._left()) if each is not None), default=None)
        anchor = await self._ask(self.environment.state_key) if isinstance(self.environment, StateKey) else None
        seed = self._draw(prompt, speaker.name)
        child, action = await speaker.act(prompt, seed=seed, anchor=anchor, legal=legal, most=most, stop=stop)
        self.episode.actions.append(child.span)
        self._sampled += len(child.tree[child.span].tokens)
        return child, action

    def _left(self) -> int | None:
        """Count an act; tokens that it may sample, None for no limit.  Raises `BudgetSpent` if nothing is left."""
        limits = self.limits
        if limits.max_acts and self._acts >= limits.max_acts:
            raise BudgetSpent(f"{self._acts} acts of limits.max_acts {limits.max_acts}", StopReason.TURN_LIMIT)
        if limits.max_sampled and self._sampled >= limits.max_sampled:
            raise BudgetSpent(f"{self._sampled} tokens sampled of limits.max_sampled {limits.max_sampled}")
        self._acts += 1
        return limits.max_sampled - self._sampled if limits.max_sampled else None

    def _draw(self, prompt: Context, purpose: str) -> int:
        """The seed of a sample: a function of what is sampled from and how often that was done before, so that the order in which
        concurrent branches arrive does not matter."""
        state = stable_hash(self.seed, purpose, prompt.agent, prompt.tokens.tobytes())
        self._drawn[state] += 1
        return stable_hash(state, self._drawn[state])

    def _policy(self, name: str | None, agent: str) -> Policy:
        chosen = name or self.seats.get(agent, "actor")
        if chosen not in self.policies:
            seats = ", ".join(f"{each}: {role}" for each, role in self.seats.items()) or "none"
            raise ValueError(
                f"no policy '{chosen}' for agent '{agent}': there is {', '.join(self.policies)} (seats: {seats}); name it in roles, or give the "
                "agent a seat"
            )
        return self.policies[chosen]

    def say(self, context: Context, action: Action, *, policy: str | None = None) -> Context:
        """Put `action` into a policy's mouth: a demonstration.  It counts as an action of the episode, without log-probabilities."""
        prompt, speaker = context.prompted(), self._policy(policy, context.agent)
        tokens = speaker.renderer.as_sampled(action.text)
        child = prompt.force(tokens, assistant(action.text, action.calls), policy=speaker.name)
        self.episode.actions.append(child.span)
        return child

    def continue_with(self, context: Context, text: str, *, policy: str | None = None) -> Context:
        """Put `text` into the turn that the policy has begun; `act` then goes on in the same turn.  What is put in is no action and never
        trained; an end of the turn that the policy has sampled is overruled (`policy.turns`)."""
        return put_in(self.episode, context, text, self._policy(policy, context.agent))

    async def snapshot(self) -> object:
        """The world's state now, to go back to.  Raises `ValueError` if the world cannot."""
        if not isinstance(self.environment, Restorable):
            raise ValueError(
                f"{type(self.environment).__name__} cannot go back to an earlier state, which a search does: give it `snapshot` and `restore`"
            )
        kept: object = await self._ask(self.environment.snapshot)
        return kept

    async def restore(self, snapshot: object) -> None:
        """Bring the world back to where it was."""
        await self._ask(self.environment.restore, snapshot)

    async def explore(self, context: Context, action: Action, *, last: bool = False) -> Explored:
        """`step` on one branch of a search: what ends there ends the branch, and the episode goes on elsewhere.  last: the branch ends here
        even if the world could go on; what stands is scored."""
        self.episode.info = {}
        transition = await self._taken(context, action)
        self._steps += 1
        stop = StopReason.TERMINATED if transition.terminated else StopReason.TRUNCATED if transition.truncated else None
        if stop is None and last:
            stop = StopReason.TURN_LIMIT
            await self._scored(context)
        return Explored(self._fitted(transition.observation, context, context.agent), stop, dict(self.episode.info))

    async def _taken(self, context: Context, action: Action) -> Transition:
        """The world takes the action that ended `context`; the reward lands on it."""
        transition = handover.transition(await self._ask(self.environment.step, action), self.environment)
        self._note(transition)
        self.reward(context, transition.reward)
        return transition

    async def step(self, context: Context, action: Action) -> Observation:
        """Give the action that ended `context` to the world; the reward lands on it."""
        transition = await self._taken(context, action)
        await self._stepped(transition, context)
        return self._fitted(transition.observation, context, context.agent)

    async def reset_all(self, *, seed: int | None = None) -> Mapping[str, Observation]:
        """`reset` of a world with several agents: what each sees first."""
        answer = await self._ask(self.environment.reset, self.task, seed=self.task_seed if seed is None else seed)
        self._begun = True
        return handover.observations(answer, self.environment)

    async def step_all(self, moves: Mapping[str, tuple[Context, Action]]) -> Mapping[str, Observation]:
        """Give the world what all who act now have done, by agent; rewards land on an agent's last action.  Returns what each sees."""
        actions = {agent: action for agent, (_, action) in moves.items()}
        transition = handover.joint(await self._ask(self.environment.step, actions), self.environment)
        self._note(transition)
        self._pay_agents(transition)
        await self._stepped(transition, None)
        contexts = {agent: context for agent, (context, _) in moves.items()}
        return {agent: self._fitted(seen, contexts.get(agent), agent) for agent, seen in transition.observations.items()}

    def _fitted(self, seen: Observation, context: Context | None, agent: str) -> Observation:
        """What an agent sees, no longer than who speaks for it can read after `context`."""
        policy = self.policies.get((context and context.tree[context.span].policy) or self.seats.get(agent, "actor"))
        return Observation(policy.fit(context, seen.messages, self.limits.observation_share)) if policy else seen

    async def _stepped(self, transition: Transition | JointTransition, context: Context | None) -> None:
        """Count a step of the world, and end the episode if that was its last."""
        self._steps += 1
        if transition.terminated:
            self.stop(StopReason.TERMINATED)
        elif transition.truncated:
            self.stop(StopReason.TRUNCATED)
        elif self._steps >= self.limits.max_turns:
            await self.cut(StopReason.TURN_LIMIT, context)

    def pay(self, agent: str, reward: float | Reward) -> None:
        """Pay `agent` for the episode as a whole, at any time, also for what others did later.  Raises `ValueError` for what is no finite
        number."""
        self._pay(self.episode.paid.setdefault(agent, {}), reward)

    def reward(self, context: Context, reward: float | Reward) -> None:
        """Pay `reward` to the action that ended `context`.  Raises `ValueError` for what is no finite number."""
        self._pay(context.tree[context.span].reward, reward)

    def stop(self, reason: StopReason) -> None:
        """End the episode."""
        self.episode.stop = reason

    async def cut(self, reason: StopReason, context: Context | None = None) -> None:
        """End the episode where it is, at a limit that is not the world's.  The world scores what stands; that is paid to the action that
        ended `context`, else to the last one."""
        self.stop(reason)
        if self._begun:
            await self._scored(context)

    async def _scored(self, context: Context | None) -> None:
        """What stands is scored, and paid as `cut` says."""
        stands = await self._ask(self.environment.truncate)
        door = handover.joint if isinstance(stands, JointTransition) else handover.transition
        transition = door(stands, self.environment, "truncate")
        self._note(transition)
        if isinstance(transition, JointTransition):
            self._pay_agents(transition)
            return
        spans = self.episode.actions[-1:] if context is None else [context.span]
        self._pay(self.episode.tree[spans[0]].reward if spans else self.episode.reward, transition.reward)

    def _pay_agents(self, transition: JointTransition) -> None:
        """Each agent's reward goes to the last thing that it did; to the agent itself if it has done nothing."""
        tree = self.episode.tree
        for agent, reward in transition.rewards.items():
            own = [span for span in self.episode.actions if tree[span].agent == agent]
            self._pay(tree[own[-1]].reward if own else self.episode.paid.setdefault(agent, {}), reward)

    def _note(self, transition: Transition | JointTransition) -> None:
        self.episode.failures.extend(transition.failures)
        self.episode.info.update(transition.info)

    def _pay(self, terms: dict[str, float], reward: float | Reward) -> None:
        try:
            paid = named(reward)
        except ValueError as error:
            raise ValueError(f"episode {self.episode.id}: {error}") from None
        for name, value in paid.items():
            terms[name] = terms.get(name, 0.0) + value

    async def _ask(self, method: Callable[..., Awaitable[T] | T], *arguments: Any, **named: Any) -> T:
        answer: T = await self.runner.call(method, *arguments, seconds=self.limits.step_seconds, **named)
        return answer


Program = Callable[[Session], Awaitable[None]]
"""An agent program.  It returns when the episode is over."""
