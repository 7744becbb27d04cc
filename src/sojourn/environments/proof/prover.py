"""Proofs in Coq: actions are tactics, or whole proofs; Coq's kernel is the judge.

The one idea: a policy may say tactics and nothing else.  All commands of Coq (`Admitted`, `Axiom`, `Redirect`, `Load`, ...) begin with a
capital letter or `#`, so a sentence that does not begin with a small letter, a bullet, a brace or a goal's number is refused; and what `Print
Assumptions` says of a finished proof must name no axiom.  Going back is playing the accepted sentences again.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from sojourn.core import Action, Environment, Failure, FailureKind, InfrastructureError, Observation, Task, Transition
from sojourn.environments.answer import answer_text
from sojourn.environments.proof.coq import Coq, Stuck, sentences

FENCE = re.compile(r"```(?:coq)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
TACTIC = re.compile(r"(?:(?:all|par|!|\d+(?:\s*[-,]\s*\d+)*)\s*:\s*)?[a-z_(\[]")
FORBIDDEN = re.compile(r"\b(admit|give_up|external|exact_no_check|native_compute|native_cast_no_check|vm_cast_no_check)\b")
AUTOMATIC = ("auto", "eauto", "tauto", "intuition", "firstorder", "easy", "lia", "nia", "omega", "ring", "congruence", "now", "dintuition",
             "trivial", "rtauto", "btauto", "field", "decide", "debug", "info_auto", "dtauto", "done", "hauto", "sauto")  # fmt: skip
MOST = 40
"""Sentences of one action."""

_free: list[Prepared]
_lock = threading.Lock()
_starter = ThreadPoolExecutor(1)
"""Bubblewrap ends when the *thread* that started it does (PR_SET_PDEATHSIG): this one lives as long as we do."""


class Prepared:
    """A Coq that has been told the sentences before a theorem, and can be told those of another."""

    def __init__(self) -> None:
        self.coq = _starter.submit(Coq).result()
        self.file = ""
        self.states: list[int] = [self.coq.state]

    def prepare(self, file: str, before: Sequence[str]) -> None:
        """Bring it to where `before` of `file` has been said.  What was said already of the same file is not said again."""
        done = min(len(self.states) - 1, len(before)) if file == self.file else 0
        self.coq.back_to(self.states[done])
        self.file, self.states = file, self.states[: done + 1]
        for sentence in before[done:]:
            answer, accepted = self.coq.say(sentence)
            if not accepted:
                raise InfrastructureError(f"Coq does not accept {sentence[:80]!r} before a theorem of {file}: {answer[:200]}")
            self.states.append(self.coq.state)


class CoqProof(Environment):
    """A theorem to prove.

    Reward: `proved`, 1 for a finished proof that Coq accepts and that assumes nothing, else 0.  An action is one or more tactics: if one of
    them fails, none counts, the policy reads Coq's error and has lost a turn.  After `limit` actions the episode is truncated.
    `task.data`: `statement` (`Theorem goal : ... .`), `file` and `before` (what Coq is told first), `by_hand` (whether tactics that search
    for proofs are refused), `proof` (one that works, a list of actions), `limit`.

    tactic_s: seconds that Coq lets one tactic take.
    """

    def __init__(self, *, tactic_s: int = 5) -> None:
        self._tactic_s = tactic_s
        self._prover: Prepared | None = None
        self._said: tuple[str, ...] = ()
        self._turns, self._goals = 0, ""

    async def reset(self, task: Task, *, seed: int) -> Observation:
        self._task = task
        goals = await asyncio.to_thread(self._begin, ())
        told = "by hand: no automatic tactics. " if task.data["by_hand"] else ""
        ask = f"Prove this in Coq, {told}Say one or more tactics, each with its full stop."
        return Observation.of(f"{ask}\n\n{task.data['statement']}\n\n{goals}")

    async def step(self, action: Action) -> Transition:
        self._turns += 1
        transition = await asyncio.to_thread(self._step, answer_text(action))
        if self._turns >= self._task.data["limit"] and not transition.terminated:
            return Transition(transition.observation, truncated=True, failures=transition.failures, info={"success": False})
        return transition

    def _step(self, text: str) -> Transition:
        blocks = FENCE.findall(text)
        try:
            said = sentences(blocks[-1] if blocks else text)
            problem = refused(said, by_hand=self._task.data["by_hand"])
        except ValueError as error:
            said, problem = [], str(error)
        if problem:
            return _told(f"Not a proof step: {problem}")
        before = self._coq.state
        for sentence in said:
            structure = set(sentence) <= set("-+*{}")
            answer, accepted = self._try(sentence if structure else f"Timeout {self._tactic_s} {sentence}")
            if not accepted:
                if self._prover is not None:
                    self._coq.back_to(before)
                else:
                    self._begin(self._said)
                return _told(f"Error: {_short(answer)}")
        self._said = (*self._said, *said)
        self._goals = self._show()
        return self._finish(before) if self._goals.startswith("No more") else Transition(Observation.of(self._goals))

    def _finish(self, before: int) -> Transition:
        """Let the kernel judge."""
        answer, accepted = self._try("Qed.")
        assumed, _ = self._try("Print Assumptions goal.") if accepted else ("", False)
        if not accepted or not assumes_nothing(assumed):
            self._said, self._goals = (), self._begin(())
            return _told(f"That is no proof: {_short(answer if not accepted else assumed)}\nIt begins again.\n{self._goals}")
        self._goals = "proved"
        return Transition(reward={"proved": 1.0}, terminated=True, info={"success": True})

    def _try(self, sentence: str) -> tuple[str, bool]:
        try:
            return self._coq.say(sentence, self._tactic_s + 10.0)
        except (Stuck, InfrastructureError):  # a tactic that Coq cannot interrupt, or that took all memory: the policy's doing
            self._prover = None
            return "the tactic could not be interrupted, or took all memory", False

    def _begin(self, said: Sequence[str]) -> str:
        """At the theorem, with these sentences said; what there is to prove."""
        if self._prover is None:
            self._prover = _take(self._task.data["file"])
        try:
            self._prover.prepare(self._task.data["file"], self._task.data["before"])
            for sentence in (self._task.data["statement"], *said):
                answer, accepted = self._coq.say(sentence)
                if not accepted:
                    raise InfrastructureError(f"{self._task.id}: Coq does not accept {sentence[:80]!r} (again): {answer[:200]}")
        except Stuck as error:
            raise InfrastructureError(f"{self._task.id}: Coq hangs") from error
        self._said, self._turns = tuple(said), 0 if not said else self._turns
        self._goals = self._show()
        return self._goals

    def _show(self) -> str:
        return _short(self._coq.say("Show.")[0], 3000)

    @property
    def _coq(self) -> Coq:
        assert self._prover is not None
        return self._prover.coq

    def snapshot(self) -> object:
        return self._task, self._said, self._turns

    async def restore(self, snapshot: object) -> None:
        said: Sequence[str]
        turns: int
        self._task, said, turns = snapshot  # type: ignore[misc]
        await asyncio.to_thread(self._begin, said)
        self._turns = turns

    def state_key(self) -> Hashable:
        return self._task.id, self._goals

    def oracle(self) -> Action:
        """The next action of the known proof.  Raises LookupError where the episode has left it."""
        done: tuple[str, ...] = ()
        for step in self._task.data["proof"]:
            if done == self._said:
                return Action(step, answer=step)
            done += tuple(sentences(step))
        raise LookupError("the episode has left the known proof")

    async def close(self) -> None:
        prover, self._prover = self._prover, None
        if prover is not None:
            with _lock:
                _free.append(prover)


_free = []


def _take(file: str) -> Prepared:
    """A free one, best one that knows the file already."""
    with _lock:
        for prover in sorted(_free, key=lambda each: each.file != file):
            _free.remove(prover)
            return prover
    return Prepared()


def forget() -> None:
    """End the Coqs that nobody uses."""
    with _lock:
        while _free:
            with suppress(OSError):
                _free.pop().coq.end()


def refused(said: Sequence[str], *, by_hand: bool) -> str:
    """Why these sentences may not be said; empty if they may.

    >>> refused(["Admitted."], by_hand=False), refused(["intros n."], by_hand=True)
    ("'Admitted.' is no tactic", '')
    """
    if not said or len(said) > MOST:
        return f"say 1 to {MOST} tactics"
    for sentence in said:
        if set(sentence) <= set("-+*{}"):
            continue
        if not TACTIC.match(sentence):
            return f"'{sentence:.60}' is no tactic"
        if FORBIDDEN.search(sentence):
            return f"'{sentence:.60}' is not allowed"
        if by_hand and (automatic := set(re.findall(r"\w+", sentence)) & set(AUTOMATIC)):
            return f"'{min(automatic)}' is not allowed here"
    return ""


def assumes_nothing(said: str) -> bool:
    """Whether `Print Assumptions` names no axiom; what a section of the library has fixed is given.

    >>> assumes_nothing("Closed under the global context"), assumes_nothing("Axioms:\\nfalse : False")
    (True, False)
    """
    return "Axioms:" not in said and ("Closed under the global context" in said or "Section Variables:" in said)


def _told(text: str) -> Transition:
    return Transition(Observation.of(text), failures=(Failure(FailureKind.MODEL, "action", text),), info={"success": False})


def _short(text: str, most: int = 600) -> str:
    return text if len(text) <= most else f"{text[: most // 2]}\n[...]\n{text[-most // 2 :]}"
