"""Worlds elsewhere: an environment in a process of its own, in a venv of its own if its packages ask for that, spoken to over a pipe."""

from sojourn.environments.elsewhere.pool import Deadlines, Pool
from sojourn.environments.elsewhere.proxy import Proxy, from_elsewhere

__all__ = ["Deadlines", "Pool", "Proxy", "from_elsewhere"]
