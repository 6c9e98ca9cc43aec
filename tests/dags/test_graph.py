"""The shape of the pipeline: who waits for whom, what runs when something went wrong, and the policy for all tasks."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any

import pytest

EDGES = {
    "ingest.wait_for_data": {"ingest.take_turn"},
    "ingest.take_turn": {"ingest.resolve_inputs"},
    "ingest.resolve_inputs": {"data.validate", "data.settle_landing", "nothing_to_do"},
    "data.validate": {"data.settle_landing", "data.prepare"},
    "data.settle_landing": {"data.prepare"},
    "data.prepare": {"training.generate_trials"},
    "training.generate_trials": {"training.train", "training.select_best"},
    "training.train": {"training.select_best"},
    "training.select_best": {"promotion.register"},
    "promotion.register": {"promotion.evaluate"},
    "promotion.evaluate": {"promotion.decide"},
    "promotion.decide": {"approval.approve_automatically", "approval.ask", "promotion.skip_deployment"},
    "approval.approve_automatically": {"approval.record_approval"},
    "approval.ask": {"approval.record_approval"},
    "approval.record_approval": {f"approval.{way}" for way in ("publish", "reject", "expire", "supersede")},
    "approval.publish": {"notify"},
    "approval.reject": {"notify"},
    "approval.expire": {"notify"},
    "approval.supersede": {"notify"},
    "promotion.skip_deployment": {"notify"},
    "nothing_to_do": {"notify"},
    "notify": set(),
}
RULES = {
    "data.settle_landing": "all_done_min_one_success",
    "training.select_best": "all_done_min_one_success",
    "approval.record_approval": "none_failed_min_one_success",
    "notify": "none_failed_min_one_success",
}
PODS = {"data.validate", "data.prepare", "training.train", "promotion.evaluate"}


AUTOMATIC = {"approval.ask": "skipped", "promotion.skip_deployment": "skipped"}
BY_A_PERSON = {"approval.approve_automatically": "skipped", "promotion.skip_deployment": "skipped"}
WAYS = {"approval.publish", "approval.reject", "approval.expire", "approval.supersede"}


def only(way: str) -> dict[str, str]:
    """Return the states of the ways that an answer did not take."""
    return dict.fromkeys(WAYS - {way}, "skipped")


APPROVED = only("approval.publish")


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
    assert dag.max_active_runs == 16, "those that wait included; at work is one at a time"
    assert dag.dagrun_timeout == timedelta(hours=4), "an hour to land, two to run, one to approve"
    assert dag.schedule is None
    assert dag.tags == {"ml-platform", "training", "local", "flights"}
    assert "landing bucket" in dag.doc_md
    assert dag.on_failure_callback


def test_the_form_explains_itself_and_refuses_nonsense(dag: Any) -> None:
    params = copy.deepcopy(dag.params)  # resolving changes them
    for name in params:
        assert params.get_param(name).description, name
    assert "dataset" not in params, "the DAG is a dataset's own"
    assert params["trials"] == 4
    assert {"lightgbm", "pytorch", "sklearn", "xgboost"} <= set(params.get_param("family").schema["enum"])
    assert (params["search"], params["device"]) == ("random", "cpu")
    for name, value in [
        ("trials", 0),
        ("trials", 257),
        ("family", "prophet"),
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
    task = dag.get_task("training.train")
    assert (task.pool, task.pool_slots) == ("training__flights", 1)


@pytest.mark.parametrize(
    ("failed", "end"),
    [
        pytest.param({"data.validate": "failed"}, "upstream_failed", id="refused-data"),
        pytest.param({**AUTOMATIC, "approval.record_approval": "failed"}, "upstream_failed", id="approval-out-of-date"),
        pytest.param({"training.select_best": "failed"}, "upstream_failed", id="all-trials-failed"),
        pytest.param({"ingest.wait_for_data": "skipped"}, "skipped", id="nothing-came"),
        pytest.param(
            {"approval.approve_automatically": "skipped", "approval.ask": "skipped"}, "success", id="rejected-by-gate"
        ),
        pytest.param({**AUTOMATIC, **APPROVED}, "success", id="promoted"),
        pytest.param({**BY_A_PERSON, **APPROVED}, "success", id="approved-by-a-person"),
        pytest.param({**BY_A_PERSON, **only("approval.reject")}, "success", id="person-said-no"),
        pytest.param({**BY_A_PERSON, **only("approval.expire")}, "success", id="nobody-answered"),
        pytest.param({**BY_A_PERSON, **only("approval.supersede")}, "success", id="superseded"),
        pytest.param({"ingest.take_turn": "failed"}, "upstream_failed", id="never-its-turn"),
        pytest.param({"data.validate": "skipped", "data.settle_landing": "skipped"}, "success", id="nothing-to-do"),
        pytest.param({"ingest.resolve_inputs": "failed"}, "upstream_failed", id="unresolved"),
        pytest.param({"training.train": "failed"}, "success", id="some-trials-failed"),
    ],
)
def test_how_a_run_ends(dag: Any, failed: dict[str, str], end: str) -> None:
    """Follow the trigger rules from a state through the graph; `notify` is the only leaf, so it is the run's state."""
    stopped = {"ingest.wait_for_data", "ingest.take_turn", "ingest.resolve_inputs"} & failed.keys()
    if not stopped and failed.get("data.validate") != "skipped":
        failed = {"nothing_to_do": "skipped", **failed}
    states: dict[str, str] = {}
    for task in dag.topological_sort():
        upstream = [states[task_id] for task_id in task.upstream_task_ids]
        states[task.task_id] = failed.get(task.task_id) or _state(task.trigger_rule.value, upstream)
    assert states["notify"] == end, states
    if end != "success" or failed.get("data.validate") == "skipped":
        assert states["approval.publish"] != "success"
    if failed.items() >= APPROVED.items() and "approval.publish" not in failed:
        assert states["approval.publish"] == "success"
    if "approval.publish" in failed or failed.get("approval.ask") == states["approval.record_approval"] == "skipped":
        assert states["approval.publish"] == "skipped", "no event without an approval"
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


