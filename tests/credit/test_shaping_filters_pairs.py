"""Reward shaping (numbers of the papers), filters, pairs, replay."""

import numpy as np
import pytest

from sojourn.conformance.synthetic import Script, Turn, group
from sojourn.core import StopReason
from sojourn.credit import (
    Band,
    Columns,
    Overlong,
    Replay,
    ResampleOnCorrect,
    TopVariance,
    ZeroSignal,
    action_pairs,
    columns,
    episode_pairs,
    keep,
)
from sojourn.credit.shaping import (
    fewest_calls,
    learnability,
    length_exact,
    length_max,
    overlong,
    shorter_better,
    tool_economy,
    uncertainty,
)

YES, NO = np.array([True]), np.array([False])


def test_overlong_penalty_falls_over_the_buffer() -> None:
    assert overlong(np.array([16000, 18432, 20480, 30000]), limit=20480, buffer=4096).tolist() == [0, -0.5, -1, -1]


def test_length_control_of_l1() -> None:
    assert length_exact(np.array([1500]), np.array([1200]), YES) == pytest.approx([0.9])
    assert length_exact(np.array([1500]), np.array([1200]), NO) == pytest.approx([-0.1])
    lengths = np.array([500, 800, 1000, 1600, 0])
    assert length_max(lengths, np.full(5, 1000), np.full(5, True)) == pytest.approx([1.0, 0.7, 0.5, 0, 1])
    assert length_max(np.array([500]), np.array([1000]), NO).tolist() == [0]


def test_shorter_better() -> None:
    lengths, zeros = np.array([100, 200, 150]), np.zeros(3, int)
    assert shorter_better(lengths, np.array([False, True, True]), zeros) == pytest.approx([-0.05, 1.95, 2.0])
    assert shorter_better(lengths, np.full(3, False), zeros) == pytest.approx([-0.05, -0.05, 0.0])
    both = shorter_better(np.array([10, 30]), np.array([True, True]), np.array([0, 1]))
    assert both.tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    ("fewest", "expected"),
    [
        (0, [1, 0.5, 0.3090, 0.2225, 0.1736]),
        (1, [0, 1, 0.8660, 0.7071, 0.5878]),
        (2, [0, 0.8660, 1, 0.9511, 0.8660]),
        (3, [0, 0.7071, 0.9511, 1, 0.9749]),
        (-1, [0, 0, 0, 0, 0]),
    ],
)
def test_tool_economy_of_otc(fewest: int, expected: list[float]) -> None:
    assert tool_economy(np.arange(5), np.full(5, fewest)) == pytest.approx(expected, abs=1e-4)


def test_fewest_calls_looks_at_right_answers_of_the_group() -> None:
    calls, right, groups = np.array([0, 3, 2, 5, 1]), np.array([False, True, True, True, False]), np.array([0, 0, 0, 1, 2])
    assert fewest_calls(calls, right, groups).tolist() == [2, 2, 2, 5, -1]


def test_a_proposed_task_is_paid_by_the_doubt_of_its_solver() -> None:
    """R-Zero, arXiv 2508.05004: 1 - 2 |s - 1/2| in the paper, min(s, 1 - s) in its code."""
    agreement = np.array([0.0, 0.3, 0.5, 0.8, 1.0])
    assert uncertainty(agreement) == pytest.approx([0.0, 0.6, 1.0, 0.4, 0.0])
    assert uncertainty(agreement, scale=0.5) == pytest.approx([0.0, 0.3, 0.5, 0.2, 0.0])


def test_a_proposed_task_is_paid_by_what_it_teaches() -> None:
    """Absolute Zero, arXiv 2505.03335, official code: too easy, too hard and no task at all cost something."""
    success = np.array([0.0, 1 / 8, 1 / 2, 7 / 8, 1.0, 1 / 2])
    assert learnability(success, np.array([True] * 5 + [False])).tolist() == [-0.5, 0.875, 0.5, 0.125, -0.5, -1.0]


