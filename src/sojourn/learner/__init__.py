"""The learner: packing, tree attention, the head on action positions, the optimizer."""

from sojourn.learner.batch import TreeBatch, build
from sojourn.learner.critic import Critic
from sojourn.learner.learner import Learner
from sojourn.learner.optimizer import AdamW, OptimizerConfig

__all__ = ["AdamW", "Critic", "Learner", "OptimizerConfig", "TreeBatch", "build"]
