"""Agent programs: ordinary async functions of a session."""

from sojourn.agents.oracle import demonstrate
from sojourn.agents.react import react

__all__ = ["demonstrate", "react"]
