"""`sojourn doctor`: what is missing comes with the command that fixes it, and what is broken with exit code 1."""

from importlib.metadata import PackageNotFoundError

import pytest

from sojourn.cli import doctor
from sojourn.tools import Sandbox, Unconfined


def missing(name: str) -> str:
    raise PackageNotFoundError(name)


def test_missing_packages_come_with_their_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", missing)
    found = {finding.what: finding for finding in (*doctor.packages(), *doctor.extras())}
    assert (found["pyarrow"].state, found["pyarrow"].remedy) == ("bad", "pip install pyarrow")
    assert (found["reasoning-gym"].state, found["reasoning-gym"].remedy) == ("note", "pip install 'sojourn[envs-reasoning]'")


def test_where_nothing_confines_code_the_note_has_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def best() -> Sandbox:
        raise Unconfined("nothing here can confine the code that agents write")

    monkeypatch.setattr(Sandbox, "best", best)
    monkeypatch.setattr("shutil.which", lambda name: None)
    finding = doctor.sandbox()
    assert (finding.state, finding.remedy) == ("note", "apt-get install bubblewrap")
    assert "nothing here can confine" in finding.found


def test_the_sandbox_that_works_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sandbox, "best", lambda: Sandbox("wasm", "/usr/bin/python3"))
    assert doctor.sandbox() == doctor.Finding("sandbox", "ok", "wasm, /usr/bin/python3")


def test_engine_and_learner_agree_and_a_disagreement_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sojourn.cli.play.local_folder", lambda name: None)
    (agreed,) = doctor.agreement()
    assert agreed.state == "ok"

    def disagree(trainer: object) -> float:
        raise ValueError("engine and learner disagree")

    monkeypatch.setattr("sojourn.training.setup.check_contract", disagree)
    (finding,) = doctor.agreement()
    assert finding.state == "bad"


@pytest.mark.parametrize(("states", "code"), [(("ok", "note"), 0), (("ok", "bad"), 1)])
def test_the_exit_code_says_whether_anything_is_broken(
    sojourn, monkeypatch: pytest.MonkeyPatch, states: tuple[doctor.State, ...], code: int
) -> None:
    monkeypatch.setattr(
        doctor, "findings", lambda contract: iter([doctor.Finding(s, s, f"found {s}", f"remedy {s}") for s in states])
    )
    found, out, _ = sojourn("doctor")
    assert found == code
    assert all(f"remedy {state}" in out for state in states)


def test_memory_that_is_short_is_a_note() -> None:
    assert doctor._room("memory", 1.0, 6.0, "close programs").remedy == "close programs"
    assert doctor._room("memory", 7.0, 6.0, "close programs") == doctor.Finding(
        "memory", "ok", "7.0 GiB free; the quickstart wants 6"
    )
