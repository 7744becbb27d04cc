"""The difficulty that follows the reward."""

import pytest

from sojourn.curriculum import next_difficulty


def test_the_step_of_adarft() -> None:
    """arXiv 2504.05520: 50 tanh(2 (R - 0.5)), kept within 0 and 100.  tanh(0.8) = 0.664037."""
    assert next_difficulty(0.0, 0.9) == pytest.approx(33.2018, abs=1e-4)
    assert next_difficulty(20.0, 0.9) == pytest.approx(53.2018, abs=1e-4)
    assert next_difficulty(40.0, 0.1) == pytest.approx(6.7982, abs=1e-4)
    assert next_difficulty(90.0, 0.9) == 100.0
    assert next_difficulty(10.0, 0.1) == 0.0


def test_at_the_goal_the_difficulty_stays() -> None:
    assert next_difficulty(37.0, 0.5) == 37.0
    assert next_difficulty(37.0, 0.25, goal=0.25) == 37.0
    assert next_difficulty(0.0, 1.0, goal=0.0, sensitivity=0.5, step=3.0, high=1.0) == 1.0
    assert next_difficulty(0.0, 1.0, goal=0.0, sensitivity=0.5, step=3.0) == pytest.approx(3 * 0.462117, abs=1e-5)
