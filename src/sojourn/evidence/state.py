"""Whether a run folder holds the run that an arm and a seed ask for: finished, begun, or another one.

The one idea: it is the same run if its config and its code are; how fast it is computed and how much of it is kept does not count, nor
do words: comments, the recipe's docstring, and what it declares of arms and claims.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from sojourn.store import RunFolder, write_json
from sojourn.store.files import plain
from sojourn.store.run import differences

RECIPE_COPY = "recipe.py"
UNTOLD = frozenset(
    {"run", "concurrency", "token_budget", "checkpoint_every", "keep_episodes_every", "max_errors", "profile", "retries"}
)
"""Fields of the config that do not make it another run."""
WORDS = frozenset({"ARMS", "CLAIMS", "SCALES", "WORLD", "picture", "base"})
"""What a recipe declares beside what is run and measured; what runs begin with is told apart by itself."""


@dataclass(frozen=True)
class State:
    """changes: how the run that is there differs from what is asked for; then it is neither finished nor begun."""

    finished: bool = False
    begun: bool = False
    changes: tuple[str, ...] = ()


def state(path: Path, config: Mapping[str, Any], code: Mapping[str, Path], begins_with: Collection[Path] = ()) -> State:
    """What lies at `path`.  begins_with: runs that it takes up; if one of them was made anew since, this one is another run."""
    if not (path / "config.json").is_file():
        return State()
    run = RunFolder(path)
    told = [{name: value for name, value in each.items() if name not in UNTOLD} for each in (run.config(), plain(config))]
    changes = differences(*told)
    for copy in sorted((path / "code").glob("step-*")):
        changes += _edited({file.relative_to(copy).as_posix(): file for file in copy.rglob("*.py")}, code)
    starts = run.starts()
    for other in begins_with:
        if starts and max((row["time"] for row in RunFolder(other).starts()), default="") > starts[0]["time"]:
            changes.append(f"{other} was made anew")
    if changes:
        return State(changes=tuple(dict.fromkeys(changes)))
    return State(finished=bool(run.summary()), begun=True)


def state_of_base(path: Path, code: Mapping[str, Path]) -> State:
    """What lies at `path` of what the recipe's function `base` makes there."""
    note = _note(path)
    told = json.loads(note.read_text()) if note.is_file() else {}
    if not told or not path.exists():
        return State()
    if told["code"] != fingerprint_of_base(code):
        return State(changes=("what makes it was edited",))
    return State(finished=told["finished"], begun=True)


def note_base(path: Path, code: Mapping[str, Path], *, finished: bool) -> None:
    """Say beside the base what made it, before and after."""
    write_json(_note(path), {"code": fingerprint_of_base(code), "finished": finished})


def fingerprint_of_base(code: Mapping[str, Path]) -> str:
    """Of the recipe's function `base`, and of all that lies beside the recipe."""
    module = ast.parse(code[RECIPE_COPY].read_bytes())
    made = [ast.unparse(node) for node in module.body if "base" in _declares(node)]
    beside = {name: file for name, file in code.items() if name != RECIPE_COPY}
    return sha256("\n".join([*made, fingerprint(beside)]).encode()).hexdigest()


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _edited(kept: Mapping[str, Path], now: Mapping[str, Path]) -> list[str]:
    old, new = ({name: meaning(file) for name, file in files.items()} for files in (kept, now))
    return [f"{name} was edited" for name in sorted({*old, *new}) if old.get(name) != new.get(name)]


def fingerprint(code: Mapping[str, Path], *, figures: bool = False) -> str:
    """Of all files together, as runs are told apart by; with `figures`, of what gives a recipe's own figures, too."""
    parts = [f"{name} {meaning(file, figures=figures)}" for name, file in sorted(code.items())]
    return sha256("\n".join(parts).encode()).hexdigest()


def meaning(file: Path, *, figures: bool = False) -> str:
    """SHA-256 of a module without comments, texts that stand alone, and what it declares in words; `figures` counts its function of that name."""
    module = ast.parse(file.read_bytes())
    left_out = WORDS if figures else WORDS | {"figures"}
    module.body = [node for node in module.body if not _declares(node) & left_out and not _only_words(node)]
    return sha256(ast.unparse(module).encode()).hexdigest()


def _declares(node: ast.stmt) -> set[str]:
    """Names that a statement gives a value, `CLAIMS["one"] = ...` included."""
    targets: list[Any] = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", node)]
    held = [target.value if isinstance(target, ast.Subscript) else target for target in targets]
    return {getattr(target, "id", getattr(target, "name", "")) for target in held}


def _only_words(node: ast.stmt) -> bool:
    """A text that stands alone, as the docstring does, or what is imported for claims."""
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").startswith("sojourn.evidence")
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
