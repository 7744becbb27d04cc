"""A shell across turns, within a box.

The one idea: between two commands the state of a shell is a text: `declare -p` and its like print it, and a new bash that reads it is
where the old one was (folder, variables, functions, options, aliases).  So each command is a bash of its own: it can be killed
without a loss, its exit code is exact, and a copy of the state is a copy of a text.  Processes that a command leaves behind end with it.
"""

from __future__ import annotations

import codecs
import fcntl
import os
import resource
import select
import signal
import time

from sojourn.tools.sandbox.inside.channel import Channel, Output

STATE_BYTES = 1 << 17
# fd 3 holds the state, fd 9 takes the new one.  Assigning to what is read-only fails, and is passed over.  `set` comes last: with
# `set -e` restored, nothing may fail any more.  A trap that does not call `exit` leaves the exit code as it was.
PROGRAM = r"""
echo 1000 >/proc/self/oom_score_adj
shopt -s expand_aliases
source /proc/self/fd/3 2>/dev/null
exec 3<&-
trap '{ shopt -p; declare -p; declare -f; alias -p; umask -p; printf "cd -- %q\nOLDPWD=%q\n" "$PWD" "$OLDPWD"; set +o; } >&9' EXIT
eval "$1"
"""


def run(channel: Channel, command: str, state: str, home: str, *, timeout_s: float, output_chars: int, processes: int) -> None:
    """Run `command` where `state` left off and answer: fault ("timeout" or None), the exit code, the new state (None: as before)."""
    incoming, outgoing = os.memfd_create("state"), os.memfd_create("state")
    os.write(incoming, (state or f"cd -- '{home}'\n").encode("utf-8", "surrogateescape"))
    os.lseek(incoming, 0, os.SEEK_SET)
    reading, writing = os.pipe()
    pid = _start(command, {0: os.open(os.devnull, os.O_RDONLY), 1: writing, 2: writing, 3: incoming, 9: outgoing}, processes)
    os.close(writing)
    output = Output(channel, output_chars // 2)
    try:
        status = _follow(pid, reading, output, time.monotonic() + timeout_s)
    finally:
        os.close(reading)
        new = os.pread(outgoing, STATE_BYTES + 1, 0)
        os.close(incoming)
        os.close(outgoing)
    text = new.decode("utf-8", "surrogateescape") if status is not None and 0 < len(new) <= STATE_BYTES else None
    output.end(fault="timeout" if status is None else None, exit=status, state=text)


def _start(command: str, descriptors: dict[int, int], processes: int) -> int:
    pid = os.fork()
    if pid:
        os.close(descriptors[0])
        return pid
    try:
        os.setsid()
        out_of_the_way = {number: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20) for number, fd in descriptors.items()}
        for number, fd in out_of_the_way.items():
            os.dup2(fd, number)
        resource.setrlimit(resource.RLIMIT_NPROC, (processes, resource.getrlimit(resource.RLIMIT_NPROC)[1]))
        os.execv("/bin/bash", ["bash", "-c", PROGRAM, "bash", command])
    except (OSError, ValueError) as error:  # too long, or holds a null byte
        os.write(2, f"the command cannot be run: {error}\n".encode("utf-8", "replace"))
    finally:
        os._exit(127)


def _follow(pid: int, reading: int, output: Output, deadline: float) -> int | None:
    """Pass on what the command prints until it ends; its exit code (128 + n for signal n), or None if its time was up."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    ended = os.pidfd_open(pid)
    watched = [reading, ended]
    try:
        while ended in watched:
            ready = select.select(watched, [], [], max(0.0, deadline - time.monotonic()))[0]
            if time.monotonic() >= deadline:
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return None
            if reading in ready:
                data = os.read(reading, 1 << 16)
                output.write(decoder.decode(data, not data))
                watched = watched if data else [ended]
            elif ended in ready:
                watched.remove(ended)
    finally:
        os.close(ended)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code
