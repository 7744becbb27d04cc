"""Engines: tokens in, tokens out."""

from sojourn.engine.protocol import Completion, Engine, SamplingParams

__all__ = ["Completion", "Engine", "SamplingParams"]
