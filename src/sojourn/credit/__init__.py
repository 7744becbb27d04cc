"""Credit: rewards to per-token advantages.  numpy in, numpy out; one family a file.

Every estimator is called as `credit(columns) -> advantage_T`, one float64 for each action token; most are frozen dataclasses.
"""

from sojourn.credit.baselines import GPG, OPO, GivenBaseline, MaxRL, OptimalTokenBaseline, opo
from sojourn.credit.columns import Columns, Credit
from sojourn.credit.compose import GDPO, Sum, Then, TokenReturns
from sojourn.credit.dense import Distillation, KlInReward
from sojourn.credit.filters import (
    Band,
    Extremes,
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
from sojourn.credit.pairs import action_pairs, episode_pairs, length_pairs
from sojourn.credit.passk import PassK, PassKBest
from sojourn.credit.reading import columns
from sojourn.credit.replay import Replay
from sojourn.credit.shaping import Shaping, shaped
from sojourn.credit.steps import GiGPO, StepRelative
from sojourn.credit.transforms import Bounded, ByEntropy, EarlyCalls, EntropyBonus, HardGroups, PositiveOnly, Whiten
from sojourn.credit.tree import LeafRelative, TreePO, TreeRPO
from sojourn.credit.turns import MTGRPO, GatedTurns, InformationGain, ProcessRewards
from sojourn.credit.vtrace import VTrace

__all__ = [
    "GDPO", "GPG", "LEGEND", "MTGRPO", "OPO", "Band", "BiLevelGae", "Bounded", "ByEntropy", "Columns", "Credit", "Distillation",
    "EarlyCalls", "EntropyBonus", "Extremes", "Filter", "Gae", "GatedTurns", "GiGPO", "GivenBaseline", "GroupRelative",
    "HardGroups", "InformationGain", "Kept", "KlInReward", "LeafRelative", "MaxRL", "Normaliser", "OptimalTokenBaseline",
    "Overlong", "PassK", "PassKBest", "PositiveOnly", "ProcessRewards", "Replay", "ResampleOnCorrect", "Shaping", "StepRelative",
    "Sum", "Then", "TokenReturns", "TopVariance", "TreePO", "TreeRPO", "VTrace", "Whiten", "ZeroSignal", "action_pairs", "columns",
    "critic_targets", "declares", "dr_grpo", "episode_pairs", "formula", "grpo", "keep", "length_pairs", "opo", "reads", "rloo",
    "shaped", "value_targets",
]  # fmt: skip
