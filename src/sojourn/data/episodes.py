"""Records to episode groups: answers that nobody sampled, as the policy ought to have said them.

The one idea: an answer is put into the policy's mouth (`Kind.FORCED`), so what is trained follows from the tree as everywhere, and a
prompt stands once for all its answers.  Messages go through the chat renderer, as they do in a rollout.  Texts are encoded as they stand,
as TRL does: the prompt's ids, then the answer's with the tokenizer's end token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sojourn.core import (
    Action,
    Context,
    Episode,
    EpisodeGroup,
    Kind,
    Message,
    Span,
    StopReason,
    Task,
    TrajectoryTree,
    assistant,
)
from sojourn.core.trajectory import ROOT
from sojourn.data.records import Answer, Data, Record
from sojourn.data.rows import Unusable
from sojourn.rendering import ActionProtocol, ChatRenderer, JsonTags, PlainText


def protocol_of(data: Data) -> ActionProtocol:
    """How the data's calls are written: as JSON in tags where any row has tools or calls, else there are none."""
    calls = (m.calls for r in data.records for a in r.answers for m in a.said if isinstance(m, Message))
    return JsonTags() if any(record.tools for record in data.records) or any(calls) else PlainText()


def to_groups(data: Data, renderer: ChatRenderer, *, most: int, policy: str = "actor") -> tuple[list[EpisodeGroup], Data]:
    """A group for each record that fits, and the data without the others, which are unusable.

    most: tokens of a context.  policy: in whose mouth the answers are put.  Raises `ValueError` if no record is left.
    """
    groups: list[EpisodeGroup] = []
    records, unusable = [], list(data.unusable)
    for record in data.records:
        try:
            group = to_group(record, renderer, policy=policy)
            longest = max(len(group.tree.tokens(leaf)) for episode in group.episodes for leaf in episode.leaves)
            if longest > most:
                raise ValueError(f"it has {longest} tokens, longer than the context of {most} (raise max_context)")
        except ValueError as error:
            unusable.append(Unusable(record.where, str(error)))
        else:
            groups.append(group)
            records.append(record)
    return groups, replace(data, records=tuple(records), unusable=tuple(unusable)).used()


def to_group(record: Record, renderer: ChatRenderer, *, policy: str = "actor") -> EpisodeGroup:
    """One record as a group: an episode for each answer.  Raises `ValueError` for what the chat template cannot write."""
    tree, task = TrajectoryTree(), Task(record.where, {"prompt": _plain(record.prompt), **record.columns})
    episodes = []
    for number, answer in enumerate(record.answers):
        episode = Episode(f"{record.where}/{number}", task, tree, stop=StopReason.TERMINATED)
        if answer.reward is not None:
            episode.reward = {"data": answer.reward}
        say = _say_text if isinstance(answer.said, str) else _say_messages
        say(episode, record, answer, renderer, policy)
        episodes.append(episode)
    return EpisodeGroup(record.where, task, tree, episodes)


def _say_messages(episode: Episode, record: Record, answer: Answer, renderer: ChatRenderer, policy: str) -> None:
    assert not isinstance(record.prompt, str) and not isinstance(answer.said, str)
    context = episode.tree.new_context(record.prompt, renderer=renderer, tools=record.tools)
    waiting: list[Message] = []
    for message in answer.said:
        if message.role != "assistant":
            waiting.append(message)
            continue
        if waiting:
            context, waiting = _seen(episode, context, waiting), []
        context = context.prompted()
        text = renderer.protocol.format(Action(message.text, message.calls)) if message.calls else message.text
        context = context.force(renderer.as_sampled(text), assistant(text, message.calls), policy=policy)
        episode.actions.append(context.span)
    if waiting:
        context = _seen(episode, context, waiting)
    episode.leaves.append(context.span)


def _seen(episode: Episode, context: Context, messages: Sequence[Message]) -> Context:
    """The context after the world's answer; where the template rewrote what was there, the one before it is a leaf of its own."""
    after = context.observe(*messages)
    if after.span != context.span and after.tree[after.span].source is not None:
        episode.leaves.append(context.span)
    return after


def _say_text(episode: Episode, record: Record, answer: Answer, renderer: ChatRenderer, policy: str) -> None:
    assert isinstance(record.prompt, str) and isinstance(answer.said, str)
    tokenizer, end = renderer.tokenizer, str(renderer.tokenizer.eos_token or "")
    whole = tokenizer.encode(record.prompt + answer.said.removesuffix(end) + end)
    given = len(tokenizer.encode(record.prompt)) if record.prompt else 1  # nothing predicts the very first token
    if len(whole) <= given:
        raise ValueError("the answer has no tokens of its own")
    root = episode.tree.observe(Span(ROOT, np.asarray(whole[:given], np.int64), Kind.OBSERVATION))
    said = Span(root, np.asarray(whole[given:], np.int64), Kind.FORCED, policy=policy, message=assistant(answer.said))
    span = episode.tree.add(said)
    episode.actions.append(span)
    episode.leaves.append(span)


def _plain(prompt: str | tuple[Message, ...]) -> object:
    """A prompt as its columns had it, fit for JSON."""
    return prompt if isinstance(prompt, str) else [{"role": message.role, "content": message.text} for message in prompt]
