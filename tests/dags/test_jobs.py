"""Training over several pods: the Job that is asked for, and the operator at work on a real (local) Kubernetes API."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DEV = ROOT / ".local" / "envs" / "dev" / "bin" / "python"
PREFIX = "s3://data-bucket/runs/flights/0123456789abcdef0123"
OUTPUT = f"{PREFIX}/train/000"
CUDA = "123456789012.dkr.ecr.us-east-1.amazonaws.com/mlplatform/trainer-cuda:dddddddddddd"
NAMESPACE = "ml-training"


def settings_for(pods: int, **kubernetes: Any) -> Any:
    from mlplatform.config.loading import load_settings

    loaded = load_settings()
    training = loaded.training.model_copy(update={"pods_per_trial": pods})
    cluster = loaded.kubernetes.model_copy(update=kubernetes)
    return loaded.model_copy(update={"training": training, "kubernetes": cluster})


def make(settings: Any, **changes: Any) -> Any:
    """Return the training's operator as the DAG makes it, with the arguments of one trial."""
    from mlplatform.orchestration.jobs import training_operator

    operator, options = training_operator(settings, "0123456789abcdef0123")
    arguments = ["train", "--config", f"{OUTPUT}/config.json", "--input", f"{PREFIX}/prepare", "--output", OUTPUT]
    return operator(task_id="train", arguments=arguments, **{**options, **changes})


def context_of(task: Any, dag: Any, run_id: str = "manual__1", try_number: int = 1, **params: Any) -> Any:
    """Return what a task instance with map index 3 gets, and render the operator with it."""
    given: Any = {
        "params": {"dataset": "flights", "family": "pytorch", "device": "cpu", **params},
        **dag.user_defined_macros,
        "ti": SimpleNamespace(
            dag_id="train_model",
            task_id="training.train",
            map_index=3,
            try_number=try_number,
            start_date=datetime.now(UTC),
            xcom_push=lambda key, value: None,
        ),
        "run_id": run_id,
        "dag": SimpleNamespace(parent_dag=None),
    }
    task.render_template_fields(given, jinja_env=dag.get_template_env())
    return given


