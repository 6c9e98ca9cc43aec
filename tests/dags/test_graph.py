"""The shape of the pipeline: who waits for whom, what runs when something went wrong, and the policy for all tasks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

EDGES = {
    "ingest.wait_for_data": {"ingest.resolve_inputs"},
    "ingest.resolve_inputs": {"data.validate", "data.settle_landing", "nothing_to_do"},
    "data.validate": {"data.settle_landing", "data.prepare"},
    "data.settle_landing": {"data.prepare"},
    "data.prepare": {"training.generate_trials"},
    "training.generate_trials": {"training.train", "training.select_best"},
    "training.train": {"training.select_best"},
    "training.select_best": {"promotion.register"},
    "promotion.register": {"promotion.evaluate"},
    "promotion.evaluate": {"promotion.decide"},
    "promotion.decide": {"promotion.deploy", "promotion.skip_deployment"},
    "promotion.deploy": {"notify"},
    "promotion.skip_deployment": {"notify"},
    "nothing_to_do": {"notify"},
    "notify": set(),
}
RULES = {
    "data.settle_landing": "all_done_min_one_success",
    "training.select_best": "all_done_min_one_success",
    "notify": "none_failed_min_one_success",
}
PODS = {"data.validate", "data.prepare", "training.train", "promotion.evaluate", "promotion.deploy"}


def test_tasks_and_edges(dag: Any) -> None:
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == EDGES


@pytest.mark.parametrize("task_id", sorted(EDGES))
def test_trigger_rules(dag: Any, task_id: str) -> None:
    assert dag.get_task(task_id).trigger_rule.value == RULES.get(task_id, "all_success")


@pytest.mark.parametrize("task_id", sorted(EDGES))
def test_every_task_keeps_the_policy(dag: Any, task_id: str) -> None:
    task = dag.get_task(task_id)
    assert task.owner == "ml-platform"
    assert task.doc_md
    assert task.retries >= 1
    assert task.retry_delay == timedelta(seconds=2)
    assert timedelta(0) < task.execution_timeout <= timedelta(hours=48)
    assert task.on_failure_callback


def test_the_dag_keeps_the_policy(dag: Any) -> None:
    assert dag.catchup is False
    assert dag.max_active_runs == 1
    assert dag.dagrun_timeout == timedelta(hours=3)
    assert dag.schedule is None
    assert {"ml-platform", "training", "local"} <= dag.tags
    assert "landing bucket" in dag.doc_md
    assert dag.on_failure_callback


def test_the_form_explains_itself_and_refuses_nonsense(dag: Any) -> None:
    params = dag.params
    for name in params:
        assert params.get_param(name).description, name
    assert "flights" in params.get_param("dataset").schema["enum"]
    assert params["trials"] == 4
    assert {"lightgbm", "pytorch", "sklearn", "xgboost"} <= set(params.get_param("family").schema["enum"])
    assert (params["search"], params["device"]) == ("random", "cpu")
    for name, value in [
        ("trials", 0),
        ("trials", 257),
        ("family", "prophet"),
        ("dataset", "letters"),
        ("seed", "a"),
        ("search", "annealing"),
        ("device", "tpu"),
    ]:
        with pytest.raises(Exception, match=r"."):
            params.get_param(name).resolve(value=value)
    for value in (None, 0.7):
        assert params.get_param("minimum_quality").resolve(value=value) == value


def test_only_the_steps_are_pods(dag: Any) -> None:
    assert {task.task_id for task in dag.tasks if task.task_type == "StepPodOperator"} == PODS


def test_trials_run_as_many_at_a_time_as_the_settings_say(dag: Any) -> None:
    assert dag.get_task("training.train").max_active_tis_per_dagrun == 2


@pytest.mark.parametrize(
    ("failed", "end"),
    [
        pytest.param({"data.validate": "failed"}, "upstream_failed", id="refused-data"),
        pytest.param(
            {"promotion.deploy": "failed", "promotion.skip_deployment": "skipped"}, "upstream_failed", id="rolled-back"
        ),
        pytest.param({"training.select_best": "failed"}, "upstream_failed", id="all-trials-failed"),
        pytest.param({"ingest.wait_for_data": "skipped"}, "skipped", id="nothing-came"),
        pytest.param({"promotion.deploy": "skipped"}, "success", id="rejected"),
        pytest.param({"promotion.skip_deployment": "skipped"}, "success", id="promoted"),
        pytest.param({"data.validate": "skipped", "data.settle_landing": "skipped"}, "success", id="nothing-to-do"),
        pytest.param({"ingest.resolve_inputs": "failed"}, "upstream_failed", id="unresolved"),
        pytest.param({"training.train": "failed"}, "success", id="some-trials-failed"),
    ],
)
def test_how_a_run_ends(dag: Any, failed: dict[str, str], end: str) -> None:
    """Follow the trigger rules from a state through the graph; `notify` is the only leaf, so it is the run's state."""
    stopped = {"ingest.wait_for_data", "ingest.resolve_inputs"} & failed.keys()
    if not stopped and failed.get("data.validate") != "skipped":
        failed = {"nothing_to_do": "skipped", **failed}
    states: dict[str, str] = {}
    for task in dag.topological_sort():
        upstream = [states[task_id] for task_id in task.upstream_task_ids]
        states[task.task_id] = failed.get(task.task_id) or _state(task.trigger_rule.value, upstream)
    assert states["notify"] == end, states
    if end != "success" or failed.get("data.validate") == "skipped":
        assert states["promotion.deploy"] != "success"
    if failed.get("data.validate") == "failed":
        assert states["data.settle_landing"] == "success", "refused files are put aside"
        assert states["data.prepare"] == "upstream_failed"
    broken = {task_id for task_id, state in failed.items() if state == "failed"}
    assert {task_id for task_id, state in states.items() if state == "failed"} == broken, "no failure on top"


def _state(rule: str, upstream: list[str]) -> str:
    """Airflow's rules, as far as the DAG uses them (ti_deps/deps/trigger_rule_dep.py)."""
    broken = {"failed", "upstream_failed"} & set(upstream)
    if rule == "all_done_min_one_success":
        return "skipped" if "skipped" in upstream else "success" if "success" in upstream else "upstream_failed"
    if broken:
        return "upstream_failed"
    if rule == "none_failed_min_one_success":
        return "success" if "success" in upstream else "skipped"
    return "skipped" if "skipped" in upstream else "success"
