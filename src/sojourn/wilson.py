"""Wilson's interval of a rate, wherever a rate is told: evaluations, curves, the check of a world."""

from __future__ import annotations

from math import sqrt


def wilson(share: float, count: float, z: float = 1.959964) -> tuple[float, float]:
    """The interval in which a true success rate lies with 95 % confidence when `share` of `count` were solved.  [Wilson 1927]

    >>> [round(bound, 3) for bound in wilson(0.8, 10)]
    [0.49, 0.943]
    """
    if count == 0:
        return 0.0, 1.0
    middle = share + z * z / (2 * count)
    spread = z * sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max((middle - spread) / scale, 0.0), min((middle + spread) / scale, 1.0)
