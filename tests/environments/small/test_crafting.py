"""Crafting: recipes form tiers, nothing comes from nothing, tools last, the plan is shortest."""

import asyncio
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_worlds import oracle, play, play_out, random_legal, say, solved

from sojourn.environments.small.crafting import Crafting, Graph, Recipe, demand, graph

WORLDS = st.integers(0, 10**9)
LEVELS = st.sampled_from(["1", "2", "3", "4"])
INDICES = st.integers(0, 10**4)
TINY = Graph(
    (("wood", "sand"), ("plank", "glass"), ("door",)),
    {
        "plank": Recipe((("wood", 2),)),
        "saw": Recipe((("wood", 1), ("sand", 1))),
        "glass": Recipe((("sand", 3),)),
        "door": Recipe((("plank", 2), ("glass", 1)), "saw"),
    },
)


def needs_before(made: Graph, item: str) -> list[str]:
    needs, tool = made.recipes[item]
    return [need for need, _ in needs] + ([tool] if tool else [])


@given(WORLDS)
def test_a_world_has_sixty_items_and_every_item_of_a_tier_needs_one_of_the_tier_below(world: int) -> None:
    made = graph(world)
    tools = set(made.recipes) - {item for tier in made.tiers for item in tier}
    assert sum(map(len, made.tiers)) + len(tools) == 60 == len({*made.tiers[0], *made.recipes})
    for below, tier in zip(made.tiers, made.tiers[1:], strict=False):
        assert all(set(below) & set(needs_before(made, item)) for item in tier)


@given(WORLDS)
def test_no_recipe_needs_what_comes_later(world: int) -> None:
    made = graph(world)
    known = set(made.tiers[0])
    for item in made.recipes:
        assert set(needs_before(made, item)) <= known
        known.add(item)


def test_the_demand_of_a_door_by_hand() -> None:
    wanted = demand(TINY, "door", {})
    assert wanted == {"wood": 5, "sand": 4, "plank": 2, "saw": 1, "glass": 1, "door": 1}
    assert list(wanted)[-1] == "door"
    assert demand(TINY, "door", {"plank": 2, "saw": 1, "sand": 2}) == {"sand": 1, "glass": 1, "door": 1}


@given(LEVELS, INDICES)
def test_the_oracle_needs_one_command_for_each_item_and_nine_of_it(level: str, index: int) -> None:
    task = Crafting.tasks().task("train", level, index)
    transitions = play(Crafting(), task, oracle)
    assert solved(transitions) and len(transitions) == task.data["optimal"]
    assert not any(t.failures for t in transitions)


@given(LEVELS, INDICES)
def test_the_recipes_that_are_needed_are_shown_among_others(level: str, index: int) -> None:
    task = Crafting.tasks().task("test", level, index)
    made, open_items = graph(task.data["world"]), {task.data["goal"]}
    needed: set[str] = set()
    while open_items:
        needed |= open_items
        open_items = {need for item in open_items for need in needs_before(made, item) if need in made.recipes} - needed
    assert needed < set(task.data["shown"]) and len(task.data["shown"]) == 2 * len(needed) + 1


@given(WORLDS, st.integers(0, 100))
def test_nothing_comes_from_nothing(world: int, seed: int) -> None:
    """Along random legal actions, what a craft gains is what its recipe takes."""
    task = Crafting.tasks().task("train", "2", world % 1000)
    made, rng = graph(task.data["world"]), Random(seed)

    async def run() -> None:
        environment, have = Crafting(), Counter[str]()
        await environment.reset(task, seed=0)
        for _ in range(15):
            action = rng.choice(environment.legal_actions())
            transition = await environment.step(say(action))
            assert not transition.failures, action
            verb, *rest = action.split()
            if verb != "recipe":
                count, item = int(rest[0]), rest[1]
                used = {need: n * count for need, n in made.recipes[item].needs} if verb == "craft" else {}
                have.subtract(used)
                have[item] += count
                assert +have == dict(environment.state.items) and min(have.values()) >= 0
            if transition.terminated or transition.truncated:
                return

    asyncio.run(run())


