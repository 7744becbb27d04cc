"""RAP's reward of a move in Blocksworld, arXiv 2305.14992."""

import pytest

from sojourn.rewards import imagined_move


def test_a_move_that_reaches_all_goals() -> None:
    """Opinion -1 - 0.2, half of it and half of 100."""
    assert imagined_move(-1.0, -0.2, reached=3, goals=3) == pytest.approx(49.4)


def test_before_all_goals_hold_their_share_counts() -> None:
    assert imagined_move(-1.0, -0.2, reached=1, goals=4) == pytest.approx(-0.6 + 0.125)
    assert imagined_move(-1.0, -0.2, reached=0, goals=4) == pytest.approx(-0.6)


def test_the_weight_of_the_model_s_opinion() -> None:
    assert imagined_move(-1.0, -0.2, reached=1, goals=2, alpha=1.0) == pytest.approx(-1.2)
    assert imagined_move(-1.0, -0.2, reached=1, goals=2, alpha=0.0) == pytest.approx(0.5)
