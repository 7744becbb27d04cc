"""Trees of answers for credit that compares branches: nothing is chosen, all that is begun is played to its end.

The one idea: a tree is a search that expands every node; where it branches, the proposer says.  The first branch is what the policy would
have done alone, so it speaks for the episode: how often it succeeds is how often the policy does.

    whole_tree   `width` actions at each of the first `levels` turns, then one     [TreeRPO, arXiv 2506.05183]
    by_entropy   a second action where the policy has become less certain          [ARPO, arXiv 2507.19849]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sojourn.agents.choose import choose
from sojourn.agents.contexts import fresh
from sojourn.agents.markov import markov
from sojourn.agents.react import react
from sojourn.agents.search import (
    Node,
    Proposal,
    Propose,
    Search,
    Transition,
    among,
    first_leaf,
    following,
    never,
    sampled,
    stepped,
)
from sojourn.core import Context, LegalActions
from sojourn.policy import Program, Session


def whole_tree(program: Program = react, *, width: int = 2, levels: int = 2) -> Search:
    """Plays as `program` does, with `width` actions at each of the first `levels` turns: `width ** levels` branches an episode."""
    one, transition = ways(program)

    async def propose(session: Session, node: Node) -> Sequence[Proposal]:
        return await one(width if node.depth < levels else 1)(session, node)

    return _grown(propose, transition)


def by_entropy(
    program: Program = react,
    *,
    branches: int = 4,
    width: int = 2,
    base: float = 0.5,
    weight: float = 0.2,
    threshold: float = 0.5,
    tokens: int = 10,
) -> Search:
    """Plays as `program` does; after the world has answered, `width` actions where `base + weight (H - H_0) > threshold`, as long as there are
    at most `branches` in the episode.

    H: entropy in nats of the next `tokens` tokens, of which the mean NLL of those that were sampled is the estimate; H_0: the same at the
    first turn.  The paper divides by the logarithm of the vocabulary's size, and its code draws.
    """
    one, transition = ways(program)

    async def propose(session: Session, node: Node) -> Sequence[Proposal]:
        (said,) = await one(1)(session, node)
        above = list(node.up())
        leaves = sum(not each.children for each in above[-1].all())
        if node.depth == 0 or leaves + width - 1 > branches:
            return [said]
        first = above[-2].said
        assert first is not None
        if base + weight * (_nll(said[0], tokens) - _nll(first, tokens)) <= threshold:
            return [said]
        return [said, *await one(width - 1)(session, node)]

    return _grown(propose, transition)


def ways(program: Program) -> tuple[Callable[[int], Propose], Transition]:
    """How a program lets the policy speak, so many times, and what is seen of the answer.  Raises `ValueError` for one that is not known."""
    found: dict[Program, tuple[Callable[[int], Propose], Transition]] = {
        react: (sampled, stepped),
        choose: (among, stepped),
        markov: (_as_markov, following(fresh)),
    }
    if program not in found:
        raise ValueError(
            f"{getattr(program, '__name__', program)} is not known to branch: let it search (`agents.search`), or use react, choose or markov"
        )
    return found[program]


def _as_markov(width: int) -> Propose:
    async def propose(session: Session, node: Node) -> Sequence[Proposal]:
        return await (among if isinstance(session.environment, LegalActions) else sampled)(width)(session, node)

    return propose


def _grown(propose: Propose, transition: Transition) -> Search:
    return Search(select=_every, propose=propose, transition=transition, stop=never, result=first_leaf)


def _every(root: Node) -> Sequence[Node]:
    return [node for node in root.all() if node.open]


def _nll(context: Context, tokens: int) -> float:
    logprobs = context.tree[context.span].logprobs
    assert logprobs is not None, "it was sampled"
    return -float(logprobs[:tokens].mean())
