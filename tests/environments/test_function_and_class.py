"""A plain function and a plain class as worlds."""

import asyncio
from typing import Any

import numpy as np
import pytest

from sojourn.core import Action, Environment, Failure, FailureKind, Task, ToolCall, Transition
from sojourn.environments import TaskList, World, check_environment, from_class, from_function


class Vault:
    """Open the vault."""

    def __init__(self, code: int):
        self.code, self.open, self.closed = code, False, False

    def turn(self, number: int) -> str:
        """Try a number."""
        self.open = number == self.code
        return "open" if self.open else "shut"

    @property
    def done(self) -> bool:
        return self.open

    def reward(self) -> float:
        return float(self.open)


def turn(number: int) -> Action:
    return Action("", (ToolCall("turn", {"number": number}),))


def play(world: World, *actions: Action, index: int = 0) -> tuple[Environment, list[Transition]]:
    async def run() -> tuple[Environment, list[Transition]]:
        environment = world.make()
        await environment.reset(world.tasks.task("train", "default", index), seed=5)
        transitions = [await environment.step(action) for action in actions]
        await environment.close()
        return environment, transitions

    return asyncio.run(run())


def prompt(world: World) -> str:
    return asyncio.run(world.make().reset(world.tasks.task("train", "default", 0), seed=5)).messages[0].text


def test_a_function_is_asked_once_with_prompt_and_completion() -> None:
    seen = []
    world = from_function(lambda prompt, completion: seen.append((prompt, completion)) or 0.25, ["p", "q"])
    _, [transition] = play(world, Action("thinking <answer>a</answer>", answer="a"), index=1)
    assert seen == [("q", "a")] and transition.reward == 0.25 and transition.terminated


def test_without_an_answer_field_the_whole_text_is_the_completion() -> None:
    _, [transition] = play(from_function(lambda _, completion: float(completion == "all of it"), ["p"]), Action(" all of it\n"))
    assert transition.reward == 1.0


def test_what_was_thought_is_not_the_completion() -> None:
    """A policy that uses no answer field, and one that never stops thinking."""
    seen = []
    world = from_function(lambda prompt, completion: seen.append(completion) or 0.0, ["p"])
    for text in ("<think>4?</think> 5", "<think>4", "4</think>5"):
        play(world, Action(text))
    assert seen == ["5", "", "5"]


def test_a_reward_function_may_be_async_and_name_its_terms() -> None:
    async def reward(prompt: str, completion: str) -> dict[str, float]:
        return {"right": 1.0, "length": -0.5}

    _, [transition] = play(from_function(reward, ["p"]), Action("a"))
    assert transition.reward == {"right": 1.0, "length": -0.5}


def test_a_malformed_action_is_reported_beside_its_reward() -> None:
    fault = Failure(FailureKind.MODEL, "action", "bad")
    _, [transition] = play(from_function(lambda p, c: 0.0, ["p"]), Action("<", fault=fault))
    assert transition.failures == (fault,)


def test_a_prompt_in_both_splits_is_refused() -> None:
    with pytest.raises(ValueError, match="test/0.*train/1"):
        from_function(lambda p, c: 0.0, ["a", "b"], test=["b"])


def test_a_finite_source_wraps_around_and_names_what_is_missing() -> None:
    source = TaskList([Task("a", {"x": 1}, "easy"), Task("b", {"x": 2}, "hard"), Task("c", {"x": 3}, "easy")])
    assert [source.task("train", "easy", i).id for i in range(3)] == ["a", "c", "a"]
    assert source.levels == ("easy", "hard")
    with pytest.raises(ValueError, match="no test task of level 'easy'"):
        source.task("test", "easy", 0)


def test_dealing_looks_at_no_task_but_the_one_it_deals() -> None:
    looked_at: list[str] = []

    class Watched(Task):
        def __getattribute__(self, name: str) -> Any:
            looked_at.append(name)
            return super().__getattribute__(name)

    source = TaskList([Watched(str(i), {"n": i}, f"level {i % 2}") for i in range(100)], [Watched("t", {"n": 100}, "level 1")])
    looked_at.clear()
    assert source.task("train", "level 1", 7) is source.task("train", "level 1", 57)
    assert [source.count("train", "level 1"), source.count("test", "level 1"), source.count("test", "level 0")] == [50, 1, 0]
    assert looked_at == []


