"""The tree: each token once, paths that are what the engine saw, observations that find themselves again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.core import (
    ROOT,
    Context,
    HistoryRewritten,
    Ints,
    Kind,
    Message,
    Span,
    ToolSpec,
    TrajectoryTree,
    assistant,
    system,
    user,
)

steps = st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(Kind), st.lists(st.integers(0, 1), max_size=3)), max_size=30)
"""For each span: where it hangs (modulo what there is), its kind, its tokens."""


def grown(recipe: list[tuple[int, Kind, list[int]]]) -> tuple[TrajectoryTree, list[tuple[int, ...]]]:
    """The tree, and for each id the tokens of its path, kept beside it by concatenation."""
    tree, paths = TrajectoryTree(), list[tuple[int, ...]]()
    for where, kind, tokens in recipe:
        parent = where % (len(tree) + 1) - 1
        span = Span(parent, np.array(tokens, np.int64), kind)
        found = tree.observe(span) if kind == Kind.OBSERVATION else tree.add(span)
        path = (*(paths[parent] if parent != ROOT else ()), *tokens)
        if found == len(paths):
            paths.append(path)
        assert paths[found] == path
    return tree, paths


@settings(max_examples=60)
@given(recipe=steps)
def test_a_path_is_its_spans_in_order(recipe: list[tuple[int, Kind, list[int]]]) -> None:
    tree, paths = grown(recipe)
    for span, expected in enumerate(paths):
        assert tuple(tree.tokens(span).tolist()) == expected
        ids = tree.path(span)
        assert ids[-1] == span
        assert [tree[i].parent for i in ids] == [ROOT, *ids[:-1]]
        assert tree.actions(span) == [i for i in ids if tree[i].kind == Kind.ACTION]


@settings(max_examples=60)
@given(recipe=steps)
def test_equal_observations_after_one_span_are_one_node_and_actions_never(recipe: list[tuple[int, Kind, list[int]]]) -> None:
    tree, _ = grown(recipe)
    observed = [(s.parent, tuple(s.tokens)) for s in tree.spans if s.kind == Kind.OBSERVATION]
    assert len(observed) == len(set(observed))
    assert sum(s.kind != Kind.OBSERVATION for s in tree.spans) == sum(kind != Kind.OBSERVATION for _, kind, _ in recipe)


@settings(max_examples=60)
@given(recipe=steps)
def test_children_and_leaves_are_the_inverse_of_parents(recipe: list[tuple[int, Kind, list[int]]]) -> None:
    tree, _ = grown(recipe)
    for span in range(ROOT, len(tree)):
        assert list(tree.children(span)) == [i for i, s in enumerate(tree.spans) if s.parent == span]
    assert set(tree.leaves()) == set(range(len(tree))) - {s.parent for s in tree.spans}


def test_observations_of_other_agents_and_other_sources_are_other_nodes() -> None:
    tree = TrajectoryTree()
    kinds = [{}, {"agent": "critic"}, {"source": 0}, {"source": 1}]
    made = [tree.observe(Span(ROOT, np.array([1]), Kind.OBSERVATION, **kind)) for kind in kinds]  # type: ignore[arg-type]
    assert len(set(made)) == 4


class Letters:
    """A renderer that writes a message as its letters; the answer's prompt is 0.  Messages that say "secret" are later hidden."""

    def open(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[int]:
        return [ord(letter) for message in messages for letter in message.text]

    def extend(
        self, history: Sequence[Message], tools: Sequence[ToolSpec], new: Sequence[Message], last_token: int | None
    ) -> list[int]:
        if any("secret" in message.text for message in history):
            raise HistoryRewritten
        return [*([] if last_token is None else [last_token + 1000]), *self.open(new, tools)]

    def answer_prompt(self, history: Sequence[Message], tools: Sequence[ToolSpec]) -> list[int]:
        return [0]

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(map(chr, tokens))


def begun(*messages: Message) -> Context:
    return TrajectoryTree().new_context(messages, renderer=Letters())


def answered(context: Context, text: str) -> Context:
    tokens: Ints = np.array([ord(letter) for letter in text])
    prompted = context.prompted()
    return prompted.acted(Span(prompted.span, tokens, Kind.ACTION, turn=prompted.turn), assistant(text))


def test_a_conversation_is_a_path_and_keeps_what_was_sampled() -> None:
    context = answered(begun(system("s"), user("u")), "ab").observe(user("v"))
    assert context.tokens.tolist() == [ord("s"), ord("u"), 0, ord("a"), ord("b"), ord("b") + 1000, ord("v")]
    assert [message.text for message in context.messages] == ["s", "u", "ab", "v"]


def test_acting_twice_makes_siblings_that_share_everything_before() -> None:
    start = begun(user("u"))
    one, other = answered(start, "a"), answered(start, "a")
    assert one.span != other.span
    assert one.tree[one.span].parent == one.tree[other.span].parent
    assert len(start.tree) == 4  # the question, the prompt for an answer, two answers


def test_turns_count_actions_and_go_on_after_a_rewrite() -> None:
    context = answered(begun(user("u")), "a")
    assert context.turn == 1
    context = answered(context.observe(user("v")), "b")
    summary = context.rewrite([user("so far: b")])
    assert (context.turn, summary.turn) == (2, 2)
    assert answered(summary, "c").turn == 3
    assert summary.tree[summary.span].source == context.span
    assert summary.tree[summary.span].parent == ROOT


def test_a_template_that_rewrites_history_forks_the_context() -> None:
    spoken = answered(begun(user("u")), "secret")
    after = spoken.observe(user("v"))
    root = after.tree[after.span]
    assert (root.parent, root.source) == (ROOT, spoken.span)
    assert after.tokens.tolist() == [ord(letter) for letter in "usecretv"]


def test_forced_words_are_in_the_path_and_are_no_action() -> None:
    forced = begun(user("u")).prompted().force([7, 8], assistant("hm"), policy="actor")
    assert forced.tree[forced.span].kind == Kind.FORCED
    assert forced.turn == 0
    assert forced.observe(user("v")).tokens.tolist() == [ord("u"), 0, 7, 8, 1008, ord("v")]


def test_observing_nothing_is_the_same_place() -> None:
    context = begun(user("u"))
    assert context.observe().span == context.span