# --- Deploying and going back -------------------------------------------------------------------

DEPLOYMENT = {
    "resolve_request": {f"deployment.{name}" for name in ("verify_approval", "conclude", "tell_failure")},
    "deployment.verify_approval": {"deployment.deploy", "deployment.tell_failure"},
    "deployment.deploy": {"deployment.conclude", "deployment.tell_failure"},
    "deployment.conclude": set(),
    "deployment.tell_failure": set(),
}


@pytest.mark.parametrize("name", ["deploy__flights", "rollback__flights"])
def test_a_deployment_and_a_step_back_are_the_same_tasks(dags: dict[str, Any], name: str) -> None:
    dag = dags[name]
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == DEPLOYMENT
    rules = {task.task_id: task.trigger_rule.value for task in dag.tasks}
    assert rules.pop("deployment.tell_failure") == "one_failed"
    assert set(rules.values()) == {"all_success"}
    assert {task.task_id for task in dag.tasks if task.task_type == "StepPodOperator"} == {"deployment.deploy"}
    for task in dag.tasks:
        assert task.owner == "ml-platform"
        assert task.doc_md
        assert task.retries >= 1
        assert timedelta(0) < task.execution_timeout <= timedelta(hours=48)
        assert task.on_failure_callback
    assert (dag.catchup, dag.max_active_runs) == (False, 1)
    assert dag.doc_md
    assert dag.on_failure_callback
    for param in dag.params:
        assert dag.params.get_param(param).description, param


def test_an_approval_starts_a_deployment_and_nothing_starts_a_step_back(dags: dict[str, Any]) -> None:
    (published,) = dags["train__flights"].get_task("approval.publish").outlets
    (awaited,) = dags["deploy__flights"].timetable.asset_condition.objects
    assert (published.name, published.uri) == (awaited.name, awaited.uri)
    assert published.name == "approved-models-flights"
    (other,) = dags["deploy__iris"].timetable.asset_condition.objects
    assert other.uri != published.uri, "and no other dataset's"
    others = [task for task in dags["train__flights"].tasks if task.outlets and task.task_id != "approval.publish"]
    assert others == [], "the event is raised after the approval is recorded, and nowhere else"
    assert dags["rollback__flights"].schedule is None


def test_every_deployment_of_a_run_is_named_after_its_own_dataset(dags: dict[str, Any]) -> None:
    for name in ("deploy__iris", "rollback__iris"):
        assert "dataset" not in dags[name].params, "nobody can name another one"
        deploy = dags[name].get_task("deployment.deploy")
        options = getattr(deploy, "partial_kwargs", None) or {"name": deploy.name, "labels": deploy.labels}
        assert options["name"] == "iris-deploy"
        assert options["labels"]["ml-platform/dataset"] == "iris"
        assert "['run_key']" in options["labels"]["ml-platform/run-key"]


@pytest.mark.parametrize(
    ("name", "param", "value"),
    [
        ("deploy__flights", "version", "three"),
        ("deploy__flights", "challenger_weight", 1),
        ("deploy__flights", "challenger_weight", 0),
        ("rollback__flights", "reason", ""),
    ],
)
def test_the_forms_refuse_nonsense(dags: dict[str, Any], name: str, param: str, value: Any) -> None:
    with pytest.raises(Exception, match=r"."):
        dags[name].params.get_param(param).resolve(value=value)


def test_a_step_back_needs_a_reason(dags: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"."):
        dags["rollback__flights"].params.get_param("reason").resolve()


def test_no_task_has_a_copy_of_its_dag_s_parameters(dags: dict[str, Any]) -> None:
    """Airflow would check each of them again whenever it parses the file, for every task of every dataset."""
    own = {(dag.dag_id, task.task_id): set(task.params) for dag in dags.values() for task in dag.tasks if task.params}
    assert own == {(name, "approval.ask"): {"reason"} for name in dags if name.startswith("train__")}
    assert {dag.dag_id.partition("__")[0] for dag in dags.values() if dag.params} == {"train", "deploy", "rollback"}


def test_a_run_s_tasks_are_given_the_dag_s_parameters_and_what_the_run_says(dags: dict[str, Any]) -> None:
    from airflow.sdk.definitions.param import process_params

    for name in ("train__iris", "train__flights"):
        for task in dags[name].tasks:
            given = process_params(copy.deepcopy(dags[name]), task, {"trials": 7}, suppress_exception=False)
            assert (given["trials"], given["search"], given["seed"]) == (7, "random", 0)
    assert dags["train__iris"].params["trials"] == 4, "one run's value is no other's"
