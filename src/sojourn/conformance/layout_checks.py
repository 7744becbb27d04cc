"""Checks of objectives: what stands beside an action, how rows are laid out, cut and shared out changes no gradient."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import get_args

from torch import Tensor

from sojourn.conformance.adapter import Adapter, answerable, gradient
from sojourn.conformance.algorithms import LOSSES, PREFERRING
from sojourn.conformance.batches import batch
from sojourn.conformance.ranks import over_ranks
from sojourn.conformance.rows import Rows, to_rows
from sojourn.objectives.aggregation import Over

TURNS = ((2, 1), (3,), (1, 1, 2), (4,))
MANY = (*TURNS, (1,), (2, 2), (5,), (1,))
PROMPTS = (0, 1, 0, 2, 1, 1, 3, 0)
"""Of the eight rows of `MANY`; no cut of them keeps all rows of a prompt together."""
OVERS: tuple[Over, ...] = get_args(Over)
Asked = tuple[str, Over | None]


def offered(adapter: Adapter, asked: Iterable[Asked]) -> list[Asked]:
    """Those of the algorithms, with another aggregation or their own, that the adapter has.  Raises NotOffered if it has none."""
    rows = to_rows(batch(TURNS))
    return answerable(asked, lambda each: adapter.loss(each[0], rows, [[0, 1, 2, 3]], aggregation=each[1]))


def own(algorithms: Iterable[str]) -> list[Asked]:
    """The algorithms with their own aggregation."""
    return [(algorithm, None) for algorithm in algorithms]


def same(left: Tensor, right: Tensor, what: str) -> None:
    gap, size = float((left - right).abs().max()), float(left.abs().max())
    assert gap <= 1e-6 * max(size, 1e-3), f"{what}: gradients differ by {gap:.3g} (size {size:.3g})"


def observation_values_do_not_reach_gradients(adapter: Adapter) -> str:
    asked, inputs = offered(adapter, own(LOSSES)), batch(TURNS, moved=0.1, stale=0.1)
    for name, _ in asked:
        quiet, loud = (to_rows(inputs, observations=2, junk=junk) for junk in (0.0, -3.0))
        first, second = gradient(adapter, name, quiet), gradient(adapter, name, loud)
        assert not second[~loud.mask].any(), f"{name}: an observation or padding gets a gradient"
        same(first, second, f"{name}, other values off the mask")
    return f"{len(asked)} objectives, junk in log-probabilities, advantages and entropies off the mask"


def splitting_a_turn_changes_no_gradient(adapter: Adapter) -> str:
    asked = offered(adapter, own(name for name in LOSSES if name not in ("turn_gspo", "step_dpo")))
    split = to_rows(batch(TURNS, moved=0.1, stale=0.1))
    whole = to_rows(batch([[sum(turns)] for turns in TURNS], moved=0.1, stale=0.1))
    for name, _ in asked:
        same(gradient(adapter, name, whole), gradient(adapter, name, split), name)
    return f"{len(asked)} objectives (all but those that compare turns)"


def the_layout_does_not_matter(adapter: Adapter) -> str:
    asked, inputs = offered(adapter, own(LOSSES)), batch(TURNS, moved=0.1, stale=0.1)
    tight, wide = to_rows(inputs), to_rows(inputs, observations=3, padding=5)
    for name, _ in asked:
        same(gradient(adapter, name, tight)[tight.mask], gradient(adapter, name, wide)[wide.mask], f"{name}, padded")
    return f"{len(asked)} objectives, packed and padded rows"


def micro_batches_do_not_matter(adapter: Adapter) -> str:
    return _micro_batches(adapter, [[[0, 1], [2, 3], [4, 5], [6, 7]], [[4, 5, 1, 0], [7, 6, 3, 2]]], [[[k] for k in range(8)]])


def uneven_micro_batches_do_not_matter(adapter: Adapter) -> str:
    """As they come from filling micro-batches up to a number of tokens."""
    return _micro_batches(
        adapter, [[[0, 1, 2, 3, 4, 5], [6, 7]], [[6, 7], [1, 5, 4, 0], [2, 3]]], [[[0, 1, 2], [3], [7, 5, 6, 4]]]
    )


def many_rows() -> Rows:
    return to_rows(batch(MANY, prompts=PROMPTS, moved=0.1, stale=0.1), observations=1)


def _share(left: Tensor, right: Tensor) -> float:
    """How far two gradients differ, as a share of the largest entry; 0 for rounding."""
    gap = float((left - right).abs().max() / left.abs().max())
    return gap if gap > 1e-6 else 0.0


def _said(name: str, over: Over | None) -> str:
    return f"{name} over {over}" if over else name


Split = Sequence[Sequence[int]]


def _micro_batches(adapter: Adapter, splits: Sequence[Split], parting: Sequence[Split]) -> str:
    """parting: splits that part the rows of a pair; preferences are not asked about them."""
    rows, wrong = many_rows(), []
    asked = offered(adapter, [*own(LOSSES), *(("lite_ppo", over) for over in OVERS)])
    for name, over in asked:
        whole = gradient(adapter, name, rows, aggregation=over)
        cuts = splits if name in PREFERRING else [*splits, *parting]
        if gap := max(_share(whole, gradient(adapter, name, rows, cut, aggregation=over)) for cut in cuts):
            wrong.append(f"{_said(name, over)} by {gap:.0%}")
    assert not wrong, f"the gradient changes with the micro-batches: {', '.join(wrong)} of its largest entry"
    overs = sum(over is not None for _, over in asked)
    return f"{len(asked) - overs} objectives and {overs} aggregations, {len([*splits, *parting])} ways to cut 8 rows"


def ranks_do_not_matter(adapter: Adapter) -> str:
    """Processes that meet over gloo, each with as many rows; the rows of a prompt lie on several of them."""
    rows = many_rows()
    asked = offered(adapter, [*own(LOSSES), *(("lite_ppo", over) for over in OVERS)])
    whole, wrong = [gradient(adapter, name, rows, aggregation=over) for name, over in asked], []
    for ranks in (2, 4):
        for each, left, right in zip(asked, whole, over_ranks(adapter, rows, asked, ranks), strict=True):
            if gap := _share(left, right):
                wrong.append(f"{_said(*each)} on {ranks} by {gap:.0%}")
    assert not wrong, f"the gradient changes with the ranks: {', '.join(wrong)} of its largest entry"
    overs = sum(over is not None for _, over in asked)
    return f"{len(asked) - overs} objectives and {overs} aggregations on 2 and 4 processes"
