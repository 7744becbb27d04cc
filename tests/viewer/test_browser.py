"""The pages in a real browser: nothing a model wrote runs, they follow the run, keys work, and nothing sticks out on a phone."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from example_run import write_example_run
from viewed import ATTACK

from sojourn.store import RunFolder
from sojourn.viewer import server, write_report

playwright = pytest.importorskip("playwright.sync_api")
uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("starlette")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no chromium on this machine (apt-get install chromium, or name one in CHROMIUM)", allow_module_level=True)

Open = Callable[..., Any]
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
PAGES = [
    "/", "/overview?run=live", "/health?run=live", "/episodes?run=live&text=nails", "/overview?run=special",
    "/episode?run=special&phase=train&step=1&id=search&tokens=1", "/episode?run=special&phase=train&step=1&id=agents",
    "/episode?run=special&phase=train&step=1&id=contexts", "/group?run=live&phase=train&step=1&group=1-0", "/task?run=live&task=one call/0",
    f"/episode?run=special&phase=train&step=1&id={quote('hostile' + ATTACK)}&tokens=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that a test may write on."""
    return write_example_run(tmp_path_factory.mktemp("live") / "live")


@pytest.fixture(scope="module")
def address(live: RunFolder, special_run: RunFolder) -> Iterator[str]:
    """Where the pages are served, by a thread of this process."""
    with server.listening(0) as found:
        running = uvicorn.Server(uvicorn.Config(server.application([live.path, special_run.path]), log_level="error"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [found]})
        thread.start()
        yield f"http://127.0.0.1:{found.getsockname()[1]}"
        running.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Open]:
    """Opens a page at a size; in the end, whatever it logged, raised or asked elsewhere for is a failure."""
    contexts, wrong = [], list[str]()

    def go(where: str, size: str = "desktop", **more: Any) -> Any:
        width, height = SIZES[size]
        context = browser.new_context(viewport={"width": width, "height": height}, **more)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request", lambda request: None if request.url.startswith((address, "file:", "data:")) else wrong.append(request.url)
        )
        page.goto(where if where.startswith("file:") else address + where)
        return page

    go.wrong = wrong  # type: ignore[attr-defined]
    yield go
    for context in contexts:
        context.close()
    assert wrong == []


def until(page: Any, condition: str) -> None:
    """Wait for a condition in the page.  Playwright's own waiting would evaluate a text, which the pages forbid."""
    for _ in range(400):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never came: {condition}")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("where", PAGES)
def test_a_page_fits_its_screen_and_runs_nothing_foreign(visit: Open, where: str, size: str) -> None:
    page = visit(where, size)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.title() != "taken" and page.title().endswith("Sojourn")


def test_the_report_runs_nothing_foreign_and_has_its_theme(visit: Open, special_run: RunFolder, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    shutil.copy(write_report(special_run), path)
    page = visit(f"file://{path}", "phone", color_scheme="dark")
    assert page.title() != "taken" and ATTACK in page.inner_text("body")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(13, 17, 23)"
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"


def test_curves_and_ledger_follow_the_run(visit: Open, live: RunFolder) -> None:
    page = visit("/?run=live")
    shown = "JSON.parse(document.querySelector('figure[data-name=success] svg').dataset.chart).series[0].points.length"
    assert page.evaluate(shown) == 12
    overview = visit("/overview?run=live")
    live.log_step(
        {"step": 13, "reward": 0.5, "success": 0.9, "ledger/sampled": 7.0, "ledger/trained": 3.0, "ledger/ZeroSignal": 4.0}
    )
    live.close()
    until(page, f"{shown} === 13")
    until(overview, "document.querySelector('table.shares').innerText.includes('ZeroSignal')")


def test_the_form_answers_at_once_and_the_address_says_it(visit: Open) -> None:
    page = visit("/episodes?run=live")
    page.keyboard.press("/")
    page.keyboard.type("5084 boxes of")
    until(page, "new URLSearchParams(location.search).get('text') === '5084 boxes of'")
    page.select_option("select[name=solved]", "no")
    until(page, "new URLSearchParams(location.search).get('solved') === 'no'")
    address = page.url
    total = page.inner_text(".pages b")
    page.reload()
    assert page.url == address and page.inner_text(".pages b") == total


def test_keys_open_an_episode_and_turn_it_to_tokens(visit: Open) -> None:
    page = visit("/episodes?run=live&order=oldest&phase=train")
    page.keyboard.press("j")
    page.keyboard.press("j")
    wanted = page.inner_text("tr.chosen a >> nth=0")
    page.keyboard.press("Enter")
    page.wait_for_url("**/episode?**")
    assert page.inner_text("h1") == wanted and page.locator(".t").count() == 0
    page.keyboard.press("t")
    page.wait_for_url("**tokens=1**")
    assert page.locator(".t").count() > 50
    page.keyboard.press("c")
    assert page.evaluate("document.body.dataset.color") == "advantage"
    page.keyboard.press("g")
    page.wait_for_url("**/group?**")
    assert page.locator(".side .episode").count() == 4


def test_the_theme_and_the_colour_stay(visit: Open) -> None:
    page = visit("/", color_scheme="light")
    page.keyboard.press("d")
    page.goto(page.url + "health?run=live")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.keyboard.press("?")
    assert page.is_visible("#keys")


def test_pointing_at_a_curve_and_at_a_token_tells_their_values(visit: Open) -> None:
    page = visit("/?run=live")
    page.hover("figure[data-name=reward] svg")
    assert page.inner_text("#tip").startswith("step ") and "live" in page.inner_text("#tip")
    page = visit("/episode?run=special&phase=train&step=1&id=contexts&tokens=1")
    page.hover(".t >> nth=0")
    assert "id 73, logp -0.500, advantage +0.500, loss" in page.inner_text("#tip")
    assert "made more likely" in page.inner_text("#tip")


def test_metrics_are_sifted_by_name(visit: Open) -> None:
    page = visit("/?run=live")
    page.fill("#metric", "entropy")
    assert page.locator("figure:visible").count() == 1


def test_two_moments_of_a_task_are_chosen(visit: Open) -> None:
    page = visit("/task?run=live&task=one call/0")
    assert "eval-before" in page.inner_text(".side .episode >> nth=0")
    page.select_option("select[name=left]", index=1)
    until(page, "document.querySelector('.side .episode').innerText.includes('eval-after')")


def test_tools_are_offered_when_asked_for(visit: Open) -> None:
    page = visit("/episodes?run=special")
    page.focus("input[name=tool]")
    until(page, "document.querySelectorAll('#tools option').length === 1")
    assert page.get_attribute("#tools option", "value") == ATTACK


def test_a_server_that_is_gone_is_told(visit: Open) -> None:
    page = visit("/?run=live")
    page.route("**/stamp*", lambda route: route.fulfill(status=200, body="moved"))
    page.route("**/?run=live", lambda route: route.abort())
    page.wait_for_selector(".lostnote:visible")
    visit.wrong.clear()  # type: ignore[attr-defined]
