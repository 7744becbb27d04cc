"""What a latent memory retains, arXiv 2402.04624."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.memory import retention


@pytest.mark.parametrize(("size", "expected"), [(30, {9: 0.737, 29: 0.374, 99: 0.035}), (50, {9: 0.834, 49: 0.372, 99: 0.135})])
def test_numbers_of_the_pools_of_7_and_8_billion(size: int, expected: dict[int, float]) -> None:
    """K / N = 1 / 30 and 1 / 50, after s further writes."""
    assert {s: retention(s, dropped=1, size=size) for s in expected} == pytest.approx(expected, abs=5e-4)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 8))
def test_writes_forget_one_after_the_other_and_the_unit_does_not_matter(first: int, more: int, dropped: int) -> None:
    one, both = retention(first, dropped=dropped, size=8), retention(first + more, dropped=dropped, size=8)
    assert both == pytest.approx(one * retention(more, dropped=dropped, size=8))
    assert both == pytest.approx(retention(first + more, dropped=256 * dropped, size=256 * 8))


def test_nothing_is_lost_before_the_next_write_and_all_with_a_whole_pool() -> None:
    assert retention(0, dropped=8, size=8) == 1.0 and retention(1, dropped=8, size=8) == 0.0
    with pytest.raises(ValueError, match="0 to 8"):
        retention(1, dropped=9, size=8)
