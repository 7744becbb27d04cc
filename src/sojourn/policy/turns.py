"""The middle of a turn: what the harness puts into what a policy is saying.

The one idea: a turn is spans on one path, and each has one author.  So an injected text is a `FORCED` span between two sampled ones: its
tokens are read by the policy and never trained.

    "2*3 = ```calc 2*3```"   sampled, ended by a stop text          [fences: ToRL, arXiv 2503.23383]
    "6"                      put in
    ", so 6.<end>"           sampled: `act` again
    "Wait,"                  put in; "<end>" is overruled            [budget forcing: s1, arXiv 2501.19393]
"""

from __future__ import annotations

from dataclasses import replace

from sojourn.core import Context, Episode, assistant
from sojourn.policy.policy import Policy


def put_in(episode: Episode, context: Context, text: str, speaker: Policy) -> Context:
    """The context with `text` in the turn that the policy has begun, or begins with it."""
    opened = _reopened(episode, context.prompted(), speaker)
    return opened.force(speaker.renderer.as_said(text), assistant(text), policy=speaker.name)


def _reopened(episode: Episode, context: Context, speaker: Policy) -> Context:
    """The context without the end of the turn, if the policy has sampled one: that token is trained no more, for it was overruled.  What was
    cut for the sake of going on is not cut off."""
    tree, actions = context.tree, episode.actions
    said = tree[context.span]
    if context.span not in actions:
        return context
    if said.tokens[-1] not in speaker.renderer.ends:
        said.stop = "stop"
        return context
    kept, place, followed = len(said.tokens) - 1, actions.index(context.span), bool(tree.children(context.span))
    span, messages = said.parent, context.messages[:-1]
    if kept:
        logprobs = None if said.logprobs is None else said.logprobs[:kept]
        span, messages = tree.add(replace(said, tokens=said.tokens[:kept], logprobs=logprobs)), context.messages
    # a program may go on from both ends; else the one that was overruled is no action any more
    actions[place + followed : place + 1] = [span] if kept else []
    return replace(context, span=span, messages=messages)
