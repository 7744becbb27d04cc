"""The nouns.  Imports nothing but the standard library and numpy."""

from sojourn.core.environment import (
    Action,
    Environment,
    LegalActions,
    Observation,
    Oracle,
    Restorable,
    StateKey,
    Transition,
)
from sojourn.core.episode import Episode, EpisodeGroup
from sojourn.core.message import (
    Image,
    Message,
    Part,
    Role,
    Text,
    ToolCall,
    ToolResult,
    ToolSpec,
    assistant,
    system,
    tool,
    user,
)
from sojourn.core.outcome import (
    WRONG_PATH,
    ContextFull,
    Failure,
    FailureKind,
    InfrastructureError,
    Reward,
    Standing,
    StopReason,
    UserCodeError,
    broke_beneath,
    named,
    total,
)
from sojourn.core.task import Split, Task, TaskSource
from sojourn.core.trajectory import ROOT, Context, Floats, HistoryRewritten, Ints, Kind, Renderer, Span, Stop, TrajectoryTree

__all__ = [
    "ROOT", "WRONG_PATH", "Action", "Context", "ContextFull", "Environment", "Episode", "EpisodeGroup", "Failure", "FailureKind", "Floats",
    "HistoryRewritten", "Image", "InfrastructureError", "Ints", "Kind", "LegalActions", "Message", "Observation", "Oracle",
    "Part", "Renderer", "Restorable", "Reward", "Role", "Span", "Split", "Standing", "StateKey", "Stop", "StopReason",
    "Task", "TaskSource", "Text", "ToolCall", "ToolResult", "ToolSpec", "TrajectoryTree", "Transition", "UserCodeError",
    "assistant", "broke_beneath", "named", "system", "tool", "total", "user",
]  # fmt: skip
