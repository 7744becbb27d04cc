"""Train on a data set of your own: sojourn train sft|dpo|kto|awr|grpo --data FILE.

The one idea: the algorithm says what the rows are.  One that imitates learns from the answers that the file holds; any other samples
answers to its prompts and pays them with your reward functions.  The formats are TRL's; docs/data.md lists them.
"""

from __future__ import annotations

from dataclasses import dataclass

from sojourn.curriculum import Uniform
from sojourn.data import Data, load_function, prompt_world, protocol_of, read
from sojourn.objectives import imitates
from sojourn.objectives.presets import preset
from sojourn.training import Experiment, TrainConfig
from sojourn.training.stored import kinds_for


@dataclass(frozen=True, kw_only=True)
class Config(TrainConfig):
    """The numbers of a run on a data set."""

    run: str = "runs/data"
    """Run folder.  An existing one is resumed."""
    algorithm: str = "sft"
    """How the rows are learned from: a name that `sojourn explain` lists."""
    data: str = ""
    """The data set: JSONL, JSON, Parquet, a folder that `datasets` saved, or NAME or NAME:SPLIT of the Hugging Face hub."""
    reward: tuple[str, ...] = ()
    """Functions that pay sampled answers, FILE.py:function each, in TRL's signature; their sum is the reward."""
    eval_data: str = ""
    """Prompts of the evaluation, a data set like `data`; none for no evaluation."""
    eval_tasks: int = 0
    """Prompts of `eval_data` that are sampled before and after training; 0 for no evaluation."""
    max_turns: int = 1
    """A row is one answer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data and not self.learn_from and imitates(preset(self.algorithm).objective):
            object.__setattr__(self, "learn_from", self.data)


def experiment(config: Config) -> Experiment:
    """The parts: a world of the prompts, whether they are sampled or not."""
    if not config.data:
        raise ValueError("there is no data set: say which with --data FILE")
    if config.learn_from and config.reward:
        raise ValueError(
            f"algorithm '{config.algorithm}' learns from the answers of the data, so nothing pays a reward: drop --reward"
        )
    if not config.learn_from and not config.reward:
        raise ValueError(
            f"algorithm '{config.algorithm}' samples answers and needs to know what they are worth: --reward FILE.py:function"
        )
    chosen = preset(config.algorithm)
    data = read(config.data, kinds_for(chosen.objective, chosen.credit))
    world = prompt_world(data, tuple(map(load_function, config.reward)), _held_out(config))
    return Experiment(
        environment=world.make, tasks=world.tasks, protocol=protocol_of(data), curriculum=Uniform(world.tasks, seed=config.seed)
    )


def _held_out(config: Config) -> Data | None:
    if config.eval_tasks and not (config.eval_data and config.reward):
        raise ValueError(
            f"eval_tasks is {config.eval_tasks}: say which prompts with --eval-data, and who pays them with --reward"
        )
    return read(config.eval_data, ("prompt",)) if config.eval_data else None
