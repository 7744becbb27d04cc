"""Boxes that are started before they are asked for.

A box is given away once and never comes back: what code left in it must not meet the next episode.
"""

from __future__ import annotations

import asyncio

from sojourn.tools.sandbox.box import Box
from sojourn.tools.sandbox.limits import Limits
from sojourn.tools.sandbox.sandbox import Sandbox


class Pool:
    """Keeps `size` boxes ready.  It belongs to the event loop that first uses it.

    limits, sandbox, unsafe: as for `Workspace`.
    """

    def __init__(self, size: int, limits: Limits | None = None, *, sandbox: Sandbox | None = None, unsafe: bool = False) -> None:
        if size < 1:
            raise ValueError(f"a pool of {size} boxes: expected 1 or more")
        self.size = size
        self.limits = limits or Limits()
        self.sandbox = sandbox
        self.unsafe = unsafe
        self._starting: list[asyncio.Task[Box]] = []

    async def take(self) -> Box:
        """A box that nobody has used; another is started in its place.  Raises `InfrastructureError` if it could not be started."""
        self._fill(self.size + 1)
        return await self._starting.pop(0)

    async def warm(self) -> None:
        """Wait until all boxes are ready."""
        self._fill(self.size)
        await asyncio.gather(*self._starting)

    async def close(self) -> None:
        """End the boxes that nobody took."""
        starting, self._starting = self._starting, []
        for started in await asyncio.gather(*starting, return_exceptions=True):
            if isinstance(started, Box):
                await started.end()

    def _fill(self, count: int) -> None:
        sandbox = self.sandbox or Sandbox.best(unsafe=self.unsafe)
        while len(self._starting) < count:
            self._starting.append(asyncio.create_task(Box(sandbox, self.limits).start()))
