"""One line of events in a box: a folder, an interpreter if one was started, and the shell's state.  Copies are branches, too.

The one idea: a session, a snapshot and a fork are the same thing, a branch; a snapshot is one whose turn never comes.  `inside/warden.py`
says how branches of a box take turns at one folder.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from sojourn.core import InfrastructureError
from sojourn.tools.sandbox.box import GRACE_S, Box
from sojourn.tools.sandbox.inside.warden import ASIDE, HOME
from sojourn.tools.sandbox.peer import Peer, Refused

REQUEST_S = 60.0


class Branch:
    """Use it with `box.lock` held."""

    def __init__(self, box: Box, *, peer: Peer | None = None, state: str = "") -> None:
        self.box = box
        self.name = next(box.names)
        self.peer = peer
        self.state = state
        self.dropped = False
        self.wanted = True

    @property
    def folder(self) -> str:
        """Where its files lie now."""
        return HOME if self.box.turn == self.name else f"{ASIDE}/{self.name}"

    async def come(self) -> None:
        """Take its turn: its files are where its code expects them."""
        if self.box.turn != self.name and not self.box.alone:
            await self.request("turn", "done", leaving=self.box.turn, coming=self.name)
        self.box.turn = self.name

    async def interpreter(self) -> Peer:
        """Its interpreter, started on first use."""
        if self.peer is None:
            self.peer = await self.box.interpreter()
        return self.peer

    async def copy(self) -> Branch:
        """Another one that is exactly where this one is.  Raises `Refused` if that cannot be."""
        if len(self.box.living) >= self.box.limits.copies:
            raise Refused(f"there are {self.box.limits.copies} copies already (raise copies)")
        new = Branch(self.box, state=self.state)
        await self.request("copy", "done", source=self.folder, target=new.folder)
        try:
            if self.peer:
                async with asyncio.timeout(REQUEST_S):
                    new.peer = await self.box.connected(self.peer, "split", source=self.folder, target=new.folder)
        except (EOFError, ConnectionError, Refused, TimeoutError) as error:
            await self.request("remove", "done", folder=new.folder)
            raise error if isinstance(error, Refused) else Refused("the interpreter gave no sign of life") from error
        return new

    async def drop(self) -> None:
        """End its interpreter and remove its files."""
        self.dropped = True
        await self.lose()
        await self.request("remove", "done", folder=self.folder)
        if self.box.turn == self.name:
            self.box.turn = None

    async def lose(self) -> int | None:
        """End its interpreter; the exit code, if it had ended by itself and the warden can tell.  Its files stay."""
        peer, self.peer = self.peer, None
        if peer is None:
            return None
        self.box.living = [other for other in self.box.living if other is not peer]
        peer.hang_up()
        ends = await self.sweep()
        self.box.allow()
        return ends.get(peer.pid)

    async def sweep(self) -> dict[int, int]:
        """End all processes of the box that are no branch's interpreter; the exit codes of those that were."""
        keep = [peer.pid for peer in self.box.living]
        answer = await self.request("sweep", "left", keep=keep)
        if answer["left"]:  # they multiply faster than they can be killed one by one
            await self.box.end()
            raise EOFError
        return {int(pid): int(code) for pid, code in answer["ends"].items()}

    async def request(self, do: str, wants: str, **arguments: Any) -> dict[str, Any]:
        """Ask the warden.  Raises `Refused`; EOFError if the box is gone."""
        try:
            async with asyncio.timeout(REQUEST_S):
                return await self.box.warden.ask(do, wants, **arguments)
        except ConnectionError as error:
            raise EOFError from error
        except TimeoutError as error:
            await self.box.end()
            raise InfrastructureError(f"the sandbox did not '{do}' in {REQUEST_S:g} s; is the machine overloaded?") from error


async def drop_all(branches: Sequence[Branch]) -> None:
    """Drop those that were not yet; a box that is gone has nothing left to drop."""
    for branch in branches:
        if not branch.box.ended and not branch.dropped:
            try:
                await branch.drop()
            except (EOFError, Refused):
                await branch.box.end(GRACE_S)
