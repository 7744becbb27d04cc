"""Worlds, one folder per domain of tasks, and what makes a world of a function or a class.

world = find("math/tool_arithmetic")
environment, task = world.make(), world.tasks.task("train", "1", 0)

A name is imported when it is first used: a world that runs in a venv of its own (`elsewhere`) then needs the packages of its own module
and no others.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sojourn.environments.answer import answer_text
    from sojourn.environments.check import check_environment
    from sojourn.environments.check_agents import check_multi_agent
    from sojourn.environments.elsewhere import from_elsewhere
    from sojourn.environments.function import FunctionEnvironment, from_function
    from sojourn.environments.gymnasium import from_gymnasium
    from sojourn.environments.listing import ENVIRONMENTS, Listing, find
    from sojourn.environments.math import ToolArithmetic, gsm8k
    from sojourn.environments.plain_class import ClassEnvironment, from_class
    from sojourn.environments.reasoning_gym import from_reasoning_gym
    from sojourn.environments.several import from_openspiel, from_pettingzoo, from_textarena
    from sojourn.environments.tools import ToolEnvironment
    from sojourn.environments.world import TaskList, World

_HOME = {
    "answer": ("answer_text",),
    "check": ("check_environment",),
    "check_agents": ("check_multi_agent",),
    "elsewhere": ("from_elsewhere",),
    "function": ("FunctionEnvironment", "from_function"),
    "gymnasium": ("from_gymnasium",),
    "listing": ("ENVIRONMENTS", "Listing", "find"),
    "math": ("ToolArithmetic", "gsm8k"),
    "plain_class": ("ClassEnvironment", "from_class"),
    "reasoning_gym": ("from_reasoning_gym",),
    "several": ("from_openspiel", "from_pettingzoo", "from_textarena"),
    "tools": ("ToolEnvironment",),
    "world": ("TaskList", "World"),
}

__all__ = [
    "ENVIRONMENTS", "ClassEnvironment", "FunctionEnvironment", "Listing", "TaskList", "ToolArithmetic", "ToolEnvironment", "World",
    "answer_text", "check_environment", "check_multi_agent", "find", "from_class", "from_elsewhere", "from_function", "from_gymnasium",
    "from_openspiel", "from_pettingzoo", "from_reasoning_gym", "from_textarena", "gsm8k",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"sojourn.environments.{module}"), name)
    raise AttributeError(f"module 'sojourn.environments' has no attribute '{name}'")
