"""Proofs in Coq: only tactics are heard, only what the kernel accepts is paid, and an episode goes on after whatever is said."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from small_worlds import play_out, say, solved

from sojourn.core import Task, Transition
from sojourn.environments import check_environment
from sojourn.environments.proof import CoqProof, coq_library_world, coq_world
from sojourn.environments.proof.coq import sentences
from sojourn.environments.proof.generated import LEVELS, content, generated_tasks
from sojourn.environments.proof.prover import forget
from sojourn.environments.world import World

pytestmark = pytest.mark.skipif(not (shutil.which("coqtop") and shutil.which("bwrap")), reason="apt-get install coq bubblewrap")


@pytest.fixture(scope="module", autouse=True)
def ended() -> Iterator[None]:
    yield
    forget()


def theorem(statement: str, *, by_hand: bool = False, limit: int = 8) -> Task:
    data = {
        "statement": f"Theorem goal : {statement}.",
        "file": "",
        "before": [],
        "by_hand": by_hand,
        "proof": [],
        "limit": limit,
    }
    return Task("t", data)


def said(task: Task, *actions: str) -> list[Transition]:
    return play_out(CoqProof(), task, *map(say, actions))


ADD = "forall n m : nat, n + S m = S (n + m)"


def test_a_proof_may_be_said_in_steps_or_at_once() -> None:
    assert solved(
        said(theorem(ADD), "intros n m.", "induction n as [|n IH].", "- reflexivity.", "- simpl. rewrite IH. reflexivity.")
    )
    assert solved(
        said(theorem(ADD), "```coq\nintros n m. induction n as [|n IH].\n- reflexivity.\n- simpl. now rewrite IH.\n```")
    )


CHEATS = [
    "Admitted.", "admit.", "intros. admit.", "Abort.", "Axiom a : False. exact a.", "give_up.", "Qed.", "Fail idtac.", "#[local] Axiom a : False.",
    'Redirect "/tmp/x" Print nat.', 'Load "x".', 'Declare ML Module "x".', "Drop.", "Unset Guard Checking.", "Undo.", "Restart.",
    "intros n m. exact_no_check I.", "BackTo 1.", "Quit.", "intros n m; vm_cast_no_check (eq_refl 0).", "Proof. Admitted.",
    "Set Nested Proofs Allowed.",
    "Theorem goal2 : True. exact I. Qed.", "Timeout 1 Axiom a : False.", "Reset goal.", "Require Import Lia. intros. lia.", "(* *", 'idtac "',
    "assert (x : False) by admit. destruct x.", "No more goals.", "</prompt>", "",
]  # fmt: skip


@pytest.mark.parametrize("cheat", CHEATS)
def test_what_is_no_proof_is_not_paid_and_the_episode_goes_on_where_it_was(cheat: str) -> None:
    tried = said(theorem(ADD), cheat, "intros n m. induction n as [|n IH]. { reflexivity. } simpl. rewrite IH. reflexivity.")
    assert tried[0].failures and not tried[0].terminated and tried[0].reward == 0.0
    assert solved(tried), tried[1]


def test_a_step_that_fails_undoes_all_of_its_action() -> None:
    tried = said(theorem("True -> True"), "intros H. exact False.", "intros H. exact H.")
    assert "Error" in tried[0].observation.messages[0].text and solved(tried)


def test_an_endless_tactic_costs_a_turn_and_no_more() -> None:
    world = CoqProof(tactic_s=1)
    tried = play_out(world, theorem("True -> True"), say("intros H."), say("repeat (assert True by exact I)."), say("exact H."))
    assert tried[1].failures and solved(tried)


def test_tactics_that_search_are_refused_where_the_proof_is_to_be_by_hand() -> None:
    tried = said(
        theorem("forall A B : Prop, A -> B -> A", by_hand=True), "tauto.", "intros; now auto.", "intros A B a b. exact a."
    )
    assert "'tauto' is not allowed here" in tried[0].observation.messages[0].text
    assert tried[1].failures and solved(tried)


def test_an_axiom_that_coq_was_told_before_is_no_proof() -> None:
    told = Task("t", {**theorem("False").data, "before": ["Axiom wrong : False."], "file": "axiom"})
    (tried,) = said(told, "exact wrong.")
    assert "That is no proof: Axioms:" in tried.observation.messages[0].text and not tried.terminated


@pytest.mark.parametrize("world", [coq_world, coq_library_world])
def test_the_checker_passes_and_the_oracle_proves_all(world: object) -> None:
    made: World = world()  # type: ignore[operator]
    count = 2 * len(made.tasks.levels)
    assert f"solved: {count} of {count} by the oracle" in check_environment(made, count=1)


@pytest.mark.parametrize("level", LEVELS)
def test_no_theorem_is_in_both_splits_whatever_its_names(level: str) -> None:
    source = generated_tasks()
    train, test = ({content(source.task(split, level, i).data) for i in range(40)} for split in ("train", "test"))
    assert train and test and not train & test


def test_a_text_is_split_into_sentences_as_coq_does() -> None:
    text = 'intros n. (* a. (* nested. *) *) -- idtac "a. b". [> simpl.. ]. now apply Nat.add_comm.'
    assert sentences(text) == ["intros n.", "--", 'idtac "a. b".', "[> simpl.. ].", "now apply Nat.add_comm."]
    for broken in ("intros n", "(* intros n.", 'idtac "x'):
        with pytest.raises(ValueError):
            sentences(broken)
