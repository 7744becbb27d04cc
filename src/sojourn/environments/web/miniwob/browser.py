"""One Chromium and one page a process, in which episode after episode is played.

The one idea: a task of MiniWoB++ is a page whose script draws a problem from `Math.random`; so a reset seeds that and starts it again, and an
observation is one call into the page.  Two traps: the reward decays with the clock and the episode ends after ten seconds, so the limit is
lifted and the *raw* reward read; and chance must be seeded before the task draws.  No page reaches the network.
"""

from __future__ import annotations

import shutil
from importlib.metadata import files
from pathlib import Path
from typing import Any

from sojourn.core import InfrastructureError

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND",
]  # fmt: skip
START = """([name, seed]) => {
  core.EPISODE_MAX_TIME = 1e9; if (window.$ && $.fx) $.fx.off = true; Math.seedrandom(seed); core.startEpisodeReal();
}"""
OBSERVE = """() => {
  const seen = [], root = document.querySelector('#wrap') || document.body;
  const wanted = 'button,input,textarea,select,a,span,label,p,div,td,th,li,h3,tspan,text,rect,circle,polygon,[onclick]';
  for (const e of document.querySelectorAll('[data-ref]')) e.removeAttribute('data-ref');
  const all = [...root.querySelectorAll(wanted), ...document.querySelectorAll('.ui-dialog button, .ui-dialog p, .ui-datepicker a')];
  for (const e of new Set(all)) {
    if (e.id === 'query' || e.closest('#query') || e.closest('#reward-display') || e.closest('#sync-task-cover')) continue;
    const box = e.getBoundingClientRect(), tag = e.tagName.toLowerCase();
    if (box.width < 1 || box.height < 1 || getComputedStyle(e).visibility === 'hidden') continue;
    if (e.children.length && !['button', 'a', 'select', 'label', 'h3'].includes(tag)) continue;
    const text = (tag === 'select' ? '' : e.textContent || '').trim().slice(0, 120);
    const field = ['input', 'textarea', 'select', 'button'].includes(tag);
    if (!text && !field && !e.onclick && !['rect', 'circle', 'polygon', 'td'].includes(tag) && !e.className) continue;
    e.setAttribute('data-ref', seen.length);
    const one = {ref: seen.length, tag, type: e.type || '', text, value: field ? e.value || '' : '', checked: !!e.checked,
                 x: Math.round(box.x + box.width / 2), y: Math.round(box.y + box.height / 2)};
    one.label = tag === 'input' && e.labels && e.labels.length ? e.labels[0].textContent.trim() : '';
    if (tag === 'select') one.options = [...e.options].map(o => o.text);
    if (tag === 'span' || tag === 'div' || tag === 'rect') one.colour = e.getAttribute('fill') || e.style.backgroundColor || '';
    one.kind = (e.className.baseVal === undefined ? e.className : e.className.baseVal) || '';
    one.focused = document.activeElement === e;
    seen.push(one);
  }
  const goal = core.getUtterance ? core.getUtterance() : document.querySelector('#query').textContent;
  return {goal: typeof goal === 'string' ? goal : goal.utterance, seen, done: WOB_DONE_GLOBAL, raw: WOB_RAW_REWARD_GLOBAL};
}"""

_page: Any = None
_started: list[Any] = []


async def begin(name: str, seed: int) -> dict[str, Any]:
    """Start the task, and look.  Raises ImportError for what is missing, `InfrastructureError` if the browser breaks."""
    page = await _open()
    try:
        await page.goto(f"{(pages() / f'{name}.html').as_uri()}")
        await page.evaluate(START, [name, seed])
        return await look()
    except Exception as error:
        raise InfrastructureError(f"MiniWoB's {name} does not start: {error}") from error


async def look() -> dict[str, Any]:
    found: dict[str, Any] = await (await _open()).evaluate(OBSERVE)
    return found


async def click(ref: int) -> None:
    """As a mouse does: where the element is, whatever lies above it."""
    page = await _open()
    await page.locator(f"[data-ref='{ref}']").click(timeout=1000, force=True)


async def click_at(x: int, y: int) -> None:
    await (await _open()).mouse.click(x, y)


async def type_into(ref: int, text: str) -> None:
    """Replaces what is in the field."""
    await (await _open()).locator(f"[data-ref='{ref}']").fill(text, timeout=1000)


async def press(key: str) -> None:
    await (await _open()).keyboard.press(key)


async def choose(ref: int, option: str) -> None:
    await (await _open()).locator(f"[data-ref='{ref}']").select_option(label=option, timeout=1000)


async def _open() -> Any:
    global _page
    if _page is None:
        try:
            from playwright.async_api import async_playwright
        except ImportError as error:
            raise ImportError("MiniWoB++ is not installed: sojourn envs install web/miniwob") from error
        chromium = shutil.which("chromium")
        if chromium is None:
            raise ImportError("there is no browser: apt-get install --no-install-recommends chromium")
        driver = await async_playwright().start()
        browser = await driver.chromium.launch(executable_path=chromium, args=FLAGS)
        _started[:] = [driver, browser]
        _page = await browser.new_page(viewport={"width": 500, "height": 320})
    return _page


def pages() -> Path:
    """Where the package has its tasks."""
    found = next((file for file in files("miniwob") or () if file.match("html/miniwob/click-test.html")), None)
    if found is None:
        raise ImportError("MiniWoB++ is not installed: sojourn envs install web/miniwob")
    return Path(str(found.locate())).parent
