"""MiniGrid and BabyAI in words: a grid of which the agent sees seven by seven cells, and an instruction.

The one idea: what is seen is told as steps forward and to the side, so that a policy that reads can act; the package's bot is the oracle.  A
task's seed is drawn until a hash of its grid and mission says that it belongs to the split, so no grid is in both.
Source: Chevalier-Boisvert et al., arXiv 1810.08272 and 2306.13831; words after BabyAI-Text, Carta et al., arXiv 2302.02662; package `minigrid`.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence
from random import Random
from typing import Any

from sojourn.core import Action, Environment, Failure, FailureKind, Observation, Split, Task, Transition
from sojourn.environments.answer import answer_text
from sojourn.environments.world import World

ACTIONS = ("turn left", "turn right", "go forward", "pick up", "drop", "toggle")
"""In MiniGrid's order."""
LEVELS = (
    "BabyAI-GoToRedBallGrey-v0", "BabyAI-GoToRedBall-v0", "BabyAI-GoToLocal-v0", "BabyAI-PickupLoc-v0", "BabyAI-OpenDoor-v0",
    "BabyAI-PutNextLocal-v0", "BabyAI-UnlockLocal-v0", "BabyAI-GoToSeqS5R2-v0",
)  # fmt: skip
"""Those of `all`, easiest first."""
TEST_SHARE, ATTEMPTS = 1 / 4, 2000
STATES = ("open", "closed", "locked")


def babyai(name: str = "all") -> World:
    """One level (`GoToLocal`, or a full id of MiniGrid), or eight of rising difficulty.  Raises `ValueError` for an unknown one."""
    known = sorted(each for each in _gymnasium().registry if each.startswith(("BabyAI-", "MiniGrid-")))
    found = [each for each in known if name in (each, each.partition("-")[2].rpartition("-")[0])]
    if name != "all" and not found:
        raise ValueError(f"there is no level '{name}' of BabyAI or MiniGrid: choose one of {', '.join(known)}, or 'all'")
    return World(BabyAI, BabyAITasks(LEVELS if name == "all" else tuple(found[:1])))


