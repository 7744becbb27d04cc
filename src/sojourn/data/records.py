"""Rows to records: a prompt and its answers, whatever the columns are called.

The formats are TRL's (huggingface.co/docs/trl/dataset_formats), texts or lists of messages:

    supervised    messages | prompt, completion | text
    preference    prompt, chosen, rejected | chosen, rejected (they share their prompt)
    verdict       prompt, completion, label
    logged        prompt, completion, reward | messages, reward
    prompt        prompt, and columns of your own

Which of them a file is read as, the reader says (`kinds`), because a file may have the columns of several: DPO asks for pairs first.
A row that lacks a column, or whose roles come in a wrong order, is unusable and is named; a file with rows of another kind is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sojourn.core import Message, ToolSpec
from sojourn.data.messages import in_order, messages_of, tools_of
from sojourn.data.rows import Row, Unusable, read_rows
from sojourn.data.traces import is_log, joined

Kind = Literal["supervised", "preference", "verdict", "logged", "prompt"]
Said = str | tuple[Message, ...]
"""A text as it stands, without a chat template, or messages."""

SHAPES: dict[Kind, tuple[tuple[str, ...], ...]] = {
    "supervised": (("messages",), ("prompt", "completion"), ("text",)),
    "preference": (("prompt", "chosen", "rejected"), ("chosen", "rejected")),
    "verdict": (("prompt", "completion", "label"),),
    "logged": (("prompt", "completion", "reward"), ("messages", "reward")),
    "prompt": (("prompt",),),
}
"""The columns of each kind; of several sets, the first that a row has."""
KINDS: tuple[Kind, ...] = ("preference", "logged", "verdict", "supervised", "prompt")
"""In the order in which a file is taken for one, where nobody says which it is."""
NAMES = frozenset(name for shapes in SHAPES.values() for shape in shapes for name in shape)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said after a prompt, and what it earned; None if the data do not say."""

    said: Said
    reward: float | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A prompt and its answers.  where: the row or rows it came from.  columns: all others, for reward functions."""

    where: str
    prompt: Said
    answers: tuple[Answer, ...] = ()
    tools: tuple[ToolSpec, ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Data:
    """What was read.  source: its name.  rows: how many it has.  unusable: rows of which no record was made, in their order."""

    source: str
    kind: Kind
    records: tuple[Record, ...]
    rows: int
    unusable: tuple[Unusable, ...] = ()

    def told(self, most: int = 5) -> str:
        """A sentence on what cannot be used: how many rows, and the first ones by name; "" if all can."""
        if not self.unusable:
            return ""
        shown = "".join(f"\n  {each}" for each in self.unusable[:most])
        more = f"\n  and {len(self.unusable) - most} more" if len(self.unusable) > most else ""
        return f"data {self.source}: {len(self.unusable)} of {self.rows} rows cannot be used:{shown}{more}"

    def used(self) -> Data:
        """This; raises `ValueError`, with the reasons, if no row is left."""
        if not self.records:
            raise ValueError(self.told() or f"data {self.source}: it has no rows")
        return self


def read(source: str, kinds: Sequence[Kind] = KINDS) -> Data:
    """Read `source` (see `read_rows`) as the first of `kinds` whose columns it has.

    Raises `ValueError` if there is no such data set, it is empty, it has the columns of none of `kinds`, it mixes kinds, or no row of it can
    be used.
    """
    found = read_rows(source)
    if is_log(found):
        found = joined(found)
    rows = [row for row in found if isinstance(row, Row)]
    kind = _kind(source, rows, kinds) if rows else kinds[0]
    made: list[Record | Unusable] = [_record(row, kind) if isinstance(row, Row) else row for row in found]
    records = [each for each in made if isinstance(each, Record)]
    if kind in ("logged", "verdict"):
        records = _grouped(records)
    unusable = tuple(each for each in made if isinstance(each, Unusable))
    return Data(source, kind, tuple(records), len(found), unusable).used()


def _kind(source: str, rows: Sequence[Row], kinds: Sequence[Kind]) -> Kind:
    """The first of `kinds` that some row has.  A row with columns of another kind only is refused: half the file would be lost."""
    kind = next((each for each in kinds if any(_shape(row, each) for row in rows)), None)
    if kind is None:
        wanted = "; or ".join(" + ".join(shape) for each in kinds for shape in SHAPES[each])
        raise ValueError(f"data {source}: found columns {', '.join(sorted(rows[0].columns))}, expected {wanted}")
    own = {name for shape in SHAPES[kind] for name in shape}
    first = next(row for row in rows if _shape(row, kind))
    for row in rows:
        other = next((each for each in KINDS if not _shape(row, kind) and _shape(row, each)), None)
        if other is not None and not NAMES & row.columns.keys() <= own:
            raise ValueError(
                f"data {source} mixes kinds: {first.where} is {kind} ({', '.join(_shape(first, kind))}), {row.where} is {other} "
                f"({', '.join(_shape(row, other))}); give each kind a file of its own"
            )
    return kind


def _shape(row: Row, kind: Kind) -> tuple[str, ...]:
    """The columns by which a row is of a kind; none if it is not."""
    return next((shape for shape in SHAPES[kind] if row.columns.keys() >= set(shape)), ())


def _record(row: Row, kind: Kind) -> Record | Unusable:
    shape = _shape(row, kind)
    if not shape:
        nearest = max(SHAPES[kind], key=lambda each: len(row.columns.keys() & set(each)))
        lacks = ", ".join(f"'{name}'" for name in nearest if name not in row.columns)
        return Unusable(row.where, f"it has no {lacks}")
    try:
        tools = tools_of(row.columns["tools"]) if row.columns.get("tools") else ()
        prompt, answers = _READERS[kind](row.columns, shape)
        others = {name: value for name, value in row.columns.items() if name not in (*shape, "tools")}
        return Record(row.where, prompt, answers, tools, others)
    except ValueError as error:
        return Unusable(row.where, str(error))


Parts = tuple[Said, tuple[Answer, ...]]


def _supervised(columns: Mapping[str, Any], shape: tuple[str, ...]) -> Parts:
    prompt, answer = _conversation(columns, shape)
    return prompt, (Answer(answer),)


def _verdict(columns: Mapping[str, Any], shape: tuple[str, ...]) -> Parts:
    prompt, answer = _conversation(columns, shape)
    if not isinstance(columns["label"], bool):
        raise ValueError(f"'label' is {columns['label']!r:.60}, expected true or false")
    return prompt, (Answer(answer, float(columns["label"])),)


def _logged(columns: Mapping[str, Any], shape: tuple[str, ...]) -> Parts:
    prompt, answer = _conversation(columns, shape)
    reward = columns["reward"]
    if isinstance(reward, bool) or not isinstance(reward, int | float) or reward != reward or abs(reward) == float("inf"):
        raise ValueError(f"'reward' is {reward!r:.60}, expected a finite number")
    return prompt, (Answer(answer, float(reward)),)


def _preference(columns: Mapping[str, Any], shape: tuple[str, ...]) -> Parts:
    chosen, rejected = _said(columns, "chosen"), _said(columns, "rejected")
    prompt = _said(columns, "prompt") if "prompt" in shape else None
    if prompt is None or isinstance(prompt, str) != isinstance(chosen, str):  # as TRL: a text beside messages is not their prompt
        prompt, chosen, rejected = _shared(chosen, rejected)
    if chosen == rejected:
        raise ValueError("'chosen' and 'rejected' are the same")
    for answer in (chosen, rejected):
        _check(prompt, answer)
    return prompt, (Answer(chosen, 1.0), Answer(rejected, 0.0))


def _prompt(columns: Mapping[str, Any], shape: tuple[str, ...]) -> Parts:
    prompt = _said(columns, "prompt")
    _check(prompt, None)
    return prompt, ()


_READERS = {
    "supervised": _supervised,
    "preference": _preference,
    "verdict": _verdict,
    "logged": _logged,
    "prompt": _prompt,
}


def _conversation(columns: Mapping[str, Any], shape: tuple[str, ...]) -> tuple[Said, Said]:
    """Prompt and answer; of one list of messages, the answer begins with the first that the assistant said."""
    if "text" in shape:
        text = _said(columns, "text")
        if not isinstance(text, str) or not text:
            raise ValueError("'text' is empty, or no text")
        return "", text
    if "messages" in shape:
        messages = messages_of("messages", columns["messages"])
        first = next((place for place, message in enumerate(messages) if message.role == "assistant"), None)
        if first is None:
            raise ValueError("'messages' has no assistant message, so there is nothing to learn")
        prompt, answer = messages[:first], messages[first:]
        _check(prompt, answer)
        return prompt, answer
    said = _said(columns, "prompt"), _said(columns, "completion")
    _check(*said)
    return said


def _said(columns: Mapping[str, Any], name: str) -> Said:
    return columns[name] if isinstance(columns[name], str) else messages_of(name, columns[name])


def _check(prompt: Said, answer: Said | None) -> None:
    """Raise `ValueError` for what no model could be shown, or could have said."""
    if answer is not None and isinstance(prompt, str) != isinstance(answer, str):
        raise ValueError("one of prompt and answer is a text, the other a list of messages; write both in one way")
    if not prompt:
        raise ValueError("the prompt is empty")
    if answer is not None and not answer:
        raise ValueError("the answer is empty")
    if isinstance(prompt, str):
        return
    if prompt[-1].role == "assistant":
        raise ValueError("the prompt ends with an assistant message; move it to the answer")
    if prompt[-1].role == "system":
        raise ValueError("roles in a wrong order: no user message stands between the system message and the answer")
    in_order(prompt)
    if answer is not None and not isinstance(answer, str):
        if answer[0].role != "assistant":
            raise ValueError(f"roles in a wrong order: the answer begins with a {answer[0].role} message, expected assistant")
        in_order((*prompt, *answer))


def _shared(chosen: Said, rejected: Said) -> tuple[Said, Said, Said]:
    """The prompt that both answers begin with, and what is left of each.  [TRL, `extract_prompt`]"""
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise ValueError("one of 'chosen' and 'rejected' is a text, the other a list of messages")
    pairs = list(zip(chosen, rejected, strict=False))
    end = next((place for place, (a, b) in enumerate(pairs) if a != b), len(pairs))
    if isinstance(chosen, str) and end and chosen[end - 1] == " ":
        end -= 1
    if not end:
        raise ValueError("'chosen' and 'rejected' share no prompt; give a column 'prompt'")
    return chosen[:end], chosen[end:], rejected[end:]


def _grouped(records: Sequence[Record]) -> list[Record]:
    """Answers to one prompt as one record: they are each other's baseline."""
    found: dict[str, Record] = {}
    for record in records:
        key = repr((record.prompt, record.tools))
        old = found.get(key)
        if old is not None:
            record = replace(old, where=f"{old.where}, {record.where}", answers=(*old.answers, *record.answers))
        found[key] = record
    return list(found.values())
