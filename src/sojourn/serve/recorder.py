"""One episode's calls, joined into its trajectory tree.

The one idea: a conversation that comes back longer goes on in the context whose messages are the longest prefix of its own.  Every
place where the policy was asked, and every place where it had answered, is such a prefix.  So a call that appends goes on, and any other
forks where it differs:

    asked   S U                  answered A1      a root, and what was sampled after it
    asked   S U A1 T             answered A2      goes on after the sampled tokens of A1
    asked   S U                  answered A1'     a second answer from one place: siblings (parallel calls, best of n)
    asked   S U A1x T            answered B       A1 was edited: it forks after S U, and A1x is read, never trained
    asked   S' U'                answered C       another agent: a root of its own
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from sojourn.core import Action, BudgetSpent, Context, Kind, Span, StopReason, named
from sojourn.data.messages import Identity
from sojourn.policy import Session
from sojourn.serve.wire import Asked, Refused, Said, answer

Key = tuple[object, ...]


class Answered(NamedTuple):
    """What came of one request."""

    said: list[Said]
    spans: list[Span]
    prompt: int
    """Tokens of what was asked."""


class Recorder:
    """Lets a session's policies answer, and remembers which context stands for which messages.

    failed: the first error that was not the client's, or the budget that was spent; whoever plays the episode asks.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.failed: Exception | None = None
        self.closed = ""
        """Why no more calls are taken; "" while they are."""
        self._known: dict[Key, dict[tuple[Identity, ...], Context]] = {}
        self.ended: dict[str, list[dict[str, Any]]] = {}
        """By the id of a response the messages that it ends (`serve.responses`)."""
        self.calls = 0
        """So far."""
        self._acts = 0
        self._running: set[asyncio.Task[Any]] = set()

    async def answer(self, asked: Asked, *, policy: str, agent: str, reward: float | None = None) -> Answered:
        """Let `policy` answer as `agent`, `asked.count` times.  reward: paid to the answer that the messages end with, before it.

        Raises `Refused` for what the client did wrong, and when the episode is over.
        """
        if self.closed:
            raise Refused(410, "episode_over", f"episode {self.session.episode.id} takes no more calls: {self.closed}")
        self.calls += 1
        task = asyncio.ensure_future(self._answer(asked, policy, agent, reward))
        self._running.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if self.closed:
                raise Refused(410, "episode_over", f"the episode ended meanwhile: {self.closed}") from None
            task.cancel()
            raise
        finally:
            self._running.discard(task)

    async def close(self, why: str) -> None:
        """Take no more calls; those in flight end."""
        self.closed = self.closed or why
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def act(self, context: Context, policy: str, asked: Asked) -> tuple[Context, Action]:
        """One answer.  Temperature, top_p and seed are the run's: what is trained must be what the run samples."""
        return await self.session.act(context, policy=policy, stop=asked.stop, most=asked.most)

    async def _answer(self, asked: Asked, policy: str, agent: str, reward: float | None) -> Answered:
        try:
            context = self._context(asked, policy, agent)
            if reward is not None:
                self._pay(context, reward)
            self._spend(asked.count)
            found = await asyncio.gather(*(self.act(context, policy, asked) for _ in range(asked.count)))
        except Refused:
            raise
        except BudgetSpent as spent:
            self.failed = self.failed or spent
            if spent.stop is StopReason.TURN_LIMIT:
                raise Refused(400, "turn_limit", f"{spent}: the episode has no more of them (raise max_turns)") from spent
            raise Refused(400, "context_length_exceeded", f"{spent} (raise max_context, or shorten the conversation)") from spent
        except ValueError as error:  # what the chat template or the action protocol cannot write
            raise Refused(400, "invalid_messages", str(error)) from error
        except Exception as error:
            self.failed = self.failed or error
            raise Refused(503, "engine_failed", f"{type(error).__name__}: {error}") from error
        said, spans = [], []
        for child, action in found:
            if action.fault:
                self.session.episode.failures.append(action.fault)
            spans.append(child.tree[child.span])
            said.append(answer(action, spans[-1], self.session.policies[policy].protocol, asked))
            self._places(asked, policy, agent)[(*asked.keys, said[-1].key)] = child
        return Answered(said, spans, len(context.prompted().tokens))

    def _spend(self, count: int) -> None:
        """Raise `BudgetSpent` if the episode has had all its actions."""
        most = self.session.limits.max_turns
        if self._acts + count > most:
            raise BudgetSpent(f"{self._acts} actions of max_turns {most}", StopReason.TURN_LIMIT)
        self._acts += count

    def _places(self, asked: Asked, policy: str, agent: str) -> dict[tuple[Identity, ...], Context]:
        """The contexts by the messages that they stand for; other tools are another system message, and so another root."""
        return self._known.setdefault((policy, agent, repr(asked.tools)), {})

    def _context(self, asked: Asked, policy: str, agent: str) -> Context:
        """The context that the messages stand for: known, or grown from the one with the longest prefix."""
        places = self._places(asked, policy, agent)
        length = next((n for n in range(len(asked.keys), 0, -1) if asked.keys[:n] in places), 0)
        if length:
            context, rest = places[asked.keys[:length]], asked.messages[length:]
            context = context.observe(*rest) if rest else context
        else:
            context = self.session.open(asked.messages, policy=policy, agent=agent, tools=asked.tools)
        places[asked.keys] = context
        return context

    def _pay(self, context: Context, reward: float) -> None:
        """Pay the last answer on the path of `context`.  Raises `Refused` if there is none."""
        acted = [span for span in context.tree.path(context.span) if context.tree[span].kind is Kind.ACTION]
        if not acted:
            raise Refused(400, "nothing_to_pay", "a reward pays the answer that the messages end with, and they hold none")
        terms = context.tree[acted[-1]].reward
        terms["reward"] = terms.get("reward", 0.0) + named(reward)["reward"]
