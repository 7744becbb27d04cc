"""Control groups: both versions on a folder that looks like the kernel's, and the real ones where this machine lets us."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from sojourn.tools.sandbox import cgroup


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stub of /sys/fs/cgroup: plain folders; making a group makes no files in it."""
    monkeypatch.setattr(cgroup, "ROOT", tmp_path)
    return tmp_path


def listing(tree: Path, text: str) -> dict[str, Path]:
    file = tree / "listing"
    file.write_text(text)
    return dict(cgroup._own(tree, file))


def test_a_process_finds_its_own_group_so_that_its_limits_hold_for_boxes_too(tree: Path) -> None:
    for folder in ("memory/mine", "pids"):
        (tree / folder).mkdir(parents=True)
    found = listing(tree, "9:name=systemd:/\n4:memory:/mine\n3:cpu,pids:/elsewhere\n")
    assert found == {"memory": tree / "memory/mine", "pids": tree / "pids"}


def test_version_2_has_one_folder_for_all(tree: Path) -> None:
    (tree / "user").mkdir()
    assert listing(tree, "0::/user\n") == {"": tree / "user"}


def test_limits_are_written_where_each_version_reads_them(tree: Path) -> None:
    one, two = cgroup.Group({"memory": tree, "pids": tree}, 1), cgroup.Group({"memory": tree, "pids": tree}, 2)
    for group in (one, two):
        group.limit(1 << 20, 7)
    written = [{file.name: file.read_text() for file in group.folders["memory"].iterdir()} for group in (one, two)]
    assert written == [
        {"memory.limit_in_bytes": "1048576", "memory.memsw.limit_in_bytes": "1048576", "pids.max": "7"},
        {"memory.max": "1048576", "memory.swap.max": "0", "pids.max": "7"},
    ]


def test_what_a_killed_run_left_behind_is_removed_and_what_lives_is_not(tree: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    for owner in (ended.pid, os.getpid()):
        (tree / f"sojourn-{owner}-0").mkdir()
    cgroup._sweep(tree)
    assert [path.name for path in tree.iterdir()] == [f"sojourn-{os.getpid()}-0"]


def test_where_no_group_can_be_made_there_is_none(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "_parents", lambda: (1, {"memory": tree / "absent", "pids": tree / "absent"}))
    assert cgroup.Group.make(1 << 20, 7) is None
    monkeypatch.setattr(cgroup, "_parents", lambda: (1, {}))
    assert cgroup.Group.make(1 << 20, 7) is None


def test_a_command_joins_its_group_and_the_end_of_the_group_is_its_end() -> None:
    group = cgroup.Group.make(1 << 26, 3)
    if group is None:
        pytest.skip("no control group can be made on this machine")
    process = subprocess.Popen([*group.joining(), "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.read(1) == b"\n"
    assert group.processes() == [process.pid]
    group.limit(1 << 27, 4)
    group.limit(1 << 25, 2)  # up and down again
    asyncio.run(group.end())
    assert process.wait() == -9
    assert not any(folder.exists() for folder in group.folders.values())
