"""The system calls that confined code may not make, as a program that bubblewrap hands to the kernel.

The one idea: user namespaces make much of the kernel reachable that only root could reach before (mounts, tracing, eBPF, keys), and
no agent needs any of it; so those calls answer EPERM, whatever the namespaces would have allowed.  The program is classic BPF
over `struct seccomp_data` (seccomp(2)): load a word, compare, return.  It is written by hand because it is 60 lines; a library
would be one more thing to install where code must be confined.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Iterator

# What `struct seccomp_data` holds, by offset: the call's number, the kind of machine it was made for, its first argument.
NUMBER, ARCHITECTURE, ARGUMENT = 0, 4, 16
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, ERROR = 0x7FFF0000, 0x00050000

# Numbers from the kernel's asm/unistd_64.h and asm-generic/unistd.h; a test holds them against those files.
X86_64 = {
    "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "pidfd_getfd": 438, "process_madvise": 440,
    "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "move_mount": 429, "open_tree": 428, "mount_setattr": 442, "unshare": 272, "setns": 308, "bpf": 321, "perf_event_open": 298,
    "keyctl": 250, "add_key": 248, "request_key": 249, "userfaultfd": 323, "io_uring_setup": 425, "io_uring_enter": 426,
    "io_uring_register": 427, "name_to_handle_at": 303, "open_by_handle_at": 304, "fanotify_init": 300, "lookup_dcookie": 212,
    "kexec_load": 246, "kexec_file_load": 320, "init_module": 175, "finit_module": 313, "delete_module": 176, "swapon": 167,
    "swapoff": 168, "reboot": 169, "syslog": 103, "acct": 163, "quotactl": 179, "vhangup": 153, "settimeofday": 164,
    "clock_settime": 227, "clock_adjtime": 305, "adjtimex": 159, "personality": 135, "migrate_pages": 256, "move_pages": 279,
    "iopl": 172, "ioperm": 173, "modify_ldt": 154, "uselib": 134, "clone": 56, "clone3": 435, "socket": 41,
}  # fmt: skip
AARCH64 = {
    "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272, "pidfd_getfd": 438, "process_madvise": 440,
    "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "move_mount": 429, "open_tree": 428, "mount_setattr": 442, "unshare": 97, "setns": 268, "bpf": 280, "perf_event_open": 241,
    "keyctl": 219, "add_key": 217, "request_key": 218, "userfaultfd": 282, "io_uring_setup": 425, "io_uring_enter": 426,
    "io_uring_register": 427, "name_to_handle_at": 264, "open_by_handle_at": 265, "fanotify_init": 262, "lookup_dcookie": 18,
    "kexec_load": 104, "kexec_file_load": 294, "init_module": 105, "finit_module": 273, "delete_module": 106, "swapon": 224,
    "swapoff": 225, "reboot": 142, "syslog": 116, "acct": 89, "quotactl": 60, "vhangup": 58, "settimeofday": 170,
    "clock_settime": 112, "clock_adjtime": 266, "adjtimex": 171, "personality": 92, "migrate_pages": 238, "move_pages": 239,
    "clone": 220, "clone3": 435, "socket": 198,
}  # fmt: skip
MACHINES = {"x86_64": (0xC000003E, X86_64), "aarch64": (0xC00000B7, AARCH64)}
CHECKED = ("clone", "clone3", "socket")
X32 = 0x40000000  # numbers from here on are the x32 calls of an x86 kernel: the same calls again under other numbers
NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET
# Unix, IPv4, IPv6: what the empty network namespace confines.  AF_VSOCK, for one, would reach the host of a virtual machine.
FAMILIES = (1, 2, 10)


def program(machine: str | None = None) -> bytes:
    """The filter for a kind of machine (`platform.machine()`), as an array of `struct sock_filter`.

    Raises ValueError for a machine whose call numbers are not here.
    """
    machine = machine or platform.machine()
    if machine not in MACHINES:
        raise ValueError(f"no seccomp filter for machine '{machine}' (there is one for {', '.join(MACHINES)})")
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in _instructions(*MACHINES[machine]))


def _instructions(architecture: int, calls: dict[str, int]) -> Iterator[tuple[int, int, int, int]]:
    """(code, instructions to skip if true, if false, operand); each test skips the returns that are not meant for it."""
    yield LOAD, 0, 0, ARCHITECTURE
    yield EQUAL, 1, 0, architecture
    yield _refuse(errno.ENOSYS)  # the 32-bit calls of a 64-bit kernel
    yield LOAD, 0, 0, NUMBER
    yield AT_LEAST, 0, 1, X32
    yield _refuse(errno.ENOSYS)
    for name, number in calls.items():
        if name not in CHECKED:
            yield EQUAL, 0, 1, number
            yield _refuse(errno.EPERM)
    yield EQUAL, 0, 1, calls["clone3"]  # its flags are behind a pointer; the C library falls back to clone
    yield _refuse(errno.ENOSYS)
    yield EQUAL, 0, 4, calls["clone"]
    yield LOAD, 0, 0, ARGUMENT
    yield ANY_BIT, 0, 1, NEW_NAMESPACES
    yield _refuse(errno.EPERM)
    yield RETURN, 0, 0, ALLOW
    yield EQUAL, 0, 2 + len(FAMILIES), calls["socket"]
    yield LOAD, 0, 0, ARGUMENT
    for skipped, family in enumerate(FAMILIES):
        yield EQUAL, len(FAMILIES) - skipped, 0, family
    yield _refuse(errno.EAFNOSUPPORT)
    yield RETURN, 0, 0, ALLOW


def _refuse(error: int) -> tuple[int, int, int, int]:
    return RETURN, 0, 0, ERROR | error
