"""The pods of the steps: what is asked of Kubernetes, and how their ends are told."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlplatform.orchestration import pods

STEPS = {
    "train__flights/data.validate": "validate",
    "train__flights/data.prepare": "prepare",
    "train__flights/training.train": "train",
    "train__flights/promotion.evaluate": "evaluate",
    "deploy__flights/deployment.deploy": "deploy",
    "rollback__flights/deployment.deploy": "deploy",
    "monitor__flights/monitor": "monitor",
}
"""DAG and task of every pod, and its step."""
RUN_KEY = "0123456789abcdef0123"
PREFIX = f"s3://data-bucket/runs/flights/{RUN_KEY}"
DEPLOYMENT = "s3://data-bucket/deployments/flights/v3-0123456789"
WATCH = "s3://data-bucket/monitoring/flights/20260301T120000Z-0123456789"
PULLED: dict[str, Any] = {
    "ingest.resolve_inputs": {"prefix": PREFIX, "run_key": RUN_KEY},
    "deployment.verify_approval": {
        "config": f"{DEPLOYMENT}/config.json",
        "input": f"{PREFIX}/evaluate",
        "output": DEPLOYMENT,
        "dataset": "flights",
        "run_key": RUN_KEY,
    },
    "choose_window": {
        "config": f"{WATCH}/config.json",
        "input": "s3://data-bucket/captured/flights",
        "output": WATCH,
        "run_key": RUN_KEY,
    },
}
"""What tasks before the pods hand on: of training by name, of the others as one dictionary."""


def operator(dag: Any, task_id: str) -> Any:
    """Return a step's operator; of the mapped one, what a trial's task instance gets."""
    task = dag.get_task(task_id)
    if not task.is_mapped:
        return copy.deepcopy(task)  # rendering changes it
    arguments = ["train", "--config", f"{PREFIX}/train/000/config.json", "--input", f"{PREFIX}/prepare"]
    return task.unmap({"arguments": [*arguments, "--output", f"{PREFIX}/train/000"]})


def rendered(dags: dict[str, Any], pod: str, **params: Any) -> dict[str, Any]:
    """Return the pod as it is sent to Kubernetes for a run with these parameters."""
    from kubernetes.client import ApiClient

    dag_id, task_id = pod.split("/")
    dag, task = dags[dag_id], operator(dags[dag_id], task_id)
    map_index = {"training.train": 3, "deployment.deploy": 0 if dag_id == "deploy__flights" else -1}.get(task_id, -1)

    def pull(task_ids: str, key: str | None = None, map_indexes: int = -1) -> Any:
        assert map_indexes == (map_index if task_ids.startswith("deployment.") else -1), "of the same deployment"
        return PULLED[task_ids][key] if key else PULLED[task_ids]

    context: Any = {
        "params": {},
        **(dag.user_defined_macros or {}),
        "ti": SimpleNamespace(
            xcom_pull=pull,
            dag_id=dag_id,
            task_id=task_id,
            map_index=map_index,
            try_number=1,
        ),
        "run_id": "manual__2026-01-01T00:00:00+00:00",
        "dag": dag,
    }
    if dag_id == "train__flights":
        context["params"] |= {"family": "xgboost", "device": "cuda", **params}
    task.render_template_fields(context)
    task.name = task._set_name(task.name)
    built: dict[str, Any] = ApiClient().sanitize_for_serialization(task.build_pod_request_obj(context, dry_run=True))
    return built


def test_no_pod_is_left_out(dags: dict[str, Any]) -> None:
    found = {f"{name}/{task.task_id}" for name, dag in dags.items() for task in dag.tasks if "Pod" in task.task_type}
    datasets = {name.partition("__")[2] for name in dags}
    assert found == {name.replace("__flights", f"__{dataset}") for name in STEPS for dataset in datasets}


@pytest.mark.parametrize(("name", "step"), STEPS.items())
def test_a_pod_asks_for_what_the_settings_say_and_no_more(dags: dict[str, Any], name: str, step: str) -> None:
    pod = rendered(dags, name)
    spec = pod["spec"]
    (container,) = spec["containers"]
    role = {"deploy": "deployer", "train": "trainer-cuda"}.get(step, "trainer")
    assert f"mlplatform/{role}:" in container["image"]
    assert spec.get("priorityClassName") == ("ml-platform-deployment" if step == "deploy" else None)
    assert spec["terminationGracePeriodSeconds"] == (120 if step == "train" else 30)
    assert pod["metadata"]["namespace"] == ("ml-deployment" if step == "deploy" else "ml-training")
    assert (
        spec["serviceAccountName"]
        == {
            "validate": "validator",
            "prepare": "preparer",
            "train": "trainer",
            "evaluate": "evaluator",
            "deploy": "deployer",
            "monitor": "monitor",
        }[step]
    )
    assert spec["automountServiceAccountToken"] is False
    assert spec["restartPolicy"] == "Never"
    assert 60 <= spec["activeDeadlineSeconds"] <= 3600
    resources = container["resources"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    assert "cpu" in resources["requests"]
    assert "cpu" not in resources["limits"]
    tainted = {"key": "nvidia.com/gpu", "operator": "Equal", "value": "true", "effect": "NoSchedule"}
    if step == "train":
        assert resources["requests"]["nvidia.com/gpu"] == resources["limits"]["nvidia.com/gpu"] == "1"
        assert spec["nodeSelector"] == {"ml-platform/node-pool": "gpu"}
        assert spec["tolerations"] == [tainted]
    else:
        assert "nvidia.com/gpu" not in resources["limits"]
        assert spec["nodeSelector"] == {"ml-platform/node-pool": "cpu"}
        assert not spec.get("tolerations")
    assert pod["metadata"]["annotations"] == {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}


@pytest.mark.parametrize(
    ("params", "image"),
    [
        pytest.param({"device": "cpu"}, "trainer", id="a-run-without"),
        pytest.param({"family": "sklearn", "device": "auto"}, "trainer", id="a-family-that-cannot"),
        pytest.param({"family": "pytorch", "device": "cpu"}, "trainer-cuda", id="a-family-that-is-in-no-other-image"),
    ],
)
def test_a_training_without_a_gpu_takes_no_node_that_has_one(
    dags: dict[str, Any], params: dict[str, Any], image: str
) -> None:
    spec = rendered(dags, "train__flights/training.train", **params)["spec"]
    (container,) = spec["containers"]
    assert f"mlplatform/{image}:" in container["image"]
    assert "nvidia.com/gpu" not in {**container["resources"]["requests"], **container["resources"]["limits"]}
    assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"] == "2Gi"
    assert spec["nodeSelector"] == {"ml-platform/node-pool": "cpu"}
    assert not spec.get("tolerations")
    assert [volume["name"] for volume in spec["volumes"]] == ["tmp"]


def test_several_gpus_share_memory(dag: Any) -> None:
    """Built from settings of its own: no environment has more than one GPU to a pod."""
    from mlplatform.config.loading import load_dataset
    from mlplatform.orchestration.pod_options import step_options

    dataset = load_dataset("flights")
    train = dataset.settings.steps["train"].model_copy(update={"gpus": 4})
    settings = dataset.settings.model_copy(update={"steps": dataset.settings.steps | {"train": train}})
    options = step_options(replace(dataset, settings=settings), "train", "key")
    shared = {volume.name: volume.empty_dir.medium for volume in options["volumes"]}
    assert shared == {"tmp": None, "shm": "Memory"}
    assert {mount.name: mount.mount_path for mount in options["volume_mounts"]} == {"tmp": "/tmp", "shm": "/dev/shm"}
    assert [volume.name for volume in options["without_gpu"]["volumes"]] == ["tmp"]


@pytest.mark.parametrize("name", STEPS)
def test_a_pod_can_do_no_harm(dags: dict[str, Any], name: str) -> None:
    spec = rendered(dags, name)["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["volumes"] == [{"name": "tmp", "emptyDir": {}}]
    assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    assert not spec.get("hostNetwork")
    names = {entry["name"] for entry in container["env"]} - {"TRAINER_GRACE_SECONDS", "TRAINER_MEMORY_MIB"}
    assert names == {"TMPDIR", "HOME"}, "no credentials, no endpoints"
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"


@pytest.mark.parametrize(
    ("name", "config", "source", "output"),
    [
        ("train__flights/data.validate", f"{PREFIX}/config.json", PREFIX, f"{PREFIX}/validate"),
        ("train__flights/data.prepare", f"{PREFIX}/config.json", PREFIX, f"{PREFIX}/prepare"),
        (
            "train__flights/training.train",
            f"{PREFIX}/train/000/config.json",
            f"{PREFIX}/prepare",
            f"{PREFIX}/train/000",
        ),
        (
            "train__flights/promotion.evaluate",
            f"{PREFIX}/evaluate/config.json",
            f"{PREFIX}/prepare",
            f"{PREFIX}/evaluate",
        ),
        ("deploy__flights/deployment.deploy", f"{DEPLOYMENT}/config.json", f"{PREFIX}/evaluate", DEPLOYMENT),
        ("rollback__flights/deployment.deploy", f"{DEPLOYMENT}/config.json", f"{PREFIX}/evaluate", DEPLOYMENT),
        ("monitor__flights/monitor", f"{WATCH}/config.json", "s3://data-bucket/captured/flights", WATCH),
    ],
)
def test_a_step_is_called_as_its_contract_says(
    dags: dict[str, Any], name: str, config: str, source: str, output: str
) -> None:
    (container,) = rendered(dags, name)["spec"]["containers"]
    assert not container.get("command"), "the image knows its own entry point"
    assert container["args"] == [STEPS[name], "--config", config, "--input", source, "--output", output]


@pytest.mark.parametrize("name", STEPS)
def test_a_pod_is_labelled_for_people_and_for_taking_it_up_again(dags: dict[str, Any], name: str) -> None:
    pod = rendered(dags, name)
    labels = pod["metadata"]["labels"]
    assert labels["ml-platform/dataset"] == "flights"
    assert labels["ml-platform/owner"] == "ml-platform"
    assert labels["ml-platform/step"] == STEPS[name]
    assert labels["ml-platform/run-key"] == RUN_KEY
    assert labels["app.kubernetes.io/managed-by"] == "airflow"
    assert f"{labels['dag_id']}/{labels['task_id']}" == name
    assert all(len(value) <= 63 for value in labels.values())
    assert pod["metadata"]["name"].startswith(f"flights-{STEPS[name]}-")


@pytest.mark.parametrize("name", STEPS)
def test_a_pod_is_watched_without_a_worker_and_bounded_in_time(dags: dict[str, Any], bundle: Path, name: str) -> None:
    dag_id, task_id = name.split("/")
    task = operator(dags[dag_id], task_id)
    assert task.deferrable
    assert task.do_xcom_push is False
    assert task.get_logs
    assert task.on_finish_action.value == "delete_pod"
    assert task.reattach_on_restart
    assert task.poll_interval == 0.5
    assert isinstance(task.startup_check_interval_seconds, int), "a watch takes whole seconds"
    limits = task.startup_timeout_seconds + task.schedule_timeout_seconds + task.active_deadline_seconds
    assert task.execution_timeout > timedelta(seconds=limits)
    assert task.config_file == str(bundle / "kubeconfig")


# --- How a pod's end is told ---------------------------------------------------------------------


def ended(code: int = 1, words: str | None = None, **status: Any) -> Any:
    from kubernetes.client import models as k8s

    state = k8s.V1ContainerStateTerminated(
        exit_code=code, message=words, reason=status.pop("container_reason", "Error")
    )
    return k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(name="flights-train-1", namespace="ml-training"),
        spec=k8s.V1PodSpec(
            active_deadline_seconds=900,
            containers=[k8s.V1Container(name="base", resources=k8s.V1ResourceRequirements(limits={"memory": "2Gi"}))],
        ),
        status=k8s.V1PodStatus(
            phase="Succeeded" if code == 0 else "Failed",
            container_statuses=[
                k8s.V1ContainerStatus(
                    name="base",
                    image="i",
                    image_id="i",
                    ready=False,
                    restart_count=0,
                    state=k8s.V1ContainerState(terminated=state),
                )
            ],
            **status,
        ),
    )


def never_started(**waiting: str) -> Any:
    from kubernetes.client import models as k8s

    pod = ended()
    pod.status.phase = "Pending"
    pod.status.container_statuses[0].state = k8s.V1ContainerState(waiting=k8s.V1ContainerStateWaiting(**waiting))
    return pod


@pytest.fixture
def train(dag: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A trial's operator whose cluster is not there."""
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

    task = operator(dag, "training.train")
    task.name = "flights-train"
    for method in ("is_istio_enabled", "patch_already_checked", "process_pod_deletion"):
        monkeypatch.setattr(KubernetesPodOperator, method, lambda self, *args, **kwargs: False)
    for method in ("_read_pod_container_states", "_read_pod_events"):
        monkeypatch.setattr(KubernetesPodOperator, method, lambda self, *args, **kwargs: None)
    return task


