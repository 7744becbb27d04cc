"""Confinement for code that agents write, from the kernel's side up: which one works here (`sandbox`), with which system calls
(`seccomp`) and how much of the machine together (`cgroup`); one box of it (`box`), the processes in it (`peer`, `inside`); and on top
what an environment uses: `Workspace`, with files, Python, a shell, snapshots and forks.  See docs/sandbox.md.
"""

from sojourn.tools.sandbox.limits import Limits
from sojourn.tools.sandbox.pool import Pool
from sojourn.tools.sandbox.sandbox import Sandbox, Unconfined
from sojourn.tools.sandbox.workspace import Ran, Snapshot, Workspace

__all__ = ["Limits", "Pool", "Ran", "Sandbox", "Snapshot", "Unconfined", "Workspace"]
