"""A small mutation tester: change one thing in a source file, and see whether its tests notice.

    python tests/mutation/mutants.py src/sojourn/credit/gae.py [...]        (no file: all of credit and objectives, without the presets)
    python tests/mutation/mutants.py --again OUTPUT                         (only what survived in an earlier run, by its output)

Each mutant flips a sign or a comparison, swaps an operator, changes a number, negates a condition, drops a `detach`, or takes a sum
for a mean.  A mutant runs in a fork of this process, which has loaded torch and pytest once, so that it costs only its tests.
Prints the survivors and the share that was caught.
"""

from __future__ import annotations

import ast
import copy
import importlib.abc
import importlib.util
import json
import os
import signal
import sys
import time
import types
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("credit", "objectives")
TESTS = {
    "baselines passk tree": "credit/test_baselines.py credit/test_formula.py",
    "group": "credit/test_group.py credit/test_formula.py",
    "columns reading": "credit/test_columns.py credit/test_recursion_and_steps.py",
    "gae vtrace": "credit/test_values.py credit/test_formula.py",
    "recursion steps": "credit/test_recursion_and_steps.py credit/test_values.py credit/test_formula.py",
    "compose dense turns transforms": "credit/test_survey.py credit/test_turns_and_composition.py credit/test_formula.py",
    "formula": "credit/test_formula.py",
    "needs": "credit/test_needs.py",
    "ranges": "credit/test_options.py",
    "filters pairs replay shaping": "credit/test_survey.py credit/test_shaping_filters_pairs.py",
    "ratio smooth trust_region weighted": "objectives/test_trust_regions.py objectives/test_far_from_the_start.py",
    "aggregation batch_rules correction inputs kl policy_gradient": "objectives/test_policy_gradient.py objectives/test_preference.py",
    "kto preference perception preference_mixes": "objectives/test_survey.py objectives/test_preference.py objectives/test_far_from_the_start.py",
    "controllers critic supervised": "objectives/test_supervised_and_critic.py",
}
"""Which tests guard which files."""
SECONDS = 60

OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.Pow: ast.Mult,
}  # fmt: skip
COMPARISONS = {
    ast.Lt: [ast.LtE, ast.Gt], ast.LtE: [ast.Lt], ast.Gt: [ast.GtE, ast.Lt], ast.GtE: [ast.Gt], ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq], ast.Is: [ast.IsNot], ast.IsNot: [ast.Is],
}  # fmt: skip
NAMES = {"minimum": "maximum", "maximum": "minimum", "min": "max", "max": "min", "mean": "sum", "sum": "mean", "log1p": "log"}
DROPPED = ("detach", "exp", "log", "abs")


def mutants(tree: ast.Module) -> Iterator[tuple[int, str, ast.Module]]:
    """Every mutant of a module: line, what changed, and the changed module."""
    sites = list(_sites(tree, inside=False))
    for path in sites:
        for what, change in _changes(_node(tree, path)):
            mutant = copy.deepcopy(tree)
            target = _node(mutant, path)
            replacement = change(target)
            if replacement is not None:
                _replace(mutant, path, replacement)
            yield getattr(target, "lineno", 0), what, ast.fix_missing_locations(mutant)


def _sites(node: ast.AST, inside: bool, path: tuple = ()) -> Iterator[tuple]:
    """Paths of nodes that may change: no annotations, docstrings, error messages or imports."""
    if isinstance(node, ast.Raise | ast.Import | ast.ImportFrom | ast.Assert | ast.JoinedStr):
        return
    if isinstance(node, ast.FunctionDef) and any(
        getattr(d, "attr", getattr(d, "id", "")) == "overload" for d in node.decorator_list
    ):
        return
    yield path
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "bases", "keywords") and not isinstance(node, ast.Call):
            continue
        if isinstance(value, ast.AST):
            yield from _sites(value, inside, (*path, name))
        elif isinstance(value, list):
            for k, item in enumerate(value):
                if isinstance(item, ast.AST):
                    yield from _sites(item, inside, (*path, (name, k)))


def _node(tree: ast.AST, path: tuple) -> ast.AST:
    for step in path:
        tree = getattr(tree, step[0])[step[1]] if isinstance(step, tuple) else getattr(tree, step)
    return tree


def _replace(tree: ast.AST, path: tuple, new: ast.AST) -> None:
    parent, step = _node(tree, path[:-1]), path[-1]
    if isinstance(step, tuple):
        getattr(parent, step[0])[step[1]] = new
    else:
        setattr(parent, step, new)


