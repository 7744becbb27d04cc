"""Writes an episode of each small world into docs/worlds-small.md, between its two markers: what the oracle reads and says.

python docs/worlds_small.py            (--check: only say whether the page is up to date)
"""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

from sojourn.environments.small import SMALL_WORLDS, SmallWorld
from sojourn.rendering.protocols import PlainText, XmlTags

PAGE = Path(__file__).with_name("worlds-small.md")
BLOCK = re.compile(r"<!-- episode: (\w+) -->\n.*?<!-- end -->", re.DOTALL)
FIRST = 10


async def episode(made: type[SmallWorld[Any]]) -> str:
    """The shortest of the oracle's episodes on the first training tasks of the easiest level; `>` is what it says."""
    source = made.tasks()
    played = [await _play(made(), source.task("train", source.levels[0], index)) for index in range(FIRST)]
    return min(played, key=len)


async def _play(world: SmallWorld[Any], task: Any) -> str:
    protocol = XmlTags(tools=world.tools) if world.tools else PlainText()
    lines = [message.text for message in (await world.reset(task, seed=0)).messages]
    while True:
        action = world.oracle()
        transition = await world.step(action)
        lines += [f"> {protocol.format(action)}", *(message.text for message in transition.observation.messages)]
        if transition.terminated:
            await world.close()
            return "\n".join([*lines, f"reward: {dict(transition.reward)}"])  # type: ignore[arg-type]


def render(page: str) -> str:
    """The page with fresh episodes."""

    def fresh(match: re.Match[str]) -> str:
        shown = asyncio.run(episode(SMALL_WORLDS[match[1]][1]))
        return f"<!-- episode: {match[1]} -->\n```text\n{shown}\n```\n<!-- end -->"

    return BLOCK.sub(fresh, page)


if __name__ == "__main__":
    page = render(PAGE.read_text())
    if "--check" in sys.argv:
        sys.exit(0 if page == PAGE.read_text() else "docs/worlds-small.md is out of date: run python docs/worlds_small.py")
    PAGE.write_text(page)
