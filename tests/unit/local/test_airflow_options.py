"""Airflow's options have one place; the local platform takes them from there, or says why not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from local.platform import airflow, airflow_docs, airflow_options
from local.platform.airflow_options import Difference, differences, shared, variable
from local.platform.facts import Facts, Secrets
from local.platform.home import Home


@pytest.fixture
def set_here(tmp_path: Path) -> dict[str, str]:
    """What the local platform tells each of Airflow's processes."""
    facts = Facts(Home(tmp_path), dict.fromkeys(("airflow", "aws", "postgres"), 1), Secrets.generate())
    return {name: value for name, value in airflow.environment(facts).items() if name.startswith("AIRFLOW__")}


def test_every_option_is_the_clouds_or_a_listed_difference(set_here: dict[str, str]) -> None:
    listed, cloud = differences(), shared()
    assert sorted(set_here) == sorted(map(variable, {*listed, *cloud})), "an option is set in a third place"
    for option, value in cloud.items():
        if option not in listed:
            assert set_here[variable(option)] == value, option
    for option, one in listed.items():
        pattern = re.sub(r"\\\{\w+\\\}", ".+", re.escape(one.here))  # what is in braces is known at the start
        assert re.fullmatch(pattern, set_here[variable(option)]), option
        assert "{" not in set_here[variable(option)] or option == "dag_processor.dag_bundle_config_list"


def test_a_difference_is_one_and_names_what_the_cloud_has() -> None:
    cloud, listed = shared(), differences()
    assert {option: one.there for option, one in listed.items() if option in cloud} == {
        option: cloud[option] for option in listed if option in cloud
    }
    same = {option for option, one in listed.items() if one.here == one.there}
    assert same == {"core.load_examples"}, "move it to configuration_options.yaml"


def test_what_decides_whether_a_dag_runs_at_all_is_the_clouds() -> None:
    """Here they would hide what happens there, and cost nobody's time."""
    assert {
        "core.dags_are_paused_at_creation",
        "scheduler.task_queued_timeout",
    } <= shared().keys() - differences().keys()


@pytest.mark.parametrize("given", [{"why": ""}, {"why": None}, {"here": 6}, {"reason": "none"}])
def test_a_difference_without_its_reason_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Difference.model_validate({"here": "6", "there": "32", "why": "small", **given})


def test_values_are_texts_as_mwaa_wants_them(tmp_path: Path) -> None:
    file = tmp_path / "options.yaml"
    file.write_text("core.parallelism: 6\n")
    with pytest.raises(ValidationError, match=r"core\.parallelism"):
        shared(file)


def test_the_table_of_the_docs_is_the_list(tmp_path: Path) -> None:
    assert airflow_docs.main(["--check"]) == 0
    document = tmp_path / "local.md"
    document.write_text(f"before\n{airflow_docs.BEGIN}{airflow_docs.END}\nafter\n")
    assert airflow_docs.main(["--check"], document) == 1
    assert airflow_docs.main([], document) == airflow_docs.main(["--check"], document) == 0
    assert all(f"| `{option}` |" in document.read_text() for option in airflow_options.differences())
