"""Charts as SVG text: lines, stacked columns, bars with intervals.  No plotting library, no network, light and dark.

The one idea: colours are CSS variables (`--c0`, `--c1`, ... for series, `--ink`, `--muted`, `--grid`), so that one picture follows
the page's theme.  `curve_svg` stands alone and carries its own.  A chart's numbers ride along as JSON in `data-chart`, from which
the report page's script shows what is under the pointer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

Point = tuple[float, float]
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 12, 26
"""Margins; the left one is wider where the numbers on the axis need it."""
LETTER, DIGIT = 6.4, 7.2
"""How wide a letter, and a digit of an axis, is taken to be."""
LIGHT = ("#2a78d6", "#eb6834", "#1baf7a", "#4a3aa7", "#eda100", "#e34948", "#008300", "#e87ba4")
DARK = ("#4b93ea", "#e2703f", "#1fa97a", "#9085e9", "#cf8f0d", "#e66767", "#3ea03e", "#d55181")


@dataclass(frozen=True, kw_only=True)
class Series:
    """One named line.  `style`: a line with dots, a faint line (one of many), or marks alone (measured apart from the line).

    band: intervals as (x, low, high): shaded behind a line, whiskers of marks.
    """

    name: str
    points: Sequence[Point]
    color: int = 0
    style: Literal["line", "faint", "marks"] = "line"
    band: Sequence[tuple[float, float, float]] = ()


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar with its interval, all in [0, 1].  `color` is a CSS colour."""

    name: str
    value: float
    low: float
    high: float
    color: str


@dataclass(frozen=True)
class Axes:
    """The plotting area and its scales, data to pixels."""

    width: int
    height: int
    top: int
    x: tuple[float, float]
    y: tuple[float, float]
    percent: bool = False
    unit: str = "step"

    @property
    def labels(self) -> dict[float, str]:
        """The numbers on the y axis, as they are written."""
        return {value: f"{number(100 * value)}%" if self.percent else number(value) for value in ticks(*self.y)}

    @property
    def left(self) -> float:
        """Where the plot begins: after the longest number."""
        return max(LEFT, DIGIT * max(map(len, self.labels.values()), default=0) + 9)

    def px(self, x: float) -> float:
        return self.left + (x - self.x[0]) / (self.x[1] - self.x[0]) * (self.width - self.left - RIGHT)

    def py(self, y: float) -> float:
        return self.height - BOTTOM - (y - self.y[0]) / (self.y[1] - self.y[0]) * (self.height - BOTTOM - self.top)


def line_chart(
    series: Sequence[Series],
    *,
    percent: bool = False,
    y: tuple[float, float] | None = None,
    width: int = 360,
    height: int = 170,
    style: str = "",
    legend: bool = True,
    unit: str = "step",
) -> str:
    """Lines over steps, or what `unit` says.  `percent`: values are shares of 1.  `y`: the range shown; without it, what the values need."""
    points = [point for one in series for point in one.points]
    bounds = [bound for one in series for _, *both in one.band for bound in both]
    y = y or _span([*(value for _, value in points), *bounds])
    named = series if legend else []
    axes = Axes(width, height, _top(named, width), _span([step for step, _ in points], pad=0.5), y, percent, unit)
    bands = (_band(one, axes) for one in series if one.band)
    parts = [_grid(axes), _legend(named, width), *bands, *(_line(one, axes) for one in series)]
    shown = [one for one in series if one.style != "faint"]
    return _svg(parts, axes, style, [(one.name, f"var(--c{one.color % len(LIGHT)})", one.points) for one in shown], percent)


def stack_chart(series: Sequence[Series], *, percent: bool = False, width: int = 360, height: int = 170) -> str:
    """Columns, one for each step, in which the series are stacked: shares of a whole, or seconds."""
    steps = sorted({step for one in series for step, _ in one.points})
    sums = {step: sum(dict(one.points).get(step, 0.0) for one in series) for step in steps}
    y = (0.0, 1.0) if percent else (0.0, _span([0.0, *sums.values()])[1])
    axes = Axes(width, height, _top(series, width), (steps[0] - 0.5, steps[-1] + 0.5), y, percent)
    slot = (width - axes.left - RIGHT) / (steps[-1] - steps[0] + 1)
    bar = max(slot - 2, slot * 0.7)
    base = dict.fromkeys(steps, 0.0)
    rects = []
    for one in series:
        for step, value in one.points:
            high, low = axes.py(base[step] + value), axes.py(base[step])
            base[step] += value
            box = f'x="{axes.px(step) - bar / 2:.1f}" y="{high:.1f}" width="{bar:.1f}" height="{max(low - high - 0.6, 0):.1f}"'
            rects.append(f'<rect {box} fill="var(--c{one.color})"/>')
    parts = [_grid(axes), _legend(series, width), *rects]
    return _svg(parts, axes, "", [(one.name, f"var(--c{one.color})", one.points) for one in series], percent)


