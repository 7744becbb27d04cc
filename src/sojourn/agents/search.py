"""Search: a tree of what could be said and what would come of it, in a world that can go back.

The one idea: one loop, and its five parts are plain functions.  Each round

    select      names the nodes to go on from                       `uct`, `best_first`, `beam`
    propose     lets the policy say several things there            `sampled`, `among`, `listed`
    transition  lets the world answer, one after another            `stepped`, `following(builder)`
    value       guesses what a node that goes on will still earn    `nothing`, `played_out`, or a function of yours
    back_up     tells the nodes above                               `mean`, `best`

until `stop` says so or the budget is spent.  All that was said stays in the episode's tree as siblings and descendants, with what the world
paid for it, so every node can be trained (`credit.TreeRPO`, `LeafRelative`, `TreePO`).

    UCT          score = Q + c sqrt(ln N_parent / N)                           [Kocsis & Szepesvari, ECML 2006]
    best first   the open node with the highest worth                          [tree of thoughts: arXiv 2305.10601; arXiv 2407.01476]
    beam         of the newest level, the `width` open nodes that are worth most
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, log, sqrt
from typing import Any

from sojourn.agents.contexts import Builder, append
from sojourn.core import Action, Context, LegalActions, StopReason, total
from sojourn.policy import Session, Used


@dataclass(eq=False, kw_only=True, slots=True)
class Node:
    """A state that the search has seen.

    context: what was said up to here and what came of it.  said: the same without what came of it; None at the root.
    snapshot: of the world.  earned: the rewards on the path.  stop: why the branch ended here, None if it goes on.  info: what the world
    said on the path.  guess: what it will still earn.  visits, quality: as `back_up` left them.  closed: all below has ended.
    """

    context: Context
    snapshot: object
    parent: Node | None = None
    said: Context | None = None
    depth: int = 0
    earned: float = 0.0
    stop: StopReason | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    guess: float = 0.0
    visits: int = 0
    quality: float = 0.0
    closed: bool = False
    expanded: bool = False
    children: list[Node] = field(default_factory=list)

    @property
    def worth(self) -> float:
        return self.earned + self.guess

    @property
    def open(self) -> bool:
        """Whether it can be expanded."""
        return self.stop is None and not self.expanded

    def all(self) -> Iterator[Node]:
        """Itself and what is below, parents first, in the order of their making among siblings."""
        yield self
        for child in self.children:
            yield from child.all()

    def up(self) -> Iterator[Node]:
        """Itself and what is above, up to the root."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent


Proposal = tuple[Context, Action]
Select = Callable[[Node], Sequence[Node]]
"""Of the tree under a root the nodes to go on from next; none ends the search."""
Propose = Callable[[Session, Node], Awaitable[Sequence[Proposal]]]
"""What could be said at a node.  The world is at the node."""
Transition = Callable[[Session, Node, Proposal, bool], Awaitable[Node]]
"""The node after a proposal; the flag says that its branch must end there."""
Value = Callable[[Session, Node], Awaitable[float]]
"""What a node that goes on will still earn.  The world is at the node, and may be moved from there."""
BackUp = Callable[[Node], None]
"""Tells a new node's worth to itself and the nodes above."""
Stop = Callable[[Node], bool]
"""Whether the node that was just added ends the search."""


def sampled(width: int) -> Propose:
    """`width` samples of the policy, at once."""

    async def propose(session: Session, node: Node) -> Sequence[Proposal]:
        return await asyncio.gather(*(session.act(node.context) for _ in range(width)))

    return propose


async def listed(session: Session, node: Node) -> Sequence[Proposal]:
    """Every action that the world lists, put into the policy's mouth: it costs no sampling, and only objectives that imitate train it."""
    actions = [Action(text, answer=text) for text in await legal(session)]
    return [(session.say(node.context, action), action) for action in actions]


def among(width: int) -> Propose:
    """`width` samples of the policy among the actions that the world lists."""

    async def propose(session: Session, node: Node) -> Sequence[Proposal]:
        texts = await legal(session)
        return await asyncio.gather(*(session.act(node.context, legal=texts) for _ in range(width)))

    return propose


async def legal(session: Session) -> Sequence[str]:
    """What the world lists now.  Raises `ValueError` where it lists nothing."""
    world = session.environment
    if not isinstance(world, LegalActions):
        raise ValueError(f"{type(world).__name__} does not list its actions: give it a method `legal_actions() -> Sequence[str]`")
    return await session.legal_actions()


def following(builder: Builder) -> Transition:
    """Bring the world back to the node, and let it answer; the builder says what is seen of that."""

    async def transition(session: Session, node: Node, proposal: Proposal, last: bool) -> Node:
        context, action = proposal
        await session.restore(node.snapshot)
        seen, stop, info = await session.explore(context, action, last=last)
        *_, root = node.up()
        return Node(
            context=context if stop else await builder(session, root.context.messages, context, seen),
            snapshot=None if stop else await session.snapshot(),
            parent=node,
            said=context,
            depth=node.depth + 1,
            earned=node.earned + total(context.tree[context.span].reward),
            stop=stop,
            info={**node.info, **info},
        )

    return transition


stepped = following(append)


async def nothing(session: Session, node: Node) -> float:
    """No guess: a node is worth what it has earned."""
    return 0.0


