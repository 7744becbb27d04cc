"""What a run ran on: enough for a reader to run it again and to know what the seconds mean."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("sojourn", "torch", "transformers", "numpy", "peft", "pyarrow", "duckdb", "vllm", "trl")


def describe_machine(command: str | None = None) -> dict[str, object]:
    """The command, the time, the machine and the versions of what matters.  `command` defaults to this process's."""
    return {
        "command": command or shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": physical_cores(),
        "memory_gib": _memory_gib(),
        "python": platform.python_version(),
        "versions": _versions(),
    }


def physical_cores(topology: Path = Path("/sys/devices/system/cpu")) -> int:
    """Those that this process may use.  Two threads of one core count once: the second adds nothing to matrix products, and waits for the
    first."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    siblings = [topology / f"cpu{number}/topology/thread_siblings_list" for number in os.sched_getaffinity(0)]
    return len({path.read_text() if path.exists() else str(path) for path in siblings})


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    if "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
