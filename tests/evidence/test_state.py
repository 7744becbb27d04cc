"""A run is the one that is asked for if config and code are the same, words aside, and what it begins with was not made anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sojourn.evidence.state import State, fingerprint, state
from sojourn.store.files import write_rows

CODE = '"""Words."""\nfrom math import pi\n\nARMS = {"a": {}}\nx = pi\n\n\ndef figures(run):\n    return {"x": x}\n'


def run(folder: Path, time: str = "2026-01-01T00:00:00+00:00", **config: object) -> Path:
    kept = folder / "code/step-000000"
    kept.mkdir(parents=True)
    (kept / "recipe.py").write_text(CODE)
    (folder / "config.json").write_text(json.dumps({"run": "elsewhere", "seed": 0, "concurrency": 8, **config}))
    write_rows(folder / "starts.jsonl", [{"time": time}])
    return folder


def asked(path: Path, code: str = CODE, *begins_with: Path, **config: object) -> State:
    now = path.parent / "now.py"
    now.write_text(code)
    return state(path, {"run": str(path), "seed": 0, "concurrency": 64, **config}, {"recipe.py": now}, begins_with)


def test_nothing_is_there_begun_or_finished(tmp_path: Path) -> None:
    path = tmp_path / "r"
    assert asked(path) == State()
    run(path)
    assert asked(path) == State(begun=True)
    (path / "summary.json").write_text('{"steps": 1}')
    assert asked(path) == State(begun=True, finished=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Words.", "Other words."),
        ('{"a": {}}', '{"b": {}}'),
        ("x = pi", "x = pi  # for the circle"),
        ("ARMS", "from sojourn.evidence import Claim\nCLAIMS = {}\nCLAIMS[0] = Claim\nARMS"),
        ('{"x": x}', '{"y": x}'),
    ],
    ids=["docstring", "arms", "comment", "claims", "figures"],
)
def test_words_do_not_make_another_run(tmp_path: Path, old: str, new: str) -> None:
    assert old in CODE
    assert asked(run(tmp_path / "r"), CODE.replace(old, new)) == State(begun=True)


def test_other_code_or_another_config_does(tmp_path: Path) -> None:
    path = run(tmp_path / "r", lr=1)
    assert asked(path, CODE.replace("x = pi", "x = 2 * pi"), lr=2).changes == ("lr: was 1, now 2", "recipe.py was edited")


def test_code_that_changed_on_the_way_is_seen(tmp_path: Path) -> None:
    path = run(tmp_path / "r")
    later = path / "code/step-000003"
    later.mkdir()
    (later / "recipe.py").write_text(CODE.replace("pi", "tau"))
    assert asked(path).changes == ("recipe.py was edited",)


def test_what_it_begins_with_was_made_anew(tmp_path: Path) -> None:
    path = run(tmp_path / "r", "2026-01-02T00:00:00+00:00")
    assert not asked(path, CODE, run(tmp_path / "before", "2026-01-01T00:00:00+00:00")).changes
    after = run(tmp_path / "after", "2026-01-03T00:00:00+00:00")
    assert asked(path, CODE, after).changes == (f"{after} was made anew",)


def test_only_figures_follow_from_the_function_that_gives_them(tmp_path: Path) -> None:
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    one.write_text(CODE)
    other.write_text(CODE.replace('{"x": x}', '{"y": x}'))
    files = [{"recipe.py": one}, {"recipe.py": other}]
    assert fingerprint(files[0]) == fingerprint(files[1])
    assert fingerprint(files[0], figures=True) != fingerprint(files[1], figures=True)
