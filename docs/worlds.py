"""Writes docs/worlds.md: the README of each folder of worlds, one after the other.

python docs/worlds.py            (--check: only say whether the page is up to date)
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

PAGE = Path(__file__).with_name("worlds.md")
ROOM = Path(__file__).parents[1] / "src/sojourn/environments"
HEAD = """# Worlds

What `sojourn envs` lists, in detail: the README of each folder of `src/sojourn/environments`, written here by `python docs/worlds.py`. The worlds
for tiny models have a page of their own, [small worlds](worlds-small.md); what each pays agents that need no model is on
[checking a world](checking.md).

**Guarded by** `tests/docs/test_worlds_page.py`.
"""


def render() -> str:
    """The page: each README a level deeper, without its title's mark inside code."""
    return HEAD + "".join(f"\n{_deeper(path.read_text(encoding='utf-8')).strip()}\n" for path in sorted(ROOM.rglob("README.md")))


def _deeper(text: str) -> str:
    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else re.sub(r"^#", "##", part, flags=re.MULTILINE) for part in parts)


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(
            0 if render() == PAGE.read_text(encoding="utf-8") else "docs/worlds.md is out of date: run python docs/worlds.py"
        )
    PAGE.write_text(render(), encoding="utf-8")