def bar_chart(groups: Sequence[tuple[str, Sequence[Bar]]], *, width: int = 520, height: int = 260) -> str:
    """Groups of bars from 0 to 100 %, each with its interval as a whisker and its value above."""
    axes = Axes(width, height, TOP + 26, (0, len(groups)), (0.0, 1.0), percent=True)
    names = {bar.name: bar.color for _, bars in groups for bar in bars}
    parts = [_grid(axes, steps=False), _legend_items(list(names.items()), width)]
    for index, (label, bars) in enumerate(groups):
        slot = (axes.px(1) - axes.px(0)) * 0.72 / max(len(bars), 2)
        thick = min(slot * 0.86, 56)
        middle = axes.px(index + 0.5)
        parts.append(_text(middle, height - 8, label, "ink", "middle"))
        for place, bar in enumerate(bars):
            x = middle + (place - (len(bars) - 1) / 2) * slot
            parts.append(_bar(axes, bar, x, thick))
    return _svg(parts, axes, "", [], True)


def curve_svg(rows_per_seed: Mapping[int, Sequence[Mapping[str, Any]]], *, width: int = 760, height: int = 340) -> str:
    """The learning curve as a picture that stands alone: success of each level over steps; thin lines are seeds, thick ones means.

    rows_per_seed: for each seed the rows of its `metrics.jsonl` (keys `step` and `success/<level>`).
    """
    keys = (key for rows in rows_per_seed.values() for row in rows for key in row)
    levels = list(dict.fromkeys(key for key in keys if key.startswith("success/")))
    series = []
    for color, key in enumerate(levels):
        runs = [points_of(rows, key) for rows in rows_per_seed.values()]
        if len(runs) > 1:
            series += [Series(name="", points=run, color=color, style="faint") for run in runs]
        series.append(Series(name=key.split("/", 1)[1], points=mean_of(runs), color=color))
    return line_chart(series, percent=True, y=(0.0, 1.0), width=width, height=height, style=standalone())


def standalone() -> str:
    """The `style` of a picture without a page around it: light or dark as the reader's screen."""
    light = _theme(LIGHT, ink="#1f2328", muted="#656d76", grid="#e4e7eb", paper="#ffffff")
    dark = _theme(DARK, ink="#e6edf3", muted="#9198a1", grid="#30363d", paper="#0d1117")
    return f"svg{{{light};background:var(--paper)}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}"


def points_of(rows: Iterable[Mapping[str, Any]], key: str, x: str = "step") -> list[Point]:
    """The points (step, value) of a metric, where it was measured."""
    return [(float(row[x]), float(row[key])) for row in rows if row.get(key) is not None]


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers that cover [low, high] from within.

    >>> ticks(0.0, 1.0)
    [0.0, 0.25, 0.5, 0.75, 1.0]
    >>> ticks(3, 17)
    [5.0, 10.0, 15.0]
    """
    unit = 10.0 ** math.floor(math.log10((high - low) / about))
    size = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m * about >= (high - low) * 0.999)
    first, last = math.ceil(low / size - 1e-9), math.floor(high / size + 1e-9)
    return [round(i * size, 12) for i in range(first, last + 1)]


def number(value: float) -> str:
    """A short number for an axis.

    >>> [number(v) for v in (0, 0.25, 1500, 2e-5, 1.25e-4, 12.0)]
    ['0', '0.25', '1,500', '2e-5', '1.25e-4', '12']
    """
    if value != 0 and abs(value) < 1e-3:
        digits, power = f"{value:.2e}".split("e")
        return f"{float(digits):g}e{int(power)}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def mean_of(runs: Sequence[Sequence[Point]]) -> list[Point]:
    """The mean over runs at each step."""
    values: dict[float, list[float]] = {}
    for run in runs:
        for step, value in run:
            values.setdefault(step, []).append(value)
    return [(step, sum(values[step]) / len(values[step])) for step in sorted(values)]


def _theme(colors: Sequence[str], **named: str) -> str:
    return ";".join([*(f"--c{i}:{color}" for i, color in enumerate(colors)), *(f"--{k}:{v}" for k, v in named.items())])


def _span(values: Sequence[float], pad: float | None = None) -> tuple[float, float]:
    """The range that an axis shows.  Values that all are equal get room around them."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if low == high:
        room = pad or abs(low) * 0.5
        return (low - room, high + room) if room else (0.0, 1.0)
    if pad is None:
        room = (high - low) * 0.06
        low, high = (0.0 if 0 <= low < high * 0.4 else low - room), high + room
    return low, high


def _band(series: Series, axes: Axes) -> str:
    """The intervals, as far as the plot shows them."""
    color = f"var(--c{series.color % len(LIGHT)})"
    bounds = [(axes.px(x), *(axes.py(min(max(b, axes.y[0]), axes.y[1])) for b in both)) for x, *both in series.band]
    if series.style == "marks":
        path = "".join(f"M{x:.1f} {low:.1f}V{high:.1f}" for x, low, high in bounds)
        return f'<path d="{path}" stroke="{color}" stroke-width="1.2" opacity="0.55"/>'
    edge = [f"{x:.1f} {high:.1f}" for x, _, high in bounds] + [f"{x:.1f} {low:.1f}" for x, low, _ in reversed(bounds)]
    return f'<path d="M{"L".join(edge)}Z" fill="{color}" opacity="0.14"/>'


