"""Each kind of episode is shown as what it is."""

from __future__ import annotations

from typing import Any

import numpy as np
from viewed import ATTACK, Maker, agents_row, contexts_row, hostile_row, search_row

from sojourn.core import StopReason
from sojourn.viewer.episode import shared, shown, why


def texts(context: dict[str, Any]) -> list[tuple[str, list[str]]]:
    return [(segment["label"], [block["text"] for block in segment["blocks"]]) for segment in context["segments"]]


def test_a_tree_has_its_branches_returns_and_values() -> None:
    e = shown(search_row())
    told = [(r["text"], r["depth"], r["reward"], r["best"], r["branches"], r["value"]) for r in e["outline"]]
    assert told == [
        ("left", 0, 1.0, 1.0, 1, None), ("right", 0, 2.0, 4.0, 2, 2.5), ("stay", 1, 0.0, 2.0, 1, None), ("jump", 1, 2.0, 4.0, 1, None),
    ]  # fmt: skip
    (agent,) = e["agents"]
    assert texts(agent["contexts"][0]) == [
        ("1", ["Climb."]), ("1.1", ["left"]), ("1.2", ["right"]), ("1.2.1", ["stay"]), ("1.2.2", ["jump"]),
    ]  # fmt: skip
    assert e["info"] == {"search": {"nodes": 5, "depth": 2}}


def test_a_rewritten_context_says_what_it_was_rewritten_from() -> None:
    (agent,) = shown(contexts_row())["agents"]
    first, second = agent["contexts"]
    assert first["source"] is None
    assert (second["source"]["context"], second["source"]["action"]) == (1, 1)
    assert second["source"]["anchor"] == first["segments"][0]["blocks"][1]["anchor"]


def test_agents_stand_apart_with_what_each_sees() -> None:
    e = shown(agents_row())
    assert [(a["name"], texts(a["contexts"][0])[0][1]) for a in e["agents"]] == [
        ("north", ["You hold a king.", "bet"]), ("south", ["You hold a queen.", "call"]),
    ]  # fmt: skip


def test_a_conversation_has_no_outline_and_says_its_calls() -> None:
    e = shown(hostile_row(), tokens=False)
    action = e["agents"][0]["contexts"][0]["segments"][0]["blocks"][1]
    assert e["outline"] == [] and action["tokens"] is None and action["calls"] == [(ATTACK, {"x": ATTACK})]


def test_tokens_say_id_probability_advantage_and_mask() -> None:
    (agent,) = shown(contexts_row())["agents"]
    tokens = agent["contexts"][0]["segments"][0]["blocks"][1]["tokens"]
    assert "".join(token["text"] for token in tokens) == "I note: seven."
    assert tokens[0]["tip"] == "id 73, logp -0.500, advantage +0.500, loss"  # "I" is byte 73


def test_a_group_shows_once_what_all_begin_with() -> None:
    maker = Maker("one", "t", "g")
    prompt = maker.see("Say it.")
    one, other = maker.say("yes", prompt), maker.say("no", prompt)
    rows = []
    for name, action in (("one", one), ("two", other)):
        maker.episode.id, maker.episode.actions = name, [action]
        row = maker.row()
        rows.append(row | {"spans": [s for s in row["spans"] if s["id"] in (prompt, action)]})
    assert [span["text"] for span in shared(rows)] == ["Say it."]
    left = shown(rows[1], without=frozenset({prompt}))
    assert [block["text"] for s in left["agents"][0]["contexts"][0]["segments"] for block in s["blocks"]] == ["no"]


def test_why_a_text_was_trained_or_not() -> None:
    maker = Maker("e")
    maker.say("go", maker.see("Go."))
    row = maker.row(given=-0.5)
    seen, said = row["spans"]
    assert why(seen, row) == "read, not said: no loss"
    assert why(said, row).startswith("advantage -0.5: made less likely")
    assert "evaluation" in why(said, row | {"phase": "eval-before-sampled"})
    assert "no valid result" in why(said, row | {"valid": False})
    assert "no role that learned" in why(said | {"advantages": None}, row)
    assert "no policy gradient" in why(said | {"advantages": np.zeros(2).tolist()}, row)


def test_an_answer_that_was_cut_says_so() -> None:
    maker = Maker("e")
    maker.say("and so on and", maker.see("Go."), stop="length", temperature=0.5, truncated=True)
    maker.episode.stop = StopReason.TOKEN_LIMIT
    action = shown(maker.row())["agents"][0]["contexts"][0]["segments"][0]["blocks"][1]
    assert action["sampling"] == "cut at max_tokens, temperature 0.5, unlikely tokens barred"
