"""Named algorithms: `preset("dapo")` is a small frozen configuration of parts, `explain("dapo")` says what it is.

>>> preset("grpo").objective.aggregation.over
'sequences'
"""

from difflib import get_close_matches

from sojourn.objectives.presets.baselines import BASELINES
from sojourn.objectives.presets.explain import explain as _explain
from sojourn.objectives.presets.explain import parts_row
from sojourn.objectives.presets.off_policy import OFF_POLICY
from sojourn.objectives.presets.offline import OFFLINE
from sojourn.objectives.presets.preset import Preset
from sojourn.objectives.presets.refusals import check
from sojourn.objectives.presets.survey import SURVEY
from sojourn.objectives.presets.systems import SYSTEMS
from sojourn.objectives.presets.trust_regions import TRUST_REGIONS
from sojourn.objectives.presets.turn_level import TURN_LEVEL
from sojourn.objectives.presets.values import VALUES

PRESETS: dict[str, Preset] = BASELINES | TRUST_REGIONS | SYSTEMS | OFF_POLICY | VALUES | TURN_LEVEL | OFFLINE | SURVEY


def preset(name: str) -> Preset:
    """The named algorithm.  Raises ValueError that suggests the nearest names."""
    if name not in PRESETS:
        near = get_close_matches(name, PRESETS, 3, 0.4)
        raise ValueError(f"no algorithm is called '{name}'; did you mean {', '.join(near) or 'one of ' + ', '.join(PRESETS)}?")
    return PRESETS[name]


def explain(name: str) -> str:
    """What an algorithm is: its formulas, its parts, its constants and their source, and what each knob does."""
    return _explain(name, preset(name))


def table() -> list[list[str]]:
    """All algorithms, one row each: name, title, paper, credit, ratio and trust region, KL, aggregation, the rest."""
    return [parts_row(name, each) for name, each in PRESETS.items()]


__all__ = ["PRESETS", "Preset", "check", "explain", "preset", "table"]
