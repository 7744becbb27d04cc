"""Agent programs: ordinary async functions of a session."""

from sojourn.agents.choose import choose
from sojourn.agents.markov import markov
from sojourn.agents.oracle import demonstrate
from sojourn.agents.react import react
from sojourn.agents.table import table

__all__ = ["choose", "demonstrate", "markov", "react", "table"]
