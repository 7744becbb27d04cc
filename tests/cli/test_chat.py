"""Talking with a policy in the terminal."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Callable
from pathlib import Path

import doubling_recipe
import pytest
from helpers import small
from rich.console import Console

from sojourn.cli.chat import talk
from sojourn.engine import SamplingParams
from sojourn.policy import Policy
from sojourn.rendering import ChatRenderer, JsonTags

RECIPE = str(Path(doubling_recipe.__file__))


def reading(*lines: str) -> Callable[[], str]:
    left = list(lines)

    def read() -> str:
        if not left:
            raise EOFError
        return left.pop(0)

    return read


def talked(*lines: str, told: str = "") -> tuple[str, doubling_recipe.Doubler]:
    protocol = JsonTags()
    renderer = ChatRenderer(small().tokenizer, protocol)
    engine = doubling_recipe.Doubler(renderer)
    policy = Policy("actor", engine, renderer, protocol, SamplingParams(max_tokens=200))
    console = Console(file=io.StringIO(), width=200)
    asyncio.run(talk(policy, doubling_recipe.Doubling(), console, reading(*lines), told=told))
    return console.file.getvalue(), engine  # type: ignore[attr-defined]


def test_tools_are_run_and_their_results_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    said, engine = talked("double 21", "double 4")
    assert [line.strip() for line in said.splitlines() if line.strip()] == [
        'it  I call. <tool_call>{"name": "double", "arguments": {"number": 21}}</tool_call>', "double 42", "it  42",
        'it  I call. <tool_call>{"name": "double", "arguments": {"number": 4}}</tool_call>', "double 8", "it  8", "left",
    ]  # fmt: skip
    assert engine.seen[2].startswith(engine.seen[1]), "the second question goes on after the first answer"


def test_an_empty_line_begins_anew() -> None:
    said, engine = talked("double 21", "", "double 4", told="Be kind.")
    assert "(a new conversation)" in said
    assert "21" not in engine.seen[2] and all("Be kind." in text for text in engine.seen)


def test_a_run_is_talked_with_as_its_recipe_says(sojourn, few_steps: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert sojourn("train", RECIPE, *few_steps, "--eval-tasks", "0", "--run", "run")[0] == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO("double 3\n"))
    code, out, err = sojourn("chat", "run", "--max-tokens", "5")
    assert code == 0, err
    assert "run, with double." in out and out.rstrip().endswith("left")


def test_a_model_without_a_recipe_has_no_tools(sojourn, tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("hi\n"))
    code, out, _ = sojourn("chat", tiny_model, "--max-tokens", "4", "--temperature", "0")
    assert code == 0 and "with" not in out.splitlines()[0]
