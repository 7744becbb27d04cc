"""Which former selves are kept and met follows from the rule and from the record."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sojourn.training.league import NOW, Former, League, Record, elo, standings


def league(versions: int = 4, **settings: object) -> League:
    found = League(Former(**settings))  # type: ignore[arg-type]
    for version in range(versions):
        found.add(version, {"w": torch.full((2,), float(version))})
    return found


def test_the_first_and_the_newest_are_kept_as_copies() -> None:
    weight = torch.zeros(1)
    found = League(Former(most=3))
    for version in range(6):
        found.add(version, {"w": weight})
        weight += 1
    assert {version: weights["w"].item() for version, weights in found.weights.items()} == {0: 0.0, 4: 4.0, 5: 5.0}


def test_the_best_are_kept_by_how_seldom_they_are_beaten() -> None:
    """Version 1 was beaten always, 2 and 4 half of the time, 3 never; of equal ones the older goes."""
    found = League(Former(most=4, keep="best"))
    kept = []
    for version, score in enumerate([1.0, 1.0, 0.0, -1.0, 0.0, 0.0]):
        found.add(version, {"w": torch.zeros(1)})
        found.record(version, [score])
        kept.append(sorted(found.weights))
    assert kept[3:] == [[0, 1, 2, 3], [0, 2, 3, 4], [0, 3, 4, 5]]


@pytest.mark.parametrize(
    ("opponents", "chances"), [("latest", [0, 0, 0, 1]), ("uniform", [0.25] * 4), ("prioritised", [0, 1 / 6, 2 / 3, 1 / 6])]
)
def test_who_is_met_follows_the_rule(opponents: str, chances: list[float]) -> None:
    """Prioritised: (1 - p)^2 of 1, 1/2, 0 and 1/2 (never met) is 0, 1/4, 1, 1/4."""
    found = league(opponents=opponents)
    for version, returns in ((0, [1.0, 2.0]), (1, [1.0, -1.0, 0.0]), (2, [-1.0])):
        found.record(version, returns)
    np.testing.assert_allclose(found.chances([0, 1, 2, 3]), chances, atol=1e-12)
    assert set(found.draw(50, np.random.default_rng(0))) <= {v for v, chance in enumerate(chances) if chance}


def test_a_share_of_groups_meets_the_policy_as_it_is_now() -> None:
    """The others are met in the same proportions as before."""
    found = league(opponents="uniform", present=0.25)
    met = found.draw(4000, np.random.default_rng(0))
    shares = [met.count(version) / 4000 for version in (NOW, 0, 1, 2, 3)]
    np.testing.assert_allclose(shares, [0.25, *[0.75 / 4] * 4], atol=0.03)
    assert NOW not in league(present=0.0).draw(200, np.random.default_rng(0))


def test_one_that_beats_all_still_meets_somebody() -> None:
    found = league()
    for version in range(4):
        found.record(version, [1.0])
    np.testing.assert_allclose(found.chances([0, 1, 2, 3]), [0.25] * 4)


def test_a_resumed_league_draws_the_same() -> None:
    found = league()
    found.record(1, [1.0, -1.0, -1.0])
    resumed = League(found.former)
    resumed.load_state(found.state())
    resumed.load_state_dict(found.state_dict())
    assert resumed.draw(20, np.random.default_rng(3)) == found.draw(20, np.random.default_rng(3))
    assert resumed.describe() == found.describe() == {"league/1": round(1 / 3, 4)}
    assert standings(resumed.state()) == standings(found.state())


def test_the_payoff_matrix_has_a_row_for_each_snapshot_that_played() -> None:
    """Version 1 wins 3 of 4 against version 0, which is 191 points; against the snapshot that it is itself nothing is rated."""
    found = league(2)
    found.record(0, [1.0, 1.0, 2.0, -1.0])
    found.record(1, [1.0])
    found.add(2, {"w": torch.zeros(2)})
    found.record(0, [0.0, 0.0])
    page = standings(found.state())
    assert page["payoffs"] == [[1, 0, 4, 0.75], [1, 1, 1, 1.0], [2, 0, 2, 0.5]]
    assert page["elo"]["0"] == 0.0
    assert page["elo"]["1"] == pytest.approx(400 * np.log10(3), abs=1.0)
    assert page["elo"]["2"] == pytest.approx(0.0, abs=1.0)
    assert found.records[0].games == 6, "the record over all its life decides who is met"


def test_ratings_explain_the_scores() -> None:
    """Three players whose true odds are 10 to 1 from one to the next: 400 points apart."""
    odds = {1: 10 / 11, 2: 100 / 101}
    names = ["a", "b", "c"]
    payoffs = {(names[i], names[j]): Record(1000, 1000 * odds[j - i]) for i in range(3) for j in range(i + 1, 3)}
    found = elo(payoffs, rounds=4000, k=4.0)
    assert found["a"] == pytest.approx(400, abs=5)
    assert found["b"] == pytest.approx(0, abs=5)
