"""Agents as their authors wrote them: with the `openai` SDK, and with nothing of Sojourn in them."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import openai

TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "look",
            "description": "Look at a place.",
            "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
        },
    }
]


def two_turns(client: openai.OpenAI, model: str, ask: str) -> str:
    """Ask, reply, ask again; the second answer counts."""
    messages: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ask}]
    for reply in ("Once more, please.", ""):
        said = client.chat.completions.create(model=model, messages=messages, max_tokens=6, temperature=0.2)
        messages.append(said.choices[0].message)
        if reply:
            messages.append({"role": "user", "content": reply})
    return str(messages[-1].content)


if __name__ == "__main__":
    task = json.load(sys.stdin)
    print(two_turns(openai.OpenAI(), os.environ["OPENAI_MODEL"], task["messages"][-1]["content"]))
