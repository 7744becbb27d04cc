"""Copies of a session within its box: its files as a second tree, its interpreter as a second process.

The one idea: `fork` copies a process exactly, down to generators half way through and the state of `random`; what two processes
would still share after it (positions in open files, files under the old path) is taken apart by hand, and what cannot be taken apart
(a pipe, shared memory, a thread) is refused by name.  So a copy is either exact or not made.  Process ids and inode numbers differ.

C's `fork` and not `os.fork`: Python's own runs hooks, one of which seeds `random` anew in the copy.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat

from sojourn.tools.sandbox.inside.channel import Channel


def split(channel: Channel, source: str, target: str) -> bool:
    """Become two: returns whether this is the copy, which talks on the socket that came with the request.

    source, target: the folder that holds this process's files, and its copy, which the other process takes for its own.
    Raises ValueError, before anything is done, if the copy would not be exact.
    """
    try:
        reopened = [fd for fd in _descriptors(channel) if _must_reopen(fd)]
        twins = _twins(reopened)
        _check_shared()
        copied = _fork_away()
        if copied:
            os.dup2(channel.passed, channel.incoming, inheritable=False)
            if channel.outgoing != channel.incoming:
                os.dup2(channel.passed, channel.outgoing, inheritable=False)
    finally:
        os.close(channel.passed)
    if copied:
        channel.request = 0
        try:
            _move(reopened, twins, source, target)
        except OSError as error:
            channel.send(refused=f"{error}")
            os._exit(1)
    return copied


def _fork_away() -> bool:
    """Fork, twice: the copy is no child of this process, or code that waits for children would wait for it.  Whether this is the copy."""
    libc = ctypes.PyDLL(None)
    between = int(libc.fork())
    if between == 0:
        if libc.fork() != 0:
            os._exit(0)
        return True
    if between > 0:
        os.waitpid(between, 0)
        return False
    raise OSError("no process can be started (raise copies)")


def _descriptors(channel: Channel) -> list[int]:
    """Those that the session's code has opened."""
    own = {channel.incoming, channel.outgoing, channel.passed}
    return [fd for fd in sorted(map(int, os.listdir("/proc/self/fd"))) if fd not in own and _is_open(fd)]


def _is_open(fd: int) -> bool:
    """False for the one by which the list itself was read."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _must_reopen(fd: int) -> bool:
    """Whether two processes would share a position in it.  Raises ValueError for what cannot be opened a second time."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return True
    if stat.S_ISCHR(mode):  # /dev/null and its like have no position
        return False
    raise ValueError(
        f"file descriptor {fd} is open on '{os.readlink(f'/proc/self/fd/{fd}')}', which two processes would share; close it"
    )


def _twins(descriptors: list[int]) -> dict[int, int]:
    """Those that share their position with an earlier one (`os.dup`), and that one: they move when it is moved."""
    files = [fd for fd in descriptors if stat.S_ISREG(os.fstat(fd).st_mode)]
    return {fd: first for number, fd in enumerate(files) for first in reversed(files[:number]) if _move_together(first, fd)}


def _move_together(first: int, second: int) -> bool:
    if not os.path.sameopenfile(first, second):
        return False
    before, at = os.lseek(second, 0, os.SEEK_CUR), os.lseek(first, 0, os.SEEK_CUR)
    moved = os.lseek(first, at + 1, os.SEEK_SET) and os.lseek(second, 0, os.SEEK_CUR) != before
    os.lseek(first, at, os.SEEK_SET)
    return bool(moved)


def _check_shared() -> None:
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        raise ValueError(f"{threads - 1} threads are running, and a copy would have none; wait for their end")
    with open("/proc/self/maps") as maps:
        shared = [line for line in maps if line.split()[1][1::2] == "ws"]
    if shared:
        raise ValueError(f"memory is mapped as shared ({shared[0].split(maxsplit=5)[-1].strip()}); close the mmap")


def _move(descriptors: list[int], twins: dict[int, int], source: str, target: str) -> None:
    """Let this process's folder and open files be those of `target`."""
    folder = os.getcwd()
    if (folder + "/").startswith(source + "/"):
        os.chdir(target + folder[len(source) :])
    for fd in descriptors:
        if fd in twins:
            os.dup2(twins[fd], fd, inheritable=os.get_inheritable(fd))
            continue
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        name = os.readlink(f"/proc/self/fd/{fd}")
        if os.fstat(fd).st_nlink == 0:
            new = _unlinked_copy(fd, flags, target)
        else:
            inside = (name + "/").startswith(source + "/")
            new = os.open(target + name[len(source) :] if inside else f"/proc/self/fd/{fd}", flags & ~os.O_NOFOLLOW)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.lseek(new, os.lseek(fd, 0, os.SEEK_CUR), os.SEEK_SET)
        os.dup2(new, fd, inheritable=os.get_inheritable(fd))
        os.close(new)


def _unlinked_copy(fd: int, flags: int, folder: str) -> int:
    """A file that has no name any more, once again."""
    new = os.open(folder, os.O_TMPFILE | os.O_RDWR | flags & os.O_APPEND, 0o600)
    old = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    _pour(old, new)
    os.close(old)
    return new


def copy_tree(source: str, target: str) -> None:
    """All of a folder: contents, modes, times, symbolic and hard links.  Raises OSError."""
    _copy_folder(source, target, {})


def _copy_folder(source: str, target: str, copied: dict[int, str]) -> None:
    os.mkdir(target, 0o700)
    for entry in os.scandir(source):
        new = f"{target}/{entry.name}"
        status = entry.stat(follow_symlinks=False)
        if entry.is_dir(follow_symlinks=False):
            _copy_folder(entry.path, new, copied)
        elif entry.is_symlink():
            os.symlink(os.readlink(entry.path), new)
            os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
        elif status.st_ino in copied:
            os.link(copied[status.st_ino], new)
        elif entry.is_file(follow_symlinks=False):
            _copy_file(entry.path, new, status)
            copied[status.st_ino] = new
        else:
            raise OSError(f"'{entry.path}' is neither a file nor a folder nor a link")
    _finish(target, os.stat(source))


def _copy_file(source: str, target: str, status: os.stat_result) -> None:
    if not status.st_mode & stat.S_IRUSR:
        os.chmod(source, status.st_mode | stat.S_IRUSR)
    old, new = os.open(source, os.O_RDONLY), os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        _pour(old, new)
    finally:
        os.close(old)
        os.close(new)
        os.chmod(source, stat.S_IMODE(status.st_mode))
    _finish(target, status)


def _pour(old: int, new: int) -> None:
    while chunk := os.read(old, 1 << 20):
        while chunk:
            chunk = chunk[os.write(new, chunk) :]


def _finish(target: str, status: os.stat_result) -> None:
    os.chmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def remove_tree(folder: str) -> None:
    """Remove it, whatever its modes are."""
    os.chmod(folder, 0o700)
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            remove_tree(entry.path)
        else:
            os.unlink(entry.path)
    os.rmdir(folder)
