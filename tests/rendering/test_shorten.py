"""A long observation loses its middle, and the policy sees that."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from sojourn.core import Image, Text, tool, user
from sojourn.rendering import ChatRenderer, PlainText
from sojourn.rendering.shorten import LEFT_OUT, fair

MakeTokenizer = Callable[[str], PreTrainedTokenizerBase]
long_texts = st.lists(
    st.text(max_size=20) | st.sampled_from(["the answer ", "\U0001f600", "<|im_end|>", "\u00e9" * 30]), max_size=40
).map("".join)


def size(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    """In tokens, by an encoder of its own: `<` apart, so that no control token is found."""
    return sum(len(tokenizer.encode(piece, add_special_tokens=False)) for piece in re.split(r"(?<=<)", text))


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(long_texts, min_size=1, max_size=3), limit=st.integers(0, 400))
def test_texts_take_the_limit_at_most_and_keep_both_their_ends(
    make_tokenizer: MakeTokenizer, texts: list[str], limit: int
) -> None:
    tokenizer = make_tokenizer("chatml")
    renderer = ChatRenderer(tokenizer, PlainText())
    before = [tool(text, "t") for text in texts]
    after = renderer.shorten(before, limit)
    mark = size(tokenizer, LEFT_OUT.format(9999)) + 4
    assert sum(size(tokenizer, m.text) for m in after) <= max(limit, len(texts) * mark)
    for old, new in zip(before, after, strict=True):
        assert (new.role, new.name) == ("tool", "t")
        if new != old:
            head, tail = re.split(r"\n\.\.\. \[\d+ tokens left out\] \.\.\.\n", new.text)
            assert old.text.startswith(head)
            assert old.text.endswith(tail)
            assert len(head) + len(tail) < len(old.text)
    if sum(size(tokenizer, text) for text in texts) <= limit:
        assert list(after) == before


@settings(max_examples=60)
@given(sizes=st.lists(st.integers(0, 50), max_size=6), limit=st.integers(0, 200))
def test_shares_are_fair(sizes: list[int], limit: int) -> None:
    shares = fair(sizes, limit)
    assert all(share <= size for share, size in zip(shares, sizes, strict=True))
    assert sum(shares) == min(limit, sum(sizes))
    cut = [share for share, size in zip(shares, sizes, strict=True) if share < size]
    assert not cut or (max(cut) - min(cut) <= 1 and max(shares) - min(cut) <= 1)


def test_a_short_message_beside_a_long_one_stays(make_tokenizer: MakeTokenizer) -> None:
    renderer = ChatRenderer(make_tokenizer("chatml"), PlainText())
    short, cut = renderer.shorten([tool("4"), tool("a" * 500 + "b" * 500)], 100)
    assert short == tool("4")
    assert re.fullmatch(r"a{25,}\n\.\.\. \[9\d\d tokens left out\] \.\.\.\nb{25,}", cut.text)


def test_several_parts_become_one_and_pictures_are_left_alone(make_tokenizer: MakeTokenizer) -> None:
    renderer = ChatRenderer(make_tokenizer("chatml"), PlainText())
    (cut,) = renderer.shorten([user([Text("a" * 300), Text("b" * 300)])], 100)
    assert len(cut.parts) == 1
    seen = user([Text("a" * 300), Image(b"")])
    assert renderer.shorten([seen], 100) == (seen,)


@pytest.mark.parametrize("limit", [0, 1, 5])
def test_where_there_is_no_room_a_mark_says_so_and_short_messages_stay(make_tokenizer: MakeTokenizer, limit: int) -> None:
    renderer = ChatRenderer(make_tokenizer("chatml"), PlainText())
    cut, short = renderer.shorten([tool("ab" * 300), tool("more")], limit)
    assert cut.text == "\n... [600 tokens left out] ...\n"
    assert short.text == "more"
