"""A task folder in the Harbor format, read: what it asks, how its image is made, and why it can't run here, if it can't.

    task.toml   instruction.md   environment/Dockerfile   tests/test.sh   solution/solve.sh

The one idea: an image that is only packages and files needs no Docker.  The sandbox has the machine's own `/usr`, so a package counts as there
when Debian says that it is installed; files are copied, commands without network are run.  All else is refused, with the reason.
Source: the package `harbor` 0.26 (Apache-2.0), https://harborframework.com.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

NETWORK = re.compile(r"\b(curl|wget|uvx?|pip3?\s+install|apt(?:-get)?\s+(?:install|update)|git\s+clone|npm\s+(?:install|i)\b)")
IGNORED = ("CMD", "ENTRYPOINT", "EXPOSE", "LABEL", "USER", "ARG", "STOPSIGNAL", "HEALTHCHECK", "SHELL", "MAINTAINER", "VOLUME")
MOST_BYTES = 16 << 20
LINKED = ("app", "workspace", "testbed", "data", "tests", "solution", "logs", "srv", "opt")
"""Folders at the root that a task may have."""


@dataclass(frozen=True, slots=True)
class HarborTask:
    """A folder that can run here.  build: shell commands that make the image from `files` (pairs of a place in the folder and one in the box)."""

    folder: Path
    name: str
    instruction: str
    workdir: str
    build: Sequence[str]
    files: Sequence[tuple[str, str]]
    environment: Mapping[str, str]
    command_s: float
    verify_s: float
    memory_mb: int
    disk_mb: int

    @property
    def digest(self) -> str:
        """Of all its files."""
        held = sha256()
        for path in sorted(each for each in self.folder.rglob("*") if each.is_file()):
            held.update(f"{path.relative_to(self.folder)}\0".encode() + path.read_bytes())
        return held.hexdigest()


class Refused(ValueError):
    """A task that can't run here, and why."""


def read(folder: Path) -> HarborTask:
    """The task in this folder.  Raises `Refused` if it can't run here."""
    try:
        settings = tomllib.loads((folder / "task.toml").read_text(encoding="utf-8"))
        instruction = (folder / "instruction.md").read_text(encoding="utf-8")
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise Refused(f"it has no readable task.toml and instruction.md: {error}") from error
    image = settings.get("environment", {})
    _refuse_what_needs_more(folder, image, settings)
    workdir, build, files, variables = _image(folder / "environment", str(image.get("workdir", "/app")))
    return HarborTask(
        folder,
        str(settings.get("task", {}).get("name", folder.name)),
        instruction.strip(),
        workdir,
        build,
        files,
        {**variables, **{str(k): str(v) for k, v in image.get("env", {}).items()}},
        min(float(settings.get("agent", {}).get("timeout_sec", 60.0)), 60.0),
        float(settings.get("verifier", {}).get("timeout_sec", 600.0)),
        int(image.get("memory_mb", 1024)),
        min(int(image.get("storage_mb", 256)), 1024),
    )