def requested(dag: Any, pods: int = 2, **params: Any) -> dict[str, Any]:
    """Return the job as it is sent to Kubernetes."""
    from kubernetes.client import ApiClient

    task = make(settings_for(pods))
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
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Run a local Kubernetes API; yields its folder."""
    folder = tmp_path_factory.mktemp("kubernetes")
    (folder / "images.json").write_text("{}")
    command = [str(DEV), "-m", "local.kubernetes", "--port", "0", "--state-dir", str(folder / "state")]
    command += ["--images", str(folder / "images.json"), "--service-account", f"{NAMESPACE}/trainer"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    assert any("https://127.0.0.1:" in line for line in server.stdout), "the local Kubernetes API did not start"
    yield folder
    server.terminate()
    server.wait(15)


class Task:
    """A task instance of the training step on the local Kubernetes API."""

    def __init__(self, dag: Any, cluster: Path, script: str, run_id: str | None = None, try_number: int = 1) -> None:
        image = {"entrypoint": ["/bin/sh", "-c", SCRIPTS[script], "sh"]}
        (cluster / "images.json").write_text(json.dumps({CUDA: image}))
        self.run_id = run_id or f"manual__{uuid.uuid4().hex}"
        kubeconfig = str(cluster / "state" / "kubeconfig")
        self.settings = settings_for(2, kubeconfig=kubeconfig, context=None)
        self.dag, self.try_number = dag, try_number
        self.operator = self.new()

    def new(self) -> Any:
        """Return the operator as another process has it: nothing is left of what it knew before a deferral."""
        operator = make(self.settings, attended_seconds=0, termination_grace_period=2)
        self.context = context_of(operator, self.dag, self.run_id, self.try_number)
        return operator

    def start(self) -> Any:
        """Execute until the task is deferred; returns the deferral."""
        from airflow.sdk.exceptions import TaskDeferred

        with pytest.raises(TaskDeferred) as deferred:
            self.operator.execute(self.context)
        return deferred.value

    def run(self) -> Any:
        """Run the task to its end, with a trigger and an operator that know only what was deferred."""
        deferral = self.start()
        return self.resume(deferral, self.triggered(deferral))

    def triggered(self, deferral: Any) -> dict[str, Any]:
        """Return the event of a deferral's trigger, made of what is stored of it."""
        from airflow.sdk.module_loading import import_string

        path, kwargs = deferral.trigger.serialize()
        json.dumps({key: value for key, value in kwargs.items() if key != "trigger_start_time"})
        trigger = import_string(path)(**kwargs)

        async def first() -> dict[str, Any]:
            async for event in trigger.run():
                return dict(event.payload)
            raise AssertionError("no event")

        return asyncio.run(asyncio.wait_for(first(), 30))

    def resume(self, deferral: Any, event: dict[str, Any]) -> Any:
        """Go on in a new process."""
        return getattr(self.new(), deferral.method_name)(self.context, event)

    def jobs(self) -> list[Any]:
        """Return the jobs that are there."""
        found: list[Any] = self.operator.job_client.list_namespaced_job(NAMESPACE).items
        return found

    def pods(self) -> list[Any]:
        """Return the pods that are there."""
        found: list[Any] = self.operator.client.list_namespaced_pod(NAMESPACE).items
        return found

    def until_running(self) -> None:
        """Wait until both pods run."""
        deadline = time.monotonic() + 15
        while [pod.status.phase for pod in self.pods()] != ["Running", "Running"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def until_nothing_is_left(self) -> None:
        """Wait until Kubernetes has nothing of it any more."""
        deadline = time.monotonic() + 15
        while self.jobs() or self.pods():
            assert time.monotonic() < deadline, [job.metadata.name for job in self.jobs()]
            time.sleep(0.1)


@pytest.fixture(autouse=True)
def s3(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """An S3 of nothing, to be filled."""
    from mlplatform import storage

    content: dict[str, bytes] = {}
    monkeypatch.setattr(storage, "try_read_bytes", lambda uri, version_id=None: content.get(uri))
    return content


@pytest.fixture(autouse=True)
def _no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk import BaseHook

    def refuse(*args: Any) -> None:
        raise AssertionError("a connection was looked up")

    monkeypatch.setattr(BaseHook, "get_connection", refuse)


def test_a_job_runs_to_its_end_and_is_cleared_away(dag: Any, cluster: Path, capfd: pytest.CaptureFixture[str]) -> None:
    task = Task(dag, cluster, "succeed")
    assert task.run() is None
    told = capfd.readouterr().out
    for index in (0, 1):
        assert f"pod {index} at 127.0.0.1:29503" in told, "the logs of all pods are in the task's"
    task.until_nothing_is_left()


def test_a_refusal_of_any_pod_is_told_in_the_step_s_own_words(dag: Any, cluster: Path, s3: dict[str, bytes]) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    s3[f"{OUTPUT}/error.json"] = b'{"step": "train", "kind": "bad-config", "message": "width: 0 is not allowed"}'
    task = Task(dag, cluster, "refuse")
    with pytest.raises(AirflowFailException, match=r"^train: width: 0 is not allowed$"):
        task.run()
    task.until_nothing_is_left()


def test_another_end_is_told_in_one_line_and_may_be_tried_again(dag: Any, cluster: Path) -> None:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    task = Task(dag, cluster, "fail")
    with pytest.raises(
        AirflowException, match=r"^pod job-flights-train-\w+-1-\w+ failed with exit code 3: boom$"
    ) as told:
        task.run()
    assert not isinstance(told.value, AirflowFailException)
    task.until_nothing_is_left()


@pytest.mark.parametrize("index", [0, 1])
def test_a_pod_that_is_taken_away_ends_the_try(dag: Any, cluster: Path, index: int) -> None:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    task = Task(dag, cluster, "work")
    deferral = task.start()
    task.until_running()
    name = sorted(pod.metadata.name for pod in task.pods())[index]
    task.operator.client.delete_namespaced_pod(name, NAMESPACE)
    with pytest.raises(AirflowException, match="one of its pods was deleted, or its node was lost") as told:
        task.resume(deferral, task.triggered(deferral))
    assert not isinstance(told.value, AirflowFailException)
    task.until_nothing_is_left()


def test_what_an_earlier_try_left_is_gone_before_the_next_one_starts(dag: Any, cluster: Path) -> None:
    first = Task(dag, cluster, "work")
    first.start()  # and the worker, or the triggerer, is never heard of again
    first.until_running()
    (left,) = first.jobs()
    other = Task(dag, cluster, "work")
    other.start()
    second = Task(dag, cluster, "succeed", first.run_id, try_number=2)
    deferral = second.start()
    names = {job.metadata.name for job in second.jobs()}
    assert left.metadata.name not in names
    assert len(names) == 2, "another run's job is left alone"
    assert not [pod for pod in second.pods() if pod.metadata.labels["job-name"] == left.metadata.name]
    second.resume(deferral, second.triggered(deferral))
    other.operator.on_kill()
    second.until_nothing_is_left()


def test_a_killed_task_takes_its_job_along(dag: Any, cluster: Path) -> None:
    task = Task(dag, cluster, "work")
    task.start()
    task.until_running()
    task.operator.on_kill()
    task.until_nothing_is_left()


def test_watching_that_fails_does_not_end_the_job(dag: Any, cluster: Path) -> None:
    from airflow.sdk.exceptions import TaskDeferred

    task = Task(dag, cluster, "work")
    deferral = task.start()
    lost = {"status": "error", "message": "connection reset", "name": "p", "namespace": NAMESPACE}
    lost |= deferral.trigger.trigger_kwargs
    with pytest.raises(TaskDeferred) as again:
        task.resume(deferral, lost)
    assert again.value.trigger.trigger_kwargs["deferred"] == 2
    assert len(task.jobs()) == 1
    task.operator.on_kill()
    task.until_nothing_is_left()


def test_a_job_that_cannot_start_is_given_up(dag: Any, cluster: Path) -> None:
    from airflow.sdk.exceptions import AirflowException

    task = Task(dag, cluster, "succeed")
    (cluster / "images.json").write_text("{}")
    deferral = task.start()
    event = {"status": "timeout", "message": "too long", "name": "p", "namespace": NAMESPACE}
    deadline = time.monotonic() + 10
    while not any("Image" in str(pod.status.container_statuses) for pod in task.pods()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with pytest.raises(AirflowException, match=r"^pod job-flights-train-\w+-0-\w+ never started: (ErrImage|ImagePull)"):
        task.resume(deferral, event | deferral.trigger.trigger_kwargs)
    task.until_nothing_is_left()


def test_a_finished_step_starts_nothing(dag: Any, cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task(dag, cluster, "succeed")
    monkeypatch.setattr(type(task.operator), "_finished_result", lambda self: f"{OUTPUT}/result.json")
    assert task.operator.execute(task.context) is None
    assert task.jobs() == []
