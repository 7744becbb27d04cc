"""Policy handles, and the session through which an agent program uses them."""

from sojourn.policy.limits import Limits, Used
from sojourn.policy.policy import Policy
from sojourn.policy.session import Program, Session, resumable

__all__ = ["Limits", "Policy", "Program", "Session", "Used", "resumable"]
