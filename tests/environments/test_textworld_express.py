"""TextWorldExpress plays in its own venv, or here; it is skipped where neither has it."""

import pytest

from sojourn.environments import check_environment, find
from sojourn.environments.listing import TEXTWORLD_EXPRESS
from sojourn.environments.text.textworld_express import GAMES, SEEDS, GameTasks, from_textworld_express

needs_it = pytest.mark.skipif(
    TEXTWORLD_EXPRESS.state == "no" or bool(TEXTWORLD_EXPRESS.missing()), reason=f"needs Java, and {TEXTWORLD_EXPRESS.command}"
)


@needs_it
@pytest.mark.parametrize("game", GAMES)
def test_every_game_passes_the_check_and_its_gold_path_wins(game: str) -> None:
    world = find(f"text/textworld_express/{game}")
    lines = check_environment(world, count=1)
    world.make.pool.close()
    assert "abilities: LegalActions, Oracle, Restorable, StateKey" in lines
    assert "solved: 2 of 2 by the oracle" in lines


def test_no_training_seed_is_a_test_seed_and_the_dev_seeds_are_in_neither() -> None:
    tasks = GameTasks("coin")
    seeds = {split: {tasks.task(split, "default", index).data["seed"] for index in range(SEEDS)} for split in ("train", "test")}
    assert seeds == {"train": set(range(1000)), "test": set(range(20000, 21000))}
    assert tasks.task("train", "default", SEEDS) == tasks.task("train", "default", 0)


def test_an_unknown_game_is_told_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="no game 'chess': choose one of cookingworld"):
        from_textworld_express("chess")
