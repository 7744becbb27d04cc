"""Charts put a number where its axis says it is."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.viewer.svg import Bar, Series, bar_chart, curve_svg, line_chart, stack_chart, ticks

SVG = "{http://www.w3.org/2000/svg}"


def lines(svg: str) -> list[list[tuple[float, float]]]:
    """The polylines of a chart, in pixels."""
    paths = [path.attrib["d"] for path in ElementTree.fromstring(svg).iter(f"{SVG}path") if path.attrib.get("fill") == "none"]
    return [[(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", path)] for path in paths]


def heights(svg: str) -> dict[str, float]:
    """Pixel height of each label of the value axis (its baseline lies 4 under the line)."""
    texts = ElementTree.fromstring(svg).iter(f"{SVG}text")
    return {text.text or "": float(text.attrib["y"]) - 4 for text in texts if text.attrib["text-anchor"] == "end"}


@given(values=st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=8))
def test_a_point_lies_on_the_grid_line_of_its_value(values: list[float]) -> None:
    svg = line_chart([Series(name="a", points=list(enumerate(values)))], percent=True, y=(0.0, 1.0))
    axis = heights(svg)
    assert [y for _, y in lines(svg)[0]] == pytest.approx([axis[f"{100 * v:.0f}%"] for v in values], abs=0.11)


def test_the_thick_line_is_the_mean_of_the_seeds() -> None:
    seeds: dict[int, list[dict[str, float]]] = {
        1: [{"step": 1, "success/a": 0.0}, {"step": 2, "success/a": 1.0}],
        2: [{"step": 1, "success/a": 1.0}, {"step": 2}],
    }
    first, second, mean = lines(curve_svg(seeds))
    assert mean[0][1] == pytest.approx((first[0][1] + second[0][1]) / 2, abs=0.11)
    assert mean[1] == first[1]


def test_the_picture_stands_alone() -> None:
    svg = curve_svg({0: [{"step": 1, "success/one": 0.5, "success/two <calls>": 0.5}]})
    named = set(re.findall(r"var\(--(\w+)\)", svg))
    defined = set(re.findall(r"--(\w+):", svg))
    assert named <= defined and "prefers-color-scheme:dark" in svg
    assert "two <calls>" in "".join(ElementTree.fromstring(svg).itertext())


def test_stacked_columns_reach_the_sum() -> None:
    svg = stack_chart([Series(name="a", points=[(1, 0.25)]), Series(name="b", points=[(1, 0.75)])], percent=True)
    a, b = (rect.attrib for rect in ElementTree.fromstring(svg).iter(f"{SVG}rect"))
    assert float(b["y"]) == pytest.approx(heights(svg)["100%"], abs=0.11)
    assert float(a["y"]) == pytest.approx(heights(svg)["25%"], abs=0.11)


def test_a_bar_tells_its_interval() -> None:
    svg = bar_chart([("easy", [Bar(name="after", value=0.5, low=0.25, high=0.75, color="red")])])
    assert "after: 50.0% [25.0%, 75.0%]" in svg


@given(low=st.floats(-1e6, 1e6), size=st.floats(1e-3, 1e6))
def test_ticks_lie_inside_and_are_few(low: float, size: float) -> None:
    marks = ticks(low, low + size)
    assert 1 <= len(marks) <= 6
    assert all(low - size * 0.01 <= mark <= low + size * 1.01 for mark in marks)


@given(low=st.floats(1e-7, 1e5), times=st.floats(1.0, 9.0))
def test_no_number_of_an_axis_is_cut(low: float, times: float) -> None:
    """Learning rates of 1.25e-4, hundreds of thousands of tokens: a digit is at most 7 wide at this size."""
    svg = line_chart([Series(name="lr", points=[(1, low), (2, low * times)])])
    texts = [text for text in ElementTree.fromstring(svg).iter(f"{SVG}text") if text.attrib["text-anchor"] == "end"]
    assert min(float(text.attrib["x"]) - 7 * len(text.text or "") for text in texts) >= 0
    assert all(x > float(texts[0].attrib["x"]) for line in lines(svg) for x, _ in line)