def played_out(propose: Propose) -> Value:
    """What one playout from the node earns: the first proposal at every step, to the end.  What it says stays in the tree of spans, below the
    node, and is trained; the search itself does not go on from it."""

    async def value(session: Session, node: Node) -> float:
        at = node
        while at.stop is None:
            (proposal, *_) = await propose(session, at)
            at = await stepped(session, at, proposal, at.depth + 1 >= session.limits.max_turns)
        return at.earned - node.earned

    return value


def mean(node: Node) -> None:
    """Quality is the mean worth of all that was added below."""
    worth = node.worth
    for each in node.up():
        each.visits += 1
        each.quality += (worth - each.quality) / each.visits


def best(node: Node) -> None:
    """Quality is the highest worth that was found below."""
    worth = node.worth
    for each in node.up():
        each.quality = worth if not each.visits else max(each.quality, worth)
        each.visits += 1


def uct(exploration: float = 1.4) -> Select:
    """Go down from the root by the highest score, first among equals, to a node that can be expanded.  Raise `exploration` to try more of
    what looks worse; it is in units of the return."""

    def select(root: Node) -> Sequence[Node]:
        node = root
        while not node.open:
            going = [child for child in node.children if child.stop is None and not child.closed]
            if not going:
                return []
            node = max(going, key=lambda child: score(child, exploration))
        return [node]

    return select


def score(node: Node, exploration: float) -> float:
    """UCT's score of a child: Q + c sqrt(ln N_parent / N)."""
    assert node.parent is not None
    if not node.visits:
        return inf
    return node.quality + (exploration and exploration * sqrt(log(node.parent.visits) / node.visits))


def best_first(root: Node) -> Sequence[Node]:
    """The open node that is worth most; of equals, the one found first."""
    return sorted((node for node in root.all() if node.open), key=lambda node: -node.worth)[:1]


def beam(width: int) -> Select:
    """Of the newest level the `width` open nodes that are worth most; the others are not come back to."""

    def select(root: Node) -> Sequence[Node]:
        nodes = list(root.all())
        newest = max(node.depth for node in nodes)
        level = [node for node in nodes if node.depth == newest and node.open]
        return sorted(level, key=lambda node: -node.worth)[:width]

    return select


def solved(node: Node) -> bool:
    """The world says that the task is solved."""
    return bool(node.info.get("success", False)) and node.stop is not None


def never(node: Node) -> bool:
    return False


def best_leaf(root: Node) -> Node:
    """The leaf that is worth most, the first among equals: of those where a branch has ended, if there are any."""
    leaves = [node for node in root.all() if not node.children]
    return max([leaf for leaf in leaves if leaf.stop is not None] or leaves, key=lambda leaf: leaf.worth)


def first_leaf(root: Node) -> Node:
    """The first branch.  Where nothing is selected it is what the policy would have done alone."""
    while root.children:
        root = root.children[0]
    return root


@dataclass(frozen=True, kw_only=True)
class Search:
    """The parts of a search, and what it may use.  0 is no limit.

    A budget is looked at before a node is expanded, so the last expansion may overrun acts and tokens; steps are kept to exactly.  `Limits` of
    the session cut hard.  What was used is in `episode.info["search"]`, as the session counted it.  A search is an agent program: it searches
    once, from the start of the episode, and the best branch is what the episode came to.  A program that searches before every move calls
    `grow`, and again on the child that it moves to.
    """

    select: Select
    propose: Propose
    value: Value = nothing
    back_up: BackUp = mean
    stop: Stop = solved
    transition: Transition = stepped
    result: Callable[[Node], Node] = best_leaf
    """Of the tree under a root the leaf that speaks for it."""
    depth: int = 0
    """Actions on a branch; 0 for the session's `max_turns`."""
    acts: int = 0
    """Actions that policies may sample."""
    sampled: int = 0
    """Tokens that policies may sample."""
    steps: int = 0
    """Steps of the world, on all branches together."""

    async def __call__(self, session: Session) -> None:
        context = session.open(await session.reset())
        root = Node(context=context, snapshot=await session.snapshot())
        found = await self.grow(session, root)
        nodes = list(root.all())
        used = session.used._asdict() | {"nodes": len(nodes), "depth": max(node.depth for node in nodes)}
        session.episode.info = {**found.info, "search": used}
        if found.stop is not None:
            session.stop(found.stop)
        elif found.said is not None:  # nothing came to an end: the best branch is cut where it is
            await session.restore(found.snapshot)
            await session.cut(StopReason.TURN_LIMIT, found.said)

    async def grow(self, session: Session, root: Node) -> Node:
        """Search under `root`; the leaf that came out best, by `result`."""
        before = session.used
        while nodes := self.select(root):
            for node in nodes:
                if self._spent(session, before) or await self._expand(session, node, before):
                    return self.result(root)
        return self.result(root)

    async def _expand(self, session: Session, node: Node, before: Used) -> bool:
        """Add the nodes after a node; whether the search is over."""
        depth = self.depth or session.limits.max_turns
        await session.restore(node.snapshot)
        node.expanded = True
        for proposal in await self.propose(session, node):
            if self.steps and session.used.steps - before.steps >= self.steps:
                return True
            child = await self.transition(session, node, proposal, node.depth + 1 >= depth)
            node.children.append(child)
            if child.stop is None:
                child.guess = await self.value(session, child)
            self.back_up(child)
            if self.stop(child):
                return True
        for each in node.up():
            each.closed = all(child.stop is not None or child.closed for child in each.children)
        return False

    def _spent(self, session: Session, before: Used) -> bool:
        budget = (self.acts, self.sampled, self.steps)
        return any(most and now - then >= most for most, now, then in zip(budget, session.used, before, strict=True))
