"""Coq's `coqtop` as a process that is spoken to a sentence at a time and can go back.

The one idea: `coqtop -emacs` ends every answer with a prompt that holds the number of the state, and `BackTo n.` returns to it.  It runs in
bubblewrap, without network and without files of the host.  Trap: there is one prompt for each *sentence* (a bullet and a brace are
sentences, too), so a text is split before it is sent, or question and answer get out of step.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import time
from functools import cache
from itertools import count
from pathlib import Path

from sojourn.core import InfrastructureError
from sojourn.tools import Limits, Sandbox, Unconfined
from sojourn.tools.sandbox.box import USERS
from sojourn.tools.sandbox.sandbox import open_filter

PROMPT = re.compile(rb"<prompt>[^<]*< (\d+) \|([^|]*)\| (\d+) < </prompt>")
ERROR = re.compile(r"^(Error|Syntax error|Anomaly)|\bError:", re.MULTILINE)
TAGS = re.compile(r"</?(?:infomsg|warning)>|\x1b\[[0-9;]*m")
START_S, GRACE_S = 60.0, 5.0
MEMORY_MB = 2048
_users = count(os.getpid() * 11)


class Stuck(Exception):
    """A sentence took longer than Coq was told to let it."""


class Coq:
    """One process.  `state` is the number of the state it is in, `open` whether a proof is."""

    def __init__(self) -> None:
        sandbox = Sandbox.best()
        if sandbox.kind != "bubblewrap":
            raise Unconfined("Coq runs in bubblewrap only: `apt-get install bubblewrap`, see docs/sandbox.md")
        filter_fd = open_filter()
        user = USERS[next(_users) % len(USERS)] if os.geteuid() == 0 else None
        limited = [_prlimit(), f"--as={MEMORY_MB << 20}", "--core=0", "--", coqtop(), "-emacs", "-quiet"]
        try:
            self._process = subprocess.Popen(
                sandbox.confined(limited, Limits(), filter_fd=filter_fd, user=user),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[filter_fd],
                env={"PATH": "/usr/bin:/bin", "HOME": "/work", "LANG": "C.UTF-8", "OCAMLFIND_CONF": "/dev/null"},
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise InfrastructureError(f"coqtop could not be started: {error}") from error
        finally:
            os.close(filter_fd)
        self._read = b""
        self.state, self.open = 0, False
        try:
            self._answer(START_S)
        except Stuck as error:
            raise InfrastructureError(f"coqtop gave no prompt in {START_S:g} s") from error

    def say(self, sentence: str, within: float = 60.0) -> tuple[str, bool]:
        """What Coq answers to one sentence, and whether it accepted it.  Raises `Stuck`, and then it is of no more use;
        `InfrastructureError` if it is gone."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(" ".join(sentence.split("\n")).encode() + b"\n")
        except OSError as error:
            raise InfrastructureError(f"coqtop is gone: {error}") from error
        answer = self._answer(within)
        return answer, ERROR.search(answer) is None

    def back_to(self, state: int) -> None:
        """Return to a state that was."""
        if self.state != state and not self.say(f"BackTo {state}.")[1]:
            raise InfrastructureError(f"coqtop does not go back to state {state}")

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _answer(self, within: float) -> str:
        assert self._process.stdout is not None
        until = time.monotonic() + within
        while (match := PROMPT.search(self._read)) is None:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                self.end()
                raise Stuck
            chunk = os.read(self._process.stdout.fileno(), 1 << 16)
            if not chunk:
                said = self._read.decode(errors="replace")[-500:]
                self.end()
                raise InfrastructureError(f"coqtop ended: {said}")
            self._read += chunk
        answer, self._read = self._read[: match.start()], self._read[match.end() :]
        self.state, self.open = int(match[1]), bool(match[2].strip())
        return TAGS.sub("", answer.decode(errors="replace")).strip()


@cache
def coqtop() -> str:
    """Where it is.  Raises ImportError with the command that brings it."""
    found = shutil.which("coqtop")
    if found is None:
        raise ImportError("Coq is not installed: apt-get install --no-install-recommends coq")
    return os.path.realpath(found)


@cache
def library() -> Path:
    """The folder of Coq's standard library, with its sources."""
    where = subprocess.run([coqtop(), "-where"], capture_output=True, text=True, check=True).stdout.strip()
    return Path(where) / "theories"


def _prlimit() -> str:
    found = shutil.which("prlimit")
    if found is None:
        raise ImportError("prlimit is missing: apt-get install util-linux")
    return found


def sentences(text: str) -> list[str]:
    """The sentences of a text, comments left out; a bullet or a brace is one.  Raises ValueError for one without an end.

    >>> sentences("intros n. (* by hand *) - simpl. { auto. }")
    ['intros n.', '-', 'simpl.', '{', 'auto.', '}']
    """
    found, now, i = [], "", 0
    while i < len(text):
        char = text[i]
        if text.startswith("(*", i):
            i = _after_comment(text, i)
            now += " "
        elif char == '"':
            end = text.find('"', i + 1)
            if end < 0:
                raise ValueError("a string is not closed")
            now, i = now + text[i : end + 1], end + 1
        elif not now.strip() and char in "-+*":
            run = len(text[i:]) - len(text[i:].lstrip(char))
            found.append(char * run)
            now, i = "", i + run
        elif not now.strip() and char in "{}":
            found.append(char)
            now, i = "", i + 1
        elif char == "." and (i + 1 == len(text) or text[i + 1].isspace()) and (not now.endswith(".") or now.endswith("..")):
            found.append(" ".join(f"{now}.".split()))
            now, i = "", i + 1
        else:
            now, i = now + char, i + 1
    if now.strip():
        raise ValueError(f"a sentence ends with a full stop: {now.strip()[:60]}")
    return found


def _after_comment(text: str, i: int) -> int:
    depth, i = 1, i + 2
    while depth:
        ends = [(text.find(mark, i), mark) for mark in ("(*", "*)") if text.find(mark, i) >= 0]
        if not ends:
            raise ValueError("a comment is not closed")
        where, mark = min(ends)
        depth, i = depth + (1 if mark == "(*" else -1), where + 2
    return i
