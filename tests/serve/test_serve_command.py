"""`sojourn serve` as a process of its own: agents elsewhere are trained, and a killed server goes on from its last checkpoint."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from sojourn.serve.client import Client, GatewayError
from sojourn.store import RunFolder, read_episodes

KEY = "sk-of-the-test"
TESTS = Path(__file__).parents[1]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def serving(port: int, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The command, once it listens; it is killed at the end if it still runs."""
    code = "import sys; from sojourn.cli import main; sys.exit(main())"
    paths = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    env = {
        **os.environ,
        "SOJOURN_API_KEY": KEY,
        "PYTHONPATH": paths,
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        **environment,
    }
    command = [sys.executable, "-c", code, "serve", *arguments, "--port", str(port)]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if "OPENAI_API_KEY" in line:
                    break
            else:
                raise AssertionError(f"it ended with {process.wait()}")
            yield process
        finally:
            process.kill()


def recipe(run: Path, model: Path) -> list[str]:
    settings: dict[str, Any] = {
        "run": run, "model": model, "dtype": "float32", "steps": 3, "groups": 1, "group_size": 2, "max_tokens": 8, "max_context": 200,
        "eval_tasks": 0, "checkpoint_every": 1,
    }  # fmt: skip
    options = [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    return [str(TESTS / "served_recipe.py"), *options]


def play(client: Client) -> dict[str, Any]:
    """One episode as somebody's agent plays it."""
    with client.episode() as episode:
        sdk = openai.OpenAI(base_url=episode.base_url, api_key=episode.api_key, max_retries=0)
        said = sdk.chat.completions.create(model="actor", messages=episode.messages)  # type: ignore[arg-type]
        return episode.end(answer=said.choices[0].message.content or "")


def test_killed_in_a_training_step_it_goes_on_from_the_last_checkpoint(tmp_path: Path, model: Path) -> None:
    run, port = tmp_path / "run", free_port()
    client = Client(f"http://127.0.0.1:{port}/v1", KEY)
    with serving(port, *recipe(run, model), DIES_AT="2") as server:
        for _ in range(4):  # two steps; the second is being learned from when it dies
            assert play(client)["reward"] >= 0
        with pytest.raises(GatewayError, match=r"does not answer .* it goes on from the last checkpoint"):
            play(client)
        assert server.wait() == -signal.SIGKILL
    assert [row["step"] for row in RunFolder(run).metrics()] == [1]
    with serving(port, *recipe(run, model)) as server:
        for _ in range(4):
            play(client)
        assert server.stdout is not None and server.stdout.read() and server.wait() == 0
    assert [row["step"] for row in RunFolder(run).metrics()] == [1, 2, 3]
    assert [row["step"] for row in RunFolder(run).starts()] == [0, 1]
    assert len(read_episodes(run, "phase = 'train'")) == 6


def test_an_episode_that_is_left_has_no_result_and_is_played_again(tmp_path: Path, model: Path) -> None:
    run, port = tmp_path / "run", free_port()
    client = Client(f"http://127.0.0.1:{port}/v1", KEY)
    with serving(port, *recipe(run, model), "--steps", "1") as server:
        with pytest.raises(KeyError), client.episode() as left:
            raise KeyError("my agent's bug")
        with pytest.raises(GatewayError, match="ended already|that is over"):
            left.end(reward=1.0)
        ids = {episode.id for episode in (play_of(client), play_of(client))}
        assert server.stdout is not None and server.stdout.read() and server.wait() == 0
    assert left.id in ids
    rows = read_episodes(run, "phase = 'train'")
    assert sorted(row["attempts"] for row in rows) == [1, 2] and all(row["total"] == 0.5 for row in rows)


def play_of(client: Client) -> Any:
    with client.episode() as episode:
        sdk = openai.OpenAI(base_url=episode.base_url, api_key=episode.api_key)
        sdk.chat.completions.create(model="actor", messages=episode.messages)  # type: ignore[arg-type]
        episode.end(reward={"mine": 0.5})
    return episode


def test_a_model_answers_whoever_has_the_key(model: Path, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "calls.jsonl"
    with serving(port, str(model), "--name", "small", "--max-tokens", "6", "--log", str(log)):
        sdk = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY, max_retries=0)
        ask: Any = [{"role": "user", "content": "Hi"}]
        one, two = (sdk.chat.completions.create(model="small", messages=ask, temperature=0.0) for _ in range(2))
        assert one.choices[0].message.content == two.choices[0].message.content
        assert one.usage is not None and 0 < one.usage.completion_tokens <= 6
        with pytest.raises(openai.AuthenticationError):
            sdk.with_options(api_key="other").models.list()
    assert len(log.read_text().splitlines()) == 2
