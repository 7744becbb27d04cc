"""What a run leaves behind: the run folder and the episode store."""

from sojourn.store.episodes import rebuild, to_row
from sojourn.store.files import DiskFullError, write_atomic, write_json
from sojourn.store.run import RunFolder
from sojourn.store.tables import query, read_episodes, write_episodes

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
