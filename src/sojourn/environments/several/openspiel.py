"""Games of OpenSpiel with finitely many actions, sequential or simultaneous, each player an agent.

The one idea: OpenSpiel's information states are what a player may know, as texts, so the text that a player reads hides what must be hidden.
Chance is resolved by the task's seed.  The agents of a game are `a`, `b`, ...; from task to task they change places, so that each comes to
play first, while what an agent earns stays its own.
Source: Lanctot et al., arXiv 1908.09453; the package `open_spiel` (extra `envs-several`).

    kuhn_poker, task 0 (a plays first)     reset -> {a: "2 ..."}             acting() == ("a",)
                                           step({a: Pass}) -> sees {b: "1p ..."}
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any

import numpy as np

from sojourn.core import Action, Failure, FailureKind, JointTransition, MultiAgentEnvironment, Observation, Split, Task
from sojourn.environments.tools import answer_text
from sojourn.environments.world import World

Show = Callable[[Any, int], str]
"""What a player reads, of a state and the player's number."""
Say = Callable[[Any, int, int], str]
"""The text of an action, of a state, the player's number and the action's."""


def from_openspiel(name: str, *, show: Show | None = None, say: Say | None = None) -> World[MultiAgentEnvironment]:
    """The world of one game, named as in `pyspiel.load_game` ("kuhn_poker", "goofspiel(num_cards=4,imp_info=True)").

    show: what a player reads; without, the information state, or what the player observes where the game has no such text or hides
    nothing, and the legal actions.  say: an action's text, for example "b" for 1; without, OpenSpiel's.
    Raises ImportError, with the command that helps, if the package is missing, and ValueError for a game that is no such game.
    """
    game = load(name)
    kind = game.get_type()
    if kind.dynamics == kind.Dynamics.MEAN_FIELD:
        raise ValueError(
            f"OpenSpiel's '{name}' is a mean-field game: only games whose players take turns, or act at once, have agents"
        )
    if kind.chance_mode == kind.ChanceMode.SAMPLED_STOCHASTIC:
        raise ValueError(f"OpenSpiel's '{name}' draws its chances itself, so no seed repeats them: choose a game that lists them")
    agents = tuple(ascii_lowercase[: game.num_players()])
    make = lambda: OpenSpielEnvironment(game, agents, show or shown, say or said)  # noqa: E731
    return World(make, OpenSpielTasks(name, len(agents)))


def load(name: str) -> Any:
    """The game of that name.  Raises ImportError if OpenSpiel is missing, and ValueError if it has no such game."""
    try:
        import pyspiel
    except ImportError as error:
        raise ImportError("OpenSpiel is not installed: pip install 'sojourn[envs-several]'") from error
    short = name.partition("(")[0]
    if short not in (known := pyspiel.registered_names()):
        near = difflib.get_close_matches(short, known, n=1, cutoff=0.4)
        raise ValueError(f"OpenSpiel has no game '{short}'{f': did you mean {near[0]!r}?' if near else ''}")
    try:
        return pyspiel.load_game(name)
    except pyspiel.SpielError as error:
        raise ValueError(f"OpenSpiel cannot load '{name}': {error}") from None


def shown(state: Any, player: int) -> str:
    """What a player knows, and what it may do; at the end, what it knows."""
    kind = state.get_game().get_type()
    hides = kind.information != kind.Information.PERFECT_INFORMATION
    if kind.provides_information_state_string and (hides or not kind.provides_observation_string):
        known = state.information_state_string(player)
    elif kind.provides_observation_string:
        known = state.observation_string(player)
    else:
        raise ValueError(f"'{kind.short_name}' has no text of what a player knows: give `show`")
    if state.is_terminal():
        return str(known)
    return f"{known}\nYour actions: {', '.join(said(state, player, action) for action in state.legal_actions(player))}"


def said(state: Any, player: int, action: int) -> str:
    """OpenSpiel's text of an action."""
    return str(state.action_to_string(player, action)).strip(" ,")


