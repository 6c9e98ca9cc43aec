"""No files import one another in a circle: each can be read, tested and moved without those that use it.

An import counts wherever it stands: in a function, or under TYPE_CHECKING.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TREES = ("benchmarks", "cloud", "containers", "dags", "local", "tests")


def _imported_names(code: str, package: list[str]) -> Iterator[list[str]]:
    """Yield for each import what it can mean, the likeliest first: a module of a package, or something in a module."""
    nodes: list[ast.AST] = [ast.parse(code)]
    for node in nodes:
        nodes += (child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr))
        if isinstance(node, ast.Import):
            yield from ([alias.name] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from ([f"{module}.{alias.name}", module] for alias in node.names)


def import_graph(root: Path, trees: Iterable[str]) -> dict[str, set[str]]:
    """Return which files each file imports."""
    files = {path.relative_to(root).as_posix() for tree in trees for path in (root / tree).rglob("*.py")}
    shared = ["", *(path.relative_to(root).as_posix() for path in (root / "dags", *root.glob("containers/*/src")))]
    graph = {}
    for file in files:
        folders = [parent.as_posix() for parent in Path(file).parents]  # tests find their helpers there
        names = _imported_names((root / file).read_text(encoding="utf-8"), list(Path(file).parent.parts))
        candidates = (
            [f"{base}/{name.replace('.', '/')}".removeprefix("/") for name in meanings for base in (*shared, *folders)]
            for meanings in names
        )
        found = (
            next((path for stem in stems for path in (f"{stem}.py", f"{stem}/__init__.py") if path in files), file)
            for stems in candidates
        )
        graph[file] = set(found) - {file}
    return graph


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return the files of one circle, from the first to the first again; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def test_no_circle_of_files() -> None:
    graph = import_graph(ROOT, TREES)
    assert {file.partition("/")[0] for file in graph} == set(TREES)
    assert circle(graph) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("import containers.made.b", "from containers.made.a import x"),
        ("from containers.made import b", "def f():\n    import containers.made.a"),
        ("from made.b import x", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from made import a"),
        ("from . import b", "from .a import x"),
        ("import b", "import a"),
    ],
)
def test_a_circle_is_found(tmp_path: Path, first: str, second: str) -> None:
    folder = tmp_path / ("containers/image/src/made" if "from made" in first else "containers/made")
    folder.mkdir(parents=True)
    (folder / "a.py").write_text(first)
    (folder / "b.py").write_text(second)
    (folder / "c.py").write_text(first)
    found = circle(import_graph(tmp_path, ["containers"]))
    assert [Path(file).name for file in found] in (["a.py", "b.py", "a.py"], ["b.py", "a.py", "b.py"])
    (folder / "b.py").write_text("import json")
    assert circle(import_graph(tmp_path, ["containers"])) == []
