"""A run folder as a finished training run leaves it, made by hand: two levels, 12 steps, tasks that change from failed to solved."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
from viewed import decode, encode

from sojourn.core import Episode, EpisodeGroup, Kind, Message, Span, StopReason, Task, TrajectoryTree, assistant, tool, user
from sojourn.store import RunFolder, to_row, write_episodes

LEVELS = ("one call", "two calls")
STEPS = 12


def play(group: EpisodeGroup, name: str, solved: bool, seed: int) -> Episode:
    """An episode of two turns if solved (a call, then the answer), else of one wrong turn."""
    episode = Episode(name, group.task, group.tree)
    noise = np.random.default_rng(seed)

    def observe(parent: int, text: str, message: Message | None, turn: int) -> int:
        span = Span(parent, np.array(encode(text)), Kind.OBSERVATION, turn=turn, message=message)
        return group.tree.observe(span)

    def act(parent: int, text: str, turn: int, reward: dict[str, float]) -> int:
        logprobs = -noise.exponential(0.3, len(text.encode())).astype(np.float32)
        tokens = np.array(encode(text))
        span = Span(
            parent, tokens, Kind.ACTION, logprobs=logprobs, policy="actor", turn=turn, reward=reward, message=assistant(text)
        )
        episode.actions.append(group.tree.add(span))
        return episode.actions[-1]

    a, b = group.task.data["a"], group.task.data["b"]
    rules = 'Use <tool_call>{"name": "calculate", ...}</tool_call> for arithmetic, then give the answer in <answer>...</answer>.'
    question = f"<|im_start|>system\n{rules}<|im_end|>\n<|im_start|>user\nA train carries {a} boxes of {b} nails. How many nails?<|im_end|>\n"
    at = observe(-1, question, user("A train carries ..."), 0)
    at = observe(at, "<|im_start|>assistant\n", None, 0)
    if solved:
        at = act(
            at, f'<tool_call>{{"name": "calculate", "arguments": {{"expression": "{a} * {b}"}}}}</tool_call>', 0, {"format": 0.1}
        )
        at = observe(at, f"<|im_end|>\n<|im_start|>tool\n{a * b}<|im_end|>\n", tool(str(a * b), "calculate"), 1)
        at = observe(at, "<|im_start|>assistant\n", None, 1)
        at = act(at, f"There are <answer>{a * b}</answer> nails.<|im_end|>", 1, {"correct": 1.0})
    else:
        at = act(at, f"The train carries {a} boxes, so there are <answer>{a + b}</answer> nails.<|im_end|>", 0, {"correct": 0.0})
    episode.leaves.append(at)
    episode.stop = StopReason.TERMINATED
    return episode


def new_group(key: str, level: str, seed: int) -> EpisodeGroup:
    rng = random.Random(seed)
    task = Task(f"{level}/{seed}", {"a": rng.randrange(100, 9999), "b": rng.randrange(10, 999)}, level)
    return EpisodeGroup(key, task, TrajectoryTree())


def chance(level: str, step: int) -> float:
    """How often the policy of a step solves a task of a level."""
    i = LEVELS.index(level)
    return 1 / (1 + math.exp(3 + 4 * i - step * (1.1 - 0.4 * i)))


def write_example_run(path: Path) -> RunFolder:
    rng = random.Random(7)
    run = RunFolder(path)
    run.write_config(
        {"recipe": "quickstart", "seed": 7, "model": {"name": "smollm2-135m"}, "learner": {"lr": 2e-5, "betas": [0.9, 0.95]}}
    )
    run.log_start(step=0, command="sojourn train quickstart --seed 7")
    for when, step in (("before", 0), ("after", STEPS)):
        rows = []
        for index, level in enumerate(LEVELS):
            solved = [rng.random() < chance(level, step) for _ in range(32)]
            if when == "before":
                solved[0] = False
            share = sum(solved) / 32
            for mode in ("sampled", "greedy"):
                run.log_eval({"eval": when, "step": step, "mode": mode, "level": level, "success": share, "tasks": 32})
            for i, won in enumerate(solved):
                group = new_group(f"test-{level}-{i}", level, 1000 * index + i)
                rows.append(to_row(play(group, f"{level}-{i}-0", won, i), group.key, decode, phase=f"eval-{when}", step=step))
        write_episodes(run.episodes_path(f"eval-{when}", step), rows)
    for step in range(1, STEPS + 1):
        weight = 1 / (1 + math.exp(step - 6))
        success = {level: min(max(chance(level, step) + rng.gauss(0, 0.04), 0), 1) for level in LEVELS}
        rows = []
        for g in range(4):
            level = LEVELS[0] if rng.random() < weight else LEVELS[1]
            group = new_group(f"{step}-{g}", level, 10000 + 10 * step + g)
            group.episodes = [play(group, f"{step}-{g}/{e}", rng.random() < success[level], 8 * g + e) for e in range(4)]
            returns = np.array([episode.total for episode in group.episodes])
            for episode, advantage in zip(group.episodes, returns - returns.mean(), strict=True):
                per_token = {i: np.full(len(group.tree[i].tokens), advantage, np.float32) for i in episode.actions}
                rows.append(to_row(episode, group.key, decode, per_token, phase="train", step=step))
        write_episodes(run.episodes_path("train", step), rows)
        run.log_step({
            "step": step, "reward": sum(success.values()) / 2, "success": sum(success.values()) / 2,
            **{f"success/{k}": v for k, v in success.items()},
            "share/one call": weight, "share/two calls": 1 - weight, "episodes": 64, "tool_calls": 0.3 + sum(success.values()),
            "action_tokens": 2400.0, "turns": 1.5, "length": 40 + 30 * success[LEVELS[0]], "entropy": 0.9 * math.exp(-step / 5),
            "kl": 0.002 * step, "cut_high": 0.01 + 0.002 * rng.random(), "cut_low": 0.004, "mismatch_k3": 1e-7, "grad_norm": 1.5 + rng.random(),
            "zero_signal": 0.6 * weight,
            "loss": rng.gauss(0, 0.02), "lr": 2e-5, "seconds/sample": 30 + rng.random() * 5, "seconds/train": 22 + rng.random() * 3,
            "seconds/eval": 12.0 if step % 4 == 0 else 0.0, "tokens_per_second": 300 + rng.random() * 20,
            "curriculum": {"level": LEVELS[weight < 0.5], **{f"success/{level}": round(success[level], 1) for level in LEVELS}},
        })  # fmt: skip
    run.write_summary({"seconds": 745.0, "seed": 7, "success_before": {}, "success_after": {}})
    run.close()
    return run
