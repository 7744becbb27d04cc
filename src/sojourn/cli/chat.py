"""`sojourn chat RUN|DIR|MODEL`: talk with a policy in the terminal, with the tools of the run's recipe.

The one idea: it is asked as in training (its chat template, its action protocol, its tools), so what one sees is what was trained.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from rich.text import Text
from tyro.conf import Positional

from sojourn.cli.serve import recipe_of, speaker
from sojourn.core import Action, Context, ContextFull, Message, Range, TaskSource, TrajectoryTree, handover, system, user
from sojourn.policy.session import stable_hash
from sojourn.rendering.reading import spoken

if TYPE_CHECKING:
    from sojourn.environments.tools import ToolEnvironment
    from sojourn.policy import Policy

MOST_CALLS = 8
"""Answers with calls in a row; then it is your turn again."""
HINT = "Ctrl-D leaves, an empty line begins anew."


def chat(
    target: Positional[str],
    recipe: str = "",
    system: str = "",
    temperature: Annotated[float, Range(0)] = 0.7,
    max_tokens: Annotated[int, Range(1)] = 512,
    max_context: Annotated[int, Range(2)] = 4096,
    seed: int = 0,
) -> None:
    """Talk with a run's policy, or a model, in the terminal.

    Args:
        target: A run folder, one of its checkpoints, an exported directory, or a model's name.
        recipe: Whose tools and action protocol; a run knows its own.
        system: What the policy is told first.
        temperature: Of sampling; 0 is greedy.
        max_tokens: Tokens of an answer.
        max_context: Tokens of the whole conversation.
        seed: Of sampling.
    """
    console = Console(highlight=False)
    policy, world = prepared(target, recipe, max_tokens=max_tokens, max_context=max_context, temperature=temperature)
    offered = ", ".join(tool.name for tool in world.tools) if world else ""
    console.print(f"{target}{f', with {offered}' if offered else ''}. {HINT}", style="dim", markup=False)
    asyncio.run(talk(policy, world, console, lambda: console.input("[bold]you[/] "), told=system, seed=seed))


def prepared(
    target: str, recipe: str, *, max_tokens: int, max_context: int, temperature: float
) -> tuple[Policy, ToolEnvironment | None]:
    """Who speaks, and the world whose tools it has; None where there are none that run by themselves."""
    from dataclasses import replace

    from sojourn.cli import recipe as recipes
    from sojourn.environments.tools import ToolEnvironment
    from sojourn.rendering import ChatRenderer

    parts = recipe_of(target)
    if recipe:
        chosen = recipes.load(recipe)
        parts = chosen.parts(chosen.config())
    policy, _ = speaker(target, max_tokens=max_tokens, max_context=max_context, temperature=temperature)
    if parts is None:
        return policy, None
    if recipe:
        assert isinstance(policy.renderer, ChatRenderer)
        policy = replace(policy, protocol=parts.protocol, renderer=ChatRenderer(policy.renderer.tokenizer, parts.protocol))
    world = parts.environment()
    if not isinstance(world, ToolEnvironment):
        return policy, None
    asyncio.run(_begun(world, parts.tasks))
    return policy, world if world.tools else None


async def _begun(world: ToolEnvironment, source: TaskSource) -> None:
    """Some worlds know their tools only after a reset."""
    await world.reset(handover.task(source.task("train", source.levels[0], 0), source), seed=0)


async def talk(
    policy: Policy,
    world: ToolEnvironment | None,
    console: Console,
    read: Callable[[], str],
    *,
    told: str = "",
    seed: int = 0,
) -> None:
    """Turn by turn until `read` raises EOFError; an empty line begins anew."""
    first: Sequence[Message] = (system(told),) if told else ()
    context: Context | None = None
    asked = 0
    try:
        while True:
            said = read()
            if not said.strip():
                context = None
                console.print("(a new conversation)", style="dim")
                continue
            context = _heard(context, user(said), policy, world, first)
            for _ in range(MOST_CALLS):
                asked += 1
                context, action = await policy.act(context.prompted(), seed=stable_hash(seed, asked))
                _show(console, policy, action)
                if action.fault is not None or not (action.calls and world):
                    break
                results = await world.run(action.calls)
                for result in results:
                    console.print(Text.assemble((f"{result.name} ", "cyan"), result.text))
                context = context.observe(*(result.message() for result in results))
    except EOFError:
        console.print("\nleft", style="dim")
    except ContextFull as full:
        console.print(f"{full}: raise --max-context, or begin anew", style="yellow", markup=False)
    finally:
        await policy.engine.close()
        if world is not None:
            await world.close()


def _heard(
    context: Context | None, said: Message, policy: Policy, world: ToolEnvironment | None, first: Sequence[Message]
) -> Context:
    if context is not None:
        return context.observe(said)
    tools = world.tools if world else ()
    return TrajectoryTree().new_context((*first, said), renderer=policy.renderer, tools=tools)


def _show(console: Console, policy: Policy, action: Action) -> None:
    """What was thought, faint; what was said."""
    said = spoken(action.text, policy.protocol.thinking)
    thought = action.text[: action.text.rfind(said)].strip() if said else action.text.strip()
    if thought:
        console.print(Text(thought, style="dim"))
    if said:
        console.print(Text.assemble(("it  ", "bold green"), said))
    if action.fault is not None:
        console.print(Text(action.fault.message, style="yellow"))
