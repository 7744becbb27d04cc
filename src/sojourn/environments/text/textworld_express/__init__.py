"""TextWorldExpress: eight text games in one Java machine, a few thousand steps a second.

The one idea: a process starts one Java machine (0.3 to 1 s) and plays episode after episode in it; an episode takes a free machine at
`reset` and gives it back at `close`.  Tasks are the package's own seeds: its train split is for training, its test split is held out; the
dev split stays untouched.  A game is a function of its seed and of the commands, so going back is playing them again.  The gold path is
known from the start only: the oracle follows it until the first step off it.
Source: Jansen and Cote, arXiv 2208.01174; the package `textworld-express` (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sojourn.core import Action, Environment, Observation, Split, Task, Transition
from sojourn.environments.answer import answer_text
from sojourn.environments.world import World

GAMES = ("cookingworld", "twc", "coin", "mapreader", "arithmetic", "sorting", "simonsays", "peckingorder")
SEEDS = 1000
"""In each split."""
FIRST_SEED: dict[Split, int] = {"train": 0, "test": 20000}
"""The package's own splits (its dev seeds start at 10000)."""
STEPS = 100
"""Actions after which the package ends a game; then the episode is truncated."""

_free: list[Any] = []
"""Java machines that nobody plays in."""


def from_textworld_express(game: str) -> World:
    """The world of one game.  Raises `ValueError` for an unknown one, `ImportError` if the package is missing."""
    if game not in GAMES:
        raise ValueError(f"TextWorldExpress has no game '{game}': choose one of {', '.join(GAMES)}")
    return World(TextWorldExpress, GameTasks(game))


class TextWorldExpress(Environment):
    """One game.  An action is one of the commands that are valid now; any other is answered by the game itself and costs a turn.

    Reward: `score`, the change of the game's score, which goes from 0 to 1; it can fall.  The episode ends when the game is won or lost;
    `info["success"]` says whether it is won.
    `task.data`: `game`, `seed`, `split` (the package's name of it).
    """

    def __init__(self) -> None:
        self._game: Any = None

    async def reset(self, task: Task, *, seed: int) -> Observation:
        if self._game is None:
            self._game = _free.pop() if _free else _java()
        self._task = task
        return Observation.of(self._begin())

    def _begin(self) -> str:
        data = self._task.data
        text, self._now = self._game.reset(
            seed=data["seed"], gameFold=data["split"], gameName=data["game"], gameParams="", generateGoldPath=True
        )
        self._gold: tuple[str, ...] = tuple(self._game.getGoldActionSequence())
        self._said: tuple[str, ...] = ()
        return f"{self._now['taskDescription']}\n\n{text}"

    async def step(self, action: Action) -> Transition:
        text, reward, done = self._say(answer_text(action))
        won, lost = bool(self._now["tasksuccess"]), bool(self._now["taskfailure"])
        return Transition(
            Observation.of(text),
            {"score": float(reward)},
            terminated=won or lost,
            truncated=bool(done or len(self._said) >= STEPS) and not (won or lost),
            info={"success": won, "score": float(self._now["score"])},
        )

    def _say(self, command: str) -> tuple[str, float, bool]:
        text, reward, done, self._now = self._game.step(command)
        self._said += (command,)
        return text, reward, done

    def snapshot(self) -> object:
        return self._task, self._said

    def restore(self, snapshot: object) -> None:
        said: tuple[str, ...]
        self._task, said = snapshot  # type: ignore[misc]
        self._begin()
        for command in said:
            self._say(command)

    def state_key(self) -> str:
        """What can be seen: the room, the inventory and the last answer."""
        return f"{self._now['look']}\n{self._now['inventory']}\n{self._now['observation']}"

    def legal_actions(self) -> Sequence[str]:
        return sorted(self._now["validActions"])

    def oracle(self) -> Action:
        """The next command of the gold path; raises LookupError when the episode has left it."""
        done = len(self._said)
        if self._said != self._gold[:done] or done >= len(self._gold):
            raise LookupError("the episode has left the gold path, and no other is known")
        return Action(self._gold[done], answer=self._gold[done])

    async def close(self) -> None:
        game, self._game = self._game, None
        if game is not None:
            _free.append(game)


class GameTasks:
    """The package's seeds of one game."""

    levels = ("default",)

    def __init__(self, game: str) -> None:
        self._game = game

    def task(self, split: Split, level: str, index: int) -> Task:
        seed = FIRST_SEED[split] + index % SEEDS
        return Task(f"textworld_express/{self._game}/{seed}", {"game": self._game, "seed": seed, "split": split}, level)

    def count(self, split: Split, level: str) -> int:
        return SEEDS


def _java() -> Any:
    try:
        from textworld_express import TextWorldExpressEnv
    except ImportError as error:
        raise ImportError("TextWorldExpress is not installed: sojourn envs install text/textworld_express") from error
    return TextWorldExpressEnv(envStepLimit=STEPS)
