"""`sojourn reproduce`: runs what is missing, says what changed, keeps the words around its tables, and judges claims."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sojourn.cli import main, reproduce
from sojourn.evidence.page import BEGIN, END
from sojourn.store import RunFolder

RECIPE = '''"""Two arms: paid for plain characters, and for nothing."""
from __future__ import annotations
import os, signal
from dataclasses import dataclass
from pathlib import Path
from sojourn import Experiment, PlainText, TrainConfig, Uniform, from_function
from sojourn.evidence import Claim, RunOf

@dataclass(frozen=True, kw_only=True)
class Config(TrainConfig):
    model: str = "MODEL"
    """A tiny one."""
    pay: float = 1.0
    """Of an answer."""
    steps: int = 3
    """Few."""
    groups: int = 2
    """Few."""
    group_size: int = 2
    """Few."""
    max_tokens: int = 8
    """Few."""
    eval_tasks: int = 2
    """Few."""
    checkpoint_every: int = 1
    """So that little is lost."""

def reward(pay: float, said: str) -> float:
    if Path("die").exists() and Path("runs/reproduce/mine/unpaid-0/checkpoints").exists():
        Path("die").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return pay * sum(char.isascii() for char in said) / 8

def experiment(config: Config) -> Experiment:
    world = from_function(lambda p, c: reward(config.pay, c), ["one", "two"], test=["three", "four"])
    return Experiment(environment=world.make, tasks=world.tasks, protocol=PlainText(), curriculum=Uniform(world.tasks))

ARMS = {"paid": {}, "unpaid": {"pay": 0.0, "optimizer.learning_rate": 1e-4}}
CLAIMS = {
    "never": Claim(says="an unpaid policy solves all", value=lambda look: look("unpaid", "after/sampled"), at_least=0.95),
    "cheap": Claim(says="three steps", value=lambda look: look("paid", "cost/steps"), at_most=3, each=True, form=".0f"),
}
'''

UNPAID = "runs/reproduce/mine/unpaid-0"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def mine(here: Path, tiny_model: str) -> Path:
    path = here / "recipes/mine.py"
    path.parent.mkdir()
    path.write_text(RECIPE.replace("MODEL", tiny_model))
    return path


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that were made: in this process, which saves seconds; one that is to die in a process of its own, as all are without this."""
    found: list[str] = []
    real = reproduce.Reproduction._process

    def process(self: reproduce.Reproduction, run: str) -> int:
        found.append(run)
        if Path("die").exists() and run == "unpaid/0":
            return real(self, run)
        return main(["reproduce", "mine", "--only", run])

    monkeypatch.setattr(reproduce.Reproduction, "_process", process)
    return found


def results(folder: str = "runs/reproduce/mine") -> dict[str, Any]:
    return dict(json.loads(Path(folder, "RESULTS.json").read_text()))


def test_a_run_that_crashes_is_one_and_the_same_command_goes_on(mine: Path, sojourn: Run, made: list[str]) -> None:
    Path("die").touch()
    code, out, err = sojourn("reproduce", "mine", "--seeds", "1")
    assert code == 1
    assert "unpaid/0: ended with exit code -9" in err
    assert {run["arm"] for run in results()["runs"]} == {"paid"}
    assert results()["claims"]["never"]["verdict"] == "not run"
    assert RunFolder(UNPAID).starts()[0]["command"] == "sojourn reproduce mine --runs runs/reproduce --only unpaid/0"

    made.clear()
    code, out, err = sojourn("reproduce", "mine", "--seeds", "1")
    assert (code, made) == (0, ["unpaid/0"]), err
    assert "2 of 2: going on with unpaid, seed 0" in out
    assert [row["step"] > 0 for row in RunFolder(UNPAID).starts()] == [False, True]
    runs = {(run["arm"], run["seed"], run["figures"]["cost/steps"]) for run in results()["runs"]}
    assert runs == {("paid", 0, 3), ("unpaid", 0, 3)}
    verdicts = {name: (claim["verdict"], claim["value"]) for name, claim in results()["claims"].items()}
    assert verdicts == {"never": ("missed", 0.0), "cheap": ("held", 3.0)}
    assert "<svg" in Path("runs/reproduce/mine/picture.svg").read_text()

    made.clear()
    assert sojourn("reproduce", "mine", "--seeds", "1")[0] == 0
    assert made == [], "what is finished is not made again"


def test_a_run_is_made_again_if_its_code_or_its_config_changed_and_not_for_words(
    mine: Path, sojourn: Run, made: list[str]
) -> None:
    text = mine.read_text()
    assert sojourn("reproduce", "mine", "--seeds", "1")[0] == 0
    for changed, expected, said in (
        (text.replace("at_most=3", "at_most=2").replace("Two arms", "Here: two arms") + "# words\n", [], ""),
        (text.replace('"pay": 0.0', '"pay": 0.25'), ["unpaid/0"], "unpaid/0 is run again: pay: was 0.0, now 0.25"),
        (text.replace("isascii", "isdigit"), ["paid/0", "unpaid/0"], "paid/0 is run again: recipe.py was edited"),
    ):
        mine.write_text(changed)
        made.clear()
        code, out, err = sojourn("reproduce", "mine", "--seeds", "1")
        assert (code, made) == (0, expected), err
        assert said in out
    assert RunFolder("runs/reproduce/mine/unpaid-0.old").config()["pay"] == 0.25


