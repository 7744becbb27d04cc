"""A workspace: one place for files, Python and a shell; and copies of it that cannot be told from their origin."""

import asyncio
import gc
import os
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from confined import every_sandbox, needs_bwrap, needs_wasm, of_kind

from sojourn.core import FailureKind, InfrastructureError
from sojourn.tools import Limits, Pool, PythonInterpreter, Ran, Shell, Workspace

Work = Callable[[Workspace], Coroutine[Any, Any, Any]]


def within(work: Work, box: str = "bubblewrap", **limits: Any) -> Any:
    async def episode() -> Any:
        async with asyncio.timeout(150), Workspace(Limits(**limits), sandbox=of_kind(box)) as workspace:
            return await work(workspace)

    return asyncio.run(episode())


async def told(workspace: Workspace, code: str) -> str:
    ran = await workspace.python(code)
    assert ran.fault is None, ran
    return ran.output


async def said(workspace: Workspace, command: str) -> str:
    ran = await workspace.shell(command)
    assert ran.code == 0, ran
    return ran.output


def commands(*lines: str, **limits: Any) -> list[Ran]:
    async def work(workspace: Workspace) -> list[Ran]:
        return [await workspace.shell(line) for line in lines]

    results: list[Ran] = within(work, **limits)
    return results


@needs_bwrap
@pytest.mark.parametrize(
    ("before", "after", "seen"),
    [
        ("cd /usr/lib", "pwd", "/usr/lib\n"),
        ("cd /usr; cd /usr/lib", "cd - ", "/usr\n"),
        ("x=3; y='a  b\n\"c'", 'echo "$x $y"', '3 a  b\n"c\n'),
        ("export FOO=bar", "bash -c 'echo $FOO'", "bar\n"),
        ("a=(1 'two words' 3); declare -A m=([k]=v)", 'echo "${#a[@]} ${a[1]} ${m[k]}"', "3 two words v\n"),
        ("f() { local z=$1; echo \"f $z $x\"; }; x=7", "f 5", "f 5 7\n"),
        ("alias hi='echo hello'", "hi", "hello\n"),
        ("shopt -s extglob nullglob; set -o noglob", "shopt -q extglob && [ -o noglob ] && echo *", "*\n"),
        ("readonly r=1; umask 027", "echo $r; umask", "1\n0027\n"),
        ("x=1; exit 0", "echo $x", "1\n"),
        ("x=1; false", "echo $x", "1\n"),
        ("set -e; x=1", "echo $x", "1\n"),
        ("ä=1 2>/dev/null; x=$'\\xff\\xc3\\xa4'", "printf '%s' \"$x\" | od -An -tx1", " ff c3 a4\n"),
    ],
)  # fmt: skip
def test_a_shell_goes_on_where_the_last_command_left_it(before: str, after: str, seen: str) -> None:
    assert commands(before, after)[-1] == Ran(seen, code=0)


@needs_bwrap
@pytest.mark.parametrize(
    ("command", "code"),
    [("true", 0), ("false", 1), ("exit 7", 7), ("kill -9 $$", 137), ("no_such_program 2>/dev/null", 127), ("(", 2), ("trap 'x' EXIT; exit 5", 5)],
)  # fmt: skip
def test_the_exit_code_is_the_commands_own(command: str, code: int) -> None:
    first, after = commands(command, "echo fine")
    assert first.code == code
    assert after == Ran("fine\n", code=0)


@needs_bwrap
@pytest.mark.parametrize("command", ["echo \0", "echo \ud800", "#" * 200_000])
def test_a_command_that_cannot_be_run_says_why(command: str) -> None:
    result, after = commands(command, "echo fine")
    assert result.code == 127 and result.output.startswith("the command cannot be run: ")
    assert after == Ran("fine\n", code=0)


@needs_bwrap
def test_a_command_that_takes_too_long_loses_nothing_but_itself() -> None:
    _, slow, after = commands("x=1; echo kept >file", "echo begun; x=2; sleep 1000", "echo $x; cat file", timeout_s=0.5)
    assert slow == Ran("begun\n", "timeout")
    assert after.output == "1\nkept\n"


@needs_bwrap
def test_a_long_output_loses_its_middle() -> None:
    (result,) = commands("printf '<'; head -c 1000000 /dev/zero | tr '\\0' x; printf '>'", output_chars=100, timeout_s=20)
    assert result.output == f"<{'x' * 49}\n... [999902 characters left out] ...\n{'x' * 49}>"


