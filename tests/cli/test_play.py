"""`sojourn play`: the person sees what the model would, and what is typed is what the model would have said."""

import asyncio
import io
from collections.abc import Callable

import pytest
from pennies import Pennies
from rich.console import Console

from sojourn import models
from sojourn.cli.play import earned, play_seat, play_task, typed
from sojourn.core import Episode, Kind, StopReason, Task
from sojourn.environments import TaskList, ToolArithmetic, World, find


def lines(*texts: str) -> Callable[[], str]:
    """What is typed; then Ctrl-D."""
    rest = iter(texts)

    def read() -> str:
        try:
            return next(rest)
        except StopIteration:
            raise EOFError from None

    return read


def played(*texts: str) -> tuple[Episode, str]:
    """The first question of level 1, and what was shown."""
    screen = io.StringIO()
    world = find("math/tool_arithmetic")
    task = world.tasks.task("train", "1", 0)
    console = Console(file=screen, width=10_000)
    episode = asyncio.run(play_task(world, task, models.tiny().tokenizer, "auto", 8, console, lines(*texts)))
    return episode, screen.getvalue()


def oracle_says() -> list[str]:
    """What the oracle would say on that question."""
    environment = ToolArithmetic()
    asyncio.run(environment.reset(ToolArithmetic.tasks().task("train", "1", 0), seed=0))
    said = []
    for _ in range(2):
        action = environment.oracle()
        said.append(action.text)
        asyncio.run(environment.step(action))
    return said


def test_a_person_who_says_what_the_oracle_says_solves_the_task() -> None:
    episode, _ = played(*oracle_says())
    assert episode.stop is StopReason.TERMINATED
    assert episode.success


def test_all_that_the_model_reads_is_shown_and_only_once() -> None:
    episode, shown = played(*oracle_says())
    tree, tokenizer = episode.tree, models.tiny().tokenizer
    read = [tree[span].tokens for span in tree.path(episode.actions[-1]) if tree[span].kind is Kind.OBSERVATION]
    assert shown == "".join(tokenizer.decode(tokens.tolist()) for tokens in read)


def test_what_is_typed_becomes_the_tokens_of_the_action() -> None:
    episode, _ = played("<answer>1</answer>")
    said = episode.tree[episode.actions[0]].tokens.tolist()
    assert bytes(said).decode() == "<answer>1</answer>"


def test_leaving_is_no_error(sojourn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lines())
    code, out, _ = sojourn("play", "math/tool_arithmetic", "--model", "none-such")
    assert code == 0
    assert "left" in out


@pytest.mark.parametrize(
    ("text", "stop", "action"),
    [
        (("<a>1</a>", "more"), ("</a>",), "<a>1</a>"),
        (("<a>1", "2</a>", "more"), ("</a>",), "<a>1\n2</a>"),
        (("no tag", "", "more"), ("</a>",), "no tag"),
        (("one line", "more"), (), "one line"),
    ],
)
def test_an_action_ends_with_its_stop_text_or_an_empty_line(text: tuple[str, ...], stop: tuple[str, ...], action: str) -> None:
    assert typed(lines(*text), stop) == action


def test_a_person_takes_one_seat_and_the_model_the_others() -> None:
    """Matching pennies, two rounds: the person is `odd`, reads what `odd` may read, and what it earns is what the model loses."""
    screen = io.StringIO()
    world = World(Pennies, TaskList([Task("0", {"number": 0})]))
    console = Console(file=screen, width=10_000)
    task = world.tasks.task("train", "default", 0)
    episode = asyncio.run(play_seat(world, task, models.tiny(), "odd", 8, console, lines("l", "r")))
    spoken = [(episode.tree[span].agent, episode.tree[span].policy) for span in episode.actions]
    assert sorted(spoken) == [("even", "actor")] * 2 + [("odd", "person")] * 2
    assert [m.text for s in episode.actions if (n := episode.tree[s]).agent == "odd" and (m := n.message)] == ["l", "r"]
    assert "You are odd. Choose l or r." in screen.getvalue() and "You are even" not in screen.getvalue()
    assert earned(episode, "odd") == -earned(episode, "even")


def test_a_seat_that_is_not_there_is_named() -> None:
    world = World(Pennies, TaskList([Task("0", {"number": 0})]))
    with pytest.raises(ValueError, match="no seat 'third': choose one of even, odd"):
        asyncio.run(play_seat(world, Task("0"), models.tiny(), "third", 8, Console(file=io.StringIO()), lines()))
