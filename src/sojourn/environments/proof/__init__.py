"""Worlds of proof, judged by Coq's kernel."""

from sojourn.environments.proof.coq import coqtop
from sojourn.environments.proof.generated import generated_tasks
from sojourn.environments.proof.library import library_tasks
from sojourn.environments.proof.prover import CoqProof
from sojourn.environments.world import World

__all__ = ["CoqProof", "coq_library_world", "coq_world"]


def coq_world() -> World:
    """Generated theorems, to be proved by hand.  Raises ImportError with the command that brings Coq."""
    coqtop()
    return World(CoqProof, generated_tasks())


def coq_library_world() -> World:
    """Theorems of Coq's library.  Raises ImportError with the command that brings Coq."""
    coqtop()
    return World(CoqProof, library_tasks())
