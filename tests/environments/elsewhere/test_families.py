"""Families of worlds: what is installed is said as it is, what is missing is named with the command that brings it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sojourn.environments.elsewhere import family as families
from sojourn.environments.elsewhere.family import Family, here_or_elsewhere
from sojourn.environments.listing import ENVIRONMENTS, family_of

ABSENT = Family("stub", ("no_such_package",))


@pytest.fixture(autouse=True)
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of families of its own, with one in it."""
    monkeypatch.setenv("SOJOURN_WORLDS", str(tmp_path / "venvs"))
    monkeypatch.setattr(families, "ROOM", tmp_path)
    (tmp_path / "stub").mkdir()
    (tmp_path / "stub" / "requirements.txt").write_text("# debian: no-such-deb no_such_command\n# debian: sh sh\nnumpy\n")
    return tmp_path


def test_a_family_is_here_in_its_own_venv_outdated_or_not_there(room: Path) -> None:
    assert Family("stub", ("numpy",)).state == "here"
    assert ABSENT.state == "no"
    ABSENT.venv.mkdir(parents=True)
    assert ABSENT.state == "no", "a venv that was half made is none"
    (ABSENT.venv / "sojourn-installed.txt").write_text(ABSENT.requirements.read_text())
    assert (ABSENT.state, ABSENT.interpreter()) == ("own venv", str(room / "venvs/stub/bin/python"))
    ABSENT.requirements.write_text("numpy>=2\n")
    assert ABSENT.state == "outdated"


def test_what_is_not_installed_is_told_with_its_command() -> None:
    with pytest.raises(ImportError, match="sojourn envs install stub"):
        ABSENT.interpreter()
    with pytest.raises(ImportError, match="no_such_package.*sojourn envs install stub"):
        here_or_elsewhere(ABSENT, "elsewhere_stub:wants_a_package")


def test_a_world_whose_packages_are_here_is_played_in_this_process() -> None:
    world = here_or_elsewhere(Family("stub", ("numpy",)), "elsewhere_stub:counter")
    assert not hasattr(world.make, "pool")


def test_debian_packages_that_are_missing_are_named() -> None:
    assert ABSENT.missing() == ["no-such-deb"]


def test_a_failed_install_leaves_no_venv_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(command: object) -> None:
        raise ImportError("pip said no")

    monkeypatch.setattr(families, "_run", fail)
    with pytest.raises(ImportError, match="pip said no"):
        ABSENT.install()
    assert ABSENT.state == "no"


def test_every_family_on_the_list_ships_its_requirements_and_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for listing in ENVIRONMENTS.values():
        if listing.family is not None:
            assert not listing.family.modules or "numpy" in listing.family.requirements.read_text()  # `core` needs it
            assert family_of(listing.family.name) is listing.family
        assert listing.tasks and listing.licence
    with pytest.raises(ValueError, match="choose one of .*gymnasium"):
        family_of("alfred")


def test_a_worker_needs_numpy_and_nothing_else_of_what_sojourn_needs() -> None:
    """A family's venv has its own requirements only."""
    program = """
import importlib.abc, sys
sys.path.insert(0, {source!r})
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if path is None and name not in sys.stdlib_module_names and name not in ("sojourn", "numpy"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import sojourn.environments.elsewhere.worker
import sojourn.environments.text.textworld_express
"""
    source = str(Path(families.__file__).parents[3])
    subprocess.run([sys.executable, "-c", program.format(source=source)], check=True, capture_output=True, timeout=100)
