"""Who may import whom, as pyproject.toml says (`tool.importlinter`); and that breaking each rule is noticed."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "pyproject.toml"
SOURCES = ("dags", "containers/trainer/src", "containers/serving/src", "containers/deployer/src")
RULES = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["tool"]["importlinter"]
ROOMS = [
    room.strip()
    for contract in RULES["contracts"]
    if contract["id"] == "floors"
    for floor in contract["layers"]
    for room in floor.split("|")
]


def lint(path: Sequence[Path]) -> subprocess.CompletedProcess[str]:
    """Hold the packages on a search path against the rules."""
    return subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--config", PROJECT, "--no-cache", "--no-logo"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path)), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def broken(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the ids of the rules that do not hold."""
    return [contract["id"] for contract in RULES["contracts"] if f"{contract['name']} BROKEN" in done.stdout]


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """Every package there is a rule for, empty but for what it may import."""
    for package in (*RULES["root_packages"], *(f"mlplatform/{room}" for room in ROOMS)):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "mlplatform/orchestration/pods.py").write_text("import airflow.sdk\nimport mlplatform.training\n")
    (tmp_path / "mlplatform/training/search.py").write_text("from mlplatform import errors, promotion\n")
    (tmp_path / "trainer/train.py").write_text("from mlplatform import training\n")
    return tmp_path


def test_the_rules_hold() -> None:
    done = lint([ROOT / source for source in SOURCES])

    assert done.returncode == 0, done.stdout


def test_the_rules_look_at_every_file() -> None:
    """A folder without `__init__.py` would be passed over."""
    files = {path.relative_to(ROOT / "dags") for path in (ROOT / "dags/mlplatform").rglob("*.py")}
    modules = {".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files}

    assert grimp.build_graph("mlplatform", cache_dir=None).modules == modules


def test_a_house_in_order_is_let_be(house: Path) -> None:
    done = lint([house])

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line", "rule"),
    [
        pytest.param("mlplatform/documents/run.py", "from mlplatform.promotion import gate", "floors", id="upward"),
        pytest.param("mlplatform/training/x.py", "import mlplatform.monitoring", "floors", id="to a neighbour"),
        pytest.param("mlplatform/errors/x.py", "def f(): import mlplatform.config", "floors", id="in a function"),
        pytest.param("mlplatform/attic/__init__.py", "", "floors", id="a package without a floor"),
        pytest.param("mlplatform/people/x.py", "def f(): from airflow.sdk import BaseHook", "airflow", id="airflow"),
        pytest.param("mlplatform/orchestration/x.py", "import local.platform", "bundle", id="not in MWAA"),
        pytest.param("deployer/x.py", "from mlplatform import orchestration", "steps", id="airflow in a container"),
    ],
)
def test_what_breaks_a_rule_is_found(house: Path, file: str, line: str, rule: str) -> None:
    path = house / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{line}\n")

    done = lint([house])

    assert (done.returncode, broken(done)) == (1, [rule]), done.stdout
