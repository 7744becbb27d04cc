"""Small worlds in pure Python: no download, seeds, an oracle, held-out tasks that no training task equals; cards in docs/worlds-small.md."""

from __future__ import annotations

from typing import Any

from sojourn.environments.small.blocks import Blocks
from sojourn.environments.small.common import SmallWorld
from sojourn.environments.small.countdown import Countdown
from sojourn.environments.small.crafting import Crafting
from sojourn.environments.small.functions import Functions, Propose
from sojourn.environments.small.haystack import Haystack
from sojourn.environments.small.itinerary import Itinerary
from sojourn.environments.small.kb_search import KbSearch
from sojourn.environments.small.negotiation import Negotiation
from sojourn.environments.small.preferences import Preferences
from sojourn.environments.small.sessions import Sessions
from sojourn.environments.small.stateful_api import StatefulApi

SMALL_WORLDS: dict[str, tuple[str, type[SmallWorld[Any]]]] = {
    "blocks": ("Blocksworld with 3 to 5 blocks; legal actions, optimal planner", Blocks),
    "crafting": (
        "make an item from raw ones by recipes and tools; every eight tasks have recipes of their own; optimal planner",
        Crafting,
    ),
    "kb_search": ("questions of 1 to 4 hops over a made-up encyclopedia, with BM25 search; oracle", KbSearch),
    "haystack": ("a fact among distractors, in a text that comes in 1 to 16 parts; oracle", Haystack),
    "functions": ("programs over integers and lists: find the output, an input or the program; oracle", Functions),
    "propose": ("write a new program over integers and lists, and an input for it; oracle", Propose),
    "sessions": ("events about people, and a memory to add to, update and delete from; oracle", Sessions),
    "stateful_api": ("requests to a service desk, judged by its database in the end; oracle", StatefulApi),
    "itinerary": ("a journey under a budget and other constraints; oracle", Itinerary),
    "preferences": (
        "prepare things for somebody whose wishes can be told, asked for or missed; legal actions, oracle",
        Preferences,
    ),
    "negotiation": ("divide things with a scripted partner whose values are hidden; legal actions, oracle", Negotiation),
    "countdown": ("reach a number with 3 to 6 numbers and + - * /; oracle", Countdown),
}
"""Each world's description and class, by name; `<class>.tasks()` are its tasks."""

__all__ = [
    "SMALL_WORLDS", "Blocks", "Countdown", "Crafting", "Functions", "Haystack", "Itinerary", "KbSearch", "Negotiation", "Preferences",
    "Propose", "Sessions", "SmallWorld", "StatefulApi",
]  # fmt: skip
