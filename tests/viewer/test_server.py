"""The pages answer to this machine alone, show only runs that were named, and run nothing that a model wrote."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import pytest
from viewed import ATTACK

from sojourn.cli import main
from sojourn.store import RunFolder
from sojourn.viewer.runs import find_runs, standing

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from starlette.testclient import TestClient

from sojourn.viewer import server

HOSTILE = quote("hostile" + ATTACK)


@pytest.fixture(scope="module")
def client(example_run: RunFolder, special_run: RunFolder) -> Iterator[TestClient]:
    app = server.application([example_run.path, special_run.path])
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


class Page(HTMLParser):
    """The text of a page, its links, and what a browser would run."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.links, self.scripts, self.handlers = "", list[str](), list[str | None](), list[str]()
        self.open = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.open = tag
        self.links += [given["href"] or ""] if tag == "a" and "href" in given else []
        self.scripts += [given.get("src")] if tag == "script" else []
        self.handlers += [name for name in given if name.startswith("on")] + (["img"] if tag == "img" else [])

    def handle_data(self, data: str) -> None:
        self.text += data


ADDRESSES = [
    "/?run=special", "/overview?run=special", "/health?run=special", "/episodes?run=special", f"/episodes?run=special&text={quote(ATTACK)}",
    f"/episode?run=special&phase=train&step=1&id={HOSTILE}", f"/episode?run=special&phase=train&step=1&id={HOSTILE}&tokens=1",
    f"/group?run=special&phase=train&step=1&group={quote(ATTACK)}", f"/task?run=special&task={quote(ATTACK)}",
    f"/task?run=special&task={quote(ATTACK)}&left={quote(ATTACK)}", f"/episodes?run=special&step={quote(ATTACK)}",
]  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES)
def test_what_a_model_wrote_is_text_wherever_it_is_shown(client: TestClient, address: str) -> None:
    answer = client.get(address)
    page = Page(answer.text)
    assert answer.status_code == 200
    assert page.scripts == ["/page.js", "/view.js"] and page.handlers == []
    if "episode" in address or "task" in address or "overview" in address:
        assert "document.title = 'taken'" in page.text  # it is there, as text


@pytest.mark.parametrize("address", ["/", "/nope", "/overview?run=nope", "/stamp", "/style.css", "/view.js", "/tools?run=nope"])
def test_the_browser_is_told_to_run_and_load_nothing_else(client: TestClient, address: str) -> None:
    headers = client.get(address).headers
    assert "default-src 'none'; script-src 'self';" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["../special", "..%2f..%2fetc", "/etc", "special/../example", "", "special%00"])
@pytest.mark.parametrize("page", ["overview", "episodes", "health", "stamp", "tools", "task"])
def test_only_runs_that_were_found_can_be_asked_for(client: TestClient, page: str, name: str) -> None:
    if page == "stamp" and not name:
        return  # without a name, of all
    assert client.get(f"/{page}?run={name}").status_code == 404


