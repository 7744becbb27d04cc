"""Templates of the pages: all text is escaped, whoever wrote it."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from sojourn.viewer.svg import DARK, LIGHT, number


@cache
def environment() -> Environment:
    made = Environment(
        loader=PackageLoader("sojourn.viewer", "page"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"number": value, "percent": "{:.1%}".format, "json": _json, "signed": signed}
    return made


def render(template: str, **content: object) -> str:
    return environment().get_template(template).render(**content)


@cache
def style() -> Markup:
    """The style sheet."""
    return Markup(render("style.css.j2", colors={"light": LIGHT, "dark": DARK}))


@cache
def script(name: str) -> Markup:
    """A script that comes with the pages, by its file's name."""
    return Markup((files("sojourn.viewer") / "page" / name).read_text(encoding="utf-8"))


def value(given: object) -> str:
    """A config value or a metric as a person reads it."""
    if isinstance(given, float):
        return number(given)
    return ", ".join(map(value, given)) if isinstance(given, list) else str(given)


def signed(given: float) -> str:
    """
    >>> signed(0.5), signed(-0.0)
    ('+0.5', '0')
    """
    return f"{given:+.3g}" if given else "0"


def _json(given: Any, indent: int | None = 1) -> str:
    return json.dumps(given, ensure_ascii=False, indent=indent, default=str)
