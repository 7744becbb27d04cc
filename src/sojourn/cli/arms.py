"""What a recipe declares of its evidence, and the config of each of its runs.

ARMS: Mapping[str, Mapping[str, object]]     by name, changes of the recipe's Config; nested fields with a dot
CLAIMS: Mapping[str, Claim]                  by name (`sojourn.evidence`)
figures(run) -> dict                         more figures of a run than its evaluations give: numbers, or one for each task by its id
picture(runs) -> str                         an SVG in place of the learning curves; runs by arm and seed
WORLD = "..."                                what it learns in, for the list of recipes
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sojourn.cli import nearest
from sojourn.cli.recipe import Recipe
from sojourn.evidence import Claim, RunOf
from sojourn.evidence.picture import picture

if TYPE_CHECKING:
    from sojourn.training import TrainConfig

BASE = "base"
OURS = ("run", "seed")
"""Fields that `reproduce` sets."""


@dataclass(frozen=True, kw_only=True)
class Declared:
    """A recipe's arms and claims."""

    recipe: Recipe
    arms: Mapping[str, Mapping[str, object]]
    claims: Mapping[str, Claim]
    base: Callable[[str], object] | None
    figures: Callable[[Any], Any] | None
    picture: Callable[[Any], str]

    def path(self, root: Path, arm: str, seed: int) -> Path:
        """Where a run lies; the base is one for all seeds."""
        return root / (BASE if self.base and arm == BASE else f"{arm}-{seed}")

    def config(self, root: Path, arm: str, seed: int) -> TrainConfig:
        """The config of a run.  Raises `ValueError` for a field that there is not, or a value out of range."""
        config = self.recipe.config(run=str(self.path(root, arm, seed)), seed=seed)
        for name, value in self.arms[arm].items():
            given = str(self.path(root, value.arm, seed)) if isinstance(value, RunOf) else value
            config = _changed(config, name.split("."), given, f"{self.recipe.path}: ARMS['{arm}']['{name}']")
        return config

    def begins_with(self, arm: str) -> list[str]:
        """The arms whose runs this one takes up."""
        return [value.arm for value in self.arms.get(arm, {}).values() if isinstance(value, RunOf)]

    def chosen(self, names: str) -> list[str]:
        """Arms from a list with commas, all for none, and those that they take up; in the order that they are declared in."""
        asked = [name.strip() for name in names.split(",")] if names else list(self.arms)
        for name in asked:
            if name not in self.arms:
                raise ValueError(
                    f"recipe {self.recipe.path} has no arm '{name}'{nearest(name, self.arms) or '.'}  Arms: {', '.join(self.arms)}"
                )
        for name in reversed(list(self.arms)):
            asked += self.begins_with(name) if name in asked else []
        return [name for name in self.arms if name in asked]

    def wanted(self, arms: list[str], seeds: int) -> list[tuple[str, int]]:
        """The runs, arm and seed, in the order that they are made in."""
        needs_base = self.base and any(BASE in self.begins_with(arm) for arm in arms)
        return [*([(BASE, 0)] if needs_base else []), *((arm, seed) for seed in range(seeds) for arm in arms)]


def declared(recipe: Recipe) -> Declared:
    """What the recipe declares.  Raises `ValueError` if it has no arms, or something that is none, or no claim."""
    found = vars(recipe.module)
    arms, claims = found.get("ARMS"), found.get("CLAIMS", {})
    if not isinstance(arms, Mapping) or not arms:
        raise ValueError(
            f"recipe {recipe.path} declares no arms, so there is nothing to reproduce: give it ARMS, changes of its config by name, and "
            "CLAIMS (CONTRIBUTING.md says how)"
        )
    known = [BASE] if callable(found.get(BASE)) else []
    for name, changes in arms.items():
        where = f"{recipe.path}: ARMS['{name}']"
        if not isinstance(name, str) or not re.fullmatch(r"\w[\w. -]*", name):
            raise ValueError(f"{where}: choose a name of letters, digits, spaces, '.', '_' and '-', a folder will have it")
        if name in known:
            raise ValueError(f"{where}: the recipe's function `base` has that name, choose another")
        if not isinstance(changes, Mapping):
            raise ValueError(f"{where}: expected a mapping of fields to values, found {changes!r}")
        if set(changes) & {*OURS}:
            raise ValueError(f"{where}: sets {', '.join(sorted(set(changes) & {*OURS}))}, which `sojourn reproduce` sets")
        for value in changes.values():
            if isinstance(value, RunOf) and value.arm not in known:
                raise ValueError(f"{where}: begins with {value.arm!r}, which is no arm that is declared before it")
        known.append(name)
    if wrong := [name for name, claim in claims.items() if not isinstance(claim, Claim)]:
        raise ValueError(f"{recipe.path}: CLAIMS['{wrong[0]}'] is no sojourn.evidence.Claim")
    optional = {name: found.get(name) for name in (BASE, "figures")}
    return Declared(recipe=recipe, arms=arms, claims=claims, picture=found.get("picture", picture), **optional)


def scaled(recipe: Recipe, name: str) -> TrainConfig:
    """The config with the values that the recipe declares for a scale: SCALES = {"paper": {...}}, changes as in ARMS."""
    scales = vars(recipe.module).get("SCALES", {})
    if name not in scales:
        raise ValueError(
            f"recipe {recipe.path} declares no scale '{name}'{nearest(name, scales)} (SCALES: {', '.join(scales) or 'none'})"
        )
    config = recipe.config()
    for field_name, value in scales[name].items():
        config = _changed(config, field_name.split("."), value, f"{recipe.path}: SCALES['{name}']['{field_name}']")
    return config


def _changed(config: Any, path: list[str], value: object, where: str) -> Any:
    """The config with one field, nested perhaps, set to a value of its type."""
    from pydantic import TypeAdapter

    name, *rest = path
    known = [field.name for field in fields(config)]
    if name not in known:
        raise ValueError(f"{where}: {type(config).__name__} has no field '{name}'{nearest(name, known)}")
    inner = getattr(config, name)
    if rest and not is_dataclass(inner):
        raise ValueError(f"{where}: {name} has no fields of its own")
    try:
        new = replace(config, **{name: _changed(inner, rest, value, where) if rest else value})
        return TypeAdapter(type(config)).validate_python(asdict(new))
    except ValueError as error:
        raise ValueError(str(error) if where in str(error) else f"{where} = {value!r}: {error}") from error
