"""A place for one episode: files, a Python interpreter and a shell in one box, which can be copied as they are.

The one idea: whatever the code does is the agent's doing and comes back as a result.  Code that runs too long is interrupted and
its variables live on; what cannot be interrupted is killed, and the result says what was lost.  Only a sandbox that does not
start, or that is killed from outside, is an `InfrastructureError`.

    async with Workspace() as work:
        await work.python("x = [1]")
        before = await work.snapshot()
        await work.python("x.append(2)")
        await work.restore(before)        # x is [1] again, as often as you like
        other = await work.fork()         # a second workspace that is where the first one is
"""

from __future__ import annotations

import asyncio
import base64
import copy
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from sojourn.core import WRONG_PATH, InfrastructureError
from sojourn.tools.sandbox import box as boxes
from sojourn.tools.sandbox.box import Box, name_exit
from sojourn.tools.sandbox.branch import Branch, drop_all
from sojourn.tools.sandbox.limits import Limits
from sojourn.tools.sandbox.peer import CHUNK, Peer, Refused
from sojourn.tools.sandbox.pool import Pool
from sojourn.tools.sandbox.sandbox import Sandbox

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a call.

    output: what was printed, the middle of a long one left out.
    fault: None; "exception" (Python raised, or there was no room to run); "timeout"; "died" (the code ended its own interpreter, or the whole box).
    code: the exit code of a shell command, 128 + n for signal n; None if it was stopped.
    lost: what is gone: "", "variables" (of the interpreter), "everything" (files, too).
    how: of "died", in words.
    """

    output: str
    fault: str | None = None
    code: int | None = None
    lost: str = ""
    how: str = ""


class Snapshot:
    """A state of a workspace.  It costs memory until nothing refers to it any more, or the workspace is closed."""

    def __init__(self, branch: Branch) -> None:
        self._branch = branch

    def __del__(self) -> None:
        self._branch.wanted = False  # its workspace drops it when it next has the box


Method = Callable[Concatenate["Workspace", P], Awaitable[T]]


def _in_turn(method: Method[P, T]) -> Method[P, T]:
    """Start the box if there is none, wait for this workspace's turn, and tell whose fault the end of the box is."""

    @wraps(method)
    async def call(self: Workspace, /, *args: P.args, **kwargs: P.kwargs) -> T:
        async with self._lock:
            branch = await self._ready()
            async with branch.box.lock:
                try:
                    await drop_all(self._unwanted())
                    await branch.come()
                except EOFError:
                    raise await self._gone(branch) from None
                return await method(self, *args, **kwargs)

    return call


