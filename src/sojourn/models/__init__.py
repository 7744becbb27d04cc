"""Models and their tokenizers: real ones found by name, tiny random ones built from nothing.

from sojourn import models

real = models.load("smollm2-135m")       # a short name, a local directory, or a name on the Hugging Face hub
toy = models.tiny(architecture="qwen3")  # about 100 thousand random parameters, one token a byte
real.model, real.tokenizer               # a transformers model in float32, and its tokenizer
"""

from sojourn.models.known import KNOWN, KnownModel
from sojourn.models.load import LoadedModel, ModelNotFound, cache_folder, load
from sojourn.models.tiny import tiny

__all__ = ["KNOWN", "KnownModel", "LoadedModel", "ModelNotFound", "cache_folder", "load", "tiny"]
