"""DAGs for each dataset: whose file is broken, who is not wanted here, whose settings are whose."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

KINDS = ("deploy", "monitor", "rollback", "train")
PARSE = """
import json, os, sys
from airflow.dag_processing.dagbag import DagBag

found = []
for given in sys.argv[1:]:
    folder, _, task_of = given.partition("=")
    os.environ.pop("_AIRFLOW_PARSING_CONTEXT_DAG_ID", None)
    if task_of:  # as Airflow says it to the process of a task
        os.environ["_AIRFLOW_PARSING_CONTEXT_DAG_ID"] = task_of
    for name in [name for name in sys.modules if name.startswith("mlplatform")]:
        del sys.modules[name]
    sys.path.insert(0, folder)
    bag = DagBag(folder)
    sys.path.remove(folder)
    found.append({
        "errors": {os.path.basename(path): text for path, text in bag.import_errors.items()},
        "dags": {
            name: {
                "tags": sorted(dag.tags),
                "schedule": dag.schedule if isinstance(dag.schedule, str | None) else "assets",
                "retries": dag.default_args["retries"],
                "owners": sorted({task.owner for task in dag.tasks}),
                "trials": dag.params.get("trials"),
            }
            for name, dag in bag.dags.items()
        },
    })
print(json.dumps(found))
"""


def change(bundle: Path, dataset: str, **changes: Any) -> None:
    """Change a dataset's file."""
    path = bundle / "config" / "models" / f"{dataset}.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


def all_of(*datasets: str) -> set[str]:
    """Return the ids of datasets' DAGs."""
    return {f"{kind}__{dataset}" for kind in KINDS for dataset in datasets}


CASES = ("local", "dev", "shared", "train__titanic", "train__housing", "train__iris", "deploy__flights")


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory, assemble: Any) -> dict[str, Any]:
    """What Airflow finds: locally, in `dev`, and locally in the processes of tasks.

    The file of `housing` is refused, `iris` is not wanted locally, and `titanic` has settings of its own.
    """
    folder = tmp_path_factory.mktemp("datasets")
    for environment in ("local", "dev"):
        bundle = assemble(folder / environment, environment)
        change(bundle, "housing", metric="charm")
        change(bundle, "iris", environments={"local": {"enabled": False}})
        own = {"schedule": "0 4 * * 1", "retries": 7, "tags": ["ships", "weekly"]}
        change(
            bundle,
            "titanic",
            owner="harbour-team",
            settings={"orchestration": own, "training": {"trials": 3}, "monitoring": {"schedule": "@daily"}},
            environments={"dev": {"settings": {"orchestration": {"schedule": None}}}},
        )
    shared = assemble(folder / "shared", "local")
    change(
        shared,
        "iris",
        registered_model=yaml.safe_load((shared / "config/models/flights.yaml").read_text())["registered_model"],
    )
    own = {"orchestration": {"schedule": "@continuous"}}
    change(shared, "titanic", settings=own)
    (shared / "config/models/folder.yaml").mkdir()
    (shared / "config/models/latin.yaml").write_bytes("owner: J\xfcrg".encode("latin-1"))
    given = [str(folder / case) if "__" not in case else f"{folder / 'local'}={case}" for case in CASES]
    done = subprocess.run(
        [sys.executable, "-c", PARSE, *given], cwd="/", capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(CASES, json.loads(done.stdout.splitlines()[-1]), strict=True))


def test_a_broken_file_takes_out_its_own_dags_and_is_named(parsed: dict[str, Any]) -> None:
    assert set(parsed["dev"]["dags"]) == all_of("flights", "iris", "titanic")
    ((file, text),) = parsed["dev"]["errors"].items()
    assert file == "refused_datasets.py"
    assert "config/models/housing.yaml: metric: " in text
    assert "charm" in text


def test_what_cannot_even_be_read_and_what_airflow_could_not_make_take_out_no_other_dataset(
    parsed: dict[str, Any],
) -> None:
    assert set(parsed["shared"]["dags"]) == all_of("flights", "housing")
    ((file, text),) = parsed["shared"]["errors"].items()
    assert file == "refused_datasets.py"
    for said in ("folder.yaml: no such file", "latin.yaml: not text in UTF-8", "titanic.yaml: settings.orchestration."):
        assert said in text


def test_of_two_datasets_with_one_registered_model_the_second_is_refused(parsed: dict[str, Any]) -> None:
    text = parsed["shared"]["errors"]["refused_datasets.py"]
    assert "config/models/iris.yaml: registered_model: 'flights-late-arrival' is that of flights already" in text


def test_a_dataset_that_is_not_wanted_has_no_dags_in_that_environment_and_is_no_error(parsed: dict[str, Any]) -> None:
    assert set(parsed["local"]["dags"]) == all_of("flights", "titanic")
    assert set(parsed["local"]["errors"]) == {"refused_datasets.py"}
    assert "iris" not in parsed["local"]["errors"]["refused_datasets.py"]


def test_own_settings_are_those_of_the_dataset_s_dags(parsed: dict[str, Any]) -> None:
    dags = parsed["local"]["dags"]
    assert dags["train__titanic"] == {
        "tags": ["harbour-team", "local", "ml-platform", "ships", "titanic", "training", "weekly"],
        "schedule": "0 4 * * 1",
        "retries": 7,
        "owners": ["harbour-team"],
        "trials": 3,
    }
    for kind in KINDS:
        found = dags[f"{kind}__titanic"]
        assert (found["owners"], found["retries"]) == (["harbour-team"], 7)
        assert {"harbour-team", "ships", "weekly", "titanic"} <= set(found["tags"])
    assert dags["monitor__titanic"]["schedule"] == "@daily"


def test_own_settings_are_no_other_dataset_s(parsed: dict[str, Any], dags: dict[str, Any]) -> None:
    for name in all_of("flights"):
        found, alone = parsed["local"]["dags"][name], dags[name]
        assert found["tags"] == sorted(alone.tags)
        assert found["owners"] == ["ml-platform"]
        assert found["retries"] == alone.default_args["retries"] != 7
        assert found["trials"] == alone.params.get("trials")
    assert parsed["local"]["dags"]["train__flights"]["schedule"] is None
    assert parsed["local"]["dags"]["monitor__flights"]["schedule"] is None


def test_what_an_environment_says_of_a_dataset_counts_there_only(parsed: dict[str, Any]) -> None:
    assert parsed["dev"]["dags"]["train__titanic"]["schedule"] is None
    assert parsed["dev"]["dags"]["train__titanic"]["retries"] == 7, "the rest stays"


@pytest.mark.parametrize("dag_id", ["train__titanic", "deploy__flights"])
def test_the_process_of_a_task_makes_its_own_dag_only(parsed: dict[str, Any], dag_id: str) -> None:
    assert list(parsed[dag_id]["dags"]) == [dag_id]
    assert parsed[dag_id]["dags"][dag_id] == parsed["local"]["dags"][dag_id]
    assert parsed[dag_id]["errors"] == {}, "another dataset's broken file is none of its business"


def test_the_process_of_a_task_whose_file_is_broken_says_so(parsed: dict[str, Any]) -> None:
    assert parsed["train__housing"]["dags"] == {}
    ((file, text),) = parsed["train__housing"]["errors"].items()
    assert file == "train_model.py"
    assert "config/models/housing.yaml: metric: " in text


def test_the_process_of_a_task_of_a_dataset_that_is_not_wanted_any_more_finds_no_dag(parsed: dict[str, Any]) -> None:
    assert parsed["train__iris"] == {"dags": {}, "errors": {}}