def test_large_boards_are_compared_to_the_last_cell() -> None:
    """The text of a large array leaves out its middle."""
    board, other = np.zeros((100, 100)), np.zeros((100, 100))
    other[50, 50] = 1
    source = TaskList([Task("a", {"board": board})], [Task("b", {"board": other})])
    assert source.count("test", "default") == 1
    with pytest.raises(ValueError, match="test task 'b' is also training task 'a'"):
        TaskList([Task("a", {"board": board})], [Task("b", {"board": board.copy()})])


def test_public_methods_of_a_class_are_its_tools_and_the_docstring_its_prompt() -> None:
    world = from_class(Vault, [{"code": 7}])
    environment, _ = play(world)
    assert [spec.name for spec in environment.tools] == ["turn"]
    assert prompt(world) == "Open the vault."


def test_an_episode_of_a_class_ends_when_it_is_done_and_pays_then() -> None:
    _, [first, last] = play(from_class(Vault, [{"code": 7}]), turn(3), turn(7))
    assert (first.observation.messages[0].text, first.reward, first.terminated) == ("shut", 0.0, False)
    assert (last.observation.messages[0].text, last.reward, last.terminated) == ("open", 1.0, True)


def test_an_episode_of_a_class_ends_with_an_answer() -> None:
    _, [transition] = play(from_class(Vault, [{"code": 7}]), Action("I give up."))
    assert transition.terminated and transition.reward == 0.0


def test_a_reward_method_may_take_the_answer_and_a_class_its_seed() -> None:
    class Echo:
        prompt = "Say the number."

        def __init__(self, seed: int):
            self.number = seed

        def reward(self, answer: str) -> dict[str, float]:
            return {"right": float(answer == str(self.number))}

    _, [transition] = play(from_class(Echo), Action("5"))
    assert transition.reward == {"right": 1.0} and prompt(from_class(Echo)) == "Say the number."


def test_a_class_gives_back_what_it_holds() -> None:
    class Holder:
        """Hold."""

        reward = 0.0
        closed = 0

        def close(self) -> None:
            Holder.closed += 1

    environment, _ = play(from_class(Holder))
    assert Holder.closed == 1 and not environment.tools


def test_a_class_without_reward_or_prompt_is_told_what_to_add() -> None:
    class Silent:
        reward = 0.0

    class Poor:
        """Do it."""

    with pytest.raises(ValueError, match="Silent has no prompt.*docstring"):
        play(from_class(Silent))
    with pytest.raises(ValueError, match="Poor has no reward"):
        play(from_class(Poor))


def test_both_pass_the_checker() -> None:
    assert check_environment(from_class(Vault, [{"code": 1}], test=[{"code": 2}]))
    assert check_environment(from_function(lambda p, c: 1.0, ["a"], test=["b"]))


def test_a_function_or_a_class_that_does_not_fit_is_refused_when_the_world_is_made() -> None:
    with pytest.raises(ValueError, match=r"expected a function of \(prompt, completion\)"):
        from_function(lambda completion: 1.0, ["a"])  # type: ignore[arg-type, misc]
    with pytest.raises(ValueError, match="'exact' as reward: give a function"):
        from_function("exact", ["a"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="prompts='abc': give a list of texts"):
        from_function(lambda p, c: 1.0, "abc")
    with pytest.raises(ValueError, match=r"test=\[1\]"):
        from_function(lambda p, c: 1.0, ["a"], test=[1])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"train task 1 gives \{'cod': 2\}, but Vault takes \(code: int\)"):
        from_class(Vault, [{"code": 1}, {"cod": 2}])
    with pytest.raises(ValueError, match="give a list with the keyword arguments"):
        from_class(Vault, {"code": 1})  # type: ignore[arg-type]


def test_a_function_of_any_signature_that_takes_two_fits() -> None:
    class Judge:
        def __call__(self, *texts: str, strict: bool = False) -> float:
            return 1.0

    assert from_function(Judge(), ["a"])
    assert from_function(max, ["a"])  # type: ignore[arg-type]


def test_a_class_is_paid_for_what_stands_when_its_episode_is_cut() -> None:
    class Basket:
        """Pick apples."""

        picked = 0

        def pick(self) -> str:
            """Pick one."""
            self.picked += 1
            return "picked"

        def reward(self) -> float:
            return self.picked / 10

    async def cut_after_three() -> Transition:
        world = from_class(Basket)
        environment = world.make()
        await environment.reset(world.tasks.task("train", "default", 0), seed=0)
        for _ in range(3):
            await environment.step(Action("", (ToolCall("pick", {}),)))
        return await environment.truncate()

    transition = asyncio.run(cut_after_three())
    assert (transition.reward, transition.truncated, transition.terminated) == (0.3, True, False)
