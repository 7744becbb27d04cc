"""The way to the host: lines of JSON, both ways, on a socket that code's own output cannot reach by accident.

Every line carries the number of the request that it belongs to.

    host:  {"id": 7, "do": "run", "code": "print(6 * 7)"}
    box:   {"id": 7, "out": "42\\n"}                                     (the first characters, as they come)
           {"id": 7, "tail": "", "left_out": 0, "fault": null}          (the last ones, and how it ended)

The host may send a file descriptor along with a request: the socket of a process that is to be started.
"""

from __future__ import annotations

import io
import json
import os


class Channel:
    """The box's end: two descriptors, mostly of one socket.  `passes`: descriptors may come along with requests."""

    def __init__(self, incoming: int, outgoing: int, *, passes: bool) -> None:
        self.passes = passes
        self.incoming = incoming
        self.outgoing = outgoing
        self.request = 0
        self.passed = -1
        self._data = b""

    def receive(self) -> dict[str, object] | None:
        """The next request; None when the host has hung up.  `passed` is then the descriptor that came with it, or -1."""
        self.passed = -1
        while b"\n" not in self._data:
            data = self._read()
            if not data:
                return None
            self._data += data
        line, self._data = self._data.split(b"\n", 1)
        request: dict[str, object] = json.loads(line)
        self.request = int(str(request["id"]))
        return request

    def send(self, **line: object) -> None:
        """One line; the newline before it closes one that the time limit cut short."""
        data = b"\n" + json.dumps({"id": self.request, **line}).encode() + b"\n"
        while data:
            data = data[os.write(self.outgoing, data) :]

    def _read(self) -> bytes:
        """What is there."""
        if not self.passes:
            return os.read(self.incoming, 1 << 16)
        import socket

        end = socket.socket(fileno=self.incoming)
        try:
            data, passed, _, _ = socket.recv_fds(end, 1 << 16, 1, socket.MSG_CMSG_CLOEXEC)
        finally:
            end.detach()
        if passed:
            self.passed = passed[0]
        return data


class Output(io.TextIOBase):
    """What code writes to: sends the first `keep` characters on, remembers the last `keep`, counts the rest."""

    def __init__(self, channel: Channel, keep: int) -> None:
        self.channel = channel
        self.keep = keep
        self.room = keep
        self.kept = ""
        self.length = 0

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        head = min(self.room, len(text))
        if head:
            self.room -= head
            self.channel.send(out=text[:head])
        if len(text) > head:
            self.length += len(text) - head
            self.kept += text[max(head, len(text) - self.keep) :]
            if len(self.kept) > 4 * self.keep:
                self.kept = self.kept[-self.keep :]
        return len(text)

    def close(self) -> None:
        """Code may close what is not its own; go on."""

    def end(self, **how: object) -> None:
        """The last line of the answer: what was kept of the rest, and how it ended."""
        tail = self.kept[-self.keep :]
        self.channel.send(tail=tail, left_out=self.length - len(tail), **how)
