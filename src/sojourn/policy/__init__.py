"""Policy handles, and the session through which an agent program uses them."""

from sojourn.policy.policy import Policy
from sojourn.policy.session import Limits, Program, Session, resumable

__all__ = ["Limits", "Policy", "Program", "Session", "resumable"]