@needs_bwrap
def test_python_and_the_shell_see_the_same_files_and_so_does_the_host() -> None:
    async def work(workspace: Workspace) -> None:
        await workspace.write("data/in.txt", b"one\n")
        assert await said(workspace, "cat data/in.txt; echo two >>data/in.txt") == "one\n"
        assert await told(workspace, "print(open('data/in.txt').read(), end='')") == "one\ntwo\n"
        await workspace.python("open('out', 'wb').write(bytes(range(256)) * 10_000)")
        assert await workspace.read("out") == bytes(range(256)) * 10_000
        await workspace.write("big", bytes(3 << 20))
        assert len(await workspace.read("big")) == 3 << 20 and await workspace.read("data/in.txt") == b"one\ntwo\n"
        await workspace.write("empty", b"")
        assert await workspace.read("empty") == b""
        with pytest.raises(FileNotFoundError, match="absent"):
            await workspace.read("absent")
        with pytest.raises(IsADirectoryError):
            await workspace.write("data", b"")
        with pytest.raises(ValueError, match="File too large"):  # the agent's doing, no failure of the machine
            await workspace.write("huge", bytes(17 << 20))

    within(work)


@needs_bwrap
def test_files_outlive_an_interpreter_that_had_to_be_killed() -> None:
    async def work(workspace: Workspace) -> None:
        await workspace.python("open('file', 'w').write('kept')")
        assert await workspace.python("import os; os._exit(3)") == Ran("", "died", lost="variables", how="exit code 3")
        assert await told(workspace, "print(open('file').read())") == "kept\n"

    within(work)


@every_sandbox
def test_files_go_in_and_out_of_every_sandbox_that_has_files(box: str) -> None:
    async def work(workspace: Workspace) -> bytes:
        await workspace.write("in", b"\0\xff")
        await workspace.python("open('out', 'wb').write(open('in', 'rb').read() * 2)")
        return await workspace.read("out")

    assert within(work, box) == b"\0\xff\0\xff"


@needs_bwrap
def test_tools_of_one_workspace_tell_the_agent_what_came_of_it() -> None:
    async def work(workspace: Workspace) -> None:
        shell, python = Shell(workspace=workspace), PythonInterpreter(workspace=workspace)
        assert (await shell.call({"command": "echo 5 >x; grep nothing x"})).text == "(exit code 1)"
        assert (await shell.call({"command": "printf a; false"})).text == "a\n(exit code 1)"
        assert (await shell.call({"command": "true"})).text == "(no output)"
        assert (await python.call({"code": "open('x').read()"})).text == "'5\\n'\n"
        slow = await shell.call({"command": "echo so far; sleep 1000"})
        assert (slow.error, slow.kind) == (True, FailureKind.BUDGET)
        assert slow.text == "so far\nThe time limit of 0.5 s was reached. The shell is where it was before the command."

    within(work, timeout_s=0.5)


BUILT = """
import itertools, os, random
random.seed(7)
random.random()
def squares():
    for i in itertools.count():
        yield i * i
ones = squares(); next(ones); next(ones)
os.makedirs('deep/er'); os.chdir('deep')
log = open('log', 'w+'); log.write('not yet on the disk')
lines = open('/usr/lib/os-release'); lines.readline()
import tempfile
nameless = tempfile.TemporaryFile(); nameless.write(b'abcdef'); nameless.seek(2); twin = os.dup(nameless.fileno())
os.symlink('log', 'link'); os.link('log', 'other'); os.chmod('er', 0o500)
class Odd:
    def __reduce__(self): raise TypeError('cannot be pickled')
odd = Odd(); loop = [odd]; loop.append(loop)
"""
PROBED = """
log.write('+'); log.flush(); log.seek(0)
print(random.random(), next(ones), os.getcwd(), repr(log.read()), lines.readline(), nameless.read(), nameless.tell(), os.lseek(twin, 0, 1))
print(os.readlink('link'), os.stat('log').st_nlink, oct(os.stat('er').st_mode), loop[1][1] is loop, sorted(os.listdir('/work/home')))
print(sorted(vars()), __name__)
1 / 0
"""


async def probe(workspace: Workspace) -> tuple[Ran, Ran, bytes]:
    """What can be told of a state; telling changes it."""
    return (
        await workspace.python(PROBED),
        await workspace.shell(
            'echo "$n $PWD"; say; ls -ld --time-style=+%s.%N /work/home/deep/er /work/home/deep/link; RANDOM=; n=$((n + 1))'
        ),
        await workspace.read("/work/home/deep/log"),
    )


