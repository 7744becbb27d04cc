"""TRL's side of the benchmarks: `trl.GRPOTrainer` 1.16, with the settings that serve it best on a CPU.

The one idea: all that is measured is TRL's own code, told by settings what to do; the only thing replaced is, in `TrlLoop`, what reads
tool calls out of an action.  No gradient checkpointing; float32 unless told otherwise; no vLLM (it wants another environment); no
continuous batching (without a GPU's kernels every token attends, under a mask, to the caches of all episodes).

What TRL does, to be kept in mind with every figure: each turn is a fresh `generate` over the whole left-padded context, so that what
came before is prefilled again for every episode at every turn, and a group's prompt once for each member; a turn lasts until its
longest action is done; no log-probabilities of sampling come back (the loss takes its own); and the loss pads all to the longest.
"""

from __future__ import annotations

import asyncio
import copy
import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from datasets import Dataset  # type: ignore[import-not-found, import-untyped, unused-ignore]
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from trl import GRPOConfig, GRPOTrainer  # type: ignore[import-not-found, import-untyped, unused-ignore]
from trl.chat_template_utils import qwen2_5_chat_template  # type: ignore[import-not-found, import-untyped, unused-ignore]

from sojourn.bench.ours import TEXT
from sojourn.core import Action, Ints, Task, ToolCall, named, total
from sojourn.environments.math import tool_arithmetic
from sojourn.environments.math.tool_arithmetic import ToolArithmetic
from sojourn.rendering.protocols import JsonTags

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content }}"
    "{% if message.tool_calls %}{{ message.tool_calls | tojson }}{% endif %}"
    "{{ '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""ChatML with as few tokens as TRL lets a tool loop have: the tools are not described, as nobody reads it."""

NO_TOKEN = -1
CALL = {"type": "function", "function": {"name": "look", "arguments": {}}}


@dataclass(frozen=True)
class Counts:
    """What a rollout or a step made."""

    sampled_tokens: int
    episodes: int


