"""`sojourn data preview FILE`: the first rows of a data set exactly as the model will see them, and which tokens are trained.

line 1, answer 1 of 2, reward 1: 30 tokens, 6 trained
  read   <|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\n
  TRAIN  Hello<|im_end|>
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from typing import Literal

from rich.console import Console
from rich.text import Text
from tyro.conf import Positional

from sojourn.core import Episode, TrajectoryTree, total
from sojourn.data import KINDS, Data, Kind, as_messages, protocol_of, read, to_group, to_groups
from sojourn.rendering import ChatRenderer


def data(
    action: Positional[Literal["preview"]],
    file: Positional[str],
    model: str = "smollm2-135m",
    algorithm: str = "",
    rows: int = 3,
    max_context: int = 1024,
) -> None:
    """Show the first rows of a data set as the model will see them, and say which rows cannot be used.

    Args:
        action: What to do.
        file: The data set: a file, a folder that `datasets` saved, or NAME or NAME:SPLIT of the hub.
        model: Whose tokenizer and chat template.
        algorithm: Who will read it, which decides what it is read as; none: what its columns say.
        rows: How many to show.
        max_context: Tokens that a row may have.
    """
    from sojourn.cli.play import tokenizer_of

    found = read(file, _kinds(algorithm))
    tokenizer, whose = tokenizer_of(model)
    renderer, console = ChatRenderer(tokenizer, protocol_of(found)), Console(highlight=False)
    if found.kind != "prompt":
        _, found = to_groups(found, renderer, most=max_context)
    console.print(
        f"{file}: {found.rows} rows, {found.kind}, {found.rows - len(found.unusable)} can be used. Chat template: {whose}."
    )
    for line in preview(replace(found, records=found.records[:rows]), renderer):
        console.print(line, soft_wrap=True)
    if found.unusable:
        console.print(found.told(most=20), markup=False, soft_wrap=True)


def preview(found: Data, renderer: ChatRenderer) -> Iterator[Text]:
    """Lines that show every token of the records, control tokens written out, newlines as \\n."""
    for record in found.records:
        group = to_group(record, renderer)
        for number, episode in enumerate(group.episodes, 1):
            yield from _episode(episode, f"{record.where}, answer {number} of {len(group.episodes)}", renderer)
        if not group.episodes:
            context = TrajectoryTree().new_context(as_messages(record.prompt), renderer=renderer).prompted()
            others = ", ".join(record.columns) or "no other columns"
            yield Text(f"{record.where}, a prompt: {len(context.tokens)} tokens; for rewards: {others}", style="bold")
            yield _line("read", str(renderer.tokenizer.decode(context.tokens.tolist(), skip_special_tokens=False)), "cyan")


def _episode(episode: Episode, title: str, renderer: ChatRenderer) -> Iterator[Text]:
    tree = episode.tree
    trained = sum(len(tree[span].tokens) for span in episode.actions)
    read_too = sum(len(tree.tokens(leaf)) for leaf in episode.leaves)
    reward = f", reward {total(episode.reward):g}" if episode.reward else ""
    yield Text(f"{title}{reward}: {read_too} tokens, {trained} trained", style="bold")
    for leaf in episode.leaves:
        for said, spans in groupby(tree.path(leaf), lambda span: span in episode.actions):
            tokens = [token for span in spans for token in tree[span].tokens.tolist()]
            text = str(renderer.tokenizer.decode(tokens, skip_special_tokens=False))
            yield _line("TRAIN", text, "green") if said else _line("read", text, "cyan")


def _line(word: str, text: str, style: str) -> Text:
    shown = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return Text.assemble(f"  {word:<7}", (shown, style))


def _kinds(algorithm: str) -> tuple[Kind, ...]:
    if not algorithm:
        return KINDS
    from sojourn.objectives.presets import preset
    from sojourn.training.stored import kinds_for

    chosen = preset(algorithm)
    return kinds_for(chosen.objective, chosen.credit)
