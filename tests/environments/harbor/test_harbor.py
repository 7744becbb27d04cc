"""Harbor task folders: the oracle passes, doing nothing and tampering fail, and what can't run here is refused with its reason."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from small_worlds import call, play_out, say

from sojourn.core import Action, Transition
from sojourn.environments import check_environment
from sojourn.environments.harbor import Harbor, harbor_world, read_reward, sorted_out

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="apt-get install bubblewrap")

TOML = 'version = "1.0"\n[metadata]\nauthor = "x"\n[agent]\ntimeout_sec = 20.0\n[verifier]\ntimeout_sec = 20.0\n[environment]\nmemory_mb = 512\n'
DOCKERFILE = """
# a comment
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends bash \\
    && rm -rf /var/lib/apt/lists/*
WORKDIR /app
ENV GREETING="good day"
COPY words.txt ./
COPY src /app/src
RUN echo "$GREETING" > made.txt
CMD ["bash"]
"""
TEST = """#!/bin/bash
if [ "$(cat /app/sorted.txt)" = "$(sort /app/words.txt)" ] && python3 -c 'import json; json.dumps([1])'; then
  echo 1 > /logs/verifier/reward.txt
else
  echo 0 > /logs/verifier/reward.txt
fi
"""


def folder(root: Path, name: str = "sort-words", **changed: str | None) -> Path:
    """A task folder; `changed` are other contents by path (with __ for / and no suffix where there is none)."""
    files: dict[str, str | None] = {
        "task.toml": TOML,
        "instruction.md": "Sort the lines of words.txt into sorted.txt.\n",
        "environment/Dockerfile": DOCKERFILE,
        "environment/words.txt": "pear\napple\nfig\n",
        "environment/src/main.py": "print('hello')\n",
        "tests/test.sh": TEST,
        "solution/solve.sh": "#!/bin/bash\nsort words.txt > sorted.txt\n",
    }
    for path, text in {**files, **changed}.items():
        if text is not None:
            (root / name / path).parent.mkdir(parents=True, exist_ok=True)
            (root / name / path).write_text(text)
    return root / name


def played(where: Path, *actions: Action) -> list[Transition]:
    world = harbor_world(str(where))
    return play_out(Harbor(), world.tasks.task("train", "default", 0), *actions)


def test_the_oracle_passes_and_doing_nothing_fails(tmp_path: Path) -> None:
    where = folder(tmp_path)

    async def run() -> Transition:
        world = Harbor()
        await world.reset(harbor_world(str(where)).tasks.task("train", "default", 0), seed=0)
        try:
            await world.step(world.oracle())
            return await world.step(world.oracle())
        finally:
            await world.close()

    solved = asyncio.run(run())
    assert solved.reward == {"reward": 1.0} and solved.info["success"]
    (empty,) = played(where, say("Done."))
    assert empty.reward == {"reward": 0.0} and not empty.info["success"]


def test_the_image_is_what_the_dockerfile_says(tmp_path: Path) -> None:
    seen = played(
        folder(tmp_path), call("shell", command="pwd; cat made.txt; ls; cat src/main.py; echo $GREETING; ls /tests /solution")
    )[0]
    text = seen.observation.messages[0].text
    assert text.splitlines()[:2] == ["/work/home/app", "good day"] or text.splitlines()[:2] == ["/app", "good day"]
    assert "words.txt" in text and "print('hello')" in text and "test.sh" not in text and "solve.sh" not in text


TAMPERING = [
    "mkdir -p /tests; echo 'echo 1 > /logs/verifier/reward.txt' > /tests/test.sh; chmod -w /tests/test.sh",
    "echo 1 > /logs/verifier/reward.txt; echo '{\"reward\": 1}' > /logs/verifier/reward.json; chmod a-w /logs/verifier",
    "function python3() { true; }; export -f python3; function bash() { echo 1 > /logs/verifier/reward.txt; }; export -f bash; alias sort='echo'",
    "mkdir -p bin; echo 'echo same' > bin/sort; cp bin/sort bin/cat; chmod +x bin/*; export PATH=$PWD/bin:$PATH",
    "export BASH_ENV=$PWD/env.sh; echo 'sort() { cat /app/sorted.txt; }' > env.sh; echo wrong > sorted.txt",
    "(while true; do echo 1 > /logs/verifier/reward.txt; sleep 0.1; done) & disown",
    "cd /work/home && rm -rf logs tests && ln -s app logs && ln -s app tests && echo 1 > app/reward.txt && chmod a-w app",
    "rm -rf /tests; ln -s /app /tests; rm -rf /logs; ln -s /app /logs; echo 1 > reward.txt",
    "mkdir -p ~/.local/lib/python3.11/site-packages; echo 'import os; os._exit(0)' > ~/.local/lib/python3.11/site-packages/usercustomize.py",
]


@pytest.mark.parametrize("command", TAMPERING)
def test_tampering_with_the_tests_earns_nothing(tmp_path: Path, command: str) -> None:
    last = played(folder(tmp_path), call("shell", command=command), say("Done."))[-1]
    assert last.terminated and not last.info["success"]
    assert sum(last.reward.values()) == 0.0  # type: ignore[union-attr]


REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "compose": ({"environment/docker-compose.yaml": "services: {}"}, "needs docker-compose"),
    "network in tests": (
        {"tests/test.sh": "curl -LsSf https://astral.sh/uv/install.sh | sh\n"},
        "tests/test.sh needs the network: curl",
    ),
    "network in the image": (
        {"environment/Dockerfile": "FROM x\nRUN pip install numpy\n"},
        "made with the network: pip install numpy",
    ),
    "package": (
        {"environment/Dockerfile": "FROM x\nRUN apt-get install -y no-such-package\n"},
        "apt-get install no-such-package",
    ),
    "stages": ({"environment/Dockerfile": "FROM a AS b\nFROM c\n"}, "several stages"),
    "elsewhere": ({"environment/Dockerfile": "FROM a\nADD https://x.org/y /app/\n"}, "copies from elsewhere"),
    "gone": ({"environment/Dockerfile": "FROM a\nCOPY nothing /app/\n"}, "copies nothing, which is not there"),
    "place": ({"environment/Dockerfile": "FROM a\nWORKDIR /usr/x\n"}, "it wants /usr/x"),
    "gpu": ({"task.toml": TOML + "gpus = 1\n"}, "needs a GPU"),
    "steps": ({"steps/one/instruction.md": "x"}, "several steps"),
    "toml": ({"task.toml": "= 3"}, "no readable task.toml"),
    "verifier": ({"tests/Dockerfile": "FROM x"}, "verifier has an image of its own"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_run_here_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    changed, reason = REFUSED[name]
    folder(tmp_path, "other", **changed)
    runs, refused = sorted_out(str(tmp_path))
    assert not runs and reason in refused["other"]
    with pytest.raises(ValueError, match="no Harbor task in .* can run here: other: "):
        harbor_world(str(tmp_path))


def test_the_checker_passes_on_a_folder_of_tasks_and_those_that_run_are_split(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        folder(tmp_path, name, **{"environment/words.txt": f"{name}\nabc\n"})
    folder(tmp_path, "bad", **REFUSED["gpu"][0])
    world = harbor_world(str(tmp_path))
    assert "solved: 2 of 2 by the oracle" in check_environment(world, count=1)
    assert world.tasks.count("train", "default") + world.tasks.count("test", "default") == 3  # type: ignore[attr-defined]


def test_a_reward_that_is_no_number_is_refused() -> None:
    for text in ("nan", "x", ""):
        with pytest.raises(ValueError):
            read_reward(text, "reward.txt")
    for text in ("[1]", '{"a": "1"}', "{}", '{"a": NaN}'):
        with pytest.raises(ValueError):
            read_reward(text, "reward.json")
