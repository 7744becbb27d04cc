"""Families of `reasoning-gym`: about a hundred generators of puzzles with verifiers, each a world of horizon 1.

The one idea: a family's question is drawn from a seed, and equal questions may come from different seeds; so the split is decided
by a hash of the question, not of the seed.  Traps of the library that are handled here: item `i` of a data set with seed `s` is mostly
item 0 of seed `s + i`, so every task has a hashed seed; verifiers that raise on malformed answers; verifiers that pass the answer to
Python's `eval`.  Source: Stojanovski et al., arXiv 2505.24760; the package `reasoning-gym` (extra `envs-reasoning`).
"""

from __future__ import annotations

import ast
import difflib
import importlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from sojourn.core import Action, Environment, Failure, FailureKind, Observation, Split, Task, Transition
from sojourn.environments.tools import answer_text
from sojourn.environments.world import World

UNSOUND = {
    "codeio": "its questions depend on more than the seed",
    "composite": "it is a mixture; choose its members",
    "game_of_life_halting": "its verifier pays every answer",
    "intermediate_integration": "its verifier runs the answer as Python",
    "isomorphic_strings": "its questions depend on PYTHONHASHSEED",
    "polynomial_multiplication": "its verifier runs the answer as Python",
    "ransom_note": "its questions depend on PYTHONHASHSEED",
    "simple_integration": "its verifier runs the answer as Python",
}
"""Families that are not offered, and why."""

LITERAL = {"binary_matrix", "n_queens", "spiral_matrix", "string_insertion"}
"""Families whose verifier evaluates an answer other than the expected one: it may be a Python literal only."""

ARITHMETIC = {"countdown", "puzzle24"}
"""Families whose verifier evaluates the answer: it may be a formula of whole numbers with + - * / and brackets only."""

EXAMPLES = ("example_correct_answer", "example_answer", "possible_answer")
"""Where the metadata hold a right answer if the field `answer` is None."""

ATTEMPTS = 200


def from_reasoning_gym(family: str, **config: Any) -> World:
    """The world of one family; `config` are fields of its configuration, such as `max_terms` of `chain_sum`.

    Raises ValueError for an unknown or unsound family and ImportError, with the command that fixes it, if the package is missing.
    """
    tasks = ReasoningTasks(family, config)
    return World(ReasoningEnvironment, tasks)


def families() -> list[str]:
    """Names of all families on offer."""
    return sorted(set(_library().factory.DATASETS) - set(UNSOUND))


@dataclass(frozen=True)
class ReasoningTasks:
    """Questions of one family, endless; `task.data` is the library's entry with its `family` and `config`."""

    family: str
    config: Mapping[str, Any] = field(default_factory=dict)
    levels: tuple[str, ...] = ("default",)

    def __post_init__(self) -> None:
        if self.family in UNSOUND:
            raise ValueError(f"reasoning-gym family '{self.family}' is not offered: {UNSOUND[self.family]}")
        if self.family not in families():
            near = difflib.get_close_matches(self.family, families(), n=1)
            raise ValueError(f"reasoning-gym has no family '{self.family}'" + (f", did you mean '{near[0]}'?" if near else ""))
        self._entry(0)

    def task(self, split: Split, level: str, index: int) -> Task:
        if level not in self.levels:
            raise ValueError(f"reasoning-gym family '{self.family}' has one level, 'default', not '{level}'")
        for attempt in range(ATTEMPTS):
            entry = self._entry(Random(f"{self.family}/{split}/{index}/{attempt}").randrange(2**31))
            if split_of(entry["question"]) == split:
                data = {**entry, "family": self.family, "config": dict(self.config)}
                return Task(f"reasoning_gym/{self.family}/{split}/{index}", data)
        raise ValueError(
            f"reasoning-gym family '{self.family}' with {dict(self.config)} gave no {split} question in {ATTEMPTS} draws: "
            "it has too few different questions; widen its configuration"
        )

    def _entry(self, seed: int) -> dict[str, Any]:
        try:
            entry: dict[str, Any] = dataset(self.family, self.config, seed)[0]
        except (AssertionError, TypeError) as error:
            raise ValueError(f"reasoning-gym family '{self.family}' does not take {dict(self.config)}: {error}") from error
        return entry


class ReasoningEnvironment(Environment):
    """One question, one answer, the verifier's score in [0, 1] as the term `score`; solved means a score of 1.

    An answer that the verifier cannot read scores 0 and is a fault of the model.
    """

    async def reset(self, task: Task, *, seed: int) -> Observation:
        self._task = task
        return Observation.of(task.data["question"])

    async def step(self, action: Action) -> Transition:
        answer = answer_text(action)
        failures: tuple[Failure, ...] = (action.fault,) if action.fault else ()
        try:
            score = self._score(answer)
        except Exception as error:  # a verifier is foreign code: it may raise anything on a malformed answer
            score = 0.0
            what = f"the verifier could not read the answer ({type(error).__name__}: {error})"
            failures += (Failure(FailureKind.MODEL, f"reasoning-gym '{self._task.data['family']}'", what),)
        return Transition(reward={"score": score}, terminated=True, failures=failures, info={"success": score >= 1.0})

    def snapshot(self) -> object:
        return self._task

    def restore(self, snapshot: object) -> None:
        assert isinstance(snapshot, Task)
        self._task = snapshot

    def state_key(self) -> str:
        return self._task.id

    def oracle(self) -> Action:
        """A right answer; raises LookupError for families that come without one (`boxnet`, `rush_hour`)."""
        metadata = self._task.data["metadata"]
        known = [self._task.data["answer"], *(metadata.get(name) for name in EXAMPLES)]
        for answer in known:
            if answer is not None:
                text = answer if isinstance(answer, str) else json.dumps(answer)
                return Action(text, answer=text)
        raise LookupError(f"reasoning-gym family '{self._task.data['family']}' comes without right answers: it has no oracle")

    def _score(self, answer: str) -> float:
        family = self._task.data["family"]
        if family in LITERAL and answer != self._task.data["answer"] and not is_literal(answer):
            return 0.0
        if family in ARITHMETIC and not is_arithmetic(answer):
            return 0.0
        score = float(dataset(family, self._task.data["config"], 0).score_answer(answer, dict(self._task.data)))
        return min(max(score, 0.0), 1.0) if math.isfinite(score) else 0.0


def dataset(family: str, config: Mapping[str, Any], seed: int) -> Any:
    """The library's data set of one entry."""
    return _library().create_dataset(family, **config, seed=seed, size=1)


def split_of(question: str) -> Split:
    """The split that owns a question: half of all belong to each."""
    return "test" if Random(question).random() < 0.5 else "train"


def is_literal(text: str) -> bool:
    """Whether `text` is a Python literal, so that evaluating it runs nothing."""
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def is_arithmetic(text: str) -> bool:
    """Whether `text` is a formula of whole numbers that takes no time to evaluate: no powers, no names.

    >>> is_arithmetic("(3 + 5) * 3"), is_arithmetic("9**9**9"), is_arithmetic("print(1)")
    (True, False, False)
    """
    return re.fullmatch(r"[\d\s+*/()-]{1,200}", text) is not None and "**" not in text


def _library() -> Any:
    try:
        return importlib.import_module("reasoning_gym")
    except ImportError as error:
        raise ImportError("reasoning-gym is not installed: pip install 'sojourn[envs-reasoning]'") from error
