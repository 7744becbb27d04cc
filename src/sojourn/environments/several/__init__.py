"""Worlds of other libraries with several agents: OpenSpiel, PettingZoo, TextArena."""

from sojourn.environments.several.openspiel import OpenSpielEnvironment, from_openspiel
from sojourn.environments.several.pettingzoo import from_pettingzoo
from sojourn.environments.several.textarena import from_textarena

__all__ = ["OpenSpielEnvironment", "from_openspiel", "from_pettingzoo", "from_textarena"]
