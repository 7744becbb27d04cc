"""What a move is worth to a search that only imagines it: the model's own opinion, and how near the goal it comes."""

from __future__ import annotations


def imagined_move(move_logp: float, good_logp: float, reached: int, goals: int, *, alpha: float = 0.5) -> float:
    """Reward of a move in an imagined state.  [RAP, arXiv 2305.14992: likelihood, self-evaluation and heuristic; numbers of its
    official Blocksworld code]

        r = alpha (log p(a | s) + log p("good" | s, a)) + (1 - alpha) g,  g = 100 if all goals hold, else the share that does

    move_logp: log-probability of the move, in nats.  good_logp: of the word that calls it good.
    reached: goals, of so many `goals`, that hold after it; 0 for the quick estimate that is made before the next state is imagined.
    alpha: weight of the model's opinion; lowering it trusts the goals more.

    >>> imagined_move(-1.0, -0.2, reached=2, goals=2)
    49.4
    """
    progress = 100.0 if reached == goals else reached / goals
    return alpha * (move_logp + good_logp) + (1 - alpha) * progress
