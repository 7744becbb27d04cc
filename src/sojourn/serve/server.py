"""An application on a port of this machine, in the event loop that is running, for as long as that runs."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette

from sojourn.loopback import HOST, bound

CONNECTIONS = 1024
"""At once; more are told to come later."""
SHUTDOWN_SECONDS = 2


def listen(port: int) -> socket.socket:
    """A port of this machine, 0 for a free one.  Raises `ValueError` if it is in use."""
    try:
        return bound(port)
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            why = "in use" if error.errno == errno.EADDRINUSE else "not ours to take"
            raise ValueError(f"port {port} is {why}: choose another with --port, or 0 for a free one") from error
        raise


class Server(uvicorn.Server):
    """Leaves the signals to the program that it is part of."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Running:
    """A server in the running event loop.  base_url: what clients are given.  bound: a port that is listened on already."""

    def __init__(self, app: Starlette, port: int = 0, *, bound: socket.socket | None = None) -> None:
        self._socket = bound or listen(port)
        self.port: int = self._socket.getsockname()[1]
        self.base_url = f"http://{HOST}:{self.port}/v1"
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        self._server = Server(config)
        self.loop = asyncio.get_running_loop()
        self._task = self.loop.create_task(self._serve())

    async def _serve(self) -> None:
        try:
            await self._server.serve(sockets=[self._socket])
        except asyncio.CancelledError:  # the loop ends
            self._server.force_exit = True
            await self._server.shutdown(sockets=[self._socket])
            raise
        finally:
            self._socket.close()

    async def ended(self) -> None:
        """Wait until it is stopped."""
        await self._task

    async def close(self) -> None:
        self._server.should_exit = True
        await self._task
