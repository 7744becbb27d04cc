"""Health of a run: each finding is a rule, what was measured, what that means and what to change.

The one idea: a rule looks at the mean of the last steps (and of the first, where it compares), ten or half of a short run, and says which
numbers it takes for unusual.  They are rules of thumb, not laws: a run may be well with a note, and be bad without one.

`sojourn doctor RUN` prints what the page shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import numpy as np

from sojourn.store import RunFolder
from sojourn.viewer.curves import is_number
from sojourn.viewer.shelf import Shelf

Row = dict[str, Any]
State = Literal["ok", "note", "bad", "not measured"]
WINDOW = 10
"""Steps that are looked at: the last, and the first; of a run that is shorter than twice that, half."""
SAMPLE = 64
"""Episodes of the last step whose texts are looked at."""
GRAM = 4
"""Tokens in a row that count as a repetition when they come again in one answer."""
WORST: tuple[State, ...] = ("not measured", "ok", "note", "bad")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was looked at, how it is, the numbers, the rule, what it means and what to change."""

    what: str
    state: State
    found: str
    rule: str
    meaning: str
    change: str


@dataclass(frozen=True)
class Steps:
    """The rows of a run or of one of its roles."""

    rows: Sequence[Row]

    @property
    def last(self) -> Sequence[Row]:
        return self.rows[-window(self.rows) :]

    def mean(self, key: str, last: bool = True) -> float | None:
        """Of the last (or the first) steps that have the metric."""
        values = [row[key] for row in self.rows if is_number(row.get(key))]
        part = values[-window(values) :] if last else values[: window(values)]
        return fmean(part) if part else None