class OpenSpielEnvironment(MultiAgentEnvironment):
    """One episode of a game; see `from_openspiel`.  An action that is not legal moves nothing: its agent is told, and acts again."""

    def __init__(self, game: Any, agents: Sequence[str], show: Show, say: Say) -> None:
        self.agents = agents
        self.zero_sum = game.get_type().utility == game.get_type().Utility.ZERO_SUM
        self.game, self.show, self.say = game, show, say

    async def reset(self, task: Task, *, seed: int) -> Mapping[str, Observation]:
        first = task.data["first"]
        self._places = (*self.agents[first:], *self.agents[:first])
        self._chance = np.random.default_rng(task.data["seed"])
        self.state = self.game.new_initial_state()
        self._chosen: dict[str, int] = {}
        self._resolve()
        return self._seen()

    def place(self, agent: str) -> int:
        """The player's number of an agent in this episode."""
        return self._places.index(agent)

    def acting(self) -> Sequence[str]:
        if self.state.is_simultaneous_node():
            moving = [player for player in range(len(self.agents)) if self.state.legal_actions(player)]
        else:
            moving = [self.state.current_player()] if not self.state.is_terminal() else []
        return tuple(self._places[player] for player in moving if self._places[player] not in self._chosen)

    def legal(self, agent: str) -> Sequence[str]:
        return tuple(self._texts(agent))

    async def step(self, actions: Mapping[str, Action]) -> JointTransition:
        faults = {}
        for agent in self.acting():
            texts, text = self._texts(agent), answer_text(actions[agent])
            if text in texts:
                self._chosen[agent] = texts[text]
            else:
                faults[agent] = text, tuple(texts)
        if faults:
            told = {agent: Observation.of(f"Say one of {', '.join(legal)}.") for agent, (_, legal) in faults.items()}
            wrong = [Failure(FailureKind.MODEL, "action", f"{agent}: no action '{text}'") for agent, (text, _) in faults.items()]
            return JointTransition(told, failures=tuple(wrong))
        return self._moved()

    def look(self, agent: str) -> str:
        """What an agent knows now."""
        return self.show(self.state, self.place(agent))

    def vary(self, agent: str, seed: int) -> bool:
        """Draw anew all that an agent cannot know, in place; False where the game cannot."""
        if not hasattr(self.state, "resample_from_infostate"):
            return False
        draw = np.random.default_rng(seed)
        try:
            self.state = self.state.resample_from_infostate(self.place(agent), draw.random)
        except RuntimeError:  # pyspiel.SpielError: not every game has it
            return False
        return True

    def _texts(self, agent: str) -> dict[str, int]:
        """An agent's legal actions by text.  Raises ValueError if two read alike."""
        player = self.place(agent)
        legal = self.state.legal_actions(player)
        texts = {self.say(self.state, player, action): action for action in legal}
        if len(texts) != len(legal):
            raise ValueError(f"two actions of {agent} have one text (of {', '.join(texts)}): give `say` that tells them apart")
        return texts

    def _moved(self) -> JointTransition:
        before = self.state.returns()
        if self.state.is_simultaneous_node():
            self.state.apply_actions([self._chosen.get(agent, 0) for agent in self._places])
        else:
            self.state.apply_action(next(iter(self._chosen.values())))
        self._chosen = {}
        self._resolve()
        returns = self.state.returns()
        rewards = {agent: after - earlier for agent, after, earlier in zip(self._places, returns, before, strict=True)}
        if not self.state.is_terminal():
            return JointTransition(self._seen(), rewards)
        won = {f"success/{agent}": total > 0 for agent, total in zip(self._places, returns, strict=True)}
        return JointTransition({}, rewards, terminated=True, info=won)

    def _seen(self) -> dict[str, Observation]:
        return {agent: Observation.of(self.look(agent)) for agent in self.acting()}

    def _resolve(self) -> None:
        while self.state.is_chance_node():
            actions, chances = zip(*self.state.chance_outcomes(), strict=True)
            self.state.apply_action(actions[int(self._chance.choice(len(actions), p=chances))])


@dataclass(frozen=True)
class OpenSpielTasks:
    """Seeds of chance, and who plays first, in turn.  Even seeds are for training, odd ones are held out."""

    name: str
    players: int
    levels: Sequence[str] = ("default",)

    def task(self, split: Split, level: str, index: int) -> Task:
        seed, first = 2 * (index // self.players) + (split == "test"), index % self.players
        return Task(f"{self.name}/{seed}/{first}", {"seed": seed, "first": first}, level)
