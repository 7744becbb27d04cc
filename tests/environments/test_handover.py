"""What a user's world returns wrongly is refused by the check and by a session, in the same words."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from sojourn.agents import choose, demonstrate
from sojourn.core import (
    Action,
    Environment,
    Episode,
    JointTransition,
    Message,
    Observation,
    Task,
    ToolSpec,
    TrajectoryTree,
    Transition,
    handover,
    user,
)
from sojourn.environments import World, check_environment
from sojourn.policy import Limits, Session


class Tasks:
    levels = ("default",)

    def task(self, split: str, level: str, index: int) -> Task:
        return Task(f"{split}/{index}", {"n": 2 * index + (split == "test")}, level)


def world(
    *, reset: object = Observation.of("go on"), step: object = Transition(terminated=True), methods: Any = ()
) -> Environment:
    """A world that returns these."""

    class Mine(Environment):
        async def reset(self, task: Task, *, seed: int) -> Any:
            return reset

        async def step(self, action: Action) -> Any:
            return step

    for name, method in dict(methods).items():
        setattr(Mine, name, method)
    return Mine()


RESETS = {
    "a str, 'go on'; expected an Observation (return Observation.of(that))": {"reset": "go on"},
    "a list, [{'role': 'user', 'content': 'hi'}]; expected an Observation": {"reset": [{"role": "user", "content": "hi"}]},
    "None; expected an Observation": {"reset": None},
    "expected a message at least": {"reset": Observation()},
    "a dict, {'role': 'user'}; expected a Message as message 0": {"reset": Observation.of([{"role": "user"}])},  # type: ignore[list-item]
    "a str, 'go on'; expected a tuple of Message": {"reset": Observation("go on")},  # type: ignore[arg-type]
    "a str, 'human'; expected one of system, user, assistant, tool": {"reset": Observation.of(Message("human"))},  # type: ignore[arg-type]
    "a str, 'hi'; expected Text or Image as parts": {"reset": Observation.of(Message("user", "hi"))},  # type: ignore[arg-type]
}
STEPS = {
    "not what Gymnasium's step returns": {"step": ("seen", 1.0, True, False, {})},
    "None; expected a Transition": {"step": None},
    "a str, 'seen'; expected an Observation as `observation`": {"step": Transition("seen", 1.0, True)},  # type: ignore[arg-type]
    "True or False as `terminated`": {"step": Transition(terminated=None)},  # type: ignore[arg-type]
    "a tuple of Failure as `failures`": {"step": Transition(terminated=True, failures="bad")},  # type: ignore[arg-type]
    "a dict as `info`": {"step": Transition(terminated=True, info=None)},  # type: ignore[arg-type]
}


def made(wrong: dict[str, Any]) -> Callable[[], Environment]:
    return lambda: world(**wrong)


@pytest.mark.parametrize(("expected", "wrong"), [*RESETS.items(), *STEPS.items()], ids=lambda each: str(each)[:30])
def test_the_check_names_method_what_came_and_what_is_expected(expected: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as caught:
        check_environment(World(made(wrong), Tasks()))
    assert expected in str(caught.value)
    assert ("Mine.reset " if expected in RESETS else "Mine.step ") in str(caught.value)


@pytest.mark.parametrize(("expected", "wrong"), RESETS.items(), ids=lambda each: str(each)[:30])
def test_a_session_refuses_what_the_check_refuses_of_reset(expected: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as caught:
        asyncio.run(FirstContext(made(wrong)()).reset())
    assert expected in str(caught.value)


@pytest.mark.parametrize(("expected", "wrong"), STEPS.items(), ids=lambda each: str(each)[:30])
def test_a_session_refuses_what_the_check_refuses_of_step(expected: str, wrong: dict[str, Any]) -> None:
    playing = FirstContext(made(wrong)())
    with pytest.raises(ValueError) as caught:
        asyncio.run(playing.step(playing.open(), Action("x")))
    assert expected in str(caught.value)


def test_a_world_that_never_waits_needs_no_async() -> None:
    methods = {
        "reset": lambda self, task, seed: Observation.of(task.id),
        "step": lambda self, action: Transition(terminated=True),
    }
    assert check_environment(World(lambda: world(methods=methods), Tasks()))
    assert asyncio.run(FirstContext(world(methods=methods)).reset()) == Observation.of("t")


@pytest.mark.parametrize("found", [[], "left", None, ["left", ""], [1]], ids=repr)
def test_legal_actions_are_texts(found: object) -> None:
    with pytest.raises(ValueError, match=r"Mine\.legal_actions returned"):
        check_environment(World(lambda: world(methods={"legal_actions": lambda self: found}), Tasks()))
    with pytest.raises(ValueError, match=r"Mine\.legal_actions returned"):
        asyncio.run(choose(FirstContext(world(methods={"legal_actions": lambda self: found}))))


@pytest.mark.parametrize(
    ("tools", "said"),
    [
        (None, "None; expected a tuple of ToolSpec"),
        (("calc",), "a str, 'calc'; expected a ToolSpec"),
        ((ToolSpec("a", ""), ToolSpec("a", "")), "names that differ"),
    ],
    ids=repr,
)
def test_tools_are_definitions(tools: object, said: str) -> None:
    wrong = {"methods": {"tools": tools}}
    with pytest.raises(ValueError, match=f"Mine.tools gave .*{said}"):
        check_environment(World(made(wrong), Tasks()))
    policies: Any = {"actor": SimpleNamespace(renderer=None)}
    playing = Session(Episode("e", Task("t"), TrajectoryTree()), made(wrong)(), policies, seed=0, limits=Limits())
    with pytest.raises(ValueError, match=f"Mine.tools gave .*{said}"):
        playing.open([user("q")])


def test_an_oracle_gives_actions() -> None:
    with pytest.raises(ValueError, match=r"Mine\.oracle returned a str, 'x'; expected an Action"):
        check_environment(World(lambda: world(methods={"oracle": lambda self: "x"}), Tasks()))
    with pytest.raises(ValueError, match=r"Mine\.oracle returned a str"):
        asyncio.run(demonstrate(FirstContext(world(methods={"oracle": lambda self: "x"}))))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (Transition(), "expected a JointTransition"),
        (JointTransition(rewards=1.0), "a dict as `rewards` of its JointTransition"),  # type: ignore[arg-type]
        (JointTransition({"a": "seen"}), "expected an Observation for agent 'a'"),  # type: ignore[dict-item]
        (JointTransition({"a": Observation.of([{}])}), "expected a Message as message 0"),  # type: ignore[list-item]
        (JointTransition(terminated=1), "True or False as `terminated` of its JointTransition"),  # type: ignore[arg-type]
    ],
)
def test_a_world_with_several_agents_gives_joint_transitions(found: object, expected: str) -> None:
    with pytest.raises(ValueError) as caught:
        handover.joint(found, world())
    assert "Mine.step returned a " in str(caught.value)
    assert expected in str(caught.value)
    with pytest.raises(ValueError, match=r"Mine\.reset returned a str, 'go'; expected a mapping from agents to observations"):
        handover.observations("go", world())


def test_a_source_gives_tasks() -> None:
    class Texts(Tasks):
        def task(self, split: str, level: str, index: int) -> Any:
            return "a question"

    class One(Tasks):
        levels = "easy"  # type: ignore[assignment]

    with pytest.raises(ValueError, match=r"Texts\.task returned a str, 'a question'; expected a Task"):
        check_environment(World(world, Texts()))
    with pytest.raises(ValueError, match="the levels are 'easy'"):
        check_environment(World(world, One()))


@pytest.mark.parametrize("start", ["text", [], Observation(), [{"role": "user"}]], ids=repr)
def test_a_context_opens_on_messages(start: Any) -> None:
    playing = Session(Episode("e", Task("t"), TrajectoryTree()), world(), {}, seed=0, limits=Limits())
    with pytest.raises(ValueError, match=r"Session\.open got a .*; expected a "):
        playing.open(start)


class FirstContext(Session):
    """A stub of a session that opens nothing: programs are asked what they do before they act."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(Episode("e", Task("t"), TrajectoryTree()), environment, {}, seed=0, limits=Limits())

    def open(self, *_: Any, **__: Any) -> Any:
        return None
