"""Context builders: what a policy has before its eyes when the world has answered.

The one idea: a builder is an async function `(session, first, context, seen) -> context`, and a context that does not append is a rewrite of
the one before it (`source`).  So the tree remembers every token that was really read, and credit crosses from the last context to the first.

    append               everything, as it came
    fresh                what was seen last, and nothing else
    window(n)            the first messages, and the last n turns
    overwrite            the first messages, what the policy said last as its note, and what it saw last
                         [MEM1, arXiv 2506.15841; MemAgent, arXiv 2507.02259]
    summarised(tokens)   everything, until it is longer than that: then the policy sums up, and starts again from there
                         [ReSum, arXiv 2509.13313]
    fold(...)            work in a branch, of which the result alone comes back       [Context-Folding, arXiv 2510.11967]

`loop(builder)` is the program of an agent with that builder, `read_in_pieces(size)` that of one that reads a long text first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from sojourn.core import Context, Message, Observation, user
from sojourn.policy import Program, Session

Builder: TypeAlias = Callable[[Session, Sequence[Message], Context, Observation], Awaitable[Context]]
"""From the messages of the first context, the context that ends with an action and what came of that, to the next action's context."""

SUM_UP = (
    "Sum up what you know and what is still to do. You will see the task and your summary, and nothing else of what was said."
)
NOTED = "You noted: {}"
SUMMARY = "Your summary: {}"
RESULT = "Result: {}"


async def append(session: Session, first: Sequence[Message], context: Context, seen: Observation) -> Context:
    """All that was said."""
    return context.observe(*seen.messages)


async def fresh(session: Session, first: Sequence[Message], context: Context, seen: Observation) -> Context:
    """What was seen last, for worlds whose observation is their whole state."""
    return context.rewrite(seen.messages)


def window(turns: int) -> Builder:
    """The first messages, and the last `turns` actions with what came of them.  Raises `ValueError` for no turns."""
    if turns < 1:
        raise ValueError(f"window({turns}): the last action must be seen; give 1 turn or more")

    async def build(session: Session, first: Sequence[Message], context: Context, seen: Observation) -> Context:
        later = context.messages[len(first) :]
        begins = [i for i, m in enumerate(later) if m.role == "assistant" and (i == 0 or later[i - 1].role != "assistant")]
        if len(begins) <= turns:
            return context.observe(*seen.messages)
        return context.rewrite((*first, *later[begins[-turns] :], *seen.messages))

    return build


async def overwrite(session: Session, first: Sequence[Message], context: Context, seen: Observation) -> Context:
    """The first messages, what the policy said last as its note, and what it saw last."""
    return context.rewrite((*first, user(NOTED.format(said_last(context))), *seen.messages))


def summarised(tokens: int, *, ask: str = SUM_UP) -> Builder:
    """All that was said, until the context has more than `tokens` tokens; then the policy sums up, which is an action and trained like any
    other, and goes on from the first messages and its summary.  Raise `tokens` for fewer summaries, and longer contexts."""

    async def build(session: Session, first: Sequence[Message], context: Context, seen: Observation) -> Context:
        longer = context.observe(*seen.messages)
        if len(longer.tokens) <= tokens:
            return longer
        said, summary = await session.act(longer.observe(user(ask)))
        return said.rewrite((*first, user(SUMMARY.format(summary.text))))

    return build


async def fold(context: Context, task: str, work: Callable[[Context], Awaitable[tuple[Context, str]]]) -> Context:
    """Do `task` in a branch that has seen all of `context`; then go on without what was said there, with its result.

    work: plays the branch; gives its last context, and the result.  What follows is credited through the branch to what came before it.
    """
    branch, outcome = await work(context.observe(user(task)))
    return branch.rewrite((*context.messages, user(task), user(RESULT.format(outcome))))


def loop(builder: Builder) -> Program:
    """Observe, act, let the world answer, until the episode ends; the builder says what is seen of it."""

    async def program(session: Session) -> None:
        context = session.open(await session.reset())
        await _play(session, builder, context.messages, context)

    return program


def read_in_pieces(size: int, *, builder: Builder = overwrite) -> Program:
    """Read what is longer than `size` characters in pieces, each with the question and the note on what came before; then answer from the note.

    The question is the last of the first messages; of a single message, its last paragraph.  Every note is an action, and trained.
    [MemAgent, arXiv 2507.02259]
    """

    async def program(session: Session) -> None:
        first = list((await session.reset()).messages)
        fixed = [message for message in first if message.role == "system"]
        text, question = split([message.text for message in first if message.role != "system"])
        if len(text) <= size:
            return await _play(session, builder, first, session.open(first))
        note = ""
        context: Context | None = None
        for piece in pieces(text, size):
            asked = session.open([*fixed, user(question), user(NOTED.format(note)), user(piece)], source=context)
            context, action = await session.act(asked)
            note = action.text
        last = session.open([*fixed, user(NOTED.format(note)), user(question)], source=context)
        return await _play(session, builder, last.messages, last)

    return program


async def _play(session: Session, builder: Builder, first: Sequence[Message], context: Context) -> None:
    while not session.done:
        context, action = await session.act(context)
        seen = await session.step(context, action)
        if not session.done:
            context = await builder(session, first, context, seen)


def said_last(context: Context) -> str:
    """The text of the turn that the context ends with."""
    turn: list[str] = []
    for message in reversed(context.messages):
        if message.role != "assistant":
            break
        turn.insert(0, message.text)
    return "".join(turn)


def split(texts: Sequence[str]) -> tuple[str, str]:
    r"""What is to be read, and the question about it.

    >>> split(["Ann has a cat.", "It is red.", "What is red?"]), split(["Ann has a cat.\n\nIt is red.\n\nWhat is red?"])
    (('Ann has a cat.\n\nIt is red.', 'What is red?'), ('Ann has a cat.\n\nIt is red.', 'What is red?'))
    """
    text, _, question = "\n\n".join(texts).rpartition("\n\n") if len(texts) == 1 else ("\n\n".join(texts[:-1]), "", texts[-1])
    return text, question


def pieces(text: str, size: int) -> list[str]:
    """The text in pieces of `size` characters at most, cut at white space where there is any.

    >>> pieces("one two three", 8)
    ['one two ', 'three']
    """
    found = []
    while len(text) > size:
        at = max(text.rfind(" ", 0, size), text.rfind("\n", 0, size)) + 1 or size
        found.append(text[:at])
        text = text[at:]
    return [*found, text]
