"""Mutants of a module's source, and a pytest plugin that tries its tests on each of them.

mutmut and cosmic-ray do this for whole projects: they start pytest for each mutant, one or two seconds for each, and
keep a database. Here the tests are collected once, so that hundreds of mutants take seconds and are part of the suite.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

COMPARISONS: dict[type[ast.cmpop], list[type[ast.cmpop]]] = {
    ast.Lt: [ast.LtE, ast.Gt],
    ast.LtE: [ast.Lt, ast.GtE],
    ast.Gt: [ast.GtE, ast.Lt],
    ast.GtE: [ast.Gt, ast.LtE],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is],
    ast.In: [ast.NotIn],
    ast.NotIn: [ast.In],
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
}
SWAPS = {
    "candidate": "champion",
    "ours": "theirs",
    "own": "other",
    "low": "high",
    "single_ms": "batch_ms",
    "maximum_single_ms": "maximum_batch_ms",
    "max": "min",
    "warnings": "drift",
    "comparison": "cold_start",
}
SWAPS |= {right: left for left, right in SWAPS.items()}
Change = tuple[str, str, Any]


@dataclass(frozen=True)
class Mutant:
    """A source with one change.

    Attributes:
        line: of the source, from 1.
        text: of that line.
        what: the change in words.
        tree: of the source; `code` changes it for a moment.
        node, field, value: where in the tree the change is, and to what.
    """

    line: int
    text: str
    what: str
    tree: ast.Module
    node: ast.AST
    field: str
    value: Any

    @property
    def name(self) -> str:
        """What it is called, whatever moves around it."""
        return f"{self.text}  # {self.what}"

    def code(self, file: str) -> CodeType:
        """Compile it."""
        before = getattr(self.node, self.field)
        setattr(self.node, self.field, self.value)
        try:
            return compile(ast.fix_missing_locations(self.tree), file, "exec")
        finally:
            setattr(self.node, self.field, before)


def mutants(source: str) -> list[Mutant]:
    """Return every mutant of a source; its annotations, assertions and prose are left alone."""
    tree = ast.parse(source)
    lines = source.splitlines()
    return [
        Mutant(line := getattr(node, "lineno", 1), lines[line - 1].strip(), what, tree, node, field, value)
        for node in _walk(tree)
        for what, field, value in _changes(node)
    ]


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes whose change could change what a program does, in the order of the source."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "bases"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.JoinedStr | ast.Assert | ast.Import | ast.ImportFrom | ast.TypeAlias):
                continue  # what people read is for the tests of the sentences; assertions and aliases are for mypy
            if isinstance(child, ast.AST):
                yield child
                yield from _walk(child)


def _changes(node: ast.AST) -> list[Change]:
    """Return what can be changed about a node: the change in words, the field, and its new value."""
    found: list[Change] = []

    def offer(what: str, field: str, value: Any) -> None:
        found.append((what, field, value))

    if isinstance(node, ast.Compare):
        for index, operator in enumerate(node.ops):
            for other in COMPARISONS[type(operator)]:
                operators = [*node.ops[:index], other(), *node.ops[index + 1 :]]
                offer(f"{ast.unparse(node)}: {type(operator).__name__} to {other.__name__}", "ops", operators)
    if isinstance(node, ast.BoolOp):
        other_one = ast.Or if isinstance(node.op, ast.And) else ast.And
        offer(f"{type(node.op).__name__} to {other_one.__name__}", "op", other_one())
        for index in range(len(node.values)):
            offer(f"without operand {index}", "values", [*node.values[:index], *node.values[index + 1 :]])
    if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        arithmetic = ARITHMETIC[type(node.op)]
        offer(f"{type(node.op).__name__} to {arithmetic.__name__}", "op", arithmetic())
    if isinstance(node, ast.If | ast.IfExp):
        offer("condition negated", "test", ast.UnaryOp(ast.Not(), node.test))
    if isinstance(node, ast.comprehension) and node.ifs:
        offer("without its condition", "ifs", [])
    if isinstance(node, ast.UnaryOp):
        if isinstance(node.op, ast.Not):
            offer("Not dropped", "operand", ast.UnaryOp(ast.Not(), node.operand))  # twice is not at all
        elif isinstance(node.op, ast.USub):
            offer("minus to plus", "op", ast.UAdd())
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            offer(f"{node.value} to {not node.value}", "value", not node.value)
        elif isinstance(node.value, int | float):
            offer(f"{node.value} plus 1", "value", node.value + 1)
    if isinstance(node, ast.List) and isinstance(node.ctx, ast.Load):
        for index in range(len(node.elts)):
            offer(f"without element {index}", "elts", [*node.elts[:index], *node.elts[index + 1 :]])
    if isinstance(node, ast.Attribute) and node.attr in SWAPS:
        offer(f"{node.attr} to {SWAPS[node.attr]}", "attr", SWAPS[node.attr])
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in SWAPS:
        offer(f"{node.id} to {SWAPS[node.id]}", "id", SWAPS[node.id])
    return found


# --- The plugin -----------------------------------------------------------------------------------

REQUEST = "MUTANTS_REQUEST"


class Plugin:
    """Runs the collected tests as they are, then on one mutant after the other, until one of them fails."""

    def pytest_runtestloop(self, session: Any) -> bool:
        """Take the place of pytest's own loop; the answer is a JSON file: name and survival of each mutant."""
        request = json.loads(os.environ[REQUEST])
        module = importlib.import_module(request["module"])
        source = Path(module.__file__ or "").read_text(encoding="utf-8")
        answer: dict[str, Any] = {"tests": len(session.items), "passed": _passes(session), "survived": []}
        original = dict(module.__dict__)
        chosen = [mutant for mutant in mutants(source) if request["containing"] in mutant.text]
        share = chosen[request["first"] :: request["step"]]
        for mutant in share if answer["passed"] else []:
            try:
                exec(mutant.code(module.__file__ or ""), module.__dict__)
                if _passes(session):
                    answer["survived"].append([mutant.line, mutant.name])
            except Exception:  # a module that cannot be imported is noticed by everyone
                pass
            finally:
                module.__dict__.clear()
                module.__dict__.update(original)
        answer["tried"] = len(share)
        Path(request["answer"]).write_text(json.dumps(answer), encoding="utf-8")
        return True


def _passes(session: Any) -> bool:
    """Run the tests up to the first one that fails."""
    from _pytest.runner import runtestprotocol

    for position, item in enumerate(session.items):
        after = session.items[position + 1] if position + 1 < len(session.items) else None
        if any(report.failed for report in runtestprotocol(item, log=False, nextitem=after)):
            session._setupstate.teardown_exact(None)
            return False
    return True


def pytest_configure(config: Any) -> None:
    """Register the plugin in the processes that are asked to mutate, nowhere else."""
    if REQUEST in os.environ:
        config.pluginmanager.register(Plugin())