def window(rows: Sequence[Any]) -> int:
    return max(1, min(WINDOW, len(rows) // 2))


Look = Callable[[Steps], tuple[State, str] | None]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A finding before it is made.  `look` gives the state and the numbers, None where nothing was measured."""

    what: str
    look: Look
    rule: str
    meaning: str
    change: str

    def __call__(self, steps: Steps, who: str = "") -> Finding:
        state, found = self.look(steps) or ("not measured", "")
        return Finding(
            what=f"{who}{self.what}", state=state, found=found, rule=self.rule, meaning=self.meaning, change=self.change
        )


def above(key: str, note: float, bad: float, form: str = "{:.1%}") -> Look:
    """The mean of the last steps against two bounds."""

    def look(steps: Steps) -> tuple[State, str] | None:
        value = steps.mean(key)
        return None if value is None else (graded(value, note, bad), form.format(value))

    return look


def graded(value: float, note: float, bad: float) -> State:
    """
    >>> [graded(value, 0.5, 0.8) for value in (0.5, 0.6, 0.9)]
    ['ok', 'note', 'bad']
    """
    return "bad" if value > bad else "note" if value > note else "ok"


def _parse_failures(steps: Steps) -> tuple[State, str] | None:
    turns = sum((row.get("turns") or 0.0) * (row.get("episodes") or 0.0) for row in steps.last)
    if not turns:
        return None
    share = sum(row.get("failures/model") or 0.0 for row in steps.last) / turns
    return graded(share, 0.1, 0.3), f"{share:.1%} of actions"


def _no_result(steps: Steps) -> tuple[State, str] | None:
    rows = [row for row in steps.last if is_number(row.get("failed"))]
    played = sum(row["failed"] + (row.get("episodes") or 0.0) for row in rows)
    if not played:
        return None
    share = sum(row["failed"] for row in rows) / played
    return graded(share, 0.0, 0.05), f"{share:.1%} of episodes"


def _entropy(steps: Steps) -> tuple[State, str] | None:
    now, then = steps.mean("entropy"), steps.mean("entropy", last=False)
    if now is None or then is None:
        return None
    state: State = "bad" if now < 0.02 else "note" if now < 0.2 * then or now > 2 * then else "ok"
    return state, f"{now:.3g} nats a token, {then:.3g} in the first steps"


def _kl(steps: Steps) -> tuple[State, str] | None:
    values = [row["kl"] for row in steps.rows if is_number(row.get("kl"))]
    if not values:
        return None
    now, typical = fmean(values[-window(values) :]), float(np.median(np.abs(values)))
    jump = len(values) > 4 and abs(values[-1]) > max(10 * typical, 0.01)
    state = graded(now, 0.1, 1.0)
    return ("note" if jump and state == "ok" else state), f"{now:.3g} nats a token" + (", and it has just jumped" if jump else "")


def _ratio(steps: Steps) -> tuple[State, str] | None:
    value = steps.mean("ratio")
    if value is None:
        return None
    cut = (steps.mean("cut_high") or 0.0) + (steps.mean("cut_low") or 0.0)
    worst = max((graded(abs(value - 1), 0.02, 0.2), graded(cut, 0.2, 0.5)), key=WORST.index)
    return worst, f"mean {value:.4f}, {cut:.1%} of tokens cut off"


def _agreement(steps: Steps) -> tuple[State, str] | None:
    value = steps.mean("mismatch_k3")
    return None if value is None else (graded(abs(value), 1e-3, 1e-2), f"{value:.2g} nats a token")


def _pay(steps: Steps) -> tuple[State, str] | None:
    numbers = [steps.mean(key, last=last) for last in (False, True) for key in ("length", "reward")]
    if any(number is None for number in numbers):
        return None
    long_then, paid_then, long_now, paid_now = (number or 0.0 for number in numbers)
    grown = long_now / long_then if long_then else 1.0
    idle = paid_now <= paid_then + 0.01 * abs(paid_then)
    state: State = "bad" if grown > 3 and idle else "note" if grown > 1.5 and idle else "ok"
    per = [1000 * paid / length if length else 0.0 for paid, length in ((paid_then, long_then), (paid_now, long_now))]
    return state, f"{per[1]:.3g} a thousand tokens, {per[0]:.3g} at first; answers {grown:.2f} times as long"


def _finite(steps: Steps) -> tuple[State, str] | None:
    rows = [row for row in steps.rows if "grad_norm" in row or "loss" in row]
    broken = [row["step"] for row in rows if any(key in row and row[key] is None for key in ("grad_norm", "loss"))]
    if not rows:
        return None
    return ("bad", f"not finite at step {broken[-1]:.0f}") if broken else ("ok", f"finite in {len(rows)} steps")


RULES = (
    Rule(
        what="groups without signal",
        look=above("zero_signal", 0.5, 0.8),
        rule="note above 50 %, bad above 80 % of groups",
        meaning="All episodes of such a group earned the same, so they say nothing about which is better: no gradient, time lost.",
        change="tasks of middling difficulty (a curriculum), a larger --group-size, --sampling-rounds with the filter ZeroSignal, or a "
        "reward with partial credit",
    ),
    Rule(
        what="cut answers",
        look=above("cut", 0.1, 0.3),
        rule="note above 10 %, bad above 30 % of actions",
        meaning="The answer ran into max_tokens or the end of the context: what is learned is where the knife falls.",
        change="raise --max-tokens or --max-context, pay for brevity, or leave such episodes out with the filter Overlong",
    ),
    Rule(
        what="parse failures",
        look=_parse_failures,
        rule="note above 10 %, bad above 30 % of actions (failures of the class `model`: malformed calls, unknown tools, errors of tools)",
        meaning="The policy does not speak the protocol: turns are spent on error messages.",
        change="an example in the prompt, --warmup-steps of imitation, a small pay for form, or another protocol",
    ),
    Rule(
        what="no valid result",
        look=_no_result,
        rule="note above 0, bad above 5 % of episodes",
        meaning="The infrastructure or code of yours broke them. They are in no statistics, so what is easy to break is learned less.",
        change="read the first failure in the ledger; raise --step-seconds if it is a time-out",
    ),
    Rule(
        what="entropy",
        look=_entropy,
        rule="note under a fifth or above twice of the first steps, bad under 0.02 nats a token",
        meaning="Near 0 the policy says the same every time and finds nothing new; a rise says that it falls apart.",
        change="falling: a higher --temperature, an entropy or KL term, a wider upper clip. Rising: a lower learning rate",
    ),
    Rule(
        what="KL to the reference",
        look=_kl,
        rule="note above 0.1, bad above 1 nat a token; note when the last step is ten times the median",
        meaning="How far the policy has gone from where it began. A sudden rise warns of an unstable update.",
        change="a lower learning rate, a larger KL coefficient, fewer --epochs",
    ),
    Rule(
        what="importance ratio",
        look=_ratio,
        rule="mean off 1 by 0.02: note, by 0.2: bad; 20 % of tokens cut off by the trust region: note, 50 %: bad",
        meaning="How far the weights moved since the tokens were sampled. What the trust region cuts off is sampled for nothing.",
        change="fewer --epochs or --minibatches, a lower learning rate, less staleness",
    ),
    Rule(
        what="engine against learner",
        look=_agreement,
        rule="divergence (k3) above 0.001: note, above 0.01: bad",
        meaning="The learner does not see the log-probabilities that the engine sampled with: every ratio is wrong by that.",
        change="--dtype float32, the same sampling parameters for both; `sojourn doctor` checks the contract; report it if it stays",
    ),
    Rule(
        what="pay per token",
        look=_pay,
        rule="answers 1.5 times as long as in the first steps without more reward: note, 3 times: bad",
        meaning="Length that earns nothing: a loss that favours long answers, or a reward that can be talked into paying.",
        change="an aggregation that does not weigh by length, pay for brevity, a lower --max-tokens; read the longest episodes",
    ),
    Rule(
        what="finite numbers",
        look=_finite,
        rule="bad when a loss or a gradient norm was not finite",
        meaning="A NaN or an infinity has reached the weights, or was about to.",
        change="a lower learning rate, --dtype float32, --optimizer.max-grad-norm; go on from a checkpoint before that step",
    ),
)
REPETITION = Rule(
    what="repeated text",
    look=lambda _: None,
    rule=f"{GRAM} tokens in a row that were there before in the same answer: note above 20 %, bad above 50 %",
    meaning="The policy loops: a sign of collapse, or of a reward that length alone earns.",
    change="a lower learning rate, a KL term, a penalty on repetition; read the episodes",
)


def repetition(ids: Sequence[int]) -> float:
    """The share of an answer's runs of `GRAM` tokens that are there before.

    >>> repetition([1, 2, 3, 4, 1, 2, 3, 4]), repetition([1, 2, 3])
    (0.2, 0.0)
    """
    grams = [tuple(ids[i : i + GRAM]) for i in range(len(ids) - GRAM + 1)]
    return (len(grams) - len(set(grams))) / len(grams) if grams else 0.0


def findings(run: Path, shelf: Shelf | None = None) -> list[Finding]:
    """All rules over a run folder; where several roles learn, those of each.  Worst first."""
    rows = RunFolder(run).metrics()
    found = [rule(Steps(own), who) for who, own in _roles(rows) for rule in RULES]
    found.append(_repeated(shelf or Shelf(run)))
    if len({finding.what for finding in found}) > len(RULES) + 1:
        found = [finding for finding in found if finding.state != "not measured"]
    return sorted(found, key=lambda finding: -WORST.index(finding.state))


def _roles(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """The run's own rows, and those of each role that has metrics of its own."""
    yield "", list(rows)
    for role in dict.fromkeys(role for row in rows for role in row.get("roles", ())):
        own = [{key.removeprefix(f"{role}/"): value for key, value in row.items() if key.startswith(f"{role}/")} for row in rows]
        yield f"{role}: ", [mine | {"step": row["step"]} for mine, row in zip(own, rows, strict=True)]


def _repeated(shelf: Shelf) -> Finding:
    """Of the last step's episodes: training, or else whatever was played last."""
    small = shelf.index(phase="train") or shelf.index()
    shares = [
        repetition(span["tokens"])
        for row in shelf.read([row for row in small if row["step"] == small[-1]["step"]][:SAMPLE])
        for span in row["spans"]
        if span["kind"] == "action" and len(span["tokens"]) >= 2 * GRAM
    ]
    if not shares:
        return REPETITION(Steps([]))
    seen = (
        f"{fmean(shares):.1%} on average over {len(shares)} answers of step {small[-1]['step']}, {max(shares):.1%} in the worst"
    )
    given = {key: getattr(REPETITION, key) for key in ("what", "rule", "meaning", "change")}
    return Finding(state=graded(fmean(shares), 0.2, 0.5), found=seen, **given)
