"""The adapter for reasoning-gym: sound families, splits by question, verifiers that cannot harm."""

import asyncio
import builtins
import sys

import pytest

pytest.importorskip("reasoning_gym")

from sojourn.core import Action, FailureKind, Transition
from sojourn.environments import World, check_environment, find, from_reasoning_gym
from sojourn.environments.reasoning_gym import UNSOUND, families, is_arithmetic, split_of

FAMILIES = ["chain_sum", "countdown", "graph_color", "maze", "n_queens", "propositional_logic", "spiral_matrix"]


def answer(world: World, text: str) -> Transition:
    async def run() -> Transition:
        environment = world.make()
        await environment.reset(world.tasks.task("train", "default", 0), seed=0)
        return await environment.step(Action(text, answer=text))

    return asyncio.run(run())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_passes_the_checker_and_its_oracle_solves_it(family: str) -> None:
    assert "solved: 4 of 4 by the oracle" in check_environment(find(f"reasoning_gym/{family}"), count=2)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("text", ["", "0", "nonsense", "[[]]", "\x00"])
def test_a_wrong_answer_never_raises_and_never_solves(family: str, text: str) -> None:
    transition = answer(from_reasoning_gym(family), text)
    assert transition.terminated and not transition.info["success"]


def test_an_answer_that_the_verifier_cannot_read_is_a_fault_of_the_model() -> None:
    transition = answer(from_reasoning_gym("prime_factorization"), "two times three")
    assert transition.reward == {"score": 0.0}
    assert transition.failures[0].kind is FailureKind.MODEL and "ValueError" in transition.failures[0].message


@pytest.mark.parametrize("family", ["binary_matrix", "countdown", "n_queens", "puzzle24", "spiral_matrix", "string_insertion"])
def test_no_answer_is_run_as_python(family: str) -> None:
    builtins.sojourn_was_here = False
    answer(from_reasoning_gym(family), "setattr(__import__('builtins'), 'sojourn_was_here', True)")
    assert not builtins.sojourn_was_here


def test_a_formula_may_not_take_for_ever() -> None:
    assert is_arithmetic("(12 + 3) * 4 - 6 / 2") and not is_arithmetic("9**9**9**9")


def test_equal_questions_are_in_one_split_however_few_there_are() -> None:
    source = from_reasoning_gym("chain_sum", min_terms=2, max_terms=2, min_digits=1, max_digits=1).tasks
    train, test = ({source.task(split, "default", i).data["question"] for i in range(60)} for split in ("train", "test"))
    assert len(train) > 20 and len(test) > 20 and not train & test
    assert {split_of(question) for question in test} == {"test"}


def test_a_family_with_too_few_questions_says_so() -> None:
    # One interval, one question, which only one split can own.
    source = from_reasoning_gym("count_primes", min_n=5, max_n=5).tasks
    with pytest.raises(ValueError, match="too few different questions"):
        [source.task(split, "default", 0) for split in ("train", "test")]


@pytest.mark.parametrize("family", sorted(UNSOUND))
def test_an_unsound_family_is_refused_with_the_reason(family: str) -> None:
    with pytest.raises(ValueError, match="not offered: it"):
        find(f"reasoning_gym/{family}")
    assert family not in families()


def test_an_unknown_family_or_field_gets_a_clear_error() -> None:
    with pytest.raises(ValueError, match="did you mean 'chain_sum'"):
        find("reasoning_gym/chain_sums")
    with pytest.raises(ValueError, match="'chain_sum' does not take.*min_term"):
        from_reasoning_gym("chain_sum", min_term=3)


def test_the_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(ImportError, match=r"pip install 'sojourn\[envs-reasoning\]'"):
        find("reasoning_gym/chain_sum")


def test_an_unknown_world_is_told_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'math/tool_arithmetic'"):
        find("tool_arithmetic")