def _refuse_what_needs_more(folder: Path, image: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    verifier = settings.get("verifier", {})
    reasons = {
        "it has several steps": (folder / "steps").is_dir() or bool(settings.get("steps")),
        "it needs docker-compose": (folder / "environment/docker-compose.yaml").exists(),
        "its image is only on a registry (docker_image)": "docker_image" in image and not _dockerfile(folder).exists(),
        "it has no environment/Dockerfile": not _dockerfile(folder).exists(),
        "it has no tests/test.sh": not (folder / "tests/test.sh").exists(),
        "its verifier has an image of its own": (folder / "tests/Dockerfile").exists() or bool(verifier.get("environment")),
        "it needs a GPU": int(image.get("gpus", 0)) > 0,
        "it needs MCP servers": bool(image.get("mcp_servers")),
        f"it is for {image.get('os')}": str(image.get("os", "linux")).lower() != "linux",
        "the agent may reach the network (allowlist)": image.get("network_mode") == "allowlist",
    }
    for reason, holds in reasons.items():
        if holds:
            raise Refused(reason)
    for script in ("tests/test.sh", "solution/solve.sh"):
        path = folder / script
        if path.exists() and (match := NETWORK.search(path.read_text(encoding="utf-8", errors="replace"))):
            raise Refused(f"{script} needs the network: {match[0]}")


def _dockerfile(folder: Path) -> Path:
    return folder / "environment" / "Dockerfile"


def _image(context: Path, workdir: str) -> tuple[str, list[str], list[tuple[str, str]], dict[str, str]]:
    """What the Dockerfile does, as commands for the box, in order; its files, and its variables."""
    build: list[str] = []
    files: list[tuple[str, str]] = []
    variables: dict[str, str] = {}
    stages = 0
    for word, rest in _instructions((context / "Dockerfile").read_text(encoding="utf-8")):
        if word == "FROM":
            stages += 1
            if stages > 1:
                raise Refused("its image is made in several stages")
        elif word == "WORKDIR":
            workdir = rest if rest.startswith("/") else f"{workdir}/{rest}"
            build.append(f"mkdir -p {shlex.quote(workdir)}")
        elif word in ("COPY", "ADD"):
            build += [f"mkdir -p {shlex.quote(workdir)}"]
            files += _copied(context, rest, workdir)
        elif word == "ENV":
            variables |= _variables(rest)
        elif word == "RUN":
            build += _run(rest, workdir)
        elif word not in IGNORED:
            raise Refused(f"its Dockerfile says {word}")
    for place in (workdir, *(target for _, target in files)):
        if place.split("/")[1] not in LINKED:
            raise Refused(f"it wants {place}: only {', '.join(f'/{name}' for name in LINKED)} can be had")
    return workdir, build, files, variables


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    joined = re.sub(r"\\\s*\n", " ", "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")))
    for line in joined.splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word.upper(), rest.strip()


def _copied(context: Path, rest: str, workdir: str) -> Iterator[tuple[str, str]]:
    """Each file, and where it goes."""
    words = json.loads(rest) if rest.startswith("[") else [word for word in shlex.split(rest) if not word.startswith("--chmod")]
    if any(word.startswith("--") or "://" in word for word in words):
        raise Refused(f"its Dockerfile copies from elsewhere: {rest:.80}")
    *sources, target = words
    target = target if target.startswith("/") else f"{workdir}/{target}"
    for source in sources:
        start = context / source
        found = (
            [start] if start.is_file() else sorted(each for each in start.rglob("*") if each.is_file()) if start.is_dir() else []
        )
        if not found:
            raise Refused(f"its Dockerfile copies {source}, which is not there")
        for path in found:
            if path.stat().st_size > MOST_BYTES:
                raise Refused(f"{path.name} has more than 16 MiB")
            whole = start.is_file() and not (target.endswith(("/", ".")) or len(sources) > 1)
            inside = path.name if start.is_file() else str(path.relative_to(start))
            yield str(path.relative_to(context)), re.sub(r"/(\./|\.$)?/*", "/", target if whole else f"{target}/{inside}")


def _variables(rest: str) -> dict[str, str]:
    words = shlex.split(rest)
    if "=" not in words[0]:
        return {words[0]: " ".join(words[1:])}
    return dict(word.partition("=")[::2] for word in words)


def _run(rest: str, workdir: str) -> Iterator[str]:
    """Commands that can be run; packages are asked for instead of installed."""
    if rest.startswith(("--", "[", "<<")):
        raise Refused(f"its Dockerfile says RUN {rest:.60}")
    for part in (each.strip() for each in re.split(r"&&|;", rest)):
        if re.match(r"(sudo\s+)?apt(-get)?\s+.*\binstall\b", part):
            missing = [each for each in _packages(part) if not _installed(each)]
            if missing:
                raise Refused(f"it needs Debian's {', '.join(missing)}: apt-get install {' '.join(missing)}")
        elif (
            re.match(r"(sudo\s+)?(apt(-get)?\s+(update|clean|upgrade|autoremove)|rm\s+-rf\s+/var/lib/apt|set\s+-)", part)
            or not part
        ):
            continue
        elif NETWORK.search(part):
            raise Refused(f"its image is made with the network: {part:.60}")
        else:
            yield f"cd {shlex.quote(workdir)} && {part}"


def _packages(command: str) -> list[str]:
    words = shlex.split(command)
    return [word.partition("=")[0] for word in words[words.index("install") + 1 :] if not word.startswith("-")]


@cache
def _installed(package: str) -> bool:
    try:
        asked = subprocess.run(["dpkg-query", "-W", "-f=${Status}", package], capture_output=True, text=True, check=False)
    except OSError:  # no Debian
        return False
    return asked.stdout.startswith("install ok")
