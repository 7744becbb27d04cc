"""How right an action's tool calls are, where the right ones are known: ToolRL's reward, R_format + R_correct, from -3 to 4.

The one idea: a call that is nearly right is worth more than one that is not, by its tool, its argument names and its values.
[ToolRL, arXiv 2504.13958, and its official code]
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from sojourn.core import ToolCall


def tool_correctness(calls: Sequence[ToolCall], gold: Sequence[ToolCall]) -> float:
    """How much of the right calls an action said, from -3 to 3.  [ToolRL, arXiv 2504.13958: R_correct]

        R = 6 S / S_max - 3,  S_max = 1 + |G| + sum_g |keys(g)|
        S = J(names(G), names(P)) + sum over matched (g, p) of J(keys(g), keys(p)) + #{k: p[k] = g[k]}

    calls: what was said, P; none at all, or none that could be read, is worth -3.
    gold: what is right, G; without any the reward is 0, whatever was called.

    J is what two collections share of all that they hold, names counted as often as they occur; of two empty ones it is 1.  Calls are
    matched one to one, with the same name, so that S is largest: no order matters.  The official code takes the gold calls in turn,
    each with its best call that is left, which may find less.

    >>> tool_correctness([ToolCall("add", {"a": 1, "b": 3})], [ToolCall("add", {"a": 1, "b": 2})])
    1.5
    """
    if not gold:
        return 0.0
    score = _shared((g.name for g in gold), (p.name for p in calls))
    for name in {g.name for g in gold} & {p.name for p in calls}:
        score += _best([[_worth(p, g) for p in calls if p.name == name] for g in gold if g.name == name])
    return 6 * score / (1 + len(gold) + sum(len(g.arguments) for g in gold)) - 3


def tool_format(text: str, fields: Sequence[str]) -> float:
    """1 if a text is these fields and no more, in tags, each once, in order and on lines of their own; else 0.  [ToolRL: R_format]

    fields: those of the right answer: "think", and "tool_call", "response", or both.

    >>> tool_format("<think>sum</think>\\n<response>3</response>", ["think", "response"])
    1.0
    """
    form = "\n".join(f"<{field}>.*</{field}>" for field in fields)
    once = all(text.count(tag) == 1 for field in fields for tag in (f"<{field}>", f"</{field}>"))
    return float(once and re.fullmatch(form, text.strip(), re.DOTALL) is not None)


def _worth(call: ToolCall, gold: ToolCall) -> float:
    """J of the argument names, and the number of right values."""
    right: int = sum(key in call.arguments and call.arguments[key] == value for key, value in gold.arguments.items())
    return _shared(gold.arguments, call.arguments) + right


def _shared(one: Iterable[str], other: Iterable[str]) -> float:
    """Jaccard index of two collections, repetitions counted."""
    a, b = Counter([*one]), Counter([*other])  # of the keys, where a mapping is given
    return (a & b).total() / (a | b).total() if a or b else 1.0


def _best(worth: list[list[float]]) -> float:
    """The largest sum of numbers of which no two share a row or a column.  The cost doubles with each of the fewer, rows or columns."""
    rows = worth if len(worth) >= len(worth[0]) else [list(column) for column in zip(*worth, strict=True)]
    best = {0: 0.0}  # by the set of columns taken, as bits
    for row in rows:
        for taken, total in list(best.items()):
            for column, each in enumerate(row):
                if not taken >> column & 1:
                    after = taken | 1 << column
                    best[after] = max(best.get(after, 0.0), total + each)
    return max(best.values())
