"""Theorems drawn from families of rising difficulty, each with a proof by hand.

chain     forall P0 P1 P2 : Prop, (P1 -> P2) -> (P0 -> P1) -> P0 -> P2          implications, among others that lead nowhere
tree      forall P0 P1 P2 : Prop, P0 /\\ (P1 /\\ P2) -> P2 /\\ P0                  conjunctions taken apart and built anew
cases     forall P0 P1 P2 : Prop, P0 \\/ (P1 /\\ P2) -> (P0 -> P2) -> P2           cases
numbers   forall n m : nat, n + S (m + 0) = S (n + m)                           induction
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from random import Random
from typing import Any

from sojourn.environments.small.common import DrawnTasks

LEVELS = ("chain-2", "chain-4", "tree-2", "tree-4", "cases-2", "cases-3", "numbers")
LIMIT = 16


def draw(rng: Random, level: str) -> dict[str, Any]:
    kind, _, size = level.partition("-")
    statement, proof = {"chain": _chain, "tree": _tree, "cases": _cases, "numbers": _numbers}[kind](rng, int(size or 0))
    return {
        "statement": f"Theorem goal : {statement}.",
        "file": "",
        "before": [],
        "by_hand": True,
        "proof": proof,
        "limit": LIMIT,
    }


def content(data: Mapping[str, Any]) -> object:
    """The theorem without the names of its variables.

    >>> content({"statement": "Theorem goal : forall P7 P8 : Prop, P8 -> P7."})
    'A -> B.'
    """
    _, _, body = data["statement"].partition(", ")
    names = list(dict.fromkeys(re.findall(r"\bP\d+\b|\b[a-z]\b", body)))
    return re.sub(r"\bP\d+\b|\b[a-z]\b", lambda match: chr(65 + names.index(match[0])), body)


def generated_tasks() -> DrawnTasks:
    return DrawnTasks("proof", LEVELS, draw, content)


def _names(rng: Random, count: int) -> list[str]:
    return [f"P{number}" for number in rng.sample(range(20), count)]


def _chain(rng: Random, size: int) -> tuple[str, list[str]]:
    """Backwards from the goal: the implication that leads to it, and so on."""
    names = _names(rng, size + 3)
    way, others = names[: size + 1], names[size + 1 :]
    steps = list(pairwise(way))
    decoys = [(way[0], others[0]), (others[0], others[1])] if rng.random() < 0.5 else [(others[0], way[-1]), (way[1], others[1])]
    shuffled = rng.sample(steps + decoys, size + 2)
    where = {pair: f"H{number}" for number, pair in enumerate(shuffled)}
    statement = (
        f"forall {' '.join(sorted(names))} : Prop, {' -> '.join(f'({a} -> {b})' for a, b in shuffled)} -> {way[0]} -> {way[-1]}"
    )
    intro = f"intros {' '.join(sorted(names))} {' '.join(where[pair] for pair in shuffled)} H."
    return statement, [intro, *(f"apply {where[step]}." for step in reversed(steps)), "exact H."]


def _tree(rng: Random, size: int) -> tuple[str, list[str]]:
    names = _names(rng, size + 1)
    nested, pattern = _nested(rng, list(enumerate(names)))
    wanted = rng.sample(range(len(names)), rng.randint(2, len(names)))
    goal = " /\\ ".join(names[number] for number in wanted)
    proof = [f"intros {' '.join(sorted(names))} {pattern}."]
    for number in wanted[:-1]:
        proof += ["split.", f"{{ exact H{number}. }}"]
    return f"forall {' '.join(sorted(names))} : Prop, {nested} -> {goal}", [*proof, f"exact H{wanted[-1]}."]


def _nested(rng: Random, leaves: list[tuple[int, str]]) -> tuple[str, str]:
    """Conjunctions of the leaves in a random shape, and the pattern that takes them apart."""
    if len(leaves) == 1:
        return leaves[0][1], f"H{leaves[0][0]}"
    cut = rng.randrange(1, len(leaves))
    (left, one), (right, two) = _nested(rng, leaves[:cut]), _nested(rng, leaves[cut:])
    return f"({left} /\\ {right})", f"[{one} {two}]"


def _cases(rng: Random, size: int) -> tuple[str, list[str]]:
    """One case holds the goal, the others lead to it; some implications lead elsewhere."""
    names = _names(rng, size + 2)
    *cases, goal, other = names
    direct = rng.randrange(size)
    both = rng.sample([cases[direct], goal], 2)
    parts = [case if number != direct else f"({both[0]} /\\ {both[1]})" for number, case in enumerate(cases)]
    wanted = [(case, goal) for number, case in enumerate(cases) if number != direct]
    decoys = rng.sample([(other, goal), (goal, other), *((case, other) for case in cases), *((other, case) for case in cases)], 2)
    implied = rng.sample(wanted + decoys, len(wanted) + 2)
    where = {pair: f"H{number}" for number, pair in enumerate(implied)}
    patterns = ["X" if number != direct else "[X G]" if both[1] == goal else "[G X]" for number in range(size)]
    pattern = patterns[-1]
    for each in reversed(patterns[:-1]):
        pattern = f"[{each}|{pattern}]"
    shown = " -> ".join(f"({a} -> {b})" for a, b in implied)
    statement = f"forall {' '.join(sorted(names))} : Prop, {_either(parts)} -> {shown} -> {goal}"
    proof = [f"intros {' '.join(sorted(names))} D {' '.join(where[pair] for pair in implied)}.", f"destruct D as {pattern}."]
    proof += [
        "{ exact G. }" if number == direct else f"{{ apply {where[case, goal]}. exact X. }}" for number, case in enumerate(cases)
    ]
    return statement, proof


def _either(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"({parts[0]} \\/ {_either(parts[1:])})"


def _numbers(rng: Random, _: int) -> tuple[str, list[str]]:
    """Sums in which a successor or a zero moves; by induction on the first variable."""
    a, b, c = rng.sample("abcdeijkmnpqxyz", 3)
    first, depth = rng.randint(0, 9), rng.randint(1, 2)
    kind = rng.choice(("zero", "successor", "associate"))
    if kind == "zero":
        left, right, free = f"{a} + {first} + 0", f"{a} + {first}", [a]
    elif kind == "successor":
        inner = "S (" * depth + b + ")" * depth
        left, right, free = f"{first} + ({a} + {inner})", f"{first} + {'S (' * depth}{a} + {b}{')' * depth}", [a, b]
    else:
        left, right, free = f"{a} + ({b} + ({c} + {first}))", f"{a} + {b} + ({c} + {first})", [a, b, c]
    rest = [name for name in free if name != a]
    unfold = "simpl. simpl in IH." if kind == "successor" else "simpl."
    if kind == "successor":
        proof = [f"intros {' '.join(free)}.", f"assert (E : {a} + {'S (' * depth}{b}{')' * depth} = {'S (' * depth}{a} + {b}{')' * depth}).",
                 f"{{ induction {a} as [|{a}' IH]. {{ reflexivity. }} simpl. rewrite IH. reflexivity. }}", "rewrite E. reflexivity."]  # fmt: skip
    else:
        intro = f"intros {' '.join([a, *rest])}."
        proof = [intro, f"induction {a} as [|{a}' IH].", "{ reflexivity. }", f"{unfold} rewrite IH.", "reflexivity."]
        if kind == "zero":
            proof = [intro, f"induction {a} as [|{a}' IH].", "{ reflexivity. }", "simpl. rewrite IH. reflexivity."]
    return f"forall {' '.join(free)} : nat, {left} = {right}", proof
