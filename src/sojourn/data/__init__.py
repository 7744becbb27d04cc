"""Data sets in TRL's formats: rows to records, records to episode groups, prompts to a world."""

from sojourn.data.episodes import protocol_of, to_group, to_groups
from sojourn.data.functions import load_function
from sojourn.data.records import KINDS, Answer, Data, Kind, Record, read
from sojourn.data.rewards import PromptEnvironment, RewardFunction, as_messages, prompt_world
from sojourn.data.rows import Row, Unusable, read_rows

__all__ = [
    "KINDS", "Answer", "Data", "Kind", "PromptEnvironment", "Record", "RewardFunction", "Row", "Unusable", "as_messages", "load_function",
    "prompt_world", "protocol_of", "read", "read_rows", "to_group", "to_groups",
]  # fmt: skip
