"""Search-R1 in small: SmolLM2-135M learns to search Wikipedia summaries and to answer, from exact match alone.

One solved question stands in the prompt, since a model of this size does not call a tool unshown.  Cloze questions need one document,
two-hop questions two.  After Jin et al., arXiv 2503.09516, whose setting is GRPO on NQ and HotpotQA over all of Wikipedia; credit here is
per action, against the group's other actions in the same state (GiGPO's step part, arXiv 2505.10978, eq. 7): set `algorithm` for
others.  Needs `sojourn[envs-search]`, or a retriever and questions of your own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sojourn.core import Range
from sojourn.credit.steps import StepRelative
from sojourn.curriculum import Uniform
from sojourn.environments.search import (
    Bm25,
    Http,
    Retriever,
    Search,
    questions,
    read_corpus,
    read_questions,
    search_world,
    wikipedia,
)
from sojourn.objectives import Reference
from sojourn.rendering.protocols import XmlTags
from sojourn.training import Experiment, TrainConfig

WORLD = "questions on Wikipedia summaries"
SCALES = {
    # GRPO as published, with eight H100 in mind.  Its data are not ours to ship: give `corpus` (Wikipedia of 2018), `questions` (NQ and
    # HotpotQA) and `retriever_url` (E5).
    "paper": {
        "model": "Qwen/Qwen2.5-7B",
        "dtype": "bfloat16",
        "algorithm": "grpo",
        "steps": 1005,
        "groups": 512,
        "group_size": 5,
        "minibatches": 2,
        "max_turns": 5,
        "max_tokens": 500,
        "max_context": 4096,
        "levels": (),
        "shown": 3,
        "words": 500,
        "optimizer.learning_rate": 1e-6,
    }
}


@dataclass(frozen=True, kw_only=True)
class Config(TrainConfig):
    """The numbers of the small scale: minutes on two cores."""

    run: str = "runs/search_r1"
    """Run folder.  An existing one is resumed."""
    steps: int = 12
    """Optimizer steps."""
    max_turns: int = 3
    """A search for each hop, and the answer."""
    max_tokens: int = 40
    """Of one action: a query or an answer in its tag."""
    max_context: int = 768
    """The example, the question, and what is found."""
    levels: tuple[str, ...] = ("cloze",)
    """Of the corpus's questions: cloze, two_hop.  Empty for all."""
    shown: Annotated[int, Range(1)] = 2
    """Passages that a search gives.  Raise it for recall, at the cost of context."""
    words: Annotated[int, Range(5)] = 40
    """Words of a passage at most."""
    found: Annotated[float, Range(0)] = 0.0
    """What finding all needed documents pays, beside 1 for the answer.  Above 0 it can be farmed without answering."""
    corpus: str = ""
    """A JSONL file of your own documents, in place of the Wikipedia summaries."""
    questions: str = ""
    """A JSONL file of your own questions, with `queries` where one is to be shown solved; `levels` are then theirs."""
    retriever_url: str = ""
    """A running server of Search-R1's protocol, such as http://127.0.0.1:8000/retrieve, in place of BM25."""


def experiment(config: Config) -> Experiment:
    """The parts.  Raises ImportError, with the command, if the corpus is not installed."""
    documents = read_corpus(config.corpus) if config.corpus else wikipedia()
    tasks = read_questions(config.questions) if config.questions else questions(documents)
    retriever: Retriever = Http(config.retriever_url) if config.retriever_url else Bm25(documents)
    protocol = XmlTags(tools=Search(retriever).tools)
    can_show = all(task.data["queries"] for task in tasks.examples.values())
    world = search_world(
        documents,
        retriever=retriever,
        tasks=tasks,
        example=protocol if can_show else None,
        shown=config.shown,
        words=config.words,
        found=config.found,
    )
    return Experiment(
        environment=world.make,
        tasks=tasks,
        protocol=protocol,
        curriculum=Uniform(tasks, config.levels, seed=config.seed) if config.levels else Uniform(tasks, seed=config.seed),
        credit=StepRelative(bucket="state"),
        reference=Reference(kind="none"),
    )
