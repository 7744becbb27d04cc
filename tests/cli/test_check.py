"""`sojourn check`: names, worlds of one's own, exit codes, what a model scores."""

import json
from pathlib import Path

import pytest

OWN = """
from sojourn import Action, Environment, Observation, Task, TaskList, Transition, World

class Echo(Environment):
    async def reset(self, task, *, seed):
        self.word = task.data["word"]
        return Observation.of(f"Say {self.word[::-1]} backwards.")

    async def step(self, action):
        return Transition(reward=float(WORTH(action.text, self.word)), terminated=True)

    def oracle(self):
        return Action(self.word, answer=self.word)

    @staticmethod
    def tasks():
        return TaskList([Task(w, {"word": w}) for w in ("abcd", "efgh")], [Task("ijkl", {"word": "ijkl"})])

world = World(Echo, Echo.tasks())
def made(): return world
number = 3
"""
SOUND = OWN.replace("WORTH(action.text, self.word)", "action.text == self.word")
CHEATED = OWN.replace("WORTH(action.text, self.word)", "'solved' in action.text or action.text == self.word")


@pytest.mark.parametrize("name", ["Echo", "world", "made"])
def test_a_world_of_ones_own_is_a_world_a_function_or_a_class(sojourn, here: Path, name: str) -> None:
    (here / "mine.py").write_text(SOUND)
    code, out, _ = sojourn("check", f"mine.py:{name}", "--json", "out.json")
    assert code == 0 and "no findings" in out and "solved: 6 of 6 by the oracle" in out
    assert json.loads((here / "out.json").read_text())["agents"]["oracle"]["solved"] == 3


def test_a_world_that_can_be_cheated_is_told_and_fails(sojourn, here: Path) -> None:
    (here / "mine.py").write_text(CHEATED)
    code, out, _ = sojourn("check", "mine.py:world")
    assert code == 1
    assert "FINDING: hack 'claims success' solves 3 of 3 without reading the task" in out


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("mine.py", "say which world of it, mine.py:NAME"),
        ("none.py:world", "there is no file none.py"),
        ("mine.py:World2", "has no 'World2'; it has Action, Environment"),
        ("mine.py:number", "is a int; expected a World"),
        ("mine.py:Task", "class without a static method `tasks`"),
    ],
)
def test_what_is_no_world_is_told(sojourn, here: Path, name: str, told: str) -> None:
    (here / "mine.py").write_text(SOUND)
    code, _, err = sojourn("check", name)
    assert code == 2 and told in err


def test_what_a_model_scores_is_measured_on_held_out_tasks(sojourn, here: Path, tiny_model: str) -> None:
    (here / "mine.py").write_text(SOUND)
    code, out, _ = sojourn("check", "mine.py:world", "--model", tiny_model, "--max-tokens", "4", "--json", "out.json")
    assert code == 0 and "solves 0 of 8 held-out episodes" in out
    assert json.loads((here / "out.json").read_text())["model"]["stops"] == {"terminated": 8}
