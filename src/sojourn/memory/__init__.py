"""Memory: what agents keep beyond their context."""

from sojourn.memory.latent import retention

__all__ = ["retention"]