@pytest.mark.parametrize(
    "address", ["/../pyproject.toml", "/%2e%2e/server.py", "/page.js/../../server.py", "/render.py", "/style.css.j2"]
)
def test_no_other_file_is_served(client: TestClient, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 404 and "def " not in answer.text


@pytest.mark.parametrize("left", ["/etc/passwd/0", "train-000001.parquet/999", "../../config.json/0", "train-000001.parquet/-1"])
def test_a_side_that_is_no_episode_of_the_task_is_the_usual_one(client: TestClient, left: str) -> None:
    usual = client.get("/task?run=special&task=climb")
    assert Page(client.get(f"/task?run=special&task=climb&left={quote(left)}").text).text == Page(usual.text).text


def test_a_name_that_is_pointed_at_loopback_gets_nothing(client: TestClient) -> None:
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    assert client.get("/", headers={"host": "localhost:8321"}).status_code == 200


@pytest.mark.parametrize("address", ["/?smooth=x", "/?smooth=0", "/?x=years", "/episodes?run=example&offset=-3"])
def test_a_wrong_number_is_named(client: TestClient, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 400 and "expected" in answer.text


def test_a_wrong_search_is_told_in_the_page(client: TestClient) -> None:
    answer = client.get("/episodes?run=example&reward=much")
    assert answer.status_code == 200 and "found no number" in answer.text and "<b>0</b>" in answer.text


def test_nothing_can_be_written(client: TestClient) -> None:
    assert {client.request(method, "/").status_code for method in ("POST", "PUT", "DELETE")} == {405}


def test_every_link_leads_somewhere(client: TestClient) -> None:
    """Pages that can be reached in four steps."""
    seen: set[str] = set()
    pending = {"/"}
    for _ in range(5):
        found: set[str] = set()
        kinds = {address.split("?")[0]: address for address in sorted(pending - seen)}
        for address in kinds.values():  # one of each kind
            answer = client.get(address)
            assert answer.status_code == 200, address
            found |= {link for link in Page(answer.text).links if link.startswith("/")}
        seen |= pending
        pending = found
    assert {link.split("?")[0] for link in seen} == {"/", "/overview", "/episodes", "/health", "/episode", "/group", "/task"}


def test_the_stamp_moves_when_the_run_does(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "a")
    run.log_step({"step": 1, "reward": 0.1})
    with TestClient(server.application([tmp_path]), base_url="http://127.0.0.1") as client:
        before = client.get("/stamp").text
        assert client.get("/stamp").text == before and f'data-stamp="{before}"' in client.get("/").text
        run.log_step({"step": 2, "reward": 0.2})
        after = client.get("/stamp").text
        assert after != before
        RunFolder(tmp_path / "b").write_config({"seed": 0})
        assert client.get("/stamp").text != after and "/overview?run=b" in client.get("/").text
    run.close()


def test_before_and_after_stand_beside_each_other(client: TestClient) -> None:
    page = client.get("/task?run=example&task=one call/0").text
    assert page.index("eval-before, step 0") < page.index("eval-after, step 12")
    assert page.count('class="card episode"') == 2


def test_the_tools_of_a_run(client: TestClient) -> None:
    assert json.loads(client.get("/tools?run=special").text) == [ATTACK]


def test_a_port_in_use_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["view", str(tmp_path), "--port", str(port), "--no-browser"]) == 2
    assert f"port {port} on 127.0.0.1 is in use" in capsys.readouterr().err


def test_it_listens_on_loopback_alone() -> None:
    with server.listening(0) as found:
        assert found.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize("port", [-1, 70000])
def test_a_port_that_there_is_not(port: int) -> None:
    with pytest.raises(ValueError, match=f"port {port} cannot be used"):
        server.listening(port)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", str(tmp_path / "absent"), "--no-browser"]) == 2
    assert "absent: there is no such folder" in capsys.readouterr().err


def test_runs_are_found_below_a_folder_and_equal_names_are_told_apart(tmp_path: Path) -> None:
    for place in ("one/deep/x", "one/y", "two/x"):
        RunFolder(tmp_path / place).write_config({"seed": 0})
    assert list(find_runs([tmp_path / "one"])) == ["deep/x", "y"]
    assert list(find_runs([tmp_path / "one" / "deep", tmp_path / "two", tmp_path / "two" / "x"])) == ["x", "x #2"]


def test_a_run_is_running_while_its_writer_lives(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write_config({"steps": 9, "model": "tiny"})
    assert standing("r", tmp_path).state == "stopped"
    with run:
        run.log_step({"step": 2, "reward": 0.5})
        told = standing("r", tmp_path)
    assert (told.state, told.step, told.steps, told.reward, told.model) == ("running", 2, 9, 0.5, "tiny")
    run.write_summary({"seconds": 1.0})
    assert standing("r", tmp_path).state == "finished"
