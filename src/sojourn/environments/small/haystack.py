"""A fact among distractors, in a text that comes in parts and may be of any length.

The one idea: the question is known from the start, the text comes part by part, and whatever the policy says takes it to the next
part; only what it says after the last part is judged.  So a policy with a short window has to carry what matters in a memory of its
own (MemAgent, Yu et al., arXiv 2507.02259), and a policy with a long window may simply go on.  All distractors have the form of the
fact, so that nothing but the name tells them apart (the needles of RULER, arXiv 2404.06654).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from random import Random
from typing import Any

from sojourn.core import Action, Observation, Task, Transition
from sojourn.environments.math.tool_arithmetic import read_integer
from sojourn.environments.small.common import DrawnTasks, SmallWorld, made_up, say
from sojourn.environments.tools import answer_text


class Haystack(SmallWorld[int]):
    """The state is the number of parts that were read.

    Reward: `correct`, 1 or 0, paid for the last action, which must hold one number.  The episode ends there.
    `task.data`: `seed` (of the text), `parts`, `facts`, `hops`, `question`, `answer`, `limit`.
    """

    def start(self, task: Task) -> int:
        data = task.data
        self._parts = text(data["seed"], data["parts"], data["facts"], data["hops"])["parts"]
        return 0

    def prompt(self) -> str:
        return f"Read all parts, then answer: {self.task.data['question']} Say anything to go on.\n{self._part(0)}"

    async def answer(self, action: Action) -> Transition:
        self.state += 1
        if self.state < len(self._parts):
            return Transition(Observation.of(self._part(self.state)))
        if self.state == len(self._parts):
            return Transition(Observation.of(f"The end. {self.task.data['question']}"))
        correct = read_integer(answer_text(action)) == int(self.task.data["answer"])
        return Transition(reward={"correct": float(correct)}, terminated=True, info={"success": correct})

    def oracle(self) -> Action:
        return say(self.task.data["answer"] if self.state == len(self._parts) else "next")

    def _part(self, number: int) -> str:
        return f"Part {number + 1} of {len(self._parts)}: {self._parts[number]}"

    @staticmethod
    def tasks(*, parts: tuple[int, ...] = (1, 2, 4, 8, 16), facts: int = 10, hops: int = 1) -> DrawnTasks:
        """Levels are the number of parts.

        parts: the levels; any numbers.  facts: sentences of a part.  hops: 1 asks for the code of a name, 2 for that of a name's friend.
        """
        if hops not in (1, 2) or facts < hops:
            raise ValueError(f"haystack asks over 1 or 2 hops, with as many facts in a part or more: not {hops} over {facts}")
        return DrawnTasks("haystack", tuple(map(str, parts)), partial(draw, facts=facts, hops=hops), content)


def draw(rng: Random, level: str, *, facts: int, hops: int) -> dict[str, Any]:
    seed, parts = rng.randrange(10**9), int(level)
    made = text(seed, parts, facts, hops)
    asked = {"question": made["question"], "answer": made["answer"], "limit": parts + 2}
    return {"seed": seed, "parts": parts, "facts": facts, "hops": hops, **asked}


def content(data: Mapping[str, Any]) -> object:
    return data["question"], data["answer"]


def text(seed: int, parts: int, facts: int, hops: int) -> dict[str, Any]:
    """The text in parts, a question and its answer, all from the seed.  Of two hops, every second sentence names a friend."""
    rng = Random(f"haystack {seed}")
    count = parts * facts
    names = made_up(rng, count, syllables=2 if count <= 1000 else 3)
    coded = names[: -(-count // hops)]
    codes = {name: str(rng.randrange(100, 1000)) for name in coded}
    friends = dict(zip(names[len(coded) :], rng.sample(coded, count - len(coded)), strict=True))
    sentences = [f"The code of {name} is {code}." for name, code in codes.items()]
    sentences += [f"The friend of {name} is {friend}." for name, friend in friends.items()]
    rng.shuffle(sentences)
    name = rng.choice(list(friends if hops == 2 else codes))
    asked, answer = (f"the friend of {name}", codes[friends[name]]) if hops == 2 else (name, codes[name])
    return {
        "parts": [" ".join(sentences[i * facts : (i + 1) * facts]) for i in range(parts)],
        "question": f"What is the code of {asked}?",
        "answer": answer,
    }
