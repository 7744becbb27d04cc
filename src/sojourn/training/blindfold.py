"""What a policy that does not look sees: the same tree, the words of the world's messages blotted out.

The one idea: an answer that is as likely behind a blot was not read from what was shown.  Length and places of tokens stay, so that nothing
but the words is missing; what the chat template writes, the system message and what the policy said itself stay as they are.
[PAPO, arXiv 2507.06448, which blots out 0.6 of a picture's patches; of a text it is its tokens]

    sampled   <user> The door is at row 3 , column 5 . <assistant>  north
    behind    <user> _   _    _  at _   3 _ column _ _ <assistant>  north
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from sojourn.core import Kind, Span, TrajectoryTree
from sojourn.policy.session import stable_hash
from sojourn.store.episodes import token_ends

SHARE = 0.6
"""Of a message's tokens that are blotted out."""
BLOT = "_"


def blindfolded(tree: TrajectoryTree, tokenizer: PreTrainedTokenizerBase, seed: int) -> TrajectoryTree:
    """`tree` with the same ids of spans.  What is blotted out follows from `seed` and the span's tokens."""
    blot = tokenizer.encode(BLOT, add_special_tokens=False)[-1]
    blind = TrajectoryTree()
    for span in tree.spans:
        tokens = span.tokens.copy()
        words = said_by_the_world(span, tokenizer)
        draw = np.random.default_rng(stable_hash(seed, "blindfold", tokens.tobytes()))
        tokens[words & (draw.random(len(tokens)) < SHARE)] = blot
        blind.add(replace(span, tokens=tokens))
    return blind


def said_by_the_world(span: Span, tokenizer: PreTrainedTokenizerBase) -> NDArray[np.bool_]:
    """Which tokens of an observation are wholly of its message's text."""

    def decode(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(list(ids)))

    mine = np.zeros(len(span.tokens), bool)
    text = span.message.text.strip() if span.message and span.kind == Kind.OBSERVATION else ""
    if not text or (span.message and span.message.role not in ("user", "tool")):
        return mine
    tokens = span.tokens.tolist()
    whole = decode(tokens)
    if (first := whole.rfind(text)) < 0:  # a template that writes it in its own way: all that is no special token
        return ~np.isin(span.tokens, tokenizer.all_special_ids)
    ends = np.asarray(token_ends(tokens, whole, decode))
    begins = np.concatenate([[0], ends[:-1]])
    return np.asarray((begins >= first) & (ends <= first + len(text)) & (ends > begins))
