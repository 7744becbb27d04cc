"""Worlds of other libraries with several agents: OpenSpiel, PettingZoo, TextArena."""

from sojourn.environments.several.openspiel import OpenSpielEnvironment, from_openspiel

__all__ = ["OpenSpielEnvironment", "from_openspiel"]
