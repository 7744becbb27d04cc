"""Attacks on the sandbox: with a live listener, a secret file and a secret in the environment on the host, none gets through.

Each attack is a program that prints what it got hold of.  "Blocked" is not believed from an error alone: the listeners must have
heard nothing, the secret must be nowhere in the output, and the host's files must be as they were.
"""

import asyncio
import errno
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confined import every_confinement, every_sandbox, needs_bwrap, of_kind

from sojourn.tools import Limits, Ran, Workspace
from sojourn.tools.sandbox import seccomp
from sojourn.tools.sandbox.cgroup import Group

SECRET = "hunter2"
CALL = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    if libc.syscall(*arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    print(GOT)
"""
NUMBERS = seccomp.MACHINES.get(platform.machine(), (0, {}))[1]


class Host(NamedTuple):
    """What there is to be reached."""

    tcp: int
    udp: int
    unix: str
    abstract: str
    secret: Path


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Host, list[socket.socket]]]:
    """A host with listeners that would hear a connection or a packet."""
    folder = Path(tempfile.mkdtemp(prefix="attack-"))  # not in tmp_path: others may not enter that one
    folder.chmod(0o755)
    secret = folder / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o666)
    monkeypatch.setenv("SECRET_TOKEN", SECRET)
    tcp = socket.create_server(("0.0.0.0", 0))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("0.0.0.0", 0))
    unix, abstract = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    path, name = str(folder / "unix"), f"sojourn-attack-{os.getpid()}"
    unix.bind(path)
    os.chmod(path, 0o777)
    abstract.bind("\0" + name)
    listeners = [tcp, udp, unix, abstract]
    for listener in listeners:
        listener.setblocking(False)
        if listener.type == socket.SOCK_STREAM:
            listener.listen()
    yield Host(tcp.getsockname()[1], udp.getsockname()[1], path, name, secret), listeners
    for listener in listeners:
        listener.close()
    shutil.rmtree(folder)


def heard(listener: socket.socket) -> bool:
    try:
        listener.recvfrom(10) if listener.type == socket.SOCK_DGRAM else listener.accept()
    except BlockingIOError:
        return False
    return True


def within(work: Callable[[Workspace], Coroutine[Any, Any, Any]], box: str = "bubblewrap", **limits: Any) -> Any:
    """What `work` gives in a workspace of its own."""

    async def episode() -> Any:
        workspace = Workspace(Limits(**limits), sandbox=of_kind(box))
        try:
            async with asyncio.timeout(100):
                return await work(workspace)
        finally:
            await workspace.close()

    return asyncio.run(episode())


def run(code: str, box: str = "bubblewrap", **limits: Any) -> Ran:
    code = f"GOT = 'ESC' + 'APED'\n{code}"  # a traceback shows the code, too
    result = within(lambda workspace: workspace.python(code), box, **limits)
    assert isinstance(result, Ran)
    return result


REACH = {
    "TCP to the loopback": "import socket; socket.create_connection(('127.0.0.1', {tcp}), 2); print(GOT)",
    "TCP to all other addresses": "import socket\nfor a in ('127.0.0.2', '::1', '{address}'):\n"
    "    try: socket.create_connection((a, {tcp}), 2); print(GOT)\n    except OSError: pass",
    "UDP": "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {udp}))",
    "unix socket": "import socket; socket.socket(socket.AF_UNIX).connect('{unix}'); print(GOT)",
    "abstract unix socket": "import socket; socket.socket(socket.AF_UNIX).connect('\\0{abstract}'); print(GOT)",
    "name service": "import socket; print(GOT, socket.getaddrinfo('example.com', 80))",
    "read the secret": "print(open('{secret}').read())",
    "read the secret through other roots": "import glob\nfor root in glob.glob('/proc/*/root') + glob.glob('/proc/*/cwd'):\n"
    "    for up in ('', '/..', '/../..'):\n        try: print(open(root + up + '{secret}').read())\n        except OSError: pass",
    "read what the host opened": "import os\nfor fd in range(64):\n"
    "    try: print(os.read(os.open('{secret}', 0, dir_fd=fd), 9)); print(os.listdir(fd))\n    except OSError: pass",
    "read the passwords": "print(GOT, open('/etc/shadow').read()[:9])",
    "read environments": "import glob\nfor place in glob.glob('/proc/*/environ'):\n"
    "    try: print(open(place).read())\n    except OSError: pass\nimport os; print(os.environ)",
    "read the memory of others": "import glob\nfor place in glob.glob('/proc/*/mem'):\n"
    "    if 'self' in place: continue\n    try: open(place, 'rb').read(1); print(GOT, place)\n    except OSError: pass",
    "write the secret": "open('{secret}', 'w').write('x')",
    "write where programs are found": "import os\nfor place in ('/usr/local/bin/x', '/usr/lib/x', '/etc/x', '/bin/x'):\n"
    "    try: open(place, 'w'); print(GOT, place)\n    except OSError: pass",
    "signal a process of the host": "import os; os.kill({pid}, 0); print(GOT)",
    "write to the kernel": "for place in ('/proc/sysrq-trigger', '/proc/sys/kernel/core_pattern', '/proc/sys/vm/drop_caches',\n"
    "    '/sys/fs/cgroup/memory/release_agent', '/sys/kernel/uevent_helper'):\n"
    "    try: open(place, 'w').write('x'); print(GOT, place)\n    except OSError: pass",
    "open the machine's devices": "import os\nfor name in ('mem', 'kmem', 'kvm', 'vda', 'sda', 'fuse', 'vsock', 'vhost-vsock', 'net/tun', 'kmsg'):\n"
    "    try: os.open('/dev/' + name, os.O_RDONLY); print(GOT, name)\n    except OSError: pass",
    "make a device": "import os; os.mknod('disk', 0o60600, os.makedev(254, 0)); os.open('disk', 0); print(GOT)",
    "become root": "import os\nfor f in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0]), lambda: os.chroot('/')):\n"
    "    try: f(); print(GOT)\n    except (OSError, AttributeError): pass",
    "type into the host's terminal": "import os, fcntl; fcntl.ioctl(os.open('/dev/tty', 2), 0x5412, b'x'); print(GOT)",
    "a socket of another family": "import socket\nfor family in (16, 17, 29, 38, 40, 44):\n"
    "    try: socket.socket(family, socket.SOCK_RAW); print(GOT, family)\n    except OSError: pass\n"
    "    try: socket.socket(family, socket.SOCK_STREAM); print(GOT, family)\n    except OSError: pass",
    "start a program": "import subprocess; subprocess.run(['/bin/true']); print(GOT)",
    "raw packets": "import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); print(GOT)",
}


@every_confinement
@pytest.mark.parametrize("attack", REACH)
def test_nothing_of_the_host_is_reached(box: str, attack: str, host: tuple[Host, list[socket.socket]]) -> None:
    there, listeners = host
    code = REACH[attack]
    for name, value in {**there._asdict(), "pid": os.getpid(), "address": socket.gethostbyname(socket.gethostname())}.items():
        code = code.replace("{" + name + "}", str(value))
    result = run(code, box, timeout_s=10)
    assert result.fault in (None, "exception")
    assert "ESCAPED" not in result.output and SECRET not in result.output, result.output
    assert not any(map(heard, listeners))
    assert there.secret.read_text() == SECRET


def test_the_same_programs_do_reach_a_host_that_nothing_confines(host: tuple[Host, list[socket.socket]]) -> None:
    """Or the attacks would prove nothing."""
    there, listeners = host
    for attack, listener in (("TCP to the loopback", 0), ("UDP", 1), ("unix socket", 2), ("abstract unix socket", 3)):
        code = REACH[attack]
        for name, value in there._asdict().items():
            code = code.replace("{" + name + "}", str(value))
        run(code, "limits", timeout_s=20)
        assert heard(listeners[listener]), attack
    run(REACH["write the secret"].replace("{secret}", str(there.secret)), "limits", timeout_s=20)
    assert there.secret.read_text() == "x"


KERNEL = {
    "mount": 'call(NR["mount"], b"none", b"/work/home", b"tmpfs", 0, 0)',
    "ptrace": 'call(NR["ptrace"], 16, os.getppid(), 0, 0)',
    "process_vm_readv": 'call(NR["process_vm_readv"], os.getppid(), 0, 0, 0, 0, 0)',
    "pidfd_getfd": 'call(NR["pidfd_getfd"], os.pidfd_open(os.getppid()), 0, 0)',
    "unshare": 'call(NR["unshare"], 0x10000000)',
    "clone": 'call(NR["clone"], 0x10000000 | 17, 0, 0, 0, 0)',
    "setns": 'call(NR["setns"], os.open("/proc/self/ns/net", 0), 0)',
    "keyctl": 'call(NR["keyctl"], 0, -3, 1)',
    "add_key": 'call(NR["add_key"], b"user", b"x", b"x", 1, -3)',
    "bpf": 'call(NR["bpf"], 5, 0, 0)',
    "perf_event_open": 'call(NR["perf_event_open"], 0, 0, 0, 0, 0)',
    "userfaultfd": 'call(NR["userfaultfd"], 1)',
    "io_uring_setup": 'call(NR["io_uring_setup"], 8, 0)',
    "name_to_handle_at": 'call(NR["name_to_handle_at"], -100, b"/", 0, 0, 0)',
    "open_by_handle_at": 'call(NR["open_by_handle_at"], -100, 0, 0)',
    "syslog": 'call(NR["syslog"], 2, 0, 0)',
    "personality": 'call(NR["personality"], 0x0040000)',
    "pivot_root": 'call(NR["pivot_root"], b".", b".")',
    "chroot": 'call(NR["chroot"], b".")',
    "reboot": 'call(NR["reboot"], 0, 0, 0, 0)',
    "clock_settime": 'call(NR["clock_settime"], 0, 0)',
}


@needs_bwrap
@pytest.mark.skipif(not NUMBERS, reason="no numbers of this machine's system calls")
@pytest.mark.parametrize("attack", KERNEL)
def test_the_kernels_doors_are_shut_by_the_filter_before_it_looks(attack: str) -> None:
    """EPERM even for arguments that make no sense (else EFAULT or EINVAL): the call was not tried."""
    result = run(f"NR = {NUMBERS}\n{CALL}\n{KERNEL[attack]}")
    assert "ESCAPED" not in result.output
    assert f"[Errno {errno.EPERM}]" in result.output, result.output


@needs_bwrap
@pytest.mark.skipif(platform.machine() != "x86_64", reason="only there can a call be made under a second number")
def test_calls_under_their_x32_numbers_do_not_exist() -> None:
    result = run(f"{CALL}\ncall(0x40000000 + {NUMBERS['mount']}, 0, 0, 0, 0, 0)")
    assert f"[Errno {errno.ENOSYS}]" in result.output


@needs_bwrap
def test_a_link_out_of_the_box_leads_nowhere_when_the_host_reads_it(host: tuple[Host, list[socket.socket]]) -> None:
    async def work(workspace: Workspace) -> None:
        await workspace.python(f"import os; os.symlink({str(host[0].secret)!r}, 'link')")
        with pytest.raises(OSError, match="No such file"):
            await workspace.read("link")
        with pytest.raises((FileNotFoundError, ValueError), match="No such file|Read-only"):
            await workspace.write("link", b"x")

    within(work)
    assert host[0].secret.read_text() == SECRET


FORKS = """
import os, resource, time
most = resource.getrlimit(resource.RLIMIT_NPROC)[1]
resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
"""
ONLY_ITS_OWN = "import os; print(sorted(int(p) for p in os.listdir('/proc') if p.isdigit())[2:] == [os.getpid()])"


@needs_bwrap
@pytest.mark.parametrize(
    "code",
    [
        FORKS + "for _ in range(300):\n    if os.fork() == 0: time.sleep(100)",
        FORKS + "while True: os.fork()",
        FORKS + "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(100)\n    os._exit(0)",
        FORKS
        + "for _ in range(20):\n    if os.fork() == 0:\n        held = []\n        while True: held.append(b'1' * (1 << 20))",
    ],
    ids=["300 processes", "bomb", "daemon", "20 times the memory"],
)
def test_processes_end_with_the_call_that_made_them(code: str) -> None:
    async def work(workspace: Workspace) -> str:
        await workspace.python(code)
        return (await workspace.python(ONLY_ITS_OWN)).output

    assert within(work, timeout_s=1.0, memory_mb=64, processes=8, copies=8) == "True\n"


@needs_bwrap
@pytest.mark.parametrize(
    "command",
    [
        ":(){ :|:& };:; sleep 100",
        "nohup setsid sleep 1000 >/dev/null 2>&1 & disown",
        "(setsid bash -c 'trap \"\" TERM HUP INT; while :; do :; done' &) ; exit",
        "yes > /dev/null",
        "trap '' TERM; while :; do :; done",
    ],
    ids=["bomb", "daemon", "deaf daemon", "endless", "deaf"],
)
def test_a_shells_processes_end_with_its_command(command: str) -> None:
    async def work(workspace: Workspace) -> str:
        await workspace.shell(command)
        return (await workspace.python(ONLY_ITS_OWN)).output

    assert within(work, timeout_s=0.5, processes=8) == "True\n"


@needs_bwrap
def test_ten_gigabytes_of_output_lose_their_middle() -> None:
    async def work(workspace: Workspace) -> tuple[Ran, Ran]:
        return await workspace.shell("echo start; head -c 10G /dev/zero | tr '\\0' x; echo end"), await workspace.shell(
            "echo after"
        )

    result, after = within(work, timeout_s=3.0, output_chars=100)
    assert result.output.startswith("start\nxxx") and len(result.output) < 200
    left_out = re.search(r"\[(\d+) characters left out\]", result.output)
    assert left_out and int(left_out[1]) > 1_000_000
    assert after == Ran("after\n", code=0)


@every_sandbox
def test_a_process_that_floods_its_channel_is_ended(box: str) -> None:
    flood = "import os\nfor fd in range(3, 64):\n    try:\n        while True: os.write(fd, b'{\"id\": 1}\\n' * 4096)\n    except OSError: pass"
    assert run(flood, box, timeout_s=60).fault == "died"


@needs_bwrap
def test_a_full_disk_is_an_error_of_the_code_and_no_byte_more() -> None:
    code = "n = 0\ntry:\n    while True:\n        open(f'{n}', 'wb').write(bytes(1 << 20)); n += 1\nexcept OSError as e: print(n, e.errno)"
    files, error = map(int, run(code, disk_mb=8, timeout_s=20).output.split())
    assert files <= 8 and error == errno.ENOSPC


@needs_bwrap
def test_all_processes_together_meet_the_memory_limit() -> None:
    group = Group.make(1 << 26, 10)
    if group is None:
        pytest.skip("no control group can be made here: the limit holds for each process alone")
    asyncio.run(group.end())
    # Ten processes of 60 MiB, each within its own limit of 128 MiB; the box has about 500 MiB.
    command = "for i in 1 2 3 4 5 6 7 8 9 10; do head -c 60M /dev/zero | tail -c 60M | (sleep 1; wc -c) & done; wait"
    output = within(lambda workspace: workspace.shell(command), memory_mb=128, disk_mb=8, timeout_s=20, processes=64).output
    assert 0 < output.count(str(60 << 20)) < 10


@needs_bwrap
def test_runs_leave_no_process_no_file_and_no_descriptor_behind(tmp_path: Path) -> None:
    """In a process of its own: what other tests open and close does not disturb the count."""
    ran = subprocess.run(
        [sys.executable, Path(__file__).with_name("leaves_nothing.py"), tmp_path], capture_output=True, text=True, timeout=120
    )
    assert (ran.returncode, ran.stdout) == (0, "9 runs left nothing\n"), ran.stderr
    assert not list(tmp_path.iterdir())