def _changes(node: ast.AST) -> Iterator[tuple[str, object]]:
    def attribute(name: str, value: object) -> object:
        return lambda target: setattr(target, name, value)

    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        yield f"{type(node.op).__name__} -> {OPERATORS[type(node.op)].__name__}", attribute("op", OPERATORS[type(node.op)]())
    if isinstance(node, ast.AugAssign) and type(node.op) in OPERATORS:
        yield f"{type(node.op).__name__}= -> {OPERATORS[type(node.op)].__name__}=", attribute("op", OPERATORS[type(node.op)]())
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        for other in COMPARISONS.get(type(node.ops[0]), []):
            yield f"{type(node.ops[0]).__name__} -> {other.__name__}", attribute("ops", [other()])
    if isinstance(node, ast.UnaryOp):
        yield f"drop {type(node.op).__name__}", lambda target: target.operand
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield f"{node.value} -> {not node.value}", attribute("value", not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield f"{node.value} -> {node.value + 1}", attribute("value", node.value + 1)
    if isinstance(node, ast.BoolOp):
        yield "and <-> or", attribute("op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
    if isinstance(node, ast.If | ast.IfExp):
        yield "negate condition", lambda target: setattr(target, "test", ast.UnaryOp(ast.Not(), target.test))
    if isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield f"{node.attr} -> {NAMES[node.attr]}", attribute("attr", NAMES[node.attr])
    if isinstance(node, ast.Name) and node.id in ("min", "max"):
        yield f"{node.id} -> {NAMES[node.id]}", attribute("id", NAMES[node.id])
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.args and node.func.attr in DROPPED:
        yield f"drop .{node.func.attr}()", lambda target: target.func.value


class _Patched(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Serves one module from a changed tree."""

    def __init__(self, module: str, path: Path, tree: ast.Module) -> None:
        self.module, self.path, self.tree = module, path, tree

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self, origin=str(self.path)) if name == self.module else None

    def exec_module(self, module: object) -> None:
        module.__file__ = str(self.path)
        exec(compile(self.tree, str(self.path), "exec"), module.__dict__)


def install(module_name: str, path: Path, tree: ast.Module) -> None:
    """Put a mutant in place of the live module: by swapping the code of its functions, or, where something outside of a function
    changed, by importing everything anew."""
    live, fresh = importlib.import_module(module_name), types.ModuleType(module_name)
    exec(compile(tree, str(path), "exec"), fresh.__dict__)
    original = ast.parse(path.read_text())
    if ast.dump(_without_bodies(original)) == ast.dump(_without_bodies(tree)):
        for name, function in _functions(fresh, module_name).items():
            _functions(live, module_name)[name].__code__ = function.__code__
        return
    for name in [name for name in sys.modules if name.split(".")[0] == "sojourn"]:
        del sys.modules[name]
    sys.meta_path.insert(0, _Patched(module_name, path, tree))


def _without_bodies(tree: ast.Module) -> ast.Module:
    tree = copy.deepcopy(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.body = []
    return tree


def _functions(module: types.ModuleType, home: str) -> dict[str, types.FunctionType]:
    """The functions and methods written in a module, by name."""
    found: dict[str, types.FunctionType] = {}
    for name, value in vars(module).items():
        owners = vars(value).items() if isinstance(value, type) and value.__module__ == home else [("", value)]
        for member, item in owners:
            item = item.fget if isinstance(item, property) else getattr(item, "__func__", item)
            if isinstance(item, types.FunctionType) and item.__code__.co_filename.endswith(".py") and item.__module__ == home:
                found[f"{name}.{member}"] = item
    return found


def caught(path: Path, tree: ast.Module) -> bool:
    """Run the file's tests on the mutant, in a fork."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        signal.alarm(SECONDS)
        module = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
        try:
            install(module, path, tree)
        except Exception:
            os._exit(1)
        import pytest

        arguments = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore", "-o", "addopts=", "--import-mode=importlib"]
        tests = next(tests for modules, tests in TESTS.items() if path.stem in modules.split())
        chosen = [*tests.split(), f"{path.parent.name}/test_defaults.py"]
        os._exit(int(pytest.main([*arguments, *(f"tests/{test}" for test in chosen)])))
    return os.waitpid(child, 0)[1] != 0


def main(arguments: list[str]) -> None:
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT / "src"))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import hypothesis
    import pytest
    import torch

    torch.set_num_threads(1)
    hypothesis.settings.register_profile("mutants", max_examples=10, database=None, deadline=None)
    hypothesis.settings.load_profile("mutants")
    import sojourn.conformance
    import sojourn.objectives.presets

    assert pytest and sojourn.conformance and sojourn.objectives.presets
    earlier = Path(arguments[1]).read_text().splitlines() if arguments[:1] == ["--again"] else []
    again = {line.removeprefix("survived ") for line in earlier if line.startswith("survived ")}
    if again:
        arguments = sorted({each.split(":")[0] for each in again})
    files = [Path(a).resolve() for a in arguments if a.endswith(".py")]
    files = files or [p for room in ROOMS for p in sorted((ROOT / "src/sojourn" / room).glob("*.py")) if p.name != "__init__.py"]
    if unguarded := [path.name for path in files if not any(path.stem in modules.split() for modules in TESTS)]:
        raise SystemExit(f"TESTS names no tests for {', '.join(unguarded)}")
    total, alive, start = 0, [], time.monotonic()
    for path in files:
        here = 0
        if caught(path, ast.parse(path.read_text())):
            raise SystemExit(f"{path.relative_to(ROOT)}: its tests fail without any change")
        for line, what, tree in mutants(ast.parse(path.read_text())):
            mutant = f"{path.relative_to(ROOT)}:{line}: {what}"
            if again and mutant not in again:
                continue
            total, here = total + 1, here + 1
            if not caught(path, tree):
                alive.append(mutant)
                print("survived", mutant, flush=True)
        print(f"{path.relative_to(ROOT)}: {here} mutants, {time.monotonic() - start:.0f} s", flush=True)
    print(json.dumps({"mutants": total, "survived": len(alive), "caught": round(1 - len(alive) / max(total, 1), 4)}))


if __name__ == "__main__":
    main(sys.argv[1:])
