"""What a run leaves behind: the run folder and the episode store."""

from sojourn.store.episodes import query, read_episodes, rebuild, to_row, write_episodes
from sojourn.store.files import DiskFullError, write_atomic, write_json
from sojourn.store.run import RunFolder

__all__ = [
    "DiskFullError",
    "RunFolder",
    "query",
    "read_episodes",
    "rebuild",
    "to_row",
    "write_atomic",
    "write_episodes",
    "write_json",
]
