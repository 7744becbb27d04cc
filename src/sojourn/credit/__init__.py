"""Credit: rewards to per-token advantages.  numpy in, numpy out; one family a file.

Every estimator is called as `credit(columns) -> advantage_T`, one float64 for each action token; most are frozen dataclasses.
"""

from sojourn.credit.baselines import GPG, OPO, GivenBaseline, MaxRL, OptimalTokenBaseline, opo
from sojourn.credit.columns import Columns, Credit
from sojourn.credit.compose import GDPO, Sum, Then, TokenReturns
from sojourn.credit.dense import Distillation, KlInReward
from sojourn.credit.filters import (
    Band,
    Filter,
    Kept,
    Overlong,
    ResampleOnCorrect,
    TopVariance,
    ZeroSignal,
    keep,
)
from sojourn.credit.formula import LEGEND, formula
from sojourn.credit.gae import BiLevelGae, Gae, critic_targets, value_targets
from sojourn.credit.group import GroupRelative, Normaliser, dr_grpo, grpo, rloo
from sojourn.credit.needs import declares, reads
from sojourn.credit.pairs import action_pairs, episode_pairs
from sojourn.credit.passk import PassK, PassKBest
from sojourn.credit.reading import columns
from sojourn.credit.replay import Replay
from sojourn.credit.shaping import Shaping, shaped
from sojourn.credit.steps import GiGPO, StepRelative
from sojourn.credit.transforms import Bounded, EntropyBonus, PositiveOnly, Whiten
from sojourn.credit.tree import LeafRelative, TreePO, TreeRPO
from sojourn.credit.turns import MTGRPO, InformationGain, ProcessRewards
from sojourn.credit.vtrace import VTrace

__all__ = [
    "GDPO", "GPG", "LEGEND", "MTGRPO", "OPO", "Band", "BiLevelGae", "Bounded", "Columns", "Credit", "Distillation",
    "EntropyBonus", "Filter", "Gae", "GiGPO", "GivenBaseline", "GroupRelative", "InformationGain", "Kept", "KlInReward", "LeafRelative",
    "MaxRL",    "Normaliser", "OptimalTokenBaseline", "Overlong", "PassK", "PassKBest", "PositiveOnly", "ProcessRewards", "Replay",
    "ResampleOnCorrect", "Shaping", "StepRelative", "Sum", "Then", "TokenReturns", "TopVariance", "TreePO", "TreeRPO", "VTrace",
    "Whiten", "ZeroSignal", "action_pairs", "columns", "critic_targets", "declares", "dr_grpo", "episode_pairs", "formula", "grpo", "keep",
    "opo", "reads", "rloo", "shaped", "value_targets",
]  # fmt: skip
