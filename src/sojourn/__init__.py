"""Sojourn trains language-model agents by reinforcement learning, on a laptop and on a cluster."""

__version__ = "0.1.0"
