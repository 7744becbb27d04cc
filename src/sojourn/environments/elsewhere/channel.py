"""Messages between a world's process and ours: one line of JSON each way, by turns, over a socket.

The one idea: who asked says nothing more until the answer is here, so the end of a line is the end of what there is to read, and a socket
belongs to no event loop: an episode may be played on a thread of its own (`policy.running`).  Values are written as the store writes
them (`core.values`).
"""

from __future__ import annotations

import asyncio
import select
import socket
from typing import Any

from sojourn.core.values import from_json, to_json

CHUNK = 1 << 16


class Channel:
    """One end."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._read = bytearray()

    async def send(self, message: object) -> None:
        """Raises `OSError` if nobody is there."""
        await asyncio.get_running_loop().sock_sendall(self._end, to_json(message).encode() + b"\n")

    async def receive(self) -> Any:
        """The next message; None if the other end is closed.  Cancelled, it loses nothing: call it again."""
        while not self._read.endswith(b"\n"):
            try:
                chunk = self._end.recv(CHUNK)
            except BlockingIOError:
                await self._readable()
                continue
            except ConnectionError:
                return None
            if not chunk:
                return None
            self._read += chunk
        line, self._read = self._read, bytearray()
        return from_json(line.decode())

    def waiting(self) -> bool:
        """Whether something is there to be read."""
        return bool(select.select([self._end], [], [], 0)[0])

    async def _readable(self) -> None:
        # `loop.sock_recv` would lose what it has read when it is cancelled in the same turn of the loop.
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._end, _set, ready)
        try:
            await ready
        finally:
            loop.remove_reader(self._end)

    def close(self) -> None:
        self._end.close()


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
