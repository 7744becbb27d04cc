"""The report is one page that needs nothing else and shows what the folder holds."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.core import ROOT, Episode, Kind, Span, StopReason, Task, TrajectoryTree
from sojourn.store import RunFolder, to_row, write_episodes
from sojourn.viewer import write_report
from sojourn.viewer.episode import shown
from sojourn.viewer.samples import before_and_after, trained_groups
from sojourn.wilson import wilson


class Balance(HTMLParser):
    """Fails on a tag that closes what is not open; collects the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """`<path .../>` opens nothing."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def page(example_run: RunFolder) -> str:
    return write_report(example_run).read_text()


def text_of(page: str) -> str:
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    return " ".join("".join(parser.text).split())


def test_what_was_measured_beside_success_is_shown_before_and_after(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write_config({"run": "r", "model": "m"})
    run.log_step({"step": 1, "reward": 0.5})
    both = {"mode": "tries", "level": "easy", "success": 0.5, "tasks": 8}
    run.log_eval(both | {"eval": "before", "step": 0, "pass@4": 0.625, "maj@4": 0.25, "solver/reward": -0.75})
    run.log_eval(both | {"eval": "after", "step": 1, "pass@4": 0.875, "maj@4": 0.5, "solver/reward": 1.25})
    text = text_of(write_report(run).read_text())
    for row in ("easy pass@4 62.5% 87.5%", "easy maj@4 25.0% 50.0%", "easy solver/reward -0.75 1.25"):
        assert row.replace(" ", "") in text.replace(" ", ""), row


def test_the_page_loads_nothing(page: str) -> None:
    addresses = set(re.findall(r"https?://[^\s\"'<)]+", page)) - {"http://www.w3.org/2000/svg"}
    assert addresses == set()
    assert not re.search(r"<(link|img|iframe)|src=|@import|url\(", page)


def test_the_page_is_whole_and_shows_each_part(page: str) -> None:
    text = text_of(page)
    for part in ("Learning", "Before and after", "Curriculum", "Entropy", "KL divergence", "Groups without signal", "Seconds",
                 "failed, then solved", "learner.lr", "2e-5", "sojourn train quickstart --seed 7", "12m25s"):  # fmt: skip
        assert part in text


def test_evaluations_appear_with_their_intervals(page: str, example_run: RunFolder) -> None:
    row = next(row for row in example_run.evals() if row["eval"] == "before" and row["level"] == "two calls")
    assert row["success"] == 0.0
    assert "[0.0%, 10.7%]" in text_of(page)  # 0 of 32: z^2 / (n + z^2) = 3.841 / 35.841


def test_a_run_that_just_began_has_a_page(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "new")
    run.write_config({"seed": 1})
    text = text_of(write_report(run.path).read_text())
    assert "not finished" in text and "No step has been logged yet" in text


def test_a_folder_that_is_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no run folder"):
        write_report(tmp_path)
    with pytest.raises(ValueError, match="no run folder"):
        write_report(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_what_a_model_writes_is_never_run_by_the_page(tmp_path: Path) -> None:
    attack = "</span><script>alert('x')</script>"
    tree = TrajectoryTree()
    span = tree.add(Span(ROOT, np.array(list(attack.encode())), Kind.OBSERVATION))
    action = tree.add(Span(span, np.array(list(attack.encode())), Kind.ACTION))
    rows = [to_row(Episode(f"e{i}", Task(attack), tree, [action], [action], {"r": float(i)}), "g", lambda t: bytes(t).decode())
            for i in range(2)]  # fmt: skip
    run = RunFolder(tmp_path / "run")
    run.write_config({"name": attack})
    write_episodes(run.episodes_path("train", 1), rows)
    page = write_report(run).read_text()
    assert attack in text_of(page) and "<script>alert" not in page


def test_pairs_are_the_same_task_before_and_after(example_run: RunFolder) -> None:
    pairs = before_and_after(example_run.path)
    assert pairs[0][0] == "failed, then solved"
    assert all((b["task"], b["phase"], a["phase"]) == (a["task"], "eval-before", "eval-after") for _, b, a in pairs)
    assert {before["level"] for _, before, _ in pairs} == {"one call", "two calls"}


def test_trained_groups_have_signal(example_run: RunFolder) -> None:
    groups = trained_groups(example_run.path)
    assert len(groups) == 2
    assert all(best["group"] == worst["group"] and best["total"] > worst["total"] for best, worst in groups)


def test_a_search_is_shown_though_it_is_the_only_episode_of_its_group(tmp_path: Path) -> None:
    """One episode a group, whose two branches earned differently."""
    run = RunFolder(tmp_path / "search")
    task, tree = Task("t"), TrajectoryTree()
    root = tree.add(Span(-1, np.arange(3), Kind.OBSERVATION))
    episode = Episode("g/0", task, tree, stop=StopReason.TERMINATED)
    for paid in (1.0, 0.0):
        tokens = np.arange(2) + int(paid)
        episode.actions.append(tree.add(Span(root, tokens, Kind.ACTION, np.zeros(2, np.float32), reward={"reward": paid})))
    advantages = {span: np.full(2, sign, np.float32) for span, sign in zip(episode.actions, (1, -1), strict=True)}
    run.log_step({"step": 1, "reward": episode.total})
    write_episodes(run.episodes_path("train", 1), [to_row(episode, "g", lambda ids: "a" * len(ids), advantages, step=1)])
    ((best, worst),) = trained_groups(run.path)
    assert best["id"] == worst["id"] == "g/0"
    assert "the only one" in write_report(run).read_text()


def test_failures_under_half_are_on_the_page(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.log_step(
        {"step": 1, "reward": 0.5, "failed": 6.0, "failures/infrastructure": 6.0, "failure": "2:t/1, environment: it <died>"}
    )
    page = write_report(run).read_text()
    assert "6 episodes gave no valid result" in page
    assert "it &lt;died&gt;" in page


def blocks(row: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """By segment."""
    return [s["blocks"] for agent in shown(row)["agents"] for context in agent["contexts"] for s in context["segments"]]


def test_tokens_carry_their_share_of_the_advantage(example_run: RunFolder) -> None:
    best, worst = trained_groups(example_run.path)[0]
    shares = [{t["share"] for part in blocks(row) for b in part for t in b["tokens"] or ()} for row in (best, worst)]
    assert shares == [{1.0}, {-1.0}]


def test_no_span_of_a_tree_is_shown_twice() -> None:
    tree = TrajectoryTree()
    root = tree.add(Span(ROOT, np.array([65]), Kind.OBSERVATION))
    leaves = [tree.add(Span(root, np.array([66 + i]), Kind.ACTION)) for i in range(3)]
    row = to_row(Episode("e", Task("t"), tree, leaves, leaves), "g", lambda tokens: bytes(tokens).decode())
    assert [[block["text"] for block in part] for part in blocks(row)] == [["A"], ["B"], ["C"], ["D"]]


@given(count=st.integers(1, 500), data=st.data())
def test_wilson_mirrors_and_holds_the_rate(count: int, data: st.DataObject) -> None:
    share = data.draw(st.integers(0, count)) / count
    low, high = wilson(share, count)
    assert 0 <= low <= share + 1e-12 and share - 1e-12 <= high <= 1
    assert wilson(1 - share, count) == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_wilson_of_none_solved_is_the_closed_form() -> None:
    assert wilson(0.0, 64)[1] == pytest.approx(1.959964**2 / (64 + 1.959964**2))


def test_what_changed_when_a_run_went_on_is_told(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for steps in (5, 8):
        run.write_config({"steps": steps}, {"steps"})
        run.log_start(step=steps - 5)
    assert "Changed after step 3: steps: was 5, now 8." in write_report(run).read_text()