class Workspace:
    """Files, an interpreter and a shell; see the module.  It starts on first use; calls run in order.

    limits: what the code may use.
    sandbox: how it is confined; else the strongest way that works here.
    unsafe: allow process limits alone where nothing confines.
    pool: where started boxes come from; limits and sandbox are then the pool's.
    """

    def __init__(
        self, limits: Limits | None = None, *, sandbox: Sandbox | None = None, unsafe: bool = False, pool: Pool | None = None
    ) -> None:
        if pool and (limits or sandbox or unsafe):
            raise ValueError("a workspace of a pool has the pool's limits and sandbox; give them to the pool")
        self.limits = pool.limits if pool else limits or Limits()
        self.sandbox = sandbox
        self.unsafe = unsafe
        self.pool = pool
        self._lock = asyncio.Lock()
        self._branch: Branch | None = None
        self._snapshots: list[Branch] = []

    @_in_turn
    async def python(self, code: str) -> Ran:
        """Run Python code; variables live from call to call.  Raises `InfrastructureError` if the sandbox broke."""
        branch = self._own()
        peer = await self._interpreter(branch)
        try:
            async with asyncio.timeout(self.limits.timeout_s + boxes.GRACE_S):
                answer = await peer.ask("run", "fault", code=code)
            if not branch.box.alone:
                await branch.sweep()
        except TimeoutError:
            return Ran(peer.output, "timeout", lost=await self._lose(branch))
        except (EOFError, ConnectionError):
            return await self._died(branch, peer.output)
        except Refused as refused:  # no memory was left to run it, for one
            return Ran(str(refused), "exception")
        except BaseException:  # cancelled: what it is doing now must not answer the next call
            await self._lose(branch)
            raise
        fault = answer["fault"]  # code can write it itself: it is believed as far as it is known
        return Ran(peer.output, fault if fault in (None, "timeout") else "exception")

    @_in_turn
    async def shell(self, command: str, *, timeout_s: float | None = None, fresh: bool = False) -> Ran:
        """Run a bash command; folder, variables and functions live from call to call, processes end with it.

        timeout_s: instead of the limits' own.  fresh: in a shell of its own, which knows nothing of the others.
        Raises NotImplementedError where the sandbox is not bubblewrap.
        """
        branch = self._full("shell")
        timeout_s = self.limits.timeout_s if timeout_s is None else timeout_s
        keep = [peer.pid for peer in branch.box.living]
        warden = branch.box.warden
        try:
            async with asyncio.timeout(timeout_s + boxes.GRACE_S + 10):
                state = "" if fresh else branch.state
                answer = await warden.ask("shell", "fault", command=command, state=state, timeout_s=timeout_s, keep=keep)
            output = warden.output
            await branch.sweep()
        except (EOFError, ConnectionError):
            return await self._died(branch, warden.output)
        except Refused as refused:
            return Ran(str(refused), "exception")
        except TimeoutError as error:
            await self._end(branch)
            raise InfrastructureError("the sandbox did not end a shell command in time; is the machine overloaded?") from error
        except BaseException:  # cancelled
            await self._end(branch)
            raise
        branch.state = branch.state if fresh or answer["state"] is None else str(answer["state"])
        return Ran(output, answer["fault"], answer["exit"])

    @_in_turn
    async def read(self, path: str) -> bytes:
        """A file's content; a relative path is one in the home folder.

        Raises FileNotFoundError and its like, else ValueError: what the box has on its disk is the agent's doing."""
        parts: list[bytes] = []
        while not parts or len(parts[-1]) == CHUNK:
            answer = await self._file("read", "data", path=path, start=len(parts) * CHUNK, size=CHUNK)
            parts.append(base64.b64decode(str(answer["data"])))
        return b"".join(parts)

    @_in_turn
    async def write(self, path: str, data: bytes) -> None:
        """Write a file; its folders are made.  Raises as `read` does."""
        for start in range(0, max(1, len(data)), CHUNK):
            part = base64.b64encode(data[start : start + CHUNK]).decode()
            await self._file("write", "done", path=path, data=part, more=start > 0)

    @_in_turn
    async def snapshot(self) -> Snapshot:
        """The state as it is now, for `restore`.  Raises `InfrastructureError` if it cannot be copied exactly; it says why."""
        self._snapshots.append(await self._copied(self._full("snapshots")))
        return Snapshot(self._snapshots[-1])

    async def restore(self, snapshot: Snapshot) -> None:
        """Go back to a state of this workspace; any number of times.  Raises `InfrastructureError` if it is gone."""
        async with self._lock:
            source = snapshot._branch
            async with source.box.lock:
                if source.box.ended or source.dropped:
                    raise InfrastructureError("the snapshot is gone: its sandbox was ended, by the code in it or by `close`")
                new = await self._copied(source)
            old, self._branch = self._branch, new
            if old is None or old.box is not new.box:
                new.box.users += 1
                await self._leave(old)
            else:
                async with old.box.lock:
                    await drop_all([old])

    @_in_turn
    async def fork(self) -> Workspace:
        """A second workspace that is exactly where this one is; close it, too.  Raises `InfrastructureError` if that cannot be."""
        other = copy.copy(self)
        other._lock, other._snapshots = asyncio.Lock(), []
        other._branch = await self._copied(self._full("forks"))
        other._branch.box.users += 1
        return other

    async def __aenter__(self) -> Workspace:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End it, and its snapshots.  The next call would start afresh."""
        async with self._lock:
            old, self._branch = self._branch, None
            await self._leave(old)

    async def _interpreter(self, branch: Branch) -> Peer:
        """The branch's interpreter, alive as far as one can see.  Raises `InfrastructureError`."""
        try:
            peer = await branch.interpreter()
            if peer.gone and branch.box.living != [peer] and not branch.box.alone:
                await branch.lose()
                raise InfrastructureError("the interpreter was ended between two calls, and other sessions share its sandbox")
        except (Refused, ConnectionError) as error:
            raise InfrastructureError(f"no interpreter could be started: {error}") from error
        except EOFError:
            raise await self._gone(branch) from None
        return peer

    def _full(self, wanted: str) -> Branch:
        branch = self._own()
        if branch.box.alone:
            raise NotImplementedError(f"a sandbox of kind '{branch.box.sandbox.kind}' has no {wanted}; install bubblewrap")
        return branch

    def _own(self) -> Branch:
        assert self._branch, "`_in_turn` has seen to it"
        return self._branch

    async def _ready(self) -> Branch:
        if self._branch is None:
            if self.pool:
                box = await self.pool.take()
            else:
                box = await Box(self.sandbox or Sandbox.best(unsafe=self.unsafe), self.limits).start()
            self._branch = Branch(box)
        return self._branch

    def _unwanted(self) -> list[Branch]:
        """The snapshots to which nothing refers any more."""
        gone = [branch for branch in self._snapshots if not branch.wanted]
        self._snapshots = [branch for branch in self._snapshots if branch.wanted]
        return gone

    async def _copied(self, branch: Branch) -> Branch:
        try:
            return await branch.copy()
        except (Refused, EOFError) as refused:
            raise InfrastructureError(f"the workspace cannot be copied: {refused or 'the sandbox is gone'}") from refused

    async def _file(self, do: str, wants: str, **arguments: object) -> dict[str, object]:
        try:
            return await self._own().request(do, wants, **arguments)
        except Refused as refused:
            error = OSError(refused.errno, os.strerror(refused.errno), str(arguments["path"]))
            raise (error if isinstance(error, WRONG_PATH) else ValueError(f"{do} '{arguments['path']}': {refused}")) from None
        except EOFError:
            raise await self._gone(self._own()) from None

    async def _lose(self, branch: Branch) -> str:
        """End an interpreter that hangs; what is lost by it."""
        if not branch.box.alone:
            try:
                await branch.lose()
                return "variables"
            except EOFError:
                pass
        await self._end(branch)
        return "everything"

    async def _died(self, branch: Branch, output: str) -> Ran:
        """What to say of an interpreter that is no more.  Raises `InfrastructureError` if that was not the code's doing."""
        if not branch.box.alone and branch.peer:
            try:
                code = await branch.lose()
                return Ran(output, "died", lost="variables", how=name_exit(code) if code is not None else "its process is gone")
            except EOFError:
                pass
        code = await self._end(branch, boxes.GRACE_S)
        self._check_outside(branch, code)
        return Ran(output, "died", lost="everything", how=name_exit(code))

    async def _gone(self, branch: Branch) -> InfrastructureError:
        """The box ended while none of this workspace's code ran."""
        code = await self._end(branch, boxes.GRACE_S)
        self._check_outside(branch, code)
        return InfrastructureError(f"the sandbox was ended by another session in it, or from outside ({name_exit(code)})")

    def _check_outside(self, branch: Branch, code: int | None) -> None:
        if not branch.box.alone and code is not None and code < 0:  # code cannot reach bubblewrap itself
            raise InfrastructureError(f"the sandbox was killed from outside ({name_exit(code)})")

    async def _end(self, branch: Branch, patience_s: float = 0.0) -> int | None:
        self._branch = None
        return await branch.box.end(patience_s)

    async def _leave(self, branch: Branch | None) -> None:
        """Give up a branch; the last user of a box ends it."""
        if branch is None or branch.box.ended:
            return
        branch.box.users -= 1
        if branch.box.users == 0:
            await branch.box.end()
        else:
            async with branch.box.lock:
                await drop_all([branch, *(other for other in self._snapshots if other.box is branch.box)])
