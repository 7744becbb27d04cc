"""The host's end of the channel to one process in a box; the other end is `inside/channel.py`.

The one idea: what comes from a box is not believed.  Code can find the channel of its own process and write to it; so a line that is
no answer to the request is passed over, and a process that says far more than any answer holds is taken for dead.
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

CHUNK = 1 << 20  # bytes of a file in one line
SMALL = 256  # what a line counts at least: the time to read it; code may print its characters one by one


class Refused(Exception):
    """The process says that it cannot do it, and why; `errno` is 0 if the operating system had nothing to do with it."""

    def __init__(self, why: str, errno: int = 0) -> None:
        super().__init__(why)
        self.errno = errno


class Peer:
    """A process in a box.  `output` is what the current code has printed; `pid` is its number within the box."""

    def __init__(self, end: socket.socket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, output_chars: int) -> None:
        self._end, self._reader, self._writer = end, reader, writer
        self.output_chars = output_chars
        self._line = _line_bytes(output_chars)
        self.output = ""
        self.request = 0
        self.pid = 0

    @classmethod
    async def on(cls, end: socket.socket, output_chars: int, first: bytes = b"") -> Peer:
        """The process that holds the other end of this socket: tell it `first`, wait until it is ready.  Raises EOFError if it dies."""
        reader, writer = await asyncio.open_connection(sock=end, limit=_line_bytes(output_chars))
        peer = cls(end, reader, writer, output_chars)
        try:
            writer.write(first)
            ready = await peer.answer("ready")
        except BaseException:
            peer.hang_up()
            raise
        peer.pid = _number(ready.get("pid"))
        return peer

    async def ask(self, do: str, wants: str, *, passing: int | None = None, **arguments: object) -> dict[str, Any]:
        """Make a request; its answer is the first line that has the key `wants`.

        passing: a file descriptor to send along.  Raises `Refused`, or EOFError or ConnectionError if the process dies.
        """
        self.request += 1
        self.output = ""
        line = json.dumps({"id": self.request, "do": do, **arguments}).encode() + b"\n"
        if passing is None:
            self._writer.write(line)
            await self._writer.drain()
        else:  # small, and nothing is waiting to be written: requests come one after the other
            socket.send_fds(self._end, [line], [passing])
        return await self.answer(wants)

    async def answer(self, key: str) -> dict[str, Any]:
        """The next line of this request that has `key`; what is printed on the way goes to `output`."""
        room = 2 * self._line + self.output_chars * SMALL
        while room > 0 and not self._reader.at_eof():
            room -= self._line  # what a line without end takes
            try:
                line = await self._reader.readline()
                room += self._line - max(len(line), SMALL)
                message = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if not isinstance(message, dict) or message.get("id") != self.request:
                continue
            if "refused" in message:
                raise Refused(str(message["refused"])[:1000], _number(message.get("errno")))
            if key in message:
                if left_out := _number(message.get("left_out")):
                    self.output += f"\n... [{left_out} characters left out] ...\n"
                self.output += str(message.get("tail", ""))[: self.output_chars]
                return message
            self.output = (self.output + str(message.get("out", "")))[: self.output_chars]
        raise EOFError

    @property
    def gone(self) -> bool:
        """Whether it has hung up."""
        return self._reader.at_eof()

    def hang_up(self) -> None:
        """Close the channel: the process ends, if it still listens."""
        self._writer.close()


def _line_bytes(output_chars: int) -> int:
    """The longest line of an answer: a character may take 12 bytes as JSON, a chunk of a file 4/3 of its size."""
    return 2 * CHUNK + 16 * output_chars


def _number(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
