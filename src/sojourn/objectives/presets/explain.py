"""What a preset is, in words: its formulas, its parts, where its constants come from, and what each knob does.

Everything is read from the parts themselves: the advantage from the `formula` of the credit, a knob from the line under its field, the
formula of a part of the loss from the docstring that defines it, where each line `name  formula` stands for the class, or for the
choice, of that name.
"""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import fields, is_dataclass
from typing import Any

from sojourn.credit import LEGEND, formula
from sojourn.objectives import ratio
from sojourn.objectives.policy_gradient import PolicyGradient
from sojourn.objectives.presets.preset import Preset

FORMULA = "loss = sum_t w_t [ c_t f(r_t, A_t) + beta KL_t - eta H_t ]"


def explain(name: str, preset: Preset) -> str:
    """The page of one preset.

    name: as the preset is called in a configuration.
    """
    lines = [f"{name}: {preset.title}  [{preset.paper}]", ""]
    if preset.credit is not None:
        lines += [*formula(preset.credit).splitlines(), f"({LEGEND})", ""]
    if isinstance(preset.objective, PolicyGradient):
        lines += [FORMULA, ""]
    for label, part in _labelled(preset):
        lines += [label, *_describe(part, 1), ""]
    lines += [f"program   {preset.program}"] if preset.program else []
    lines += [f"constant  {constant}" for constant in preset.constants]
    lines += [f"note      {preset.note}"] if preset.note else []
    return "\n".join(lines).rstrip() + "\n"


def _labelled(preset: Preset) -> list[tuple[str, Any]]:
    named: list[tuple[str, Any]] = [("credit", preset.credit), ("objective", preset.objective)]
    named += [("filter", each) for each in preset.filters]
    named += [("KL target", preset.kl_target), ("entropy target", preset.entropy_target)]
    named += [("critic", preset.critic), ("reference", None if preset.reference.kind == "none" else preset.reference)]
    return [(label, part) for label, part in named if part is not None]


def _describe(part: Any, depth: int) -> list[str]:
    """A part, one line for each of its knobs, and the parts within it."""
    pad, kind = "  " * depth, part if inspect.isfunction(part) else type(part)
    formulas = glossary(kind)
    lines = [f"{pad}{kind.__name__}: {_first_paragraph(inspect.getdoc(kind) or '')}"]
    lines += [f"{pad}  {formulas[kind.__name__.lower()]}"] if kind.__name__.lower() in formulas else []
    if not is_dataclass(part):
        return lines
    words = field_words(type(part))
    for field in fields(part):
        value = getattr(part, field.name)
        inner = [
            item for item in (value if isinstance(value, tuple) else (value,)) if is_dataclass(item) or inspect.isfunction(item)
        ]
        shown = "" if inner else f" = {value!r}"
        lines.append(f"{pad}  {field.name}{shown}: {words.get(field.name, '')}")
        lines += [f"{pad}    {formulas[value]}"] if isinstance(value, str) and value in formulas else []
        for item in inner:
            lines += _describe(item, depth + 2)
    return lines


def glossary(kind: Any) -> dict[str, str]:
    """The lines `name  formula` of a part's docstring and of its module's, by name in lower case."""
    texts = [inspect.getdoc(ratio) or ""] if kind is PolicyGradient else []
    texts += [inspect.getdoc(inspect.getmodule(kind)) or "", inspect.getdoc(kind) or ""]
    found = (re.match(r" *(\w[\w-]*) {2,}(\S.*)", line) for text in texts for line in text.splitlines())
    return {match[1].lower(): f"{match[1]}:  {match[2]}" for match in found if match}


def _first_paragraph(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())


def field_words(kind: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, by field."""
    body = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(body, ast.ClassDef)
    words = {}
    for before, after in zip(body.body, body.body[1:], strict=False):
        field = before.target if isinstance(before, ast.AnnAssign) else None
        text = after.value if isinstance(after, ast.Expr) else None
        if isinstance(field, ast.Name) and isinstance(text, ast.Constant):
            words[field.id] = " ".join(str(text.value).split())
    return words


def parts_row(name: str, preset: Preset) -> list[str]:
    """One row of the table of algorithms: name, paper, advantage, ratio and trust region, KL, aggregation, the rest."""
    objective = preset.objective
    row = [name, preset.title, preset.paper, brief(preset.credit) if preset.credit else "-"]
    if isinstance(objective, PolicyGradient):
        row += [f"{objective.granularity} / {brief(objective.trust_region)}", brief(objective.kl) if objective.kl else "-"]
        row += [objective.aggregation.over]
        more = [*map(brief, objective.corrections), *([brief(objective.focus)] if objective.focus else [])]
        more += [f"entropy {objective.entropy:g}"] if objective.entropy else []
    else:
        row += [brief(objective), "-", "-"]
        more = []
    more += [*map(brief, preset.filters), *([brief(preset.critic)] if preset.critic else [])]
    more += [brief(each) for each in (preset.kl_target, preset.entropy_target) if each is not None]
    more += [] if preset.reference.kind == "none" else [f"reference {preset.reference.kind}"]
    return [*row, "; ".join(more) or "-"]


def brief(part: Any) -> str:
    """A part in one line: its name and the knobs that differ from their defaults."""
    if inspect.isfunction(part):
        return part.__name__
    if isinstance(part, tuple):
        return ", ".join(map(brief, part))
    if not is_dataclass(part):
        return f"{part:g}" if isinstance(part, float) else str(part)
    changed = [f"{field.name}={brief(value)}" for field in fields(part) if (value := getattr(part, field.name)) != field.default]
    return type(part).__name__ + (f"({', '.join(changed)})" if changed else "")