@needs_bwrap
def test_a_hundred_forks_equal_their_origin() -> None:
    async def work(origin: Workspace) -> None:
        await origin.python(BUILT)
        await said(origin, "cd /usr; n=4; say() { echo \"say $n\"; }")  # fmt: skip
        forks = [await origin.fork() for _ in range(100)]
        probed = [await probe(fork) for fork in forks]
        expected = await probe(origin)
        assert "'not yet on the disk+'" in expected[0].output and "<cell 2>" in expected[0].output
        assert expected[1].output.startswith("4 /usr\nsay 4\n") and expected[2] == b"not yet on the disk+"
        assert all(there == expected for there in probed)
        for fork in forks:
            await fork.close()

    within(work)


@needs_bwrap
def test_a_snapshot_gives_the_same_state_any_number_of_times() -> None:
    async def work(workspace: Workspace) -> None:
        await workspace.python(BUILT)
        await said(workspace, "n=4; say() { echo \"say $n\"; }")  # fmt: skip
        snapshot = await workspace.snapshot()
        expected = await probe(workspace)
        assert await probe(workspace) != expected
        for _ in range(5):
            await workspace.restore(snapshot)
            assert await probe(workspace) == expected
        later = await workspace.snapshot()
        after = await probe(workspace)
        await workspace.restore(snapshot)
        await workspace.restore(later)
        assert await probe(workspace) == after

    within(work)


@needs_bwrap
def test_forks_go_their_own_ways() -> None:
    async def work(first: Workspace) -> None:
        await first.python("x = [0]; f = open('f', 'w+'); f.write('0'); f.flush()")
        second = await first.fork()
        third = await second.fork()
        for number, workspace in enumerate((first, second, third, first, second), start=1):
            await workspace.python(f"x.append({number}); f.write('{number}'); f.flush()")
        seen = [await told(workspace, "print(x, open('/work/home/f').read())") for workspace in (first, second, third)]
        assert seen == ["[0, 1, 4] 014\n", "[0, 2, 5] 025\n", "[0, 3] 03\n"]
        await first.close()
        assert await told(second, "print(x)") == "[0, 2, 5]\n"
        await second.close()
        await third.close()

    within(work)


@needs_bwrap
def test_forks_at_once_answer_as_one_after_the_other() -> None:
    async def work(origin: Workspace) -> list[str]:
        await origin.python("x = 1")
        forks = [await origin.fork() for _ in range(8)]
        code = "import os, time\nopen('mine', 'a').write(str(x))\ntime.sleep(0.01)\nx += {}\nprint(x, open('mine').read())"
        seen = await asyncio.gather(*(told(fork, code.format(number)) for number, fork in enumerate(forks)))
        await asyncio.gather(*(fork.close() for fork in forks))
        return list(seen)

    assert within(work) == [f"{1 + number} 1\n" for number in range(8)]


@needs_bwrap
def test_the_state_before_an_interpreter_was_killed_can_be_had_again() -> None:
    async def work(workspace: Workspace) -> str:
        await workspace.python("x = 5")
        snapshot = await workspace.snapshot()
        assert (await workspace.python("import os; os._exit(1)")).lost == "variables"
        await workspace.restore(snapshot)
        return await told(workspace, "print(x)")

    assert within(work) == "5\n"


