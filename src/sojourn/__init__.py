"""Sojourn trains language-model agents by reinforcement learning, on a laptop and on a cluster.

What most programs need is here under one name, imported on first use, so that `import sojourn` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sojourn import models
    from sojourn.core import Action, Environment, Observation, Task, Transition
    from sojourn.curriculum import Staircase, Uniform
    from sojourn.environments import TaskList, ToolEnvironment, World, from_class, from_function, from_gymnasium
    from sojourn.rendering import CodeFence, JsonTags, PlainText, ReAct, XmlTags
    from sojourn.tools import tool
    from sojourn.training import Experiment, TrainConfig, train

_HOME = {
    "sojourn.core": ("Action", "Environment", "Observation", "Task", "Transition"),
    "sojourn.curriculum": ("Staircase", "Uniform"),
    "sojourn.environments": ("TaskList", "ToolEnvironment", "World", "from_class", "from_function", "from_gymnasium"),
    "sojourn.rendering": ("CodeFence", "JsonTags", "PlainText", "ReAct", "XmlTags"),
    "sojourn.tools": ("tool",),
    "sojourn.training": ("Experiment", "TrainConfig", "train"),
}

__all__ = [
    "Action", "CodeFence", "Environment", "Experiment", "JsonTags", "Observation", "PlainText", "ReAct", "Staircase", "Task",
    "TaskList", "ToolEnvironment", "TrainConfig", "Transition", "Uniform", "World", "XmlTags", "from_class", "from_function",
    "from_gymnasium", "models", "tool", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "models":
        return import_module("sojourn.models")
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'sojourn' has no attribute '{name}'")
