"""Our implementation passes every check, and what another does not offer is told from what fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from torch import Tensor

from sojourn.conformance import CHECKS, Adapter, adapter, as_table, run
from sojourn.conformance.adapter import NotOffered
from sojourn.conformance.algorithms import LOSSES
from sojourn.conformance.checks import Result
from sojourn.conformance.ours import Ours, named
from sojourn.core import EpisodeGroup
from sojourn.objectives.presets import PRESETS, preset


@pytest.mark.parametrize("name", CHECKS)
def test_ours_passes(name: str) -> None:
    assert CHECKS[name](adapter("sojourn"))


def test_all_fourteen_invariances_and_seven_families_of_numbers_are_there() -> None:
    families = [f"I{k}" for k in range(1, 15)] + [f"N{k}" for k in range(1, 8)]
    assert list(dict.fromkeys(name.split()[0] for name in CHECKS)) == families


def test_every_credit_is_asked_for_numbers() -> None:
    """Of equal credits one is enough: what the checks ask about is recorded by an adapter that answers as ours does."""
    asked: list[object] = []

    class Recording(Ours):
        def advantages(self, algorithm: str, groups: Sequence[EpisodeGroup], **given: Any) -> Any:
            asked.append(named(algorithm)[0])
            return super().advantages(algorithm, groups, **given)

    for name in CHECKS:
        if name.startswith("N"):
            CHECKS[name](Recording())
    assert [name for name, each in PRESETS.items() if each.credit is not None and each.credit not in asked] == []


def test_every_objective_is_asked_about() -> None:
    """Of equal objectives one is enough; PAPO's second look has numbers of its own."""
    asked = [preset(name).objective for name in LOSSES]
    assert [name for name, each in PRESETS.items() if each.objective not in asked] == ["papo"]


def test_what_is_not_offered_is_neither_passed_nor_failed_and_a_crash_fails() -> None:
    class Poor(Ours):
        def advantages(self, algorithm: str, groups: Sequence[EpisodeGroup], **values: Any) -> Any:
            raise NotOffered("no credit here")

        def sampled_logprobs(self, logits: Tensor, **params: Any) -> Tensor:
            raise RuntimeError("out of order")

    poor: Adapter = Poor()
    results = run(poor)
    assert results["I6 permutation of a group"] == Result(None, "no credit here")
    assert results["I10 log-probabilities are of the sampled distribution"] == Result(False, "RuntimeError: out of order")
    assert results["I4 micro-batches of any size give one gradient"].passed
    assert "| I6 permutation of a group | not offered | no credit here |" in as_table(results)


def test_adapters_are_found_by_name() -> None:
    with pytest.raises(ValueError, match="no adapter is called 'ours'"):
        adapter("ours")