class TrlLoop:
    """Episodes of one shape: `prompts` tasks, each played `group` times, `turns` actions of exactly `action_tokens` sampled tokens.

    The script: no token ends an action, so that each is as long as TRL allows; every action is read as a call of a tool; and TRL's
    limit of tool calls ends the episode.  Rewards are random and always the same.

    model: freshly loaded, as TRL patches its forward pass.  In bfloat16 it trains without float32 masters.
    prompt_tokens, observation_tokens: of a rendered prompt and of what is put between two actions, turn markers included, to within a
        token or two.
    micro_batch: episodes that one backward pass takes; it must divide all.  Raising it costs memory.
    bf16: autocast of float32 weights, which TRL casts anew for every token it samples.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        prompts: int,
        group: int,
        turns: int,
        action_tokens: int,
        prompt_tokens: int,
        observation_tokens: int,
        micro_batch: int,
        learning_rate: float = 0.0,
        bf16: bool = False,
    ) -> None:
        episodes = prompts * group
        self._asked = Counts(episodes * turns * action_tokens, episodes)
        tokenizer = _scripted(tokenizer)
        said = [_prompt(tokenizer, prompt_tokens, number) for number in range(prompts)]
        rewards = [Random(number).random() for number in range(episodes)]
        observation = ""

        def look() -> str:
            """Look."""
            return observation

        self._trainer = GRPOTrainer(
            model,
            lambda completions, **columns: rewards,
            _config(
                episodes=episodes,
                group=group,
                micro_batch=micro_batch,
                bf16=bf16,
                learning_rate=learning_rate,
                max_completion_length=turns * (action_tokens + observation_tokens + 16),
                max_tool_calling_iterations=turns - 1,
                generation_kwargs={"max_new_tokens": action_tokens, "eos_token_id": NO_TOKEN},
            ),
            Dataset.from_list([{"prompt": each} for each in said]),
            processing_class=tokenizer,
            tools=[look],
        )
        self._trainer.eos_token_ids = [NO_TOKEN]  # what was sampled is not cut either
        observation = _fitted(observation_tokens, lambda text: self._suffix(text))
        self._batch = [{"prompt": each} for each in said for _ in range(group)]
        self._model, _ = self._trainer._prepare_for_training(1, None, None)
        self._trainer.current_gradient_accumulation_steps = episodes // micro_batch
        self._trainer._sync_tool_dicts = [{"look": look}] * episodes
        self._trainer._async_tool_dicts = [{}] * episodes
        self._model.train()

    def rollout(self) -> Counts:
        """TRL's generation with its tool loop, and nothing else."""
        tool_mask = self._trainer._generate([each["prompt"] for each in self._batch])[2]
        return self._counted(sum(map(sum, tool_mask)))

    def step(self) -> Counts:
        """A training step: rollout, rewards, loss, backward, optimizer.  The loop over micro-batches is `Trainer`'s, without what it
        does for logs, checkpoints and callbacks."""
        trainer = self._trainer
        for _ in range(trainer.args.gradient_accumulation_steps):
            trainer.training_step(self._model, self._batch, None)  # plays all episodes in the first, takes its share in each
        self._apply()
        return self._counted(int(trainer._buffered_inputs[0]["num_items_in_batch"]))

    def learn(self, prompt: Ints, completions: Sequence[Ints], advantages: Sequence[float]) -> None:
        """A training step on given tokens: loss, backward, optimizer, and nothing sampled.

        prompt: what all episodes begin with.  completions: what each acts, all at once in a micro-batch.
        """
        width = max(map(len, completions))
        ids, mask = torch.zeros(2, len(completions), width, dtype=torch.long)
        for row, each in enumerate(completions):
            ids[row, : len(each)], mask[row, : len(each)] = torch.from_numpy(each), 1
        first = torch.from_numpy(prompt).repeat(len(completions), 1)
        inputs = {"prompt_ids": first, "prompt_mask": torch.ones_like(first), "completion_ids": ids, "completion_mask": mask}
        inputs |= {"advantages": torch.tensor(advantages), "num_items_in_batch": mask.sum()}
        self._trainer.compute_loss(self._model, inputs).backward()
        self._apply()

    def _apply(self) -> None:
        self._trainer.accelerator.clip_grad_norm_(self._model.parameters(), self._trainer.args.max_grad_norm)
        self._trainer.optimizer.step()
        self._model.zero_grad()

    def _suffix(self, text: str) -> int:
        """Tokens that TRL puts between two actions when the tool says `text`."""
        return len(self._trainer._get_tool_suffix_ids([{"role": "tool", "name": "look", "content": text}]))

    def _counted(self, sampled: int) -> Counts:
        if sampled != self._asked.sampled_tokens:
            limit = self._trainer.model.config.max_position_embeddings
            raise ValueError(
                f"TRL sampled {sampled} tokens where {self._asked.sampled_tokens} were asked for: it ends an episode at the model's "
                f"{limit} positions, so make turns, actions or observations shorter"
            )
        return self._asked


def quickstart_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    seed: int,
    groups: int,
    group_size: int,
    micro_batch: int,
    max_steps: int,
    log: Callable[[dict[str, Any]], None],
    bf16: bool = False,
) -> GRPOTrainer:
    """A trainer for level 1 of `recipes/quickstart.py`; call its `train()`.

    After every optimizer step `log` gets `step`, `seconds` since the start and `success`, the share of the step's episodes that were
    solved.  Tasks, their order for a seed, turns, prices, learning rate, optimizer and clipping are the recipe's, and the world itself
    judges: what an episode said is played to it again.  What differs because TRL cannot do it, or has its own way:

    - TRL knows tool calls in the templates it knows, not our tags.  So actions are Qwen's JSON, `<tool_call>{"name": "calc", ...`, the
      system message describes it, and the prompt's one example is in that format.
    - A call takes 38 tokens, not 16, and only the end of a turn stops an action; so an action may have 64 tokens, not 36.
    - Credit is for the episode (GRPO's), not for the action.
    - A malformed call is an answer, and wrong; our world would say so and let the policy try again.
    """
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = qwen2_5_chat_template
    source, first = ToolArithmetic.tasks(), seed * 1_000_003  # where the curriculum begins too
    tasks = [source.task("train", "1", first + number) for number in range(groups * max_steps)]
    solved: list[bool] = []

    def reward(completions: Sequence[Sequence[dict[str, Any]]], number: Sequence[int], **columns: Any) -> list[float]:
        judged = [asyncio.run(_judge(tasks[n], said)) for n, said in zip(number, completions, strict=True)]
        solved[:] = [success for _, success in judged]
        return [paid for paid, _ in judged]

    return GRPOTrainer(
        model,
        reward,
        _config(
            episodes=groups * group_size,
            group=group_size,
            micro_batch=micro_batch,
            bf16=bf16,
            learning_rate=2e-5,
            seed=seed,
            max_steps=max_steps,
            max_completion_length=600,
            max_tool_calling_iterations=4,
            generation_kwargs={"max_new_tokens": 64},
        ),
        Dataset.from_list([{"prompt": asyncio.run(_question(task)), "number": n} for n, task in enumerate(tasks)]),
        processing_class=tokenizer,
        tools=[calc],
        callbacks=[_Report(log, solved)],
    )