def test_a_tool_must_be_there_and_is_not_used_up() -> None:
    source = Crafting.tasks()
    tasks = (source.task("train", "3", i) for i in range(100))
    task = next(t for t in tasks if graph(t.data["world"]).recipes[t.data["goal"]].tool)
    tool = graph(task.data["world"]).recipes[task.data["goal"]].tool
    seen: list[str] = []

    def clumsy(environment, observation):  # follows the oracle, but never makes the tool
        action = environment.oracle()
        seen.append(observation.messages[-1].text)
        return say(f"craft 1 {task.data['goal']}") if action.text == f"craft 1 {tool}" else action

    assert not solved(play(Crafting(), task, clumsy)) and f"1 {tool}" in seen[-1]
    assert f"1 {tool}" in play(Crafting(), task, oracle)[-1].observation.messages[0].text


@pytest.mark.parametrize(
    "text", ["craft 1 {goal}", "get 1 {goal}", "{goal}", "craft {goal} {goal}", "craft 0 {goal}", "recipe {goal}", "get 10 {raw}"]
)
def test_the_goal_cannot_be_had_without_its_parts(text: str) -> None:
    task = Crafting.tasks().task("train", "1", 0)
    raw = graph(task.data["world"]).tiers[0][0]
    (transition,) = play_out(Crafting(), task, say(text.format(goal=task.data["goal"], raw=raw)))
    assert not transition.info["success"] and transition.reward == 0.0


def test_another_item_than_the_goal_pays_nothing_but_is_counted() -> None:
    task = Crafting.tasks().task("train", "3", 1)
    *before, last = play(Crafting(), task, oracle)
    assert all(t.reward == 0 for t in before) and last.reward == {"goal": 1.0}
    crafted = [
        item for item in demand(graph(task.data["world"]), task.data["goal"], {}) if item in graph(task.data["world"]).recipes
    ]
    assert last.info["items"] == len(crafted)


def test_eight_tasks_of_all_levels_share_a_world_and_the_next_eight_have_another() -> None:
    source = Crafting.tasks()
    worlds = [{source.task("train", level, i).data["world"] for level in source.levels} for i in range(16)]
    assert all(len(of_index) == 1 for of_index in worlds)
    assert len(set().union(*worlds[:8])) == len(set().union(*worlds[8:])) == 1 and worlds[0] != worlds[8]


def test_with_a_book_recipes_are_shown_on_asking_alone() -> None:
    task = Crafting.tasks().task("train", "1", 0)
    goal = task.data["goal"]
    prompt = asyncio.run(Crafting(book=True).reset(task, seed=0)).messages[0].text
    assert " = " not in prompt
    (transition,) = play_out(Crafting(book=True), task, say(f"recipe {goal}"))
    assert transition.observation.messages[0].text.startswith(f"{goal} = ") and not transition.failures


def test_random_commands_come_to_an_end() -> None:
    task = Crafting.tasks().task("train", "2", 5)
    assert len(play(Crafting(), task, random_legal(Random(1)))) <= task.data["limit"]


def test_the_same_inventory_is_the_same_state_however_it_came_about() -> None:
    task = Crafting.tasks().task("train", "1", 0)
    first, second = graph(task.data["world"]).tiers[0][:2]

    async def key(*commands: str) -> object:
        environment = Crafting()
        await environment.reset(task, seed=0)
        for command in commands:
            await environment.step(say(command))
        return environment.state_key()

    same = asyncio.run(key(f"get 2 {first}", f"get 1 {second}"))
    assert same == asyncio.run(key(f"get 1 {second}", f"get 1 {first}", f"get 1 {first}"))
    assert same != asyncio.run(key(f"get 2 {first}"))
