"""The filter of system calls, held against the kernel's own tables and run by hand."""

import errno
import re
import struct
from pathlib import Path

import pytest

from sojourn.tools.sandbox import seccomp

HEADERS = {
    "x86_64": [Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm/unistd_64.h")],
    "aarch64": [Path("/usr/include/asm-generic/unistd.h")],
}


@pytest.mark.parametrize("machine", HEADERS)
def test_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    header = next((path for path in HEADERS[machine] if path.exists()), None)
    if header is None:
        pytest.skip("the kernel's headers are not installed (linux-libc-dev)")
    numbers = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text()))
    for name, number in seccomp.MACHINES[machine][1].items():
        assert numbers[name] == str(number), name


def verdict(machine: str, number: int, *, argument: int = 0, architecture: int | None = None) -> int | None:
    """What the kernel would answer: None if the call is allowed, else the errno.  The machine of seccomp(2), by its definition."""
    instructions = list(struct.iter_unpack("<HBBI", seccomp.program(machine)))
    data = struct.pack("<IIQQ", number, architecture or seccomp.MACHINES[machine][0], 0, argument)
    at, accumulator = 0, 0
    for _ in range(len(instructions)):
        code, if_true, if_false, operand = instructions[at]
        at += 1
        if code == 0x20:  # BPF_LD | BPF_W | BPF_ABS
            (accumulator,) = struct.unpack_from("<I", data, operand)
        elif code == 0x06:  # BPF_RET | BPF_K
            return None if operand == 0x7FFF0000 else operand & 0xFFFF
        else:  # BPF_JMP | BPF_JEQ, BPF_JGE or BPF_JSET
            holds = {0x15: accumulator == operand, 0x35: accumulator >= operand, 0x45: bool(accumulator & operand)}[code]
            at += if_true if holds else if_false
    raise AssertionError("the program came to no end")


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_each_call_gets_its_answer(machine: str) -> None:
    calls = seccomp.MACHINES[machine][1]
    for name, number in calls.items():
        if name not in ("clone", "clone3", "socket"):
            assert verdict(machine, number) == errno.EPERM, name
    read, write = {"x86_64": (0, 1), "aarch64": (63, 64)}[machine]
    assert verdict(machine, read) is None and verdict(machine, write) is None
    assert verdict(machine, calls["clone3"]) == errno.ENOSYS
    assert verdict(machine, read, architecture=0x40000003) == errno.ENOSYS  # i386
    assert verdict("x86_64", 0x40000000) == errno.ENOSYS


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_processes_and_threads_may_be_made_but_no_namespaces(machine: str) -> None:
    clone = seccomp.MACHINES[machine][1]["clone"]
    assert verdict(machine, clone, argument=17) is None  # fork: SIGCHLD
    assert verdict(machine, clone, argument=0x3D0F00) is None  # pthread_create
    for flag in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert verdict(machine, clone, argument=flag | 17) == errno.EPERM


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_sockets_are_of_families_that_a_network_namespace_confines(machine: str) -> None:
    number = seccomp.MACHINES[machine][1]["socket"]
    allowed = [family for family in range(50) if verdict(machine, number, argument=family) is None]
    assert allowed == [1, 2, 10]
    assert verdict(machine, number, argument=40) == errno.EAFNOSUPPORT  # AF_VSOCK


def test_an_unknown_machine_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no seccomp filter for machine 'mips'.*x86_64, aarch64"):
        seccomp.program("mips")