def calc(expression: str) -> str:
    """Does the first operation.

    Args:
        expression: Whole numbers with +, - or * between them.
    """
    return str(tool_arithmetic.calc.function(expression))


class _Report(TrainerCallback):
    """Tells `log` of each optimizer step; `solved` holds what came of its episodes."""

    def __init__(self, log: Callable[[dict[str, Any]], None], solved: Sequence[bool]) -> None:
        self._log, self._solved = log, solved

    def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        seconds = time.perf_counter() - self._began
        self._log({"step": state.global_step, "seconds": seconds, "success": sum(self._solved) / len(self._solved)})


async def _question(task: Task) -> list[dict[str, str]]:
    """What the world shows first, with its example in the format that Qwen's template gives to calls."""
    observation = await ToolArithmetic(JsonTags()).reset(task, seed=0)
    messages = [{"role": message.role, "content": message.text} for message in observation.messages]
    return [{"role": "system", "content": "You are a helpful assistant."}, *messages]


async def _judge(task: Task, completion: Sequence[dict[str, Any]]) -> tuple[float, bool]:
    """What the world pays for an episode, and whether it was solved."""
    world, paid, success = ToolArithmetic(JsonTags()), 0.0, False
    await world.reset(task, seed=0)
    for message in completion:
        if message["role"] == "assistant":
            transition = await world.step(_action(message))
            paid += total(named(transition.reward))
            success = bool(transition.info["success"])
    return paid, success


def _action(message: dict[str, Any]) -> Action:
    """What TRL read in an action; arguments that are no JSON object are none."""
    functions = [call["function"] for call in message.get("tool_calls") or ()]
    calls = [(each["name"], each["arguments"]) for each in functions]
    return Action(message["content"], tuple(ToolCall(name, given if isinstance(given, dict) else {}) for name, given in calls))


def _config(*, episodes: int, group: int, micro_batch: int, bf16: bool, **settings: Any) -> GRPOConfig:
    """TRL's settings: those of our defaults (DAPO's clipping and aggregation, AdamW), and quiet."""
    if episodes % micro_batch:
        raise ValueError(f"micro_batch is {micro_batch}, which does not divide the {episodes} episodes of a step")
    return GRPOConfig(
        output_dir=tempfile.gettempdir(),  # nothing is written
        use_cpu=True,
        bf16=bf16,
        gradient_checkpointing=False,
        dataloader_pin_memory=False,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=episodes // micro_batch,
        num_generations=group,
        loss_type="dapo",
        epsilon=0.2,
        epsilon_high=0.28,
        beta=0.0,
        adam_beta1=0.9,
        adam_beta2=0.95,
        weight_decay=0.0,
        max_grad_norm=1.0,
        lr_scheduler_type="constant",
        shuffle_dataset=False,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **settings,
    )


def _scripted(tokenizer: PreTrainedTokenizerBase) -> Any:
    """A copy that reads every action as a call."""
    scripted: Any = copy.deepcopy(tokenizer)
    scripted.chat_template = TEMPLATE
    scripted.response_template = {}  # TRL asks only whether there is one
    scripted.parse_response = lambda ids, **how: {"role": "assistant", "content": "", "tool_calls": [CALL]}
    return scripted


def _prompt(tokenizer: PreTrainedTokenizerBase, tokens: int, number: int) -> list[dict[str, str]]:
    """A message that is `tokens` long when rendered, and differs from those of other numbers in its first word."""

    def message(text: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": f"{number}. {text}"}]

    def length(text: str) -> int:
        return len(tokenizer.apply_chat_template(message(text), add_generation_prompt=True, return_dict=False))

    return message(_fitted(tokens, length))


def _fitted(tokens: int, length: Callable[[str], int]) -> str:
    """Real text for which `length` is `tokens`; none if it is more for an empty one."""
    text = TEXT * (1 + tokens // 20)
    return text[: bisect_left(range(len(text)), tokens, key=lambda end: length(text[:end]))]