def outcome(task: Any, pod: Any) -> BaseException:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - which one is what the caller asserts
        task.cleanup(pod=pod, remote_pod=pod, context=None)
    return raised.value


def objects(monkeypatch: pytest.MonkeyPatch, content: dict[str, bytes]) -> None:
    from mlplatform import storage

    monkeypatch.setattr(storage, "try_read_bytes", lambda uri, version_id=None: content.get(uri))


def test_exit_64_ends_the_task_with_the_step_s_own_words(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    error = b'{"step": "train", "kind": "bad-config", "message": "depth: 99 is not allowed (1-16)"}'
    objects(monkeypatch, {f"{PREFIX}/train/000/error.json": error})
    raised = outcome(train, ended(64, "a long log\ntrain: depth"))
    assert isinstance(raised, AirflowFailException)
    assert str(raised) == "train: depth: 99 is not allowed (1-16)"
    assert raised.__suppress_context__


@pytest.mark.parametrize("content", [{}, {f"{PREFIX}/train/000/error.json": b"not json"}])
def test_exit_64_without_a_readable_reason_tells_the_container_s_last_words(
    train: Any, monkeypatch: pytest.MonkeyPatch, content: dict[str, bytes]
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    objects(monkeypatch, content)
    raised = outcome(train, ended(64, "trainer: --config: not an S3 address"))
    assert isinstance(raised, AirflowFailException)
    assert str(raised).endswith("failed with exit code 64: trainer: --config: not an S3 address")


@pytest.mark.parametrize(
    ("pod", "message"),
    [
        (ended(1, "boom"), "pod flights-train-1 failed with exit code 1: boom"),
        (
            ended(1, "Traceback:\n  line 1\nboom\n"),
            "pod flights-train-1 failed with exit code 1: Traceback: line 1 boom",
        ),
        (
            ended(137, reason="Evicted", message="node was low on memory"),
            "pod flights-train-1 was evicted: node was low on memory; "
            "another try goes on from the last checkpoint, if one was written",
        ),
        (ended(137, container_reason="OOMKilled"), "pod flights-train-1 ran out of memory (2Gi; memory of the step)"),
        (
            ended(137, reason="DeadlineExceeded"),
            "pod flights-train-1 ran longer than 15 minutes and was stopped (timeout_minutes of the step)",
        ),
        (
            never_started(reason="ImagePullBackOff", message="no such image"),
            "pod flights-train-1 never started: ImagePullBackOff: no such image",
        ),
    ],
    ids=["exit-1", "several-lines", "evicted", "out-of-memory", "deadline", "no-image"],
)
def test_other_ends_are_told_in_one_line_and_may_be_tried_again(train: Any, pod: Any, message: str) -> None:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    raised = outcome(train, pod)
    assert isinstance(raised, AirflowException)
    assert not isinstance(raised, AirflowFailException)
    assert str(raised) == message


def test_a_pod_that_succeeded_raises_nothing(train: Any) -> None:
    pod = ended(0)
    train.cleanup(pod=pod, remote_pod=pod, context=None)


def test_a_task_killed_by_a_person_raises_nothing_more(train: Any) -> None:
    train._killed = True
    train.cleanup(pod=ended(64), remote_pod=ended(64), context=None)


@pytest.mark.parametrize("code", [64, 1])
def test_after_a_deferral_the_end_is_told_the_same_way(train: Any, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    pod = ended(code, "boom")
    objects(monkeypatch, {})
    train.hook = SimpleNamespace(get_pod=lambda name, namespace: pod)
    train.pod_manager = SimpleNamespace(await_pod_completion=lambda *args, **kwargs: pod)
    monkeypatch.setattr(type(train), "_write_logs", lambda self, *args, **kwargs: None)
    event = {"status": "failed", "name": "flights-train-1", "namespace": "ml-training", "message": "Container failed"}
    with pytest.raises(AirflowException) as raised:
        train.trigger_reentry({"ti": SimpleNamespace()}, event)
    assert isinstance(raised.value, AirflowFailException) == (code == 64)
    assert "boom" in str(raised.value)


def taken(code: int | None = None, reason: str | None = None) -> Any:
    """Return a pod within its grace period, or one that ended in it."""
    from kubernetes.client import models as k8s

    pod = ended(code or 0)
    pod.metadata.deletion_timestamp, pod.metadata.deletion_grace_period_seconds = datetime.now(UTC), 30
    if code is None:
        pod.status.phase = "Running"
        running = k8s.V1ContainerStateRunning(started_at=datetime.now(UTC))
        pod.status.container_statuses[0].state = k8s.V1ContainerState(running=running)
    if reason is not None:
        pod.status.conditions = [k8s.V1PodCondition(type="DisruptionTarget", status="True", reason=reason)]
    return pod


TAKEN = "; another try goes on from the last checkpoint, if one was written"


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        pytest.param(ended(3, "boom"), "pod flights-train-1 failed with exit code 3: boom", id="had-failed"),
        pytest.param(ended(64, "bad"), "pod flights-train-1 failed with exit code 64: bad", id="had-refused"),
        pytest.param(taken(64), "pod flights-train-1 failed with exit code 64: Error", id="refused-then"),
        pytest.param(ended(0), None, id="had-succeeded"),
        pytest.param(
            taken(reason="PreemptionByScheduler"),
            f"pod flights-train-1 was taken away for a pod of higher priority (PreemptionByScheduler){TAKEN}",
            id="preempted",
        ),
        pytest.param(taken(), f"pod flights-train-1 was deleted while it ran, and nobody says by whom{TAKEN}", id="n"),
    ],
)
@pytest.mark.parametrize("reads", [1, 2])
def test_a_pod_that_vanishes_between_two_reads_is_told_as_it_was_seen(
    train: Any, monkeypatch: pytest.MonkeyPatch, seen: Any, told: str | None, reads: int
) -> None:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException
    from kubernetes.client import models as k8s
    from kubernetes.client.exceptions import ApiException

    left = reads

    def get_pod(name: str, namespace: str) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise ApiException(status=404)
        return seen

    def gone(*args: Any) -> None:
        raise ApiException(status=404)

    killing = k8s.CoreV1Event(metadata=k8s.V1ObjectMeta(), involved_object=k8s.V1ObjectReference(), reason="Killing")
    objects(monkeypatch, {})
    train.hook = SimpleNamespace(get_pod=get_pod)
    train.client = SimpleNamespace(list_namespaced_event=lambda *args, **kwargs: SimpleNamespace(items=[killing]))
    train.pod_manager = SimpleNamespace(await_pod_completion=gone)
    train.poll_interval = 0.01
    monkeypatch.setattr(type(train), "_write_logs", lambda self, *args, **kwargs: None)
    event = {"status": "error", "name": "flights-train-1", "namespace": "ml-training", "message": "?"}
    if told is None:
        assert train.trigger_reentry({"ti": SimpleNamespace()}, event) is None
        return
    with pytest.raises(AirflowException) as raised:
        train.trigger_reentry({"ti": SimpleNamespace()}, event)
    assert str(raised.value) == told
    assert isinstance(raised.value, AirflowFailException) is ("exit code 64" in told)


def test_a_pod_whose_container_was_done_when_its_node_was_lost_is_done(
    train: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = taken(0)
    pod.status.phase = "Running"
    pod.status.container_statuses[0].state.terminated.finished_at = datetime.now(UTC) - timedelta(seconds=90)
    objects(monkeypatch, {})
    train.hook = SimpleNamespace(get_pod=lambda name, namespace: pod)
    monkeypatch.setattr("mlplatform.orchestration.step_operator.PATIENCE_SECONDS", -60)
    monkeypatch.setattr(type(train), "_write_logs", lambda self, *args, **kwargs: None)
    event = {"status": "success", "name": "flights-train-1", "namespace": "ml-training"}
    assert train.trigger_reentry({"ti": SimpleNamespace()}, event) is None


def test_a_pod_that_was_made_while_its_task_was_killed_is_deleted(train: Any) -> None:
    from airflow.sdk.exceptions import AirflowException

    deleted: list[str] = []
    train.client = SimpleNamespace(delete_namespaced_pod=lambda name, **kwargs: deleted.append(name))
    train.on_kill()
    train.pod = ended(0)
    with pytest.raises(AirflowException, match=r"^the task was told to end$"):
        train.invoke_defer_method(context={})
    assert deleted == ["flights-train-1"]


def result(**changes: Any) -> bytes:
    from mlplatform.documents.results import TrainResult

    return (
        TrainResult.model_validate(
            {
                "run_key": "k",
                "started_at": "2026-01-01T00:00:00Z",
                "finished_at": "2026-01-01T00:00:00Z",
                "trials": [{"trial": 0, "status": "failed", "reason": "diverged", "family": "xgboost", "params": {}}],
                **changes,
            }
        )
        .model_dump_json()
        .encode()
    )


class Launched(Exception):
    pass


@pytest.mark.parametrize(
    ("content", "try_number", "launched"),
    [
        pytest.param(None, 1, True, id="no-result"),
        pytest.param("valid", 1, False, id="a-valid-result"),
        pytest.param("valid", 2, True, id="a-retry-takes-over-the-first-pod"),
        pytest.param("broken", 1, True, id="a-broken-result"),
    ],
)
def test_a_step_with_a_valid_result_needs_no_pod(
    train: Any, monkeypatch: pytest.MonkeyPatch, content: str | None, try_number: int, launched: bool
) -> None:
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

    def launch(self: Any, context: Any) -> None:
        raise Launched

    bodies = {"valid": result(), "broken": b"{}"}
    objects(monkeypatch, {f"{PREFIX}/train/000/result.json": bodies[content]} if content else {})
    monkeypatch.setattr(KubernetesPodOperator, "execute_async", launch)
    context = {"ti": SimpleNamespace(try_number=try_number)}
    if launched:
        with pytest.raises(Launched):
            train.execute(context)
    else:
        assert train.execute(context) is None


def test_nothing_looks_up_a_connection(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import TaskDeferred

    def refuse(*args: Any) -> None:
        raise AssertionError("a connection was looked up")

    monkeypatch.setattr(BaseHook, "get_connection", refuse)
    assert train.hook.conn_extras == {}
    train.pod = ended()
    train.pod.status.phase = "Pending"
    train.pod.status.container_statuses = None
    with pytest.raises(TaskDeferred) as deferred:
        train.invoke_defer_method()
    assert deferred.value.trigger.connection_extras == {}


@pytest.mark.parametrize(
    ("phases", "deferred"),
    [
        pytest.param(["Running", "Succeeded"], False, id="ends-soon"),
        pytest.param(["Failed"], False, id="fails-soon"),
        pytest.param(["Running"] * 100, True, id="takes-longer"),
        pytest.param([], True, id="api-away"),
    ],
)
def test_a_worker_stays_a_little_with_a_new_pod(
    train: Any, monkeypatch: pytest.MonkeyPatch, phases: list[str], deferred: bool
) -> None:
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
    from airflow.sdk.exceptions import TaskDeferred
    from kubernetes.client.exceptions import ApiException

    pod = ended(0 if "Failed" not in phases else 1)
    clock = [0.0]
    monkeypatch.setattr(pods.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(pods.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    left = list(phases)

    def get_pod(name: str, namespace: str) -> Any:
        if not phases:
            raise ApiException(status=500)
        pod.status.phase = left.pop(0) if left else phases[-1]
        return pod

    resumed: list[Any] = []
    train.hook = SimpleNamespace(get_pod=get_pod)
    request = ended()
    request.status = None
    train.pod_request_obj = request
    monkeypatch.setattr(KubernetesPodOperator, "get_or_create_pod", lambda self, **kwargs: request)
    monkeypatch.setattr(KubernetesPodOperator, "trigger_reentry", lambda self, context, event: resumed.append(event))
    context: Any = {
        "ti": SimpleNamespace(xcom_push=lambda **kwargs: None, start_date=datetime(2026, 1, 1, tzinfo=UTC)),
    }
    if deferred:
        with pytest.raises(TaskDeferred):
            train.execute_async(context)
        assert clock[0] <= train.attended_seconds + 1
    else:
        train.execute_async(context)
        assert [event["status"] for event in resumed] == ["failed" if "Failed" in phases else "success"]


# --- Reports -------------------------------------------------------------------------------------

REPORTING = {"data.validate": "validate", "promotion.evaluate": "evaluate"}


def validated(report: str) -> bytes:
    from mlplatform.documents.results import ValidateResult

    now = datetime(2026, 1, 1, tzinfo=UTC)
    result = ValidateResult(
        run_key="k", started_at=now, finished_at=now, files=[], report_uri=report, profile_uri="s3://data-bucket/p"
    )
    return result.model_dump_json().encode()


def linked(task: Any) -> Any:
    """Return what Airflow does at the end of a task: ask its links for their addresses."""
    return {link.xcom_key: link.get_link(operator=task, ti_key=None) for link in task.operator_extra_links}


@pytest.fixture
def validate(dag: Any) -> Any:
    import copy

    task = copy.copy(dag.get_task("data.validate"))
    task.arguments = ["validate", "--config", f"{PREFIX}/config.json", "--input", PREFIX]
    task.arguments += ["--output", f"{PREFIX}/validate"]
    return task


def test_steps_with_a_report_have_a_button_that_needs_no_plugin(dag: Any) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    data = DagSerialization.to_dict(dag)
    found = {
        task["__var"]["task_id"]: task["__var"].get("_operator_extra_links")
        for task in data["dag"]["tasks"]
        if task["__var"].get("_operator_extra_links")
    }
    assert found == {task_id: {"Report": "report"} for task_id in REPORTING}
    links = DagSerialization.from_dict(data).get_task("data.validate").operator_extra_links
    assert [(link.name, link.xcom_key) for link in links] == [("Report", "report")]


def test_the_button_leads_to_the_report(
    validate: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    report = f"{PREFIX}/validate/report.html"
    objects(monkeypatch, {f"{PREFIX}/validate/result.json": validated(report)})
    address = f"http://127.0.0.1:9/{report.removeprefix('s3://')}"
    assert linked(validate) == {"report": address}


@pytest.mark.parametrize("written", [True, False])
def test_a_step_that_refused_its_input_may_have_a_report_too(
    validate: Any, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    from mlplatform import storage

    objects(monkeypatch, {})
    key = f"{PREFIX.removeprefix('s3://data-bucket/')}/validate/report.html"
    monkeypatch.setattr(storage, "list_objects", lambda uri: iter([{"Key": key}] if written else []))
    assert linked(validate) == {"report": f"http://127.0.0.1:9/data-bucket/{key}" if written else ""}
