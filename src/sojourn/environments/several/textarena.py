"""TextArena's games, in which all that is said is text.

The one idea: an agent reads what the game told it since it last acted, and not its own words again, for those are in its context already.
TextArena draws from Python's global random numbers, which every game in the process shares; each episode here has a state of its own, put in
place while the game runs, so that games side by side are what they would be alone.
Source: Guertler et al., arXiv 2504.11442; the package `textarena` (extra `envs-several`).

    KuhnPoker-v0      reset -> {"0": "[GAME] You are Player 0 ..."}       step({"0": "[bet]"}) -> sees {"1": "[Player 0] [bet] ..."}
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from sojourn.core import Action, JointTransition, MultiAgentEnvironment, Observation, Split, Task
from sojourn.environments.tools import answer_text
from sojourn.environments.world import World

MOST = 15
"""Players that are tried, where their number is not given."""


def from_textarena(name: str, players: int = 0, **settings: Any) -> World[MultiAgentEnvironment]:
    """The world of one game ("KuhnPoker-v0"); `settings` go to `textarena.make`.

    players: 0 for two, or, where a game does not take two, the fewest that it takes.
    Raises ImportError, with the command that helps, if the package is missing, and ValueError for a game that cannot be played here.
    """
    try:
        import textarena
    except ImportError as error:
        raise ImportError("TextArena is not installed: pip install 'sojourn[envs-several]'") from error

    def make() -> Any:
        return textarena.make(name, **settings)

    try:
        make()
    except Exception as error:  # a game may lack files, words, keys or a newer Python
        raise ValueError(f"TextArena cannot make '{name}': {error!r}") from error
    for count in [players] if players else [2, 1, *range(3, MOST + 1)]:
        try:
            with _apart(random.Random(0).getstate(), np.random.RandomState(0).get_state()):
                make().reset(num_players=count, seed=0)
        except Exception as error:
            why = error
        else:
            return World(partial(_episode, make, count), TextArenaTasks(name))
    raise ValueError(f"TextArena's '{name}' does not start with {players or f'1 to {MOST}'} players: {why!r}")


def _episode(make: Callable[[], Any], players: int) -> MultiAgentEnvironment:
    return TextArenaEnvironment(make(), players)


@contextmanager
def _apart(mine: Any, numpys: Any) -> Iterator[list[Any]]:
    """Run with these states of the global random numbers; gives the states at the end, and puts back what was there."""
    kept, kept_numpys = random.getstate(), np.random.get_state()  # noqa: NPY002 (TextArena's, not ours)
    after: list[Any] = []
    try:
        random.setstate(mine)
        np.random.set_state(numpys)  # noqa: NPY002
        yield after
    finally:
        after += [random.getstate(), np.random.get_state()]  # noqa: NPY002
        random.setstate(kept)
        np.random.set_state(kept_numpys)  # noqa: NPY002


class TextArenaEnvironment(MultiAgentEnvironment):
    """One episode of a game; see `from_textarena`.  An invalid move is the game's business: it tells the agent, and punishes at last."""

    def __init__(self, game: Any, players: int) -> None:
        self.agents = tuple(map(str, range(players)))
        self._game = game
        self._inner = game
        while hasattr(self._inner, "env"):  # the wrappers around it repeat the whole game in each observation
            self._inner = self._inner.env

    async def reset(self, task: Task, *, seed: int) -> Mapping[str, Observation]:
        drawn = task.data["seed"]
        self._random = [random.Random(drawn).getstate(), np.random.RandomState(drawn % 2**32).get_state()]
        with self._drawing():
            self._game.reset(num_players=len(self.agents), seed=drawn)
            return self._seen()

    def acting(self) -> Sequence[str]:
        return (str(self._inner.state.current_player_id),)

    async def step(self, actions: Mapping[str, Action]) -> JointTransition:
        (agent,) = self.acting()
        with self._drawing():
            over, _ = self._game.step(answer_text(actions[agent]))
            if not over:
                return JointTransition(self._seen())
            rewards, about = self._game.close()
        paid = {str(player): float(reward) for player, reward in (rewards or {}).items()}
        wrong = {f"invalid/{player}": known.get("invalid_move", False) for player, known in about.items()}
        won = {f"success/{player}": reward > 0 for player, reward in paid.items()}
        return JointTransition({}, paid, terminated=True, info={**won, **wrong})

    def _seen(self) -> dict[str, Observation]:
        player, messages = self._inner.get_observation()
        roles = self._inner.state.role_mapping
        told = [f"[{roles.get(who, f'Player {who}')}] {text.strip()}" for who, text, _ in messages if who != player]
        return {str(player): Observation.of("\n".join(told) or "Your move.")}

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        with _apart(*self._random) as after:
            yield
        self._random = after


@dataclass(frozen=True)
class TextArenaTasks:
    """Seeds: even ones are for training, odd ones are held out."""

    name: str
    levels: Sequence[str] = ("default",)

    def task(self, split: Split, level: str, index: int) -> Task:
        seed = 2 * index + (split == "test")
        return Task(f"{self.name}/{seed}", {"seed": seed}, level)