@needs_bwrap
@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import os; ends = os.pipe()", "file descriptor [0-9]+ is open on 'pipe:"),
        ("import socket; s = socket.socket()", "is open on 'socket:"),
        ("import mmap; m = mmap.mmap(-1, 4096)", "memory is mapped as shared"),
        ("import os; os.mkfifo('queue')", "'/work/home/queue' is neither a file nor a folder nor a link"),
        (
            "import resource, threading\nresource.setrlimit(resource.RLIMIT_NPROC, (90, 160))\n"
            "import time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()",
            "1 threads are running",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_copied_exactly_is_refused_by_name_and_goes_on(code: str, why: str) -> None:
    async def work(workspace: Workspace) -> None:
        await told(workspace, code + "\nx = 1")
        with pytest.raises(InfrastructureError, match=f"cannot be copied: .*{why}"):
            await workspace.snapshot()
        assert await told(workspace, "print(x)") == "1\n"

    within(work)


@needs_bwrap
def test_a_snapshot_that_nobody_wants_any_more_gives_its_process_and_files_back() -> None:
    async def work(workspace: Workspace) -> tuple[str, str]:
        await workspace.python("x = open('big', 'wb').write(bytes(6 << 20))")
        for _ in range(5):  # each takes 6 of 16 MiB
            snapshot = await workspace.snapshot()
            del snapshot
            gc.collect()
        count = "len([p for p in __import__('os').listdir('/proc') if p.isdigit()])"
        return await told(workspace, count), await said(workspace, "ls /work/aside")

    assert within(work, disk_mb=16) == ("3\n", "")


@needs_bwrap
def test_the_disk_that_copies_share_is_an_error_that_says_so() -> None:
    async def work(workspace: Workspace) -> str:
        await workspace.python("x = open('big', 'wb').write(bytes(6 << 20))")
        with pytest.raises(InfrastructureError, match="cannot be copied: .*No space left"):
            await workspace.snapshot()
        return await told(workspace, "print(x)")

    assert within(work, disk_mb=8) == f"{6 << 20}\n"


@needs_bwrap
def test_copies_have_a_limit_that_is_named() -> None:
    async def work(workspace: Workspace) -> None:
        await workspace.python("1")
        kept = [await workspace.snapshot() for _ in range(2)]
        with pytest.raises(InfrastructureError, match=r"there are 3 copies already \(raise copies\)"):
            await workspace.snapshot()
        assert kept

    within(work, copies=3)


@needs_bwrap
def test_a_session_that_another_one_killed_is_nobodys_result() -> None:
    async def work(workspace: Workspace) -> None:
        await workspace.python("x = 1")
        other, snapshot = await workspace.fork(), await workspace.snapshot()
        killed = await workspace.python("import os; os.kill(-1, 9)")
        assert (killed.fault, killed.lost) == ("died", "everything")
        with pytest.raises(InfrastructureError, match="ended by another session in it, or from outside"):
            await other.python("x")
        with pytest.raises(InfrastructureError, match="the snapshot is gone"):
            await workspace.restore(snapshot)
        assert "NameError" in (await workspace.python("x")).output

    within(work)


@needs_bwrap
def test_neither_the_warden_nor_another_session_lets_its_memory_be_read() -> None:
    code = (
        "import os\nfor p in os.listdir('/proc'):\n    if not p.isdigit() or int(p) in (1, os.getpid()): continue\n"
        "    for name in ('maps', 'mem', 'environ'):\n"
        "        try: open(f'/proc/{p}/{name}', 'rb').read(1); print('ESCAPED', p, name)\n        except PermissionError: pass"
    )

    async def work(workspace: Workspace) -> str:
        await workspace.python("secret = 'hunter2'")
        kept = await workspace.snapshot()
        assert kept
        return await told(workspace, code)

    assert within(work) == ""


@pytest.mark.parametrize("box", ["limits", pytest.param("wasm", marks=needs_wasm)])
def test_only_bubblewrap_has_shells_and_copies_and_the_error_says_so(box: str) -> None:
    async def work(workspace: Workspace) -> None:
        for call in (workspace.shell("true"), workspace.snapshot(), workspace.fork()):
            with pytest.raises(NotImplementedError, match=f"a sandbox of kind '{box}' has no .*; install bubblewrap"):
                await call

    within(work, box)


@needs_wasm
def test_python_in_webassembly_keeps_its_variables_and_is_told_what_it_loses() -> None:
    async def work(workspace: Workspace) -> None:
        assert await told(workspace, "x = 6\nprint(x * 7)") == "42\n"
        assert (await workspace.python("held = []\nwhile True: held.append(bytes(1 << 20))")).output.endswith("MemoryError\n")
        assert await told(workspace, "held = None; print(x)") == "6\n"
        assert await workspace.python("print('so far')\nwhile True: pass") == Ran("so far\n", "timeout", lost="everything")
        assert "NameError" in (await workspace.python("x")).output

    within(work, "wasm", timeout_s=2.0)


@every_sandbox
def test_a_pool_has_boxes_ready_that_nobody_has_used(box: str) -> None:
    async def episodes() -> list[str]:
        pool = Pool(2, Limits(timeout_s=3.0), sandbox=of_kind(box))
        await pool.warm()
        seen = []
        for _ in range(4):
            async with Workspace(pool=pool) as workspace:
                seen.append(await told(workspace, "import os\nprint('x' in vars(), os.listdir())\nx = open('left', 'w')"))
        await pool.close()
        return seen

    before = len(os.listdir("/proc/self/fd"))
    assert asyncio.run(episodes()) == ["False []\n"] * 4
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_a_pool_says_limits_and_sandbox_itself() -> None:
    with pytest.raises(ValueError, match="give them to the pool"):
        Workspace(Limits(), pool=Pool(1))
    with pytest.raises(ValueError, match="a pool of 0 boxes"):
        Pool(0)
    with pytest.raises(ValueError, match="Limits.memory_mb is 0"):
        Limits(memory_mb=0)
