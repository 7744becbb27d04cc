"""How long `sojourn view` takes to open a large run: 10,000 episodes of 2,000 tokens, in a real browser.

    python benchmarks/viewer/open.py --folder FOLDER --json benchmarks/viewer/open.json

The run is written once: 100 steps of 100 episodes in groups of 10, each a prompt of 200 tokens and six turns of 200 sampled and 100 read.
The texts of a step are drawn anew for 10 steps and then come again under other names: each file is read by itself, so that costs the
reader as much.  Each line is the best and the worst of three, each with a server that has read nothing yet.
"""

from __future__ import annotations

import argparse
import json
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from playwright.sync_api import sync_playwright

from sojourn.core import ROOT, Episode, Kind, Span, StopReason, Task, ToolCall, TrajectoryTree, assistant, tool, user
from sojourn.store import RunFolder, to_row, write_episodes
from sojourn.viewer import server

STEPS, GROUPS, SIZE, DRAWN = 100, 10, 10, 10
LETTERS = "etaoinshrdlu"
VOCABULARY = [" " + "".join(LETTERS[(i // 12**k) % 12] for k in range(4)) for i in range(8192)]


def decode(ids: Sequence[int]) -> str:
    return "".join(VOCABULARY[i] for i in ids)


def group(draw: np.random.Generator, key: str, task: Task, step: int) -> list[dict[str, Any]]:
    """A group of episodes under one prompt, as rows."""
    tree, rows = TrajectoryTree(), []
    prompt = tree.add(Span(ROOT, draw.integers(0, 8192, 200), Kind.OBSERVATION, message=user("the task")))
    for number in range(SIZE):
        at, episode = prompt, Episode(f"{key}/{number}", task, tree, stop=StopReason.TERMINATED)
        for turn in range(6):
            said, read = draw.integers(0, 8192, 200), draw.integers(0, 8192, 100)
            message = assistant(decode(said), [ToolCall("search" if turn % 2 else "calculate", {"query": decode(said[:5])})])
            logp = -draw.exponential(0.5, 200).astype(np.float32)
            at = tree.add(
                Span(at, said, Kind.ACTION, logp, policy="actor", version=step, turn=turn, message=message, stop="stop")
            )
            episode.actions.append(at)
            at = tree.add(Span(at, read, Kind.OBSERVATION, turn=turn + 1, message=tool(decode(read), "search")))
        episode.leaves, episode.reward = [at], {"correct": float(draw.random() < 0.4)}
        advantages = {span: np.full(200, draw.normal(), np.float32) for span in episode.actions}
        rows.append(to_row(episode, key, decode, advantages, step=step))
    return rows


def write_run(folder: Path) -> None:
    """The run; one that is there already is kept."""
    if (folder / "summary.json").exists():
        return
    run, draw = RunFolder(folder), np.random.default_rng(0)
    run.write_config({"seed": 0, "steps": STEPS})
    drawn: list[list[dict[str, Any]]] = []
    for step in range(1, STEPS + 1):
        if step <= DRAWN:
            parts = [
                group(draw, f"{step}:{g}", Task(f"task/{g}", {"n": g}, ("easy", "hard")[g % 2]), step) for g in range(GROUPS)
            ]
            drawn.append([row for part in parts for row in part])
        rows = [
            row | {"step": step, "id": f"{step}:{row['id']}", "task": f"task/{step}/{row['group']}"}
            for row in drawn[(step - 1) % DRAWN]
        ]
        write_episodes(run.episodes_path("train", step), rows)
        run.log_step({"step": step, "reward": float(np.mean([row["total"] for row in rows])), "episodes": float(len(rows))})
    run.write_summary({"seconds": 1.0})
    run.close()


def measured(folder: Path, chromium: str) -> dict[str, list[float]]:
    """Seconds from asking for a page until the browser shows it, three times."""
    name = folder.resolve().name
    pages = {
        "episodes, newest first": f"/episodes?run={name}",
        "search for a text": f"/episodes?run={name}&text=tttttttt",
        "search for a text in steps 40 to 49": f"/episodes?run={name}&text=tttttttt&step=40-49",
        "search for a tool": f"/episodes?run={name}&tool=search",
        "one episode as tokens": f"/episode?run={name}&phase=train&step=50&id=50:10:3/4&tokens=1",
        "a group of ten side by side": f"/group?run={name}&phase=train&step=50&group=10:3",
        "curves": f"/?run={name}",
        "health": f"/health?run={name}",
    }
    found: dict[str, list[float]] = {label: [] for label in pages}
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for label, address in pages.items():
            for _ in range(3):
                with server.listening(0) as port:
                    running = uvicorn.Server(uvicorn.Config(server.application([folder]), log_level="error"))
                    thread = threading.Thread(target=running.run, kwargs={"sockets": [port]})
                    thread.start()
                    page = browser.new_page()
                    began = time.perf_counter()
                    page.goto(f"http://127.0.0.1:{port.getsockname()[1]}{address}")
                    page.wait_for_selector("main")
                    found[label].append(round(time.perf_counter() - began, 3))
                    assert "Not there" not in page.inner_text("main"), address
                    page.close()
                    running.should_exit = True
                    thread.join()
        browser.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium")
    given = parser.parse_args()
    write_run(given.folder)
    found = measured(given.folder, given.chromium)
    for label, seconds in found.items():
        print(f"{label:<40}{min(seconds):>8.2f} s{max(seconds):>8.2f} s")
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
