"""The learner's update: a tree batch against padded rows of the same episodes, and against TRL's loss on them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from sojourn.bench.measure import Result, Side, alternate
from sojourn.bench.ours import Shape, own_precision, smollm2
from sojourn.bench.peers import has_trl, trl_loop
from sojourn.core import ROOT, Episode, EpisodeGroup, Kind, Span, Task, TrajectoryTree
from sojourn.credit import columns, dr_grpo
from sojourn.learner import Learner, OptimizerConfig
from sojourn.learner.optimizer import AdamW
from sojourn.objectives import PolicyGradient


def update(result: Result, quick: bool) -> None:
    """An optimizer step of the same policy-gradient loss.  `ideal` is how many more tokens the padded rows hold than the tree."""
    for share in (0.0, 0.5, 0.9):
        group = episodes(share, 8, 256 if quick else 768)
        table = columns([group])
        advantage_T = dr_grpo()(table)
        still = OptimizerConfig(learning_rate=0.0)
        learner, plain = Learner(smollm2().model, still), smollm2().model
        unique = len(learner.cut([group], table, np.ones(len(table.row_T), bool))[0].batch)

        sides: dict[str, Side] = {
            "sojourn": partial(learner.update, [group], table, advantage_T, PolicyGradient()),
            "padded": partial(padded_step, plain, AdamW(plain, still), group, advantage_T),
        }
        trl = _trl(group, advantage_T[table.start_S[:-1]].tolist(), result)
        taken = alternate(sides | trl, 2)
        width = max(len(group.tree.tokens(episode.actions[0])) for episode in group.episodes)
        ideal, gain = width * len(group.episodes) / unique, taken["padded"].median / taken["sojourn"].median
        seconds = {f"{name} (s)": each for name, each in taken.items()}
        result.ratios[f"update_vs_padded_share{share:g}"] = gain
        for name in trl:
            result.ratios[f"update_vs_trl_share{share:g}"] = taken[name].median / taken["sojourn"].median
        result.add(
            {"shared": share, "unique tokens": unique} | seconds | {"gain": gain, "ideal": ideal, "of ideal": gain / ideal}
        )
    result.ratios["update_of_ideal"] = min(row["of ideal"] for row in result.rows)


def _trl(group: EpisodeGroup, advantages: Sequence[float], result: Result) -> dict[str, Side]:
    """TRL's loss step on the same tokens, or the reason why there is none."""
    if not has_trl(result):
        return {}
    spans = [group.tree[episode.actions[0]] for episode in group.episodes]
    prompt, completions = group.tree.tokens(spans[0].parent), [span.tokens for span in spans]
    dtype = own_precision()
    loop = trl_loop(Shape(group=len(spans), turns=1), dtype)
    return {f"trl {dtype}": partial(loop.learn, prompt, completions, advantages)}


def episodes(share: float, size: int, length: int) -> EpisodeGroup:
    """One group of random tokens: a prompt of `share` of the longest episode, answers of half to all of the rest."""
    draw, tree = np.random.default_rng(0), TrajectoryTree()
    group = EpisodeGroup("g", Task("g"), tree)
    shared = max(1, int(share * length))
    root = tree.add(Span(ROOT, draw.integers(100, 40_000, shared), Kind.OBSERVATION))
    for number in range(size):
        own = (length - shared) * (size + number + 1) // (2 * size)
        span = Span(root, draw.integers(100, 40_000, own), Kind.ACTION, logprobs=np.zeros(own, np.float32), policy="actor")
        group.episodes.append(Episode(f"g/{number}", group.task, tree, [tree.add(span)], reward={"r": float(number % 3)}))
    return group


def padded_step(model: PreTrainedModel, optimizer: AdamW, group: EpisodeGroup, advantage_T: NDArray[np.float64]) -> None:
    """The gradient of `padded_rows`, and the step that it is for."""
    padded_rows(model, group, advantage_T)
    optimizer.step()


def padded_rows(model: PreTrainedModel, group: EpisodeGroup, advantage_T: NDArray[np.float64]) -> None:
    """Gradients the usual way: a row for each episode, padded on the right; the head on action places only."""
    paths = [group.tree.tokens(episode.actions[0]) for episode in group.episodes]
    ids = torch.zeros(len(paths), max(map(len, paths)), dtype=torch.long)
    mask, acted = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    for row, (path, episode) in enumerate(zip(paths, group.episodes, strict=True)):
        ids[row, : len(path)] = torch.from_numpy(path)
        mask[row, : len(path)] = 1
        acted[row, len(path) - len(group.tree[episode.actions[0]].tokens) : len(path)] = True
    hidden = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state[:, :-1][acted[:, 1:]]
    logp = model.get_output_embeddings()(hidden).log_softmax(-1).gather(1, ids[acted][:, None])[:, 0]
    ratio = (logp - logp.detach()).exp()
    (-(ratio * torch.from_numpy(advantage_T).float()).mean()).backward()