def test_words_around_the_tables_stay_and_part_of_the_runs_are_no_results(
    mine: Path, sojourn: Run, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = mine.with_suffix("") / "RESULTS.md"
    page.parent.mkdir()
    page.write_text("# Mine\n")
    code, _, err = sojourn("reproduce", "mine", "--out", str(page.parent), "--seeds", "1")
    assert (code, made) == (2, [])
    assert f"put the lines {BEGIN} and {END}" in err

    page.write_text(f"# Mine\n\nBefore.\n\n{BEGIN}\noutdated\n{END}\n\nAfter, \\1.\n")
    code, out, err = sojourn("reproduce", "mine", "--out", str(page.parent), "--seeds", "1")
    assert code == 0, err
    text = page.read_text()
    assert text.startswith(f"# Mine\n\nBefore.\n\n{BEGIN}\n```bash\nsojourn reproduce mine --seeds 1\n")
    assert text.endswith(f"{END}\n\nAfter, \\1.\n")
    assert "| an unpaid policy solves all | at least 95.0% | 0.0% (0.0% to " in text
    assert "%) | 0.0% | **missed** |" in text
    assert "| paid | 0 | " in text and "outdated" not in text

    kept = page.read_bytes()
    mine.write_text(
        mine.read_text()
        + "\n\ndef picture(runs):\n    return f'<svg>{ {arm: len(seeds) for arm, seeds in runs.items()} }</svg>'\n"
    )
    monkeypatch.setattr(reproduce, "package_fingerprint", lambda: "of other code")
    code, out, _ = sojourn("reproduce", "mine", "--seeds", "1", "--arms", "unpaid")
    assert Path("runs/reproduce/mine/picture.svg").read_text() == "<svg>{'paid': 0, 'unpaid': 1}</svg>"
    assert "1 of 1 runs were made with another state of Sojourn's own code" in out
    assert (page.read_bytes(), code) == (kept, 0)
    assert "inside 0.0% (0.0% to " in out
    assert {run["arm"] for run in results()["runs"]} == {"unpaid"}


def test_an_arm_begins_with_what_another_came_to(mine: Path, sojourn: Run, made: list[str]) -> None:
    mine.write_text(mine.read_text().replace('{"pay": 0.0,', '{"model": RunOf("paid"), "pay": 0.0,'))
    code, _, err = sojourn("reproduce", "mine", "--seeds", "1", "--arms", "unpaid")
    assert (code, made) == (0, ["paid/0", "unpaid/0"]), err
    assert RunFolder(UNPAID).starts()[0]["model"] == "runs/reproduce/mine/paid-0, step-000003"


def test_what_arms_begin_with_is_made_once(mine: Path, sojourn: Run, made: list[str]) -> None:
    text = (
        mine.read_text()
        .replace('{"paid": {}', '{"paid": {"model": RunOf("base")}')
        .replace('{"pay": 0.0,', '{"model": RunOf("base"), "pay": 0.0,')
    )
    text += """
def base(run):
    from sojourn.training import train
    config = Config(run=run, steps=1, eval_tasks=0)
    train(config, experiment(config))
"""
    mine.write_text(text)
    code, out, err = sojourn("reproduce", "mine", "--seeds", "1")
    assert (code, made) == (0, ["base", "paid/0", "unpaid/0"]), err
    assert "1 of 3: run base, seed 0" in out
    assert RunFolder(UNPAID).starts()[0]["model"] == "runs/reproduce/mine/base, step-000001"
    assert [(run["arm"], run["figures"]["cost/steps"]) for run in results()["runs"]] == [("base", 1), ("paid", 3), ("unpaid", 3)]

    made.clear()
    assert sojourn("reproduce", "mine", "--seeds", "1")[0] == 0
    assert made == []
    mine.write_text(text.replace("steps=1, eval", "steps=2, eval"))
    _, out, _ = sojourn("reproduce", "mine", "--seeds", "1", "--arms", "paid")
    assert made == ["base", "paid/0"]
    assert "base is run again: what makes it was edited" in out
    assert "paid/0 is run again: runs/reproduce/mine/base was made anew" in out


def test_figures_of_the_recipe_are_made_once_and_again_when_their_code_changed(mine: Path, sojourn: Run, made: list[str]) -> None:
    text = (
        mine.read_text()
        + """
def figures(run):
    return {"rows": len(run.metrics()), "by task": {"x": 1.0, "y": 2.0}}

CLAIMS["by task"] = Claim(says="a mean", value=lambda look: look("paid", "by task"), at_least=1.2, form=".2f")
"""
    )
    mine.write_text(text)
    for changed, expected, mean, verdict in (
        (text, ["paid/0"], 1.5, "undecided"),
        (text.replace("at_least=1.2", "at_least=0.5"), [], 1.5, "held"),
        (text.replace('"x": 1.0', '"x": 2.0'), ["paid/0"], 2.0, "held"),
    ):
        mine.write_text(changed)
        made.clear()
        assert sojourn("reproduce", "mine", "--seeds", "1", "--arms", "paid")[0] == 0
        claim = results()["claims"]["by task"]
        assert (made, claim["value"], claim["verdict"]) == (expected, mean, verdict)
        assert results()["runs"][0]["figures"]["rows"] == 3
    assert len(RunFolder("runs/reproduce/mine/paid-0").starts()) == 1, "it was trained once"


def test_an_arm_may_be_made_of_modules_that_others_are_not_made_of(mine: Path, sojourn: Run, made: list[str]) -> None:
    """Its own program in a module that nothing imports by a statement: it is kept with the runs of that arm alone."""
    (mine.parent / "slow.py").write_text(
        "from sojourn.agents import react\n\n\nasync def slow(session):\n    await react(session)\n"
    )
    text = mine.read_text().replace("curriculum=Uniform(world.tasks))", "curriculum=Uniform(world.tasks), **program(config))")
    mine.write_text(
        text
        + """
def program(config):
    from importlib import import_module
    return {} if config.pay else {"program": import_module("slow").slow}
"""
    )
    assert sojourn("reproduce", "mine", "--seeds", "1")[0] == 0
    assert {path.name for path in Path(UNPAID).glob("code/*/*")} == {"recipe.py", "slow.py"}
    made.clear()
    assert sojourn("reproduce", "mine", "--seeds", "1")[0] == 0
    assert made == []


WRONG = {
    "ARMS = {}": "declares no arms, so there is nothing to reproduce",
    "ARMS = {'a/b': {}}": "choose a name of letters",
    "ARMS = {'a': {'paye': 1.0}}": r"ARMS\['a'\]\['paye'\]: Config has no field 'paye'; did you mean 'pay'\?",
    "ARMS = {'a': {'optimizer.rate': 1.0}}": r"OptimizerConfig has no field 'rate'",
    "ARMS = {'a': {'group_size': 0}}": r"ARMS\['a'\]\['group_size'\] = 0: .*at least 1",
    "ARMS = {'a': {'seed': 1}}": "sets seed, which `sojourn reproduce` sets",
    "ARMS = {'a': {'model': RunOf('b')}, 'b': {}}": "begins with 'b', which is no arm that is declared before it",
    "CLAIMS = {'a': 1}": r"CLAIMS\['a'\] is no sojourn.evidence.Claim",
}


@pytest.mark.parametrize(("line", "said"), WRONG.items(), ids=WRONG)
def test_what_is_wrong_with_arms_is_told_before_the_first_run(
    mine: Path, sojourn: Run, made: list[str], line: str, said: str
) -> None:
    mine.write_text(f"{mine.read_text()}\n{line}\n")
    code, _, err = sojourn("reproduce", "mine")
    assert (code, made) == (2, [])
    assert re.search(said, err), err


def test_no_such_recipe_arm_or_figure(mine: Path, sojourn: Run) -> None:
    assert "did you mean 'mine'?" in sojourn("reproduce", "mime")[2]
    assert "has no arm 'piad'; did you mean 'paid'?" in sojourn("reproduce", "mine", "--arms", "piad")[2]
    assert "expected ARM/SEED, such as paid/0" in sojourn("reproduce", "mine", "--only", "paid")[2]
    mine.write_text(mine.read_text().replace('"cost/steps"', '"cost/stairs"'))
    code, _, err = sojourn("reproduce", "mine", "--seeds", "1", "--arms", "paid")
    assert code == 2
    assert "claim 'cheap': run paid/0 has no figure 'cost/stairs'; it has before/sampled, " in err or "after/sampled" in err


def test_what_failed_is_told_and_what_begins_with_it_is_not_tried_and_the_time_left_is_what_is_known(
    mine: Path, sojourn: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = mine.read_text().replace('{"pay": 0.0,', '{"model": RunOf("paid"), "pay": 0.0,')
    mine.write_text(text.replace("ARMS = {", 'ARMS = {"other": {"steps": 1}, '))
    seconds = {"paid": 60.0, "unpaid": 30.0}  # of the other nothing is known, so it is taken to be like their mean
    runs = [{"arm": arm, "figures": {"cost/seconds": each}} for arm, each in seconds.items()]
    mine.with_suffix("").mkdir()
    (mine.with_suffix("") / "RESULTS.json").write_text(json.dumps({"claims": {}, "runs": runs}))
    monkeypatch.setattr(reproduce.Reproduction, "_process", lambda self, run: 7 if run == "paid/0" else 0)
    code, out, err = sojourn("reproduce", "mine", "--seeds", "1")
    assert code == 1
    assert [line for line in out.splitlines() if " of 3: " in line] == [
        "1 of 3: run other, seed 0; about 2m15s left",
        "2 of 3: run paid, seed 0; about 1m30s left",
    ]
    assert "  paid/0: ended with exit code 7\n  unpaid/0: begins with paid/0, which failed\n" in err
