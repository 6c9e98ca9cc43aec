"""Training over several pods: the Job that is asked for, and the operator at work on a real (local) Kubernetes API."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from tests.dags.cluster import CUDA, NAMESPACE, OUTPUT, Cluster, Task, context_of, make, settings_for, until


def requested(dag: Any, pods: int = 2, dataset: str = "flights", **params: Any) -> dict[str, Any]:
    """Return the job as it is sent to Kubernetes."""
    from kubernetes.client import ApiClient

    task = make(settings_for(pods), dataset)
    given = context_of(task, dag, **params)
    task.name = task._set_name(task.name)
    task.hook = SimpleNamespace(is_in_cluster=False)
    job: dict[str, Any] = ApiClient().sanitize_for_serialization(task.build_job_request_obj(given))
    return job


def test_one_pod_a_trial_needs_no_job(dag: Any) -> None:
    from mlplatform.orchestration.jobs import StepJobOperator
    from mlplatform.orchestration.pods import StepPodOperator

    assert type(make(settings_for(1))) is StepPodOperator
    assert type(make(settings_for(2))) is StepJobOperator
    assert dag.get_task("training.train").operator_class is StepPodOperator


def test_the_job_is_one_of_as_many_pods_as_the_settings_say(dag: Any) -> None:
    job = requested(dag, pods=3)
    spec = job["spec"]
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert job["metadata"]["namespace"] == NAMESPACE
    assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (3, 3, "Indexed")
    assert spec["backoffLimit"] == 0, "a retry is Airflow's"
    assert spec["ttlSecondsAfterFinished"] == 86400, "what a marked task leaves goes by itself"
    pod = spec["template"]["spec"]
    assert spec["activeDeadlineSeconds"] > pod["activeDeadlineSeconds"] + 120, "a job's time runs before its pods start"
    name = job["metadata"]["name"]
    env = {item["name"]: item["value"] for item in pod["containers"][0]["env"]}
    assert {key: value for key, value in env.items() if key.startswith("MLPLATFORM_")} == {
        "MLPLATFORM_PODS_PER_TRIAL": "3",
        "MLPLATFORM_RENDEZVOUS": f"{name}-0.distributed-training:29503",
    }
    assert pod["subdomain"] == "distributed-training"
    assert pod["restartPolicy"] == "Never"
    labels = spec["template"]["metadata"]["labels"]
    assert labels["ml-platform/distributed"] == "true"
    assert labels["ml-platform/step"] == "train"
    assert "name" not in spec["template"]["metadata"]
    for wanted in (job["metadata"]["labels"], labels):
        assert wanted["task_id"] == "training.train"
        assert wanted["map_index"] == "3"
        assert wanted["try_number"] == "1"


def test_a_job_s_pods_are_those_of_a_pod_step(dag: Any) -> None:
    """But for what makes several of one: the same image, rights, resources and limits."""
    from kubernetes.client import ApiClient

    alone = make(settings_for(1))
    given = context_of(alone, dag)
    alone.name = alone._set_name(alone.name)
    pod = ApiClient().sanitize_for_serialization(alone.build_pod_request_obj(given, dry_run=True))["spec"]
    among = requested(dag)["spec"]["template"]["spec"]
    del among["subdomain"]
    among["containers"][0]["env"] = among["containers"][0]["env"][:-2]
    assert among == pod
    assert pod["containers"][0]["image"] == CUDA
    assert "nvidia.com/gpu" not in pod["containers"][0]["resources"]["limits"]
    with_gpu = requested(dag, device="cuda")["spec"]["template"]["spec"]
    assert with_gpu["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert with_gpu["nodeSelector"] == {"ml-platform/node-pool": "gpu"}


def test_the_longest_name_is_still_a_name(dag: Any) -> None:
    name = requested(dag, pods=64, dataset="d" * 40)["metadata"]["name"]
    assert len(f"{name}-63") <= 63, "each pod's hostname"


# --- On the local Kubernetes API -----------------------------------------------------------------

# What the image does; the result is what `succeed` finds on S3 afterwards.
SCRIPTS = {
    "succeed": "echo pod $JOB_COMPLETION_INDEX at $MLPLATFORM_RENDEZVOUS; sleep 0.5",
    "refuse": "[ $JOB_COMPLETION_INDEX = 1 ] && { echo bad >&2; exit 64; }; sleep 30",
    "fail": "[ $JOB_COMPLETION_INDEX = 1 ] && { echo boom >&2; exit 3; }; sleep 30",
    "work": "sleep 60",
    "save": "trap 'sleep 1; exit 143' TERM; sleep 60 & wait",
}


pytestmark = pytest.mark.usefixtures("s3", "no_connection")


def test_a_job_runs_to_its_end_and_is_cleared_away(
    dag: Any, cluster: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    task = Task(dag, cluster, SCRIPTS["succeed"])
    assert task.run() is None
    told = capfd.readouterr().out
    for index in (0, 1):
        assert f"pod {index} at 127.0.0.1:29503" in told, "the logs of all pods are in the task's"
    task.until_nothing_is_left()


def test_a_refusal_of_any_pod_is_told_in_the_step_s_own_words(dag: Any, cluster: Cluster, s3: dict[str, bytes]) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    s3[f"{OUTPUT}/error.json"] = b'{"step": "train", "kind": "bad-config", "message": "width: 0 is not allowed"}'
    task = Task(dag, cluster, SCRIPTS["refuse"])
    with pytest.raises(AirflowFailException, match=r"^train: width: 0 is not allowed$"):
        task.run()
    task.until_nothing_is_left()


def test_another_end_is_told_in_one_line_and_may_be_tried_again(dag: Any, cluster: Cluster) -> None:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    task = Task(dag, cluster, SCRIPTS["fail"])
    with pytest.raises(
        AirflowException, match=r"^pod job-flights-train-\w+-1-\w+ failed with exit code 3: boom$"
    ) as told:
        task.run()
    assert not isinstance(told.value, AirflowFailException)
    task.until_nothing_is_left()


@pytest.mark.parametrize("index", [0, 1])
def test_a_pod_that_is_taken_away_ends_the_try(dag: Any, cluster: Cluster, index: int) -> None:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    task = Task(dag, cluster, SCRIPTS["work"])
    deferral = task.start()
    task.until_running()
    name = sorted(pod.metadata.name for pod in task.pods())[index]
    task.operator.client.delete_namespaced_pod(name, NAMESPACE)
    blamed = rf"^pod {name} was deleted.*, and nobody says by whom; another try goes on from the last checkpoint"
    with pytest.raises(AirflowException, match=blamed) as told:
        task.resume(deferral, task.triggered(deferral))
    assert not isinstance(told.value, AirflowFailException)
    task.until_nothing_is_left()


def test_what_an_earlier_try_left_is_gone_before_the_next_one_starts(dag: Any, cluster: Cluster) -> None:
    first = Task(dag, cluster, SCRIPTS["work"])
    first.start()  # and the worker, or the triggerer, is never heard of again
    first.until_running()
    (left,) = first.jobs()
    other = Task(dag, cluster, SCRIPTS["work"])
    other.start()
    second = Task(dag, cluster, SCRIPTS["succeed"], first.run_id, try_number=2)
    deferral = second.start()
    names = {job.metadata.name for job in second.jobs()}
    assert left.metadata.name not in names
    assert len(names) == 2, "another run's job is left alone"
    assert not [pod for pod in second.pods() if pod.metadata.labels["job-name"] == left.metadata.name]
    second.resume(deferral, second.triggered(deferral))
    other.operator.on_kill()
    second.until_nothing_is_left()


def test_a_killed_task_takes_its_job_along(dag: Any, cluster: Cluster) -> None:
    task = Task(dag, cluster, SCRIPTS["work"])
    task.start()
    task.until_running()
    task.operator.on_kill()
    task.until_nothing_is_left()


def test_another_try_waits_for_pods_whose_job_is_gone_already(dag: Any, cluster: Cluster) -> None:
    first = Task(dag, cluster, SCRIPTS["save"])
    first.start()
    first.until_running()
    name = first.jobs()[0].metadata.name
    first.operator.job_client.delete_namespaced_job(name, NAMESPACE, propagation_policy="Background")
    until(lambda: not first.jobs())
    leaving = {pod.metadata.name for pod in first.pods() if pod.status.phase == "Running"}
    assert len(leaving) == 2, "they save their state"
    second = Task(dag, cluster, SCRIPTS["work"], first.run_id, try_number=2)
    second.start()
    assert not leaving & {pod.metadata.name for pod in second.pods() if pod.status.phase == "Running"}
    second.operator.on_kill()
    second.until_nothing_is_left()


def test_watching_that_fails_does_not_end_the_job(dag: Any, cluster: Cluster) -> None:
    from airflow.sdk.exceptions import TaskDeferred

    task = Task(dag, cluster, SCRIPTS["work"])
    deferral = task.start()
    lost = {"status": "error", "message": "connection reset", "name": "p", "namespace": NAMESPACE}
    lost |= deferral.trigger.trigger_kwargs
    with pytest.raises(TaskDeferred) as again:
        task.resume(deferral, lost)
    assert again.value.trigger.trigger_kwargs["deferred"] == 2
    # Four failures in hours are four times one, and no reason to end a training.
    later = {"deferred": 4, "deferred_at": time.time() - 3600}
    with pytest.raises(TaskDeferred) as again:
        task.resume(deferral, lost | later)
    assert again.value.trigger.trigger_kwargs["deferred"] == 1
    assert len(task.jobs()) == 1
    task.operator.on_kill()
    task.until_nothing_is_left()


def test_a_job_that_cannot_start_is_given_up(dag: Any, cluster: Cluster) -> None:
    from airflow.sdk.exceptions import AirflowException

    task = Task(dag, cluster, SCRIPTS["succeed"])
    cluster.images()
    deferral = task.start()
    event = {"status": "timeout", "message": "too long", "name": "p", "namespace": NAMESPACE}
    deadline = time.monotonic() + 10
    while not any("Image" in str(pod.status.container_statuses) for pod in task.pods()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with pytest.raises(AirflowException, match=r"^pod job-flights-train-\w+-0-\w+ never started: (ErrImage|ImagePull)"):
        task.resume(deferral, event | deferral.trigger.trigger_kwargs)
    task.until_nothing_is_left()


def test_a_finished_step_starts_nothing(dag: Any, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task(dag, cluster, SCRIPTS["succeed"])
    monkeypatch.setattr(type(task.operator), "_finished_result", lambda self: f"{OUTPUT}/result.json")
    assert task.operator.execute(task.context) is None
    assert task.jobs() == []
