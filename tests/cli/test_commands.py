"""The command line itself: help, mistakes, exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest

from sojourn import cli
from sojourn.cli import COMMANDS
from sojourn.core import InfrastructureError
from sojourn.store import DiskFullError


def test_help_lists_all_commands(sojourn) -> None:
    code, out, _ = sojourn("--help")
    assert code == 0
    assert all(f"  {name} " in out for name in COMMANDS)


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from sojourn.cli import main; main(['--help']); print(sorted({'torch', 'numpy', 'tyro'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(sojourn, name: str) -> None:
    code, out, _ = sojourn(name, "--help")
    assert code == 0
    assert f"sojourn {name}" in out


def test_an_unknown_command_suggests_the_nearest(sojourn) -> None:
    code, _, err = sojourn("trian")
    assert code == 2
    assert "did you mean 'train'?" in err


def test_an_unknown_environment_suggests_the_nearest(sojourn) -> None:
    code, _, err = sojourn("check", "math/tool_arithmetics")
    assert code == 2
    assert err == "error: there is no environment 'math/tool_arithmetics': did you mean 'math/tool_arithmetic'?\n"


def test_a_folder_that_is_no_run_is_told(sojourn) -> None:
    code, _, err = sojourn("report", "nowhere")
    assert code == 2
    assert "nowhere is no run folder" in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("wrong"), 2),
        (InfrastructureError("broke"), 1),
        (DiskFullError(Path("run/x"), 0), 1),
        (ImportError("missing"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_are_one_message_and_an_exit_code(
    sojourn, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("sojourn.cli.lists.envs", fail)
    found, _, err = sojourn("envs")
    assert found == code
    assert "Traceback" not in err
    assert str(error) in err


def test_an_error_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("sojourn.cli.lists.envs", fail)
    with pytest.raises(KeyError):
        cli.main(["envs"])


def test_lists_name_what_there_is(sojourn) -> None:
    assert "math/tool_arithmetic" in sojourn("envs")[1]
    assert "quickstart" in sojourn("recipes")[1]
    assert "dapo" in sojourn("explain")[1]
    assert "arXiv 2503.14476" in sojourn("explain", "dapo")[1]


def test_an_environment_is_checked(sojourn) -> None:
    code, out, _ = sojourn("check", "math/tool_arithmetic")
    assert code == 0
    assert "by the oracle" in out