def scored(*groups: list[float], success: float = 0.5) -> list:
    return [
        group([Script([Turn()], final=r, success=r > success) for r in returns], key=str(k)) for k, returns in enumerate(groups)
    ]


def test_zero_signal_drops_groups_without_spread_and_looks_past_broken_episodes() -> None:
    flat = group([Script([Turn()], final=0.3), Script([Turn()], final=0.3), Script([Turn()], final=1.0, failed=True)], key="x")
    c = columns([*scored([1.0, 0.0]), flat])
    assert ZeroSignal()(c).tolist() == [True, True, False, False, False]


def test_top_variance_keeps_a_share_rounded_up() -> None:
    c = columns(scored([0.0, 0.1], [0.0, 1.0], [0.5, 0.5], [0.0, 0.6], [0.0, 0.3]))
    assert TopVariance(share=0.4)(c).tolist() == [False, False, True, True, False, False, True, True, False, False]
    assert TopVariance(share=0.25)(c).sum() == 4


def test_the_band_counts_successes_of_valid_episodes() -> None:
    broken = group(
        [Script([Turn()], success=True), Script([Turn()], success=True, failed=True), Script([Turn()], success=False)], key="b"
    )
    c = columns([*scored([1, 1, 1], [1, 0, 0], [0, 0, 0]), broken])
    assert Band(low=0.3, high=0.8)(c).tolist() == [False] * 3 + [True] * 3 + [False] * 3 + [True] * 3
    assert Band(low=0.5, high=0.5)(c).tolist() == [False] * 9 + [True] * 3
    with pytest.raises(ValueError, match="no group can lie in it"):
        Band(low=0.8, high=0.3)


def test_overlong_drops_what_was_cut() -> None:
    c = columns([group([Script([Turn()], stop=StopReason.TOKEN_LIMIT), Script([Turn()])])])
    assert Overlong()(c).tolist() == [False, True]


def test_resampling_keeps_clean_successes_and_random_failures() -> None:
    wins = [Script([Turn(1, reward={"flaws": -f})], success=True) for f in (3.0, 0.0, 1.0, 2.0)]
    losses = [Script([Turn()], success=False) for _ in range(6)]
    c = columns([group([*wins, *losses, Script([Turn()], success=True, failed=True)])])
    kept = ResampleOnCorrect(keep=4)(c)
    assert kept[:4].tolist() == [False, True, True, False]
    assert kept[4:10].sum() == 2 and not kept[10]
    assert any(ResampleOnCorrect(keep=4, seed=s)(c).tolist() != kept.tolist() for s in range(5))


@pytest.mark.parametrize(
    ("wins", "losses", "kept_wins"),
    [(24, 8, 12), (8, 24, 4), (16, 16, 8), (31, 1, 15), (1, 31, 1), (30, 2, 14), (3, 29, 2), (32, 0, 16), (0, 32, 0), (4, 4, 4)],
)
def test_resampling_keeps_the_proportion_and_two_of_each_class(wins: int, losses: int, kept_wins: int) -> None:
    """round(16 * class / group) of each, but at least 2 if there are; a small group is kept whole."""
    c = columns([group([Script([Turn()], success=i < wins) for i in range(wins + losses)])])
    kept = ResampleOnCorrect(keep=16)(c)
    assert kept[:wins].sum() == kept_wins
    assert kept.sum() == min(16, wins + losses)


def test_resampling_fills_up_from_the_other_side() -> None:
    few_wins = columns([group([Script([Turn()], success=i == 0) for i in range(8)])])
    assert ResampleOnCorrect(keep=4)(few_wins).sum() == 4 and ResampleOnCorrect(keep=4)(few_wins)[0]
    few_losses = columns([group([Script([Turn()], success=i > 0) for i in range(8)])])
    assert ResampleOnCorrect(keep=4)(few_losses).sum() == 4 and ResampleOnCorrect(keep=4)(few_losses)[0]


def test_every_dropped_episode_has_one_reason() -> None:
    c = columns([*scored([1, 1], [1, 0]), group([Script([Turn()], failed=True), Script([Turn()])], key="z")])
    counted, trained, reason = keep([ZeroSignal()], c)
    assert counted.tolist() == trained.tolist() == [False, False, True, True, False, False]
    assert reason == ["ZeroSignal", "ZeroSignal", "", "", "no result", "ZeroSignal"]


