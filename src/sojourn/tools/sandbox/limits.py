"""How much the code of one episode may use."""

from __future__ import annotations

from dataclasses import asdict, dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a workspace.  What meets one gets an error and goes on, or is ended and told so; see docs/sandbox.md."""

    timeout_s: float = 5.0
    """Seconds that one call may take."""
    memory_mb: int = 256
    """Address space of each process, in MiB; beyond it the code gets a MemoryError.  Shells count together, where cgroups allow it."""
    disk_mb: int = 64
    """Files of a session and of all its copies together, in MiB; they are kept in memory.  A file has 16 MiB at most."""
    output_chars: int = 4000
    """Characters of output at most; the middle of a longer one is left out."""
    processes: int = 32
    """Processes that a shell command may have at once.  Python code has none but its own."""
    copies: int = 128
    """Copies of a session that may exist at once: snapshots and forks.  Each is a process."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value > 0:
                raise ValueError(f"Limits.{name} is {value}: expected more than 0")
