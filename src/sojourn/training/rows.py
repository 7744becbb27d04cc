"""Episodes as rows of the store, each text read with the tokenizer of the role whose it is.

The one idea: the path from a root to its leaves is one context, and one tokenizer's.  Who acts in it says whose; a context in which nobody
acted is that of its agent's seat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from transformers import PreTrainedTokenizerBase

from sojourn.core import ROOT, EpisodeGroup, Floats, TrajectoryTree
from sojourn.store import to_row
from sojourn.store.episodes import Decode, Row

Advantages = Sequence[Mapping[int, Floats]]


def rows_of(
    groups: Sequence[EpisodeGroup],
    tokenizers: Mapping[str, PreTrainedTokenizerBase],
    seats: Mapping[str, str],
    advantages: Advantages = (),
    *,
    phase: str,
    step: int,
) -> list[Row]:
    """A row for each episode.

    tokenizers: by role, the lead's first; it reads what no other does.  seats: an agent's name to its role.  advantages: of each group, by
    action span.
    """
    decode = {role: decoder(tokenizer) for role, tokenizer in tokenizers.items()}
    lead = next(iter(decode.values()))
    rows = []
    for number, group in enumerate(groups):
        by_span = {}
        if len(set(map(id, tokenizers.values()))) > 1:
            by_span = {span: decode.get(role, lead) for span, role in enumerate(readers(group.tree, seats))}
        given = advantages[number] if advantages else None
        rows += [to_row(episode, group.key, lead, given, phase=phase, step=step, by_span=by_span) for episode in group.episodes]
    return rows


def readers(tree: TrajectoryTree, seats: Mapping[str, str]) -> list[str]:
    """The role that reads and says each span."""
    found = [span.policy or "" for span in tree.spans]
    for index in reversed(range(len(found))):  # what comes before an action was written for who acts
        if (parent := tree[index].parent) != ROOT:
            found[parent] = found[parent] or found[index]
    for index, span in enumerate(tree.spans):
        above = found[span.parent] if span.parent != ROOT else ""
        found[index] = found[index] or above or seats.get(span.agent, "")
    return found


def decoder(tokenizer: PreTrainedTokenizerBase) -> Decode:
    return lambda tokens: str(tokenizer.decode(list(tokens)))