class BabyAI(Environment):
    """One level.  Reward: `goal`, the package's own: 1 for a mission fulfilled, less 0.9 times the share of the steps that it took.  After the
    level's own number of steps the episode is truncated.  An action that is none costs a turn and moves nothing; after as many such turns as
    the level has steps, the episode is truncated, too.  `task.data`: `level`, `seed`.
    """

    def __init__(self) -> None:
        self._grid: Any = None
        self._seen: Any = None
        self._bot: Any = None
        self._level, self._advice, self._idle = "", -1, 0

    async def reset(self, task: Task, *, seed: int) -> Observation:
        if self._level != task.data["level"]:
            self._grid, self._level = _made(task.data["level"]), task.data["level"]
        self._seen = self._grid.reset(seed=task.data["seed"])[0]
        self._bot, self._advice, self._idle = None, -1, 0
        return Observation.of(f"Your mission: {self._seen['mission']}. Actions: {', '.join(ACTIONS)}.\n{self._told()}")

    async def step(self, action: Action) -> Transition:
        said = answer_text(action).strip().lower().rstrip(".")
        if said not in ACTIONS:
            told, self._idle = f"Say one of {', '.join(ACTIONS)}.", self._idle + 1
            failures = (Failure(FailureKind.MODEL, "action", told),)
            return Transition(Observation.of(told), truncated=self._idle >= self._grid.max_steps, failures=failures, info=_LOST)
        number = ACTIONS.index(said)
        if number != self._advice:
            self._bot = None  # it has to think again
        self._seen, reward, terminated, truncated, _ = self._grid.step(number)
        won = float(reward) > 0
        return Transition(
            Observation.of(self._told()), {"goal": float(reward)}, bool(terminated), bool(truncated), info={"success": won}
        )

    def legal_actions(self) -> Sequence[str]:
        return ACTIONS

    def snapshot(self) -> object:
        return copy.deepcopy(self._grid), self._level, copy.deepcopy(self._seen), self._idle

    def restore(self, snapshot: object) -> None:
        self._grid, self._level, self._seen, self._idle = copy.deepcopy(snapshot)  # type: ignore[misc]
        self._bot, self._advice = None, -1

    def state_key(self) -> Hashable:
        """What is told."""
        return f"{self._seen['mission']}\n{self._told()}"

    def oracle(self) -> Action:
        """What BabyAI's bot would do.  Raises LookupError for levels of MiniGrid, for which there is none."""
        if not self._level.startswith("BabyAI-"):
            raise LookupError(f"there is no bot for {self._level}")
        from minigrid.utils.baby_ai_bot import BabyAIBot

        first = self._bot is None
        if first:
            self._bot = BabyAIBot(self._grid)
        try:
            self._advice = int(self._bot.replan(None if first else self._advice))
            text = ACTIONS[self._advice]
        except Exception as error:  # the bot asserts where it is lost
            raise LookupError(f"the bot knows no more: {error!r}") from error
        return Action(text, answer=text)

    def _told(self) -> str:
        """What is seen: walls ahead and at the sides, then all else, nearest first."""
        image = self._seen["image"]
        size = image.shape[0]
        middle, bottom = size // 2, size - 1
        from minigrid.core.constants import IDX_TO_COLOR, IDX_TO_OBJECT

        lines = []
        for x in range(size):
            for y in range(size):
                kind, colour, state = (int(value) for value in image[x, y])
                name = IDX_TO_OBJECT[kind]
                if name in ("unseen", "empty", "wall", "floor", "agent") or (x, y) == (middle, bottom):
                    continue
                shown = f"{STATES[state]} " if name == "door" else ""
                shown = f"an {shown}" if shown == "open " else f"a {shown}"
                coloured = "" if name in ("goal", "lava") else f"{IDX_TO_COLOR[colour]} "
                lines.append((abs(x - middle) + bottom - y, f"{shown}{coloured}{name} {_where(x - middle, bottom - y)}"))
        free = next((n for n in range(1, size) if IDX_TO_OBJECT[int(image[middle, bottom - n, 0])] == "wall"), 0)
        carried = self._grid.carrying
        parts = [f"You carry a {carried.color} {carried.type}."] if carried is not None else []
        parts += [f"There is a wall {_steps(free)} forward."] if free else []
        return " ".join(
            [*parts, *(f"You see {text}." for _, text in sorted(lines)), *([] if lines else ["You see nothing else."])]
        )


_LOST = {"success": False}


def _where(side: int, ahead: int) -> str:
    parts = [f"{_steps(ahead)} forward"] if ahead else []
    parts += [f"{_steps(abs(side))} {'right' if side > 0 else 'left'}"] if side else []
    return " and ".join(parts)


def _steps(count: int) -> str:
    """
    >>> _steps(1), _steps(3)
    ('1 step', '3 steps')
    """
    return f"{count} step{'s' * (count != 1)}"


class BabyAITasks:
    """Seeds of one level, or of several."""

    def __init__(self, levels: tuple[str, ...]) -> None:
        self.levels = levels
        self._made: dict[str, Any] = {}

    def task(self, split: Split, level: str, index: int) -> Task:
        if level not in self.levels:
            raise ValueError(f"there is no level '{level}': choose one of {', '.join(self.levels)}")
        grid = self._made.setdefault(level, _made(level))
        draw = Random(f"{level}/{split}/{index}")
        for _ in range(ATTEMPTS):
            seed = draw.randrange(2**31)
            grid.reset(seed=seed)
            drawn = f"{grid.mission}\n{grid.pprint_grid()}"
            if (Random(drawn).random() < TEST_SHARE) == (split == "test"):
                return Task(f"babyai/{level}/{seed}", {"level": level, "seed": seed}, level)
        raise ValueError(f"'{level}' has too few different grids: no {split} task in {ATTEMPTS} draws")


def _made(level: str) -> Any:
    return _gymnasium().make(level).unwrapped


def _gymnasium() -> Any:
    try:
        import gymnasium
        import minigrid

        minigrid.register_minigrid_envs()
    except ImportError as error:
        raise ImportError("MiniGrid is not installed: sojourn envs install games/minigrid") from error
    return gymnasium
