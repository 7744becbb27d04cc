"""Families: worlds that share packages, and the venv where these are installed.

A family is a folder of `sojourn/environments` with a file `requirements.txt`: what its worker needs, numpy included.  Packages that only
Debian has are named in it, with a command that is there when they are:

    # debian: default-jre-headless java

The venv is `$SOJOURN_WORLDS/<family>`, or `~/.cache/sojourn/worlds/<family>`; it is made by `sojourn envs install <family>`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sojourn.environments.elsewhere.proxy import from_elsewhere
from sojourn.environments.world import World

ROOM = Path(__file__).resolve().parents[1]
DEBIAN = "# debian:"


@dataclass(frozen=True, slots=True)
class Family:
    """`name`: its folder in `sojourn/environments`.  modules: what must be found for it to run here; none where Debian brings all."""

    name: str
    modules: Sequence[str]

    @property
    def requirements(self) -> Path:
        return ROOM / self.name / "requirements.txt"

    @property
    def venv(self) -> Path:
        chosen = os.environ.get("SOJOURN_WORLDS")
        return (Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "sojourn" / "worlds") / self.name

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def state(self) -> str:
        """As `sojourn envs` says it: `here`, `own venv`, `outdated` (the requirements have changed since) or `no`."""
        if self._mark.is_file():
            return "own venv" if self._mark.read_text() == self.requirements.read_text() else "outdated"
        return "here" if self.is_here() else "no"

    def is_here(self) -> bool:
        """Whether the packages are in the environment that Sojourn is installed in."""
        if not self.modules:
            return not self.missing()
        return all(find_spec(module) is not None for module in self.modules)

    def interpreter(self) -> str:
        """The Python that can play it.  Raises `ImportError`, with the command that fixes it, if there is none."""
        if self._mark.is_file():
            return str(self.python)
        if self.is_here():
            return sys.executable
        raise ImportError(f"the worlds '{self.name}' are not installed: {self.command}")

    @property
    def command(self) -> str:
        return f"sojourn envs install {self.name}"

    def missing(self) -> list[str]:
        """Debian packages that are not there."""
        lines = (
            line.removeprefix(DEBIAN).split() for line in self.requirements.read_text().splitlines() if line.startswith(DEBIAN)
        )
        return [package for package, command in lines if shutil.which(command) is None]

    def install(self) -> None:
        """Make the venv, anew if there is one.  Raises `ImportError` with what pip said last, and names what Debian must bring."""
        if not self.modules:
            if missing := self.missing():
                raise ImportError(f"Debian must bring it: apt install --no-install-recommends {' '.join(missing)}")
            return
        shutil.rmtree(self.venv, ignore_errors=True)
        self.venv.parent.mkdir(parents=True, exist_ok=True)
        _run([sys.executable, "-m", "venv", str(self.venv)])
        _run([str(self.python), "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "-r", str(self.requirements)])
        self._mark.write_text(self.requirements.read_text())
        if missing := self.missing():
            raise ImportError(
                f"the packages are installed in {self.venv}; Debian must bring the rest: apt install {' '.join(missing)}"
            )

    @property
    def _mark(self) -> Path:
        """Written last, so that a venv that was half made is none."""
        return self.venv / "sojourn-installed.txt"


def here_or_elsewhere(family: Family, maker: str, *arguments: Any) -> World:
    """The world that `maker` ("module:function") makes: in this process where its packages are here, else in the family's venv."""
    if not family.is_here() and family.state != "no":
        return from_elsewhere(maker, *arguments, python=family.interpreter())
    module, _, name = maker.partition(":")
    try:
        world: World = getattr(import_module(module), name)(*arguments)
    except ImportError as error:
        raise ImportError(f"{error}; or, in a venv of its own: {family.command}") from error
    return world


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise ImportError(f"{' '.join(command)} failed with exit code {done.returncode}:\n{done.stdout[-2000:]}")
