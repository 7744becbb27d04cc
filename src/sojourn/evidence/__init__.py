"""Evidence: what a recipe claims, what its runs measured, and the verdict.

A recipe declares its arms, changes of its config, and its claims, each a number that the runs' figures give and a threshold for it.
`sojourn reproduce` makes the runs; this room reads what they left, and writes results, tables and pictures.
"""

from sojourn.evidence.claims import Claim, Look, RunOf

__all__ = ["Claim", "Look", "RunOf"]
