"""MiniWoB++: small tasks on web pages, in a real browser.  [Liu et al., arXiv 1802.08802; the package `miniwob`, MIT]

The one idea: a page is told as a list of what can be seen on it, with a number for each element, and an action is a line that names one.
The pages are the package's own; the browser is Debian's Chromium, one page a process (`browser`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sojourn.core import Action, Environment, Failure, FailureKind, InfrastructureError, Observation, Split, Task, Transition
from sojourn.environments.answer import answer_text
from sojourn.environments.web.miniwob import browser
from sojourn.environments.web.miniwob.oracles import ORACLES
from sojourn.environments.world import World

LIMIT = 16
ACTION = re.compile(r"(click|type|select|press|click_at)\s+(\S+)(?:\s+(.*))?", re.DOTALL)
HELP = "Say one action: click N, type N TEXT, select N OPTION, press KEY or click_at X Y."
KEYS = ("Enter", "Tab", "Backspace", "Delete", "Escape", "ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "Space")
TEST_SEEDS = 10**6
"""From here on, seeds are held out."""


def miniwob(name: str = "all") -> World:
    """One task, or all that have a scripted oracle, each a level.  Raises `ValueError` for an unknown one."""
    known = sorted(each.stem for each in browser.pages().glob("*.html"))
    if name != "all" and name not in known:
        raise ValueError(f"MiniWoB++ has no task '{name}': choose one of {', '.join(known)}, or 'all'")
    return World(MiniWoB, MiniWoBTasks(tuple(ORACLES) if name == "all" else (name,)))


class MiniWoB(Environment):
    """A task of MiniWoB++.

    Reward: `raw`, the page's own reward, -1 to 1, without its decay with the clock, paid when the page says that it is done.  An action that
    names nothing costs a turn.  After 16 actions the episode is truncated.  `task.data`: `name`, `seed`.
    """

    async def reset(self, task: Task, *, seed: int) -> Observation:
        self._task, self._said = task, 0
        self._page = await browser.begin(task.data["name"], task.data["seed"])
        return Observation.of(f"{self._page['goal']}\n{HELP}\n{told(self._page['seen'])}")

    async def step(self, action: Action) -> Transition:
        problem = await self._act(answer_text(action).strip())
        self._said += 1
        self._page = await browser.look()
        done, success = bool(self._page["done"]), float(self._page["raw"]) > 0
        over = self._said >= LIMIT and not done
        failures = (Failure(FailureKind.MODEL, "action", problem),) if problem else ()
        seen = Observation.of(f"{problem + chr(10) if problem else ''}{told(self._page['seen'])}")
        reward = {"raw": float(self._page["raw"])} if done else 0.0
        return Transition(seen, reward, done, over, failures, {"success": done and success})

    async def _act(self, text: str) -> str:
        """What was wrong with it; empty if nothing was."""
        match = ACTION.fullmatch(text)
        if match is None:
            return HELP
        verb, first, rest = match[1], match[2], match[3] or ""
        try:
            if verb == "press":
                if first not in KEYS and len(first) > 1:
                    return f"There is no key '{first:.20}': {', '.join(KEYS)}, or a character."
                await browser.press(first)
            elif verb == "click_at":
                await browser.click_at(int(first), int(rest))
            elif int(first) not in range(len(self._page["seen"])):
                return f"There is no element {first:.20}."
            elif verb == "click":
                await browser.click(int(first))
            else:
                await (browser.type_into if verb == "type" else browser.choose)(int(first), rest)
        except ValueError:
            return HELP
        except Exception as error:  # Playwright's errors are no classes that this process may import
            if "closed" in str(error).lower() or "crash" in str(error).lower():
                raise InfrastructureError(f"the browser is gone: {error}") from error
            return f"That cannot be done: {str(error).splitlines()[0]:.120}"
        return ""

    def state_key(self) -> str:
        return f"{self._page['goal']}\n{told(self._page['seen'])}"

    def oracle(self) -> Action:
        """What its script says.  Raises LookupError for tasks without one, and where it knows no more."""
        rule = ORACLES.get(self._task.data["name"])
        if rule is None:
            raise LookupError(f"there is no script for {self._task.data['name']}")
        try:
            text = rule(self._page["goal"], self._page["seen"], self._said)
        except (IndexError, StopIteration, AssertionError, ValueError) as error:
            raise LookupError("the script knows no more") from error
        return Action(text, answer=text)


def told(seen: Sequence[Mapping[str, Any]]) -> str:
    """The elements, one a line."""
    return "\n".join(_line(each) for each in seen)


def _line(each: Mapping[str, Any]) -> str:
    parts = [f"[{each['ref']}]", each["tag"] + (f" {each['type']}" if each["tag"] == "input" else "")]
    parts += [f'"{each["text"]}"'] if each["text"] else []
    parts += [f"of {each['label']!r}"] if each.get("label") else []
    parts += (
        [f"holds {each['value']!r}"] if each["tag"] in ("input", "textarea", "select") and each["value"] not in ("", "on") else []
    )
    parts += [f"options {each['options']}"] if "options" in each else []
    parts += [each["colour"]] if each.get("colour") else []
    parts += ["checked"] if each["checked"] else []
    parts += ["focused"] if each["focused"] else []
    parts += [f"({each['kind'].split()[0]})"] if each["kind"] and not each["text"] else []
    parts += [f"at {each['x']},{each['y']}"] if each["tag"] in ("rect", "circle", "polygon") else []
    return " ".join(parts)


class MiniWoBTasks:
    """Seeds of one task, or of several, each a level; held-out seeds begin at a million."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.levels = names

    def task(self, split: Split, level: str, index: int) -> Task:
        if level not in self.levels:
            raise ValueError(f"there is no task '{level}': choose one of {', '.join(self.levels)}")
        seed = index + (TEST_SEEDS if split == "test" else 0)
        return Task(f"miniwob/{level}/{seed}", {"name": level, "seed": seed}, level)
