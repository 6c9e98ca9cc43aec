"""The DAG bundle as Airflow takes it: imports, cost of parsing, the same everywhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

KINDS = ("deploy", "monitor", "rollback", "train")

# Runs in a fresh interpreter, because this one has imported everything by now.
PARSE = """
import json, socket, sys

def refuse(*args, **kwargs):
    raise AssertionError(f"I/O while parsing: {args[-1]!r}")

from airflow.dag_processing.dagbag import DagBag
import airflow.providers.cncf.kubernetes.operators.pod
import airflow.providers.amazon.aws.sensors.s3
import airflow.providers.standard.operators.trigger_dagrun

socket.socket.connect = refuse
socket.socket.connect_ex = refuse
socket.getaddrinfo = refuse
import sqlite3
sqlite3.connect = refuse
import sqlalchemy.engine
sqlalchemy.engine.Engine.connect = refuse
import airflow.sdk
airflow.sdk.Variable.get = refuse
airflow.sdk.BaseHook.get_connection = refuse
sys.path.insert(0, sys.argv[1])  # as the DAG processor does for a bundle
before = set(sys.modules)
bag = DagBag(sys.argv[1])
modules = sorted(set(sys.modules) - before)
from airflow.serialization.serialized_objects import DagSerialization
texts = [json.dumps(DagSerialization.to_dict(dag), sort_keys=True) for _, dag in sorted(bag.dags.items())]
print(json.dumps({
    "errors": bag.import_errors, "dags": sorted(bag.dags), "modules": modules, "serialized": "".join(texts),
}))
"""


DAG_FILES = ("deploy_model", "monitor_model", "refused_datasets", "rollback_model", "train_model")


@pytest.fixture(scope="module")
def parsed(bundle: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", PARSE, str(bundle)], cwd="/", capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_the_bundle_imports_without_errors_network_or_database(parsed: dict[str, Any]) -> None:
    assert parsed["errors"] == {}
    kinds, datasets = ("deploy", "monitor", "rollback", "train"), ("flights", "housing", "iris", "titanic")
    assert parsed["dags"] == [f"{kind}__{dataset}" for kind in kinds for dataset in datasets]


def test_parsing_imports_nothing_heavy(parsed: dict[str, Any]) -> None:
    heavy = {"mlflow", "pandas", "numpy", "sklearn", "pyarrow", "duckdb", "xgboost", "matplotlib", "torch"}
    assert heavy.isdisjoint(name.partition(".")[0] for name in parsed["modules"])
    # Beside the operators, which were imported before, a parse costs the project's own modules and little more.
    expected = ("mlplatform", "unusual_prefix", "airflow.providers.standard")
    foreign = [name for name in parsed["modules"] if not name.startswith(expected)]
    assert len(foreign) < 40, foreign


OTHERS = """
import sys
from airflow.dag_processing.dagbag import DagBag

for folder in sys.argv[1:]:
    for name in [name for name in sys.modules if name.startswith("mlplatform")]:
        del sys.modules[name]
    sys.path.insert(0, folder)
    bag = DagBag(folder)
    assert bag.import_errors == {}, bag.import_errors
    dag = bag.dags["train__flights"]
    print(sorted(dag.tags), dag.schedule)
"""


def test_the_bundle_imports_in_every_environment(tmp_path: Path, assemble: Any) -> None:
    folders = [str(assemble(tmp_path / name, name)) for name in ("dev", "staging", "prod")]
    command = [sys.executable, "-c", OTHERS, *folders]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("[")] == [
        "['dev', 'flights', 'ml-platform', 'training'] None",
        "['flights', 'ml-platform', 'staging', 'training'] None",
        "['flights', 'ml-platform', 'prod', 'training'] 0 5 * * *",
    ]


def test_nothing_in_the_bundle_asks_where_it_runs() -> None:
    """What differs between environments is configuration; a branch on the environment would go untested elsewhere."""
    branch = re.compile(r"""(environment\s*(==|!=|in\b|not in\b))|(\bif\b.*\blocal\b)|(["']local["']\s*(==|!=))""")
    for path in (ROOT / "dags").rglob("*.py"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            code = line.partition("#")[0]
            assert not branch.search(code), f"{path.name}:{number}: {line}"


def test_only_dag_files_are_parsed(bundle: Path) -> None:
    from airflow.utils.file import list_py_file_paths

    found = sorted(Path(path).name for path in list_py_file_paths(str(bundle), safe_mode=False))
    assert found == [f"{name}.py" for name in DAG_FILES]


def test_the_serialized_dags_are_the_same_every_time(parsed: dict[str, Any], dags: dict[str, Any]) -> None:
    """Airflow makes a new DAG version whenever the serialized text changes."""
    from airflow.serialization.serialized_objects import DagSerialization

    here = "".join(json.dumps(DagSerialization.to_dict(dag), sort_keys=True) for _, dag in sorted(dags.items()))
    assert here == parsed["serialized"]
    assert " at 0x" not in here


def test_startup_script_may_run_twice_and_exports_no_secret(bundle: Path) -> None:
    script = bundle / "startup.sh"
    subprocess.run(["bash", "-euo", "pipefail", "-c", f". {script}; . {script}"], check=True, timeout=20)
    assert not re.search(r"(?i)(secret|password|token|key)\s*=", script.read_text())


PACKED = """
import sys
from airflow.dag_processing.dagbag import DagBag

sys.path.insert(0, sys.argv[1])
dag = DagBag(sys.argv[1]).dags["train__flights"]
train = dag.get_task("training.train")
print(train.partial_kwargs["map_index_template"], train.partial_kwargs["pool_slots"])
print(dag.params.get_param("trials").schema["maximum"], dag.params["search"])
"""


def test_the_form_and_the_pods_follow_the_settings(tmp_path: Path, assemble: Any) -> None:
    search = {"method": "bayesian", "maximum_trials": 12, "trials_per_pod": 4}
    folder = assemble(tmp_path / "packed", training={"search": search, "pods_per_trial": 2})
    done = subprocess.run(
        [sys.executable, "-c", PACKED, str(folder)], cwd="/", capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.splitlines()[-2:] == ["pod {{ ti.map_index }} 2", "12 bayesian"], done.stderr
