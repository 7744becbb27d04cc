"""Scripts that solve tasks of MiniWoB++: from the goal and what is seen, and how many actions were said, to the next action.

Each reads what a policy reads and nothing else, so that it also says that the observation suffices.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Element = Mapping[str, Any]
Rule = Callable[[str, Sequence[Element], int], str]
ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)")
SIDES = {"rect": "Rectangle", "circle": "Circle", "polygon": "Triangle"}


def quoted(goal: str) -> list[str]:
    return re.findall(r'"([^"]*)"', goal)


def named(seen: Sequence[Element], text: str, *tags: str) -> Element:
    """The element of this text, in these tags if any are given.  Raises LookupError."""
    for each in seen:
        if each["text"].strip() == text and (not tags or each["tag"] in tags):
            return each
    raise LookupError(f"nothing says {text!r}")


def fields(seen: Sequence[Element], *kinds: str) -> list[Element]:
    return [each for each in seen if each["tag"] in ("input", "textarea") and (not kinds or each["type"] in kinds)]


def click(element: Element) -> str:
    return f"click {element['ref']}"


def button(text: str) -> Rule:
    return lambda goal, seen, said: click(named(seen, text, "button"))


def click_quoted(*tags: str) -> Rule:
    return lambda goal, seen, said: click(named(seen, quoted(goal)[0], *tags))


def typed(values: Callable[[str, Sequence[Element]], Sequence[str]], then: str = "Submit", *kinds: str) -> Rule:
    """These values into the fields, in order, then a button."""

    def rule(goal: str, seen: Sequence[Element], said: int) -> str:
        texts = values(goal, seen)
        if said < len(texts):
            return f"type {fields(seen, *kinds)[said]['ref']} {texts[said]}"
        return click(named(seen, then))

    return rule


def checked(wanted: Callable[[str, Sequence[Element]], Sequence[str]]) -> Rule:
    """Check the boxes of these labels, then submit."""

    def rule(goal: str, seen: Sequence[Element], said: int) -> str:
        left = [box for box in fields(seen, "checkbox", "radio") if box["label"] in wanted(goal, seen) and not box["checked"]]
        return click(left[0] if left else named(seen, "Submit", "button"))

    return rule


def selected(goal: str, seen: Sequence[Element]) -> list[str]:
    """`Select a, b and click Submit.`"""
    listed = re.sub(r",? and click Submit\.?$", "", goal.removeprefix("Select ")).strip()
    return [] if listed == "nothing" else [part.strip() for part in listed.split(",")]


def cell(seen: Sequence[Element], name: str) -> str:
    """What stands right of a name in a table."""
    texts = [each["text"] for each in seen if each["tag"] == "td"]
    return str(texts[texts.index(name) + 1])


def arithmetic(goal: str, seen: Sequence[Element]) -> list[str]:
    match = re.fullmatch(r"(-?\d+)\s*([-+x])\s*(-?\d+)\s*=?", next(each["text"] for each in seen if each["tag"] == "div"))
    assert match is not None
    a, b = int(match[1]), int(match[3])
    return [str({"+": a + b, "-": a - b, "x": a * b}[match[2]])]


def algebra(goal: str, seen: Sequence[Element]) -> list[str]:
    """`7 + x = 61`, `x - 3 = 4`, ...: the whole number that makes it true."""
    left, _, right = next(each["text"] for each in seen if "=" in each["text"]).partition("=")
    for x in range(-1000, 1001):
        a, sign, b = [str(x) if part == "x" else part for part in left.split()]
        if (int(a) + int(b) if sign == "+" else int(a) - int(b)) == int(right):
            return [str(x)]
    raise LookupError(f"no x in {left}={right}")


def options(goal: str, seen: Sequence[Element], said: int) -> str:
    wanted = re.sub(r"^Select (.*) from the list and click Submit\.?$", r"\1", goal)
    chosen = next(each for each in seen if each["tag"] == "select")
    return f"select {chosen['ref']} {wanted}" if said == 0 else click(named(seen, "Submit", "button"))


def sequence(goal: str, seen: Sequence[Element], said: int) -> str:
    return click(named(seen, ("ONE", "TWO")[said], "button"))


def dialog(goal: str, seen: Sequence[Element], said: int) -> str:
    wanted = (quoted(goal) or ["x"])[0]
    return click(named(seen, "Close" if wanted == "x" else wanted, "button"))


def focus(goal: str, seen: Sequence[Element], said: int) -> str:
    match = ORDINAL.search(goal)
    return click(fields(seen)[int(match[1]) - 1 if match else 0])


def tab_with_link(goal: str, seen: Sequence[Element], said: int) -> str:
    """Tab after tab until the link is seen."""
    try:
        return click(named(seen, quoted(goal)[0], "span"))
    except LookupError:
        return click([each for each in seen if each["text"].startswith("Tab #")][said + 1])


def widget(goal: str, seen: Sequence[Element], said: int) -> str:
    kind = quoted(goal)[0]
    tags = {"button": lambda e: e["tag"] == "button", "textarea": lambda e: e["tag"] == "textarea"}
    return click(next(each for each in seen if tags.get(kind, lambda e: e["tag"] == "input" and e["type"] == kind)(each)))


def shape(goal: str, seen: Sequence[Element], said: int) -> str:
    figure = next(each for each in seen if each["tag"] in ("rect", "circle", "polygon", "text", "tspan"))
    name = SIDES.get(figure["tag"]) or ("Number" if figure["text"].isdigit() else "Letter")
    return click(named(seen, name, "button"))


def odd_or_even(goal: str, seen: Sequence[Element], said: int) -> str:
    places = [i for i, each in enumerate(seen) if each["kind"] == "display-number"]
    if said == len(places):
        return click(named(seen, "Submit"))
    odd = int(seen[places[said]]["text"]) % 2
    return click(seen[places[said] + (-1 if odd else 1)])


def colour(goal: str, seen: Sequence[Element], said: int) -> str:
    wanted = goal.removeprefix("Click on the ").removesuffix(" colored box.")
    return click(next(each for each in seen if each.get("colour") == wanted))


def movie(goal: str, seen: Sequence[Element], said: int) -> str:
    """`Search for satire movies directed by Mejia from year 2017.`: each field is named by the text before or after it."""
    match = re.match(r"Search for (.+) movies directed by (.+) from year (\d+)", goal)
    assert match is not None
    values = {"Genre": match[1], "Director": match[2], "Year": match[3], "Date": match[3]}
    names = [name for each in seen for name in values if name in each["text"]]
    if said == 3:
        return click(next(each for each in reversed(seen) if each["text"] in ("Search", "Submit", "Go!")))
    return f"type {fields(seen, 'text')[said]['ref']} {values[names[said]]}"


def unfold(goal: str, seen: Sequence[Element], said: int) -> str:
    return click(next(each for each in seen if "header" in str(each["kind"]))) if said == 0 else click(named(seen, "Submit"))


def numbered_word(goal: str, seen: Sequence[Element]) -> list[str]:
    match = ORDINAL.search(goal)
    assert match is not None
    text = next(each["text"] for each in seen if each["tag"] == "p")
    return [re.sub(r"[^\w]", "", text.split()[int(match[1]) - 1])]


def login(goal: str, seen: Sequence[Element]) -> list[str]:
    return quoted(goal)[:2]


def date(goal: str, seen: Sequence[Element]) -> list[str]:
    month, day, year = re.findall(r"\d+", goal)
    return [f"{year}-{month}-{day}"]


def clock(goal: str, seen: Sequence[Element]) -> list[str]:
    match = re.search(r"(\d+):(\d+) (AM|PM)", goal)
    assert match is not None
    return [f"{int(match[1]) % 12 + 12 * (match[3] == 'PM'):02d}:{match[2]}"]


def spinner(goal: str, seen: Sequence[Element], said: int) -> str:
    wanted, now = int(re.findall(r"Select (-?\d+)", goal)[0]), int(fields(seen, "text")[0]["value"] or 0)
    if wanted == now:
        return click(named(seen, "Submit"))
    return click(next(each for each in seen if f"spinner-{'up' if wanted > now else 'down'}" in str(each["kind"])))


def pair(goal: str, seen: Sequence[Element], said: int) -> str:
    """`Check the 3rd radio button and enter the number "27" into the 3rd textbox.`"""
    first, second = (int(number) - 1 for number in ORDINAL.findall(goal))
    moves = (click(fields(seen, "radio")[first]), f"type {fields(seen, 'text')[second]['ref']} {quoted(goal)[0]}")
    return moves[said] if said < 2 else click(named(seen, "Submit"))


def capitals(goal: str, seen: Sequence[Element]) -> list[str]:
    return [quoted(goal)[0].upper() if "upper" in goal else quoted(goal)[0].lower()]


ORACLES: dict[str, Rule] = {
    "click-button": click_quoted("button"),
    "click-button-sequence": sequence,
    "click-checkboxes": checked(selected),
    "click-checkboxes-large": checked(selected),
    "click-checkboxes-transfer": checked(selected),
    "click-collapsible": unfold,
    "click-collapsible-nodelay": unfold,
    "click-color": colour,
    "click-dialog": dialog,
    "click-dialog-2": dialog,
    "click-link": click_quoted("span"),
    "click-option": checked(selected),
    "click-tab": lambda goal, seen, said: click(named(seen, re.findall(r"Tab #\d", goal)[0], "a")),
    "click-tab-2": tab_with_link,
    "click-tab-2-easy": tab_with_link,
    "click-tab-2-medium": tab_with_link,
    "click-test": button("Click Me!"),
    "click-test-2": button("ONE"),
    "click-test-transfer": button("ONE"),
    "click-widget": widget,
    "choose-list": options,
    "enter-date": typed(date),
    "enter-password": typed(lambda goal, seen: quoted(goal) * 2),
    "enter-text": typed(lambda goal, seen: quoted(goal)),
    "enter-text-2": typed(capitals),
    "enter-text-dynamic": typed(lambda goal, seen: quoted(goal)),
    "enter-time": typed(clock),
    "find-word": typed(numbered_word),
    "focus-text": focus,
    "focus-text-2": focus,
    "form-sequence-2": pair,
    "identify-shape": shape,
    "login-user": typed(login, "Login"),
    "multi-layouts": movie,
    "multi-orderings": movie,
    "odd-or-even": odd_or_even,
    "read-table": typed(lambda goal, seen: [cell(seen, re.findall(r"value of (.+) into", goal)[0])]),
    "simple-algebra": typed(algebra),
    "simple-arithmetic": typed(arithmetic),
    "text-transform": typed(lambda goal, seen: ["".join(each["text"] for each in seen if each["tag"] == "span")]),
    "unicode-test": click_quoted("button"),
    "use-spinner": spinner,
    "visual-addition": typed(lambda goal, seen: [str(sum(each["kind"] == "addition-block" for each in seen))]),
}
"""By the name of the task."""