def test_a_filter_judges_what_those_before_it_kept() -> None:
    """Of four episodes the two successes are kept, so that no signal is left."""

    def successes(c: Columns) -> np.ndarray:
        return c.success_E

    c = columns(scored([1.0, 1.0, 0.0, 0.0]))
    assert keep([ZeroSignal()], c).trained_E.all()
    assert not keep([successes, ZeroSignal()], c).trained_E.any()


def test_a_cut_episode_is_not_trained_and_still_compared_with() -> None:
    cut = Script([Turn()], stop=StopReason.TOKEN_LIMIT)
    c = columns([group([cut, Script([Turn()], final=1.0)]), group([cut, Script([Turn()])], key="flat")])
    kept = keep([Overlong(), ZeroSignal()], c)
    counted, trained = kept.counted_E, kept.trained_E
    assert counted.tolist() == [True, True, False, False]
    assert trained.tolist() == [False, True, False, False]
    assert kept.dropped == {"Overlong": 2, "ZeroSignal": 1}


def test_pairs_match_the_best_with_the_worst() -> None:
    c = columns(
        [*scored([0.1, 0.9, 0.5, 0.4], [1.0, 1.0]), group([Script([Turn()], final=1.0, failed=True), Script([Turn()])], key="z")]
    )
    assert episode_pairs(c).tolist() == [[1, 0]]
    assert episode_pairs(c, most=2).tolist() == [[1, 0], [2, 3]]
    assert episode_pairs(c, margin=0.2, most=2).tolist() == [[1, 0]]
    assert episode_pairs(c, margin=0.9).shape == (0, 2)


def test_an_episode_that_said_nothing_is_in_no_pair() -> None:
    c = columns([group([Script([Turn()], final=1.0), Script([])])])
    assert episode_pairs(c).shape == (0, 2)


def test_action_pairs_compare_siblings_by_what_followed() -> None:
    fork = Script(
        [Turn()], branches=[Script([Turn()], final=0.0), Script([Turn(reward=1.0)]), Script([Turn(reward=-1.0), Turn()])]
    )
    assert action_pairs(columns([group([fork])])).tolist() == [[2, 3]]


def test_replay_draws_in_proportion_to_the_signal() -> None:
    buffer: Replay[str] = Replay(3)
    for item, signal in (("old", 1.0), ("a", 1.0), ("none", 0.0), ("b", 3.0), ("c", 1e-9)):
        buffer.add(item, signal)
    draws = [buffer.draw(1, np.random.default_rng(seed))[0] for seed in range(400)]
    assert set(draws) == {"a", "b"} and draws.count("b") / 400 == pytest.approx(0.75, abs=0.07)
    assert sorted(buffer.draw(9, np.random.default_rng(0))) == ["a", "b", "c"]
    assert Replay[str](2).draw(2, np.random.default_rng(0)) == []


def test_a_band_beyond_one_is_refused() -> None:
    with pytest.raises(ValueError, match="no group can lie in it"):
        Band(low=0.3, high=1.5)


def test_what_follows_an_action_is_not_discounted_between_siblings() -> None:
    """0 now and 1 later is less than 1.5 now; one pair of each group of siblings, however small its margin, unless told otherwise."""
    fork = Script([Turn()], branches=[Script([Turn(), Turn(reward=1.0)]), Script([Turn(reward=1.5)]), Script([Turn(reward=0.5)])])
    c = columns([group([fork])])
    _, now, least = (row for row in range(len(c.span_S)) if c.parent_S[row] == 0)
    assert action_pairs(c).tolist() == [[now, least]]
    only = columns([group([Script([Turn()], branches=[Script([Turn(), Turn(reward=1.0)]), Script([Turn(reward=1.5)])])])])
    assert only.parent_S.tolist() == [-1, 0, 1, 0]
    assert action_pairs(only).tolist() == [[3, 1]]