def _line(series: Series, axes: Axes) -> str:
    dots = [(axes.px(x), axes.py(y)) for x, y in series.points]
    color = f"var(--c{series.color % len(LIGHT)})"
    if series.style == "marks":
        return "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="var(--paper)" stroke="{color}" stroke-width="2.2"/>' for x, y in dots
        )
    width, opacity = (1.2, 0.4) if series.style == "faint" else (2.2, 1)
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in dots) if dots else ""
    line = f'<path d="{path}" fill="none" stroke="{color}" stroke-width="{width}" opacity="{opacity}" stroke-linejoin="round"/>'
    if series.style == "faint" or len(dots) > 60:
        return line
    return line + "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{color}"/>' for x, y in dots)


def _bar(axes: Axes, bar: Bar, x: float, thick: float) -> str:
    top, base = axes.py(bar.value), axes.py(0)
    low, high, cap = axes.py(bar.low), axes.py(bar.high), min(thick / 4, 6)
    whisker = f"M{x:.1f} {low:.1f}V{high:.1f}M{x - cap:.1f} {low:.1f}h{2 * cap:.1f}M{x - cap:.1f} {high:.1f}h{2 * cap:.1f}"
    tip = f"<title>{escape(bar.name)}: {bar.value:.1%} [{bar.low:.1%}, {bar.high:.1%}]</title>"
    box = f'x="{x - thick / 2:.1f}" y="{top:.1f}" width="{thick:.1f}" height="{max(base - top, 1):.1f}" rx="2"'
    return (
        f'<g>{tip}<rect {box} fill="{bar.color}"/><path d="{whisker}" stroke="var(--ink)" stroke-width="1.2" fill="none"/>'
        + _text(x, high - 5, f"{bar.value:.0%}", "ink", "middle", bold=True)
        + "</g>"
    )


def _grid(axes: Axes, steps: bool = True) -> str:
    parts = []
    for value, label in axes.labels.items():
        y = axes.py(value)
        parts.append(f'<path d="M{axes.left:g} {y:.1f}H{axes.width - RIGHT}" stroke="var(--grid)"/>')
        parts.append(_text(axes.left - 7, y + 4, label, "muted", "end"))
    whole = [value for value in ticks(*axes.x, about=axes.width // 70) if value == int(value)] if steps else []
    for place, value in enumerate(whole):
        label = number(value) if place else f"{axes.unit} {number(value)}"
        parts.append(_text(axes.px(value), axes.height - 8, label, "muted", "middle"))
    return "".join(parts)


def _entries(series: Sequence[Series]) -> list[tuple[str, str]]:
    named = [one for one in series if one.name]
    return [(one.name, f"var(--c{one.color % len(LIGHT)})") for one in named] if len(named) > 1 else []


def _legend(series: Sequence[Series], width: int) -> str:
    marks = frozenset(one.name for one in series if one.style == "marks")
    return _legend_items(_entries(series), width, marks)


def _legend_items(items: Sequence[tuple[str, str]], width: int, rings: frozenset[str] = frozenset()) -> str:
    parts = []
    for (name, color), (x, y) in zip(items, _legend_places([name for name, _ in items], width), strict=True):
        ring = f'fill="none" stroke="{color}" stroke-width="2"' if name in rings else f'fill="{color}"'
        parts.append(f'<circle cx="{x + 5}" cy="{y - 4}" r="4.5" {ring}/>' + _text(x + 15, y, name, "ink", "start"))
    return "".join(parts)


def _legend_places(names: Sequence[str], width: int) -> list[tuple[float, int]]:
    """Left to right, in as many rows as it takes."""
    places, x, y = [], float(LEFT), 14
    for name in names:
        wide = 15 + LETTER * len(name) + 16
        if x > LEFT and x + wide > width - RIGHT:
            x, y = float(LEFT), y + 18
        places.append((x, y))
        x += wide
    return places


def _top(series: Sequence[Series], width: int) -> int:
    places = _legend_places([name for name, _ in _entries(series)], width)
    return TOP + (places[-1][1] + 2 if places else 0)


def _text(x: float, y: float, text: str, color: str, anchor: str, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="var(--{color})"{weight}>{escape(text)}</text>'


def _svg(parts: Sequence[str], axes: Axes, style: str, data: Sequence[tuple[str, str, Sequence[Point]]], percent: bool) -> str:
    chart = {
        "x": axes.x,
        "left": axes.left,
        "right": axes.width - RIGHT,
        "top": axes.top,
        "bottom": axes.height - BOTTOM,
        "percent": percent,
        "unit": axes.unit,
        "series": [{"name": name, "color": color, "points": points} for name, color, points in data],
    }
    attribute = f" data-chart='{escape(json.dumps(chart), quote=True)}'" if data and not style else ""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {axes.width} {axes.height}" class="chart" role="img" '
        f'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="12"{attribute}>'
    )
    return head + (f"<style>{style}</style>" if style else "") + "".join(parts) + "</svg>\n"
