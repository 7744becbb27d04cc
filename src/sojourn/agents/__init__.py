"""Agent programs: ordinary async functions of a session."""

from sojourn.agents.react import react

__all__ = ["react"]
