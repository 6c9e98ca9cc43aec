"""How Kubernetes' words on pods, jobs and refused requests are told to people: made by hand, in its own words."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
OUTLOOK = "another try goes on"


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def pod(
    name: str = "p-1",
    phase: str = "Failed",
    code: int | None = 137,
    ended: float = 60,
    deleted: float | None = None,
    disruption: tuple[str, str] | None = None,
    **status: Any,
) -> Any:
    """Return a pod; one that is deleted was told so then, and has 30 seconds."""
    from kubernetes.client import models as k8s

    state = k8s.V1ContainerState(running=k8s.V1ContainerStateRunning(started_at=NOON))
    if code is not None:
        reason = status.pop("container_reason", "Error")
        state = k8s.V1ContainerState(
            terminated=k8s.V1ContainerStateTerminated(exit_code=code, reason=reason, finished_at=at(ended))
        )
    base = k8s.V1ContainerStatus(name="base", image="i", image_id="i", ready=False, restart_count=0, state=state)
    conditions = []
    if disruption is not None:
        conditions = [
            k8s.V1PodCondition(
                type="DisruptionTarget",
                status="True",
                reason=disruption[0],
                message=disruption[1],
                last_transition_time=at(ended - 5),
            )
        ]
    return k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(
            name=name,
            namespace="ml-training",
            deletion_timestamp=None if deleted is None else at(deleted + 30),
            deletion_grace_period_seconds=None if deleted is None else 30,
        ),
        spec=k8s.V1PodSpec(containers=[k8s.V1Container(name="base")]),
        status=k8s.V1PodStatus(phase=phase, container_statuses=[base], conditions=conditions, **status),
    )


def event(reason: str, message: str = "", seconds: float = 60) -> Any:
    from kubernetes.client import models as k8s

    return k8s.CoreV1Event(
        metadata=k8s.V1ObjectMeta(name="e"),
        involved_object=k8s.V1ObjectReference(name="p-1"),
        reason=reason,
        message=message,
        last_timestamp=at(seconds),
    )


# --- Pods ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "message", "told"),
    [
        (
            "PreemptionByScheduler",
            "default-scheduler: preempting to accommodate a higher priority pod",
            "for a pod of higher priority",
        ),
        (
            "DeletionByTaintManager",
            "Taint manager: deleting due to NoExecute taint",
            "because its node did not answer any more or was to be emptied",
        ),
        (
            "EvictionByEvictionAPI",
            "Eviction API: evicting",
            "by an eviction, as when its node is drained or scaled down",
        ),
        ("DeletionByPodGC", "PodGC: node no longer exists", "because its node is gone"),
        (
            "TerminationByKubelet",
            "Pod was terminated in response to imminent node shutdown.",
            "by its node, which was short of room or shut down",
        ),
        ("SomethingNew", "new words", ""),
    ],
)
def test_a_pod_that_was_taken_away_says_by_what(reason: str, message: str, told: str) -> None:
    from mlplatform.orchestration.pod_status import explain

    words = f"pod p-1 was taken away {told}".rstrip() + f" ({reason}: {message}); {OUTLOOK}"
    assert explain(pod(code=143, deleted=50, disruption=(reason, message)), "base", OUTLOOK) == words


def test_a_pod_that_ended_by_itself_is_not_told_as_deleted() -> None:
    from mlplatform.orchestration.pod_status import explain

    assert explain(pod(code=3, ended=60, deleted=70), "base", OUTLOOK) == "pod p-1 failed with exit code 3: Error"
    deleted = f"pod p-1 was deleted, and nobody says by whom; {OUTLOOK}"
    assert explain(pod(code=143, ended=60, deleted=50), "base", OUTLOOK) == deleted
    assert explain(pod(code=None, phase="Running", deleted=50), "base", OUTLOOK) == deleted


@pytest.mark.parametrize(
    ("events", "told"),
    [
        (
            [event("Killing", "Stopping container base"), event("Preempted", "Preempted by pod u on node n")],
            "pod p-1 was taken away for a pod of higher priority (Preempted: Preempted by pod u on node n)",
        ),
        (
            [
                event("NodeNotReady", "Node is not ready"),
                event("TaintManagerEviction", "Marking for deletion Pod ml-training/p-1"),
            ],
            "pod p-1 was taken away because its node did not answer any more or was to be emptied "
            "(TaintManagerEviction: Marking for deletion Pod ml-training/p-1)",
        ),
        (
            [
                event("TaintManagerEviction", "Marking for deletion Pod ml-training/p-1", 10),
                event("TaintManagerEviction", "Cancelling deletion of Pod ml-training/p-1", 20),
                event("Killing", "Stopping container base"),
            ],
            "pod p-1 was deleted while it ran, and nobody says by whom",
        ),
        (
            [event("ScaleDown", "deleting pod for node scale down"), event("Killing")],
            "pod p-1 was taken away because its node was scaled down (ScaleDown: deleting pod for node scale down)",
        ),
        (
            [event("Evicted", "The node was low on resource: ephemeral-storage."), event("Killing")],
            "pod p-1 was taken away by its node (Evicted: The node was low on resource: ephemeral-storage.)",
        ),
        (
            [event("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")],
            "pod p-1 ran longer than it may and was stopped (timeout_minutes of the step)",
        ),
        ([event("Pulled", "Container image already present")], "pod p-1 is gone, and nobody says why"),
        ([], "pod p-1 is gone, and nobody says why"),
    ],
)
def test_a_pod_that_is_gone_is_told_from_its_events(events: list[Any], told: str) -> None:
    from mlplatform.orchestration.disruptions import gone

    assert gone("p-1", events).startswith(told)


# --- Jobs ----------------------------------------------------------------------------------------

CREATED = [event("SuccessfulCreate", f"Created pod: p-{index}", 0) for index in (0, 1)]
CLEARED = event("SuccessfulDelete", "Deleted pod: p-0")


@pytest.mark.parametrize(
    ("pods", "about_pods", "events", "told"),
    [
        pytest.param(
            [pod("p-0", deleted=61, ended=62)],
            {"p-1": [event("Killing", "Stopping container base")]},
            [*CREATED, CLEARED],
            "pod p-1 was deleted while it ran, and nobody says by whom; another try goes on",
            id="deleted-and-gone",
        ),
        pytest.param(
            [pod("p-0", deleted=61, ended=62), pod("p-1", code=143, deleted=60, ended=61)],
            {},
            [*CREATED, CLEARED],
            "pod p-1 was deleted, and nobody says by whom; another try goes on",
            id="deleted-and-there",
        ),
        pytest.param(
            [pod("p-0", deleted=61, ended=62), pod("p-1", deleted=60, ended=61, disruption=("DeletionByPodGC", "m"))],
            {},
            [],
            "pod p-1 was taken away because its node is gone (DeletionByPodGC: m); another try goes on",
            id="disrupted",
        ),
        pytest.param(
            [pod("p-0", code=1, ended=70)],
            {"p-1": [event("Preempted", "by q", 60)]},
            CREATED,
            "pod p-1 was taken away for a pod of higher priority (Preempted: by q); another try goes on",
            id="its-peer-fails-after-it",
        ),
        pytest.param(
            [pod("p-0", deleted=61, ended=62), pod("p-1", code=3, ended=60)],
            {},
            [*CREATED, CLEARED],
            "pod p-1 failed with exit code 3: Error",
            id="failed-by-itself",
        ),
        pytest.param(
            [pod("p-0", code=1, ended=60), pod("p-1", code=137, ended=60, container_reason="OOMKilled")],
            {},
            CREATED,
            "pod p-1 ran out of memory (its limit; memory of the step)",
            id="out-of-memory-in-the-same-second",
        ),
        pytest.param(
            [pod(f"p-{index}", deleted=61, ended=62) for index in (0, 1)],
            {},
            [*CREATED, CLEARED, event("SuccessfulDelete", "Deleted pod: p-1")],
            None,
            id="all-cleared-away",
        ),
        pytest.param([pod("p-0", deleted=61, ended=62)], {}, [], None, id="nobody-knows"),
        pytest.param(
            [pod("p-0", deleted=61, ended=62)],
            {},
            [*CREATED, event("SuccessfulDelete", "(combined from similar events): Deleted pod: p-7")],
            None,
            id="too-many-to-be-named",
        ),
        pytest.param(
            [pod("p-0", "Succeeded", 0, ended=62, deleted=61)], {"p-1": []}, [*CREATED, CLEARED], "pod p-1 is gone, ",
            id="a-peer-that-was-done",
        ),
    ],
)  # fmt: skip
def test_the_first_end_is_not_that_of_a_healthy_pod(
    pods: list[Any], about_pods: dict[str, list[Any]], events: list[Any], told: str | None
) -> None:
    from mlplatform.orchestration.job_status import first_end

    end = first_end(pods, events, "base", OUTLOOK, about_pods.__getitem__)
    if told is None:
        assert end is None
    else:
        assert end is not None
        assert end.message.startswith(told)


QUOTA = (
    "exceeded quota: steps, requested: requests.memory=12Gi, used: requests.memory=96Gi, limited: requests.memory=96Gi"
)


@pytest.fixture
def job_task(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The operator of a job of two pods whose cluster is not there."""
    from tests.dags.cluster import make, settings_for

    task = make(settings_for(2))
    monkeypatch.setattr(type(task), "_read_pod_events", lambda self, *args, **kwargs: None)
    monkeypatch.setattr(type(task), "_finished_result", lambda self: None)
    monkeypatch.setattr(type(task), "_own_words", lambda self: "train: no")
    return task


def job_failure(task: Any, pods: list[Any], events: list[Any], about_pods: dict[str, list[Any]] | None = None) -> Any:
    from kubernetes.client import models as k8s

    failed = k8s.V1JobCondition(type="Failed", status="True", reason="BackoffLimitExceeded")
    job = k8s.V1Job(status=k8s.V1JobStatus(failed=len(pods), conditions=[failed]))
    task._events_about = lambda name, kind="Pod": events if kind == "Job" else (about_pods or {}).get(name, [])
    with pytest.raises(Exception) as raised:  # noqa: PT011 - which one is what the caller asserts
        task._fail("job-0", job, pods)
    return raised.value


def test_a_job_that_got_too_few_pods_says_why(job_task: Any) -> None:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    created = event("SuccessfulCreate", "Created pod: p-0", 0)
    refused = event("FailedCreate", f'Error creating: pods "job-0-abc" is forbidden: {QUOTA}', 10)
    raised = job_failure(job_task, [pod("p-0", code=1)], [created, refused])
    assert isinstance(raised, AirflowException)
    assert not isinstance(raised, AirflowFailException)
    assert str(raised) == (
        f'job job-0 got 1 of 2 pods: pods "job-0-abc" is forbidden: {QUOTA}; pod p-0 failed with exit code 1: Error '
        "(quotas of config/kubernetes; steps that end make room)"
    )
    limits = "maximum memory usage per Container is 64Gi, but limit is 100Gi"
    refused = event("FailedCreate", f'Error creating: pods "job-0-abc" is forbidden: {limits}', 10)
    assert type(job_failure(job_task, [], [refused])) is AirflowFailException
    later = [*CREATED, event("FailedCreate", f'Error creating: pods "p" is forbidden: {QUOTA}', 0)]
    assert str(job_failure(job_task, [pod("p-0", code=1), pod("p-1", code=None, phase="Running")], later)) == (
        "pod p-0 failed with exit code 1: Error"
    ), "both were made in the end"


@pytest.mark.parametrize("started", [False, True])
def test_a_pod_that_the_others_waited_for_is_named(job_task: Any, started: bool) -> None:
    """The first pod gives up, and the job controller clears away the one it waited for, which had found no node."""
    events = [*CREATED, event("SuccessfulDelete", "Deleted pod: p-1", 700)]
    unplaced = event("FailedScheduling", "0/2 nodes are available:\n2 Insufficient nvidia.com/gpu.", 10)
    unplaced.type = "Warning"
    about = {"p-1": [unplaced, *([event("Started", "Container started", 20)] if started else [])]}
    raised = job_failure(job_task, [pod("p-0", code=1, ended=690)], events, about)
    late = (
        "; pod p-1 had not started by then (FailedScheduling: 0/2 nodes are available: 2 Insufficient nvidia.com/gpu.)"
    )
    assert str(raised) == "pod p-0 failed with exit code 1: Error" + ("" if started else late)


def test_exit_64_is_the_step_s_word_from_a_pod_that_was_deleted_too(job_task: Any) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    raised = job_failure(job_task, [pod("p-0", code=64, ended=62, deleted=61)], [*CREATED, CLEARED])
    assert isinstance(raised, AirflowFailException)
    assert str(raised) == "train: no"


@pytest.mark.parametrize("gone", [True, False], ids=["job-gone", "pod-gone"])
def test_a_job_whose_result_is_there_is_done(
    job_task: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, gone: bool
) -> None:
    from kubernetes.client import models as k8s

    monkeypatch.setattr(type(job_task), "_finished_result", lambda self: "s3://data-bucket/result.json")
    job_task._events_about = lambda name, kind="Pod": [*CREATED, CLEARED] if kind == "Job" else []
    job = None if gone else k8s.V1Job(status=k8s.V1JobStatus(failed=2))
    job_task._fail("job-0", job, [])
    with pytest.raises(Exception, match="exit code 3"):
        job_task._fail("job-0", job, [pod("p-1", code=3, ended=1)])


@pytest.mark.parametrize("deleted", [True, False])
def test_a_job_on_a_lost_node_is_left_behind(job_task: Any, monkeypatch: pytest.MonkeyPatch, deleted: bool) -> None:
    from airflow.sdk.exceptions import AirflowException
    from kubernetes.client import models as k8s

    from mlplatform.orchestration import jobs

    monkeypatch.setattr(jobs, "PATIENCE_SECONDS", 0)
    job_task.termination_grace_period, job_task.poll_interval = 0.1, 0.05
    meta = k8s.V1ObjectMeta(name="job-0", uid="u", deletion_timestamp=NOON if deleted else None)
    present = SimpleNamespace(items=[k8s.V1Job(metadata=meta)])
    job_task.job_client = SimpleNamespace(
        list_namespaced_job=lambda *args, **kwargs: present, delete_namespaced_job=lambda *args, **kwargs: None
    )
    still = pod("p-0", "Running", None, deleted=0)
    job_task.client = SimpleNamespace(list_namespaced_pod=lambda *args, **kwargs: SimpleNamespace(items=[still]))
    told: list[str] = []
    monkeypatch.setattr(job_task.log, "warning", lambda message, *args: told.append(message % args))
    monkeypatch.setattr(type(job_task), "_labels_of_all_tries", lambda self, context: "task_id=train")
    if deleted:
        job_task._clear_away({})
        assert told == [
            "going on without waiting for pod p-0 of an earlier try: its grace is over, its node may be lost"
        ]
    else:
        with pytest.raises(AirflowException, match=r"^job job-0 of an earlier try could not be deleted$"):
            job_task._clear_away({})


def answers(*answers: Any) -> Any:
    """Return a call of the API that answers with these, one after the other; the last one stays."""
    left = list(answers)

    def call(*args: Any, **kwargs: Any) -> Any:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(items=answer)

    return call


def test_an_api_that_is_busy_for_a_moment_ends_no_try(job_task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from kubernetes.client import models as k8s

    busy = refused(500, "etcdserver: leader changed")
    left = k8s.V1Job(metadata=k8s.V1ObjectMeta(name="job-0", uid="u"))
    deletions: list[str] = []

    def delete(name: str, namespace: str, propagation_policy: str) -> None:
        deletions.append(propagation_policy)
        if len(deletions) == 1:
            raise busy

    job_task.poll_interval = 0.01
    job_task.job_client = SimpleNamespace(list_namespaced_job=answers(busy, [left], []), delete_namespaced_job=delete)
    job_task.client = SimpleNamespace(list_namespaced_pod=answers([]))
    monkeypatch.setattr(type(job_task), "_labels_of_all_tries", lambda self, context: "task_id=train")
    job_task._clear_away({})
    assert deletions == ["Foreground"] * 2, "so that the next try knows of the job until its pods have ended"


def test_a_task_that_is_killed_while_it_waits_starts_nothing(job_task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowException

    leaving = pod("p-0", "Running", None, deleted=0)

    def ends(*args: Any, **kwargs: Any) -> Any:
        job_task.on_kill()
        return SimpleNamespace(items=[])

    job_task.poll_interval = 0.01
    still = SimpleNamespace(list_namespaced_pod=lambda *args, **kwargs: SimpleNamespace(items=[leaving]))
    job_task.client = still
    monkeypatch.setattr(type(job_task), "_labels_of_all_tries", lambda self, context: "task_id=train")
    monkeypatch.setattr("time.sleep", lambda seconds: setattr(still, "list_namespaced_pod", ends))
    with pytest.raises(AirflowException, match=r"^the task was told to end$"):
        job_task._await_earlier_pods({})


@pytest.mark.parametrize("killed", [False, True])
def test_a_job_that_may_have_been_made_is_deleted(job_task: Any, monkeypatch: pytest.MonkeyPatch, killed: bool) -> None:
    """Its answer was lost, so that it is there already when it is asked for again; or it came after `on_kill`."""
    from airflow.sdk.exceptions import AirflowException
    from kubernetes.client import models as k8s

    deleted: list[str] = []

    def create(job: Any) -> None:
        if not killed:
            raise refused(409, 'jobs.batch "job-0" already exists')
        job_task.on_kill()
        deleted.clear()

    request = k8s.V1Job(metadata=k8s.V1ObjectMeta(name="job-0"))
    job_task.name, job_task.hook = "train", SimpleNamespace(create_job=create)
    job_task.job_client = SimpleNamespace(delete_namespaced_job=lambda name, *args, **kwargs: deleted.append(name))
    for name, nothing in (("is_done", False), ("_clear_away", None), ("build_job_request_obj", request)):
        monkeypatch.setattr(type(job_task), name, lambda self, context, nothing=nothing: nothing)
    with pytest.raises(AirflowException, match="told to end" if killed else "already exists"):
        job_task.execute({})
    assert deleted == ["job-0"]


def test_a_job_that_was_not_watched_any_longer_says_why(job_task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowException
    from kubernetes.client import models as k8s

    job_task.hook = SimpleNamespace(
        get_job_status=lambda *args: k8s.V1Job(
            metadata=k8s.V1ObjectMeta(name="job-0"), status=k8s.V1JobStatus(active=2)
        ),
        is_job_complete=lambda job: False,
        is_job_successful=lambda job: False,
    )
    monkeypatch.setattr(type(job_task), "_pods_of", lambda self, name: [pod("p-0", "Running", None)])
    for name in ("_write_all_logs", "_write_last_logs", "_delete"):
        monkeypatch.setattr(type(job_task), name, lambda self, what: None)
    job_task._events_about = lambda name, kind="Pod": []
    event = {"status": "error", "message": "connection reset", "name": "p-0", "job": "job-0", "deferred": 9}
    with pytest.raises(AirflowException) as raised:
        job_task.trigger_reentry({}, event)
    assert str(raised.value) == "job job-0 did not come to its end: watching it ended: connection reset"


def test_what_took_a_pod_of_a_job_away_is_told_when_it_is_gone(job_task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowException

    evicted = pod("p-1", "Running", None, deleted=50, disruption=("EvictionByEvictionAPI", "Eviction API: evicting"))
    seen = [[pod("p-0", "Running", None), evicted], [pod("p-0", deleted=61, ended=62)]]
    job_task.hook = SimpleNamespace(get_job_status=answers(refused(404, "no such job")))
    monkeypatch.setattr(type(job_task), "_pods_of", lambda self, name: seen.pop(0))
    for name in ("_write_all_logs", "_write_last_logs", "_delete"):
        monkeypatch.setattr(type(job_task), name, lambda self, what: None)
    job_task._events_about = lambda name, kind="Pod": [*CREATED, CLEARED] if kind == "Job" else []
    with pytest.raises(AirflowException, match=r"^pod p-1 was taken away by an eviction, .* \(EvictionByEvictionAPI: "):
        job_task.trigger_reentry({}, {"status": "success", "job": "job-0"})


# --- What the API refuses ------------------------------------------------------------------------


def refused(status: int, message: str | None, reason: str = "Reason") -> Any:
    """Return the client's error for an answer, with the headers that its text is full of."""
    from kubernetes.client.exceptions import ApiException

    error = ApiException(status=status, reason=reason)
    error.headers = {"Audit-Id": "1", "Content-Type": "application/json"}
    error.body = "upstream connect error" if message is None else json.dumps({"kind": "Status", "message": message})
    return error


QUOTAS = "quotas of config/kubernetes; steps that end make room"
STEP = "steps.train of the settings"


@pytest.mark.parametrize(
    ("status", "message", "hint", "again"),
    [
        (403, f'pods "x" is forbidden: {QUOTA}', QUOTAS, True),
        (
            403,
            'pods "x" is forbidden: exceeded quota: steps, requested: limits.memory=98305Mi,requests.cpu=500m, '
            "used: limits.memory=12Gi,requests.cpu=24, limited: limits.memory=96Gi,requests.cpu=24",
            f"more than the whole quota: {STEP}, quotas of config/kubernetes",
            False,
        ),
        (
            403,
            'pods "x" is forbidden: maximum memory usage per Container is 64Gi, but limit is 100Gi',
            f"{STEP}, limits of config/kubernetes",
            False,
        ),
        (
            403,
            'pods "x" is forbidden: minimum cpu usage per Container is 10m, but request is 1m',
            f"{STEP}, limits of config/kubernetes",
            False,
        ),
        (
            403,
            'pods "x" is forbidden: violates PodSecurity "restricted:v1.36": allowPrivilegeEscalation != false '
            '(container "base" must set securityContext.allowPrivilegeEscalation=false)',
            "pod-security labels of config/kubernetes, `make cluster-config`",
            False,
        ),
        (
            403,
            'pods "x" is forbidden: error looking up service account ml-training/trainer: '
            'serviceaccount "trainer" not found',
            "steps.train.service_account of the settings, `make cluster-config`",
            False,
        ),
        (
            403,
            'pods "x" is forbidden: error looking up service account ml-training/trainer: etcdserver: timed out',
            None,
            True,
        ),
        (
            403,
            'pods "x" is forbidden: no PriorityClass with name ml-platform-training was found',
            "steps.train.priority_class of the settings, `make cluster-config`",
            False,
        ),
        (
            403,
            'pods "x" is forbidden: failed quota: steps: must specify limits.memory for: base',
            f"{STEP}, quotas of config/kubernetes",
            False,
        ),
        (
            403,
            'pods is forbidden: User "airflow" cannot create resource "pods" in API group "" in the namespace '
            '"ml-training"',
            "Airflow's rights in config/kubernetes, `make cluster-config`",
            True,
        ),
        (404, 'namespaces "ml-training" not found', "kubernetes.* of the settings, `make cluster-config`", False),
        (400, "quantities must match the regular expression", STEP, False),
        (422, 'Pod "x" is invalid: spec.containers[0].image: Required value', STEP, False),
        (401, "Unauthorized", "kubernetes.kubeconfig of the settings", True),
        (409, 'pods "x" already exists', None, True),
        (403, "admission webhook w denied the request: new words", None, True),
    ],
)
def test_a_refusal_is_told_in_one_line_with_what_to_look_at(
    status: int, message: str, hint: str | None, again: bool
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from mlplatform.orchestration.refusals import failure

    told = failure(refused(status, message), "train")
    assert str(told) == f"Kubernetes refused: {message}" + (f" ({hint})" if hint else "")
    assert isinstance(told, AirflowFailException) is not again


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (QUOTA, "quota steps is used up (requests.memory: 96Gi of 96Gi used, 12Gi requested)"),
        (
            "exceeded quota: a, requested: pods=1,requests.cpu=1500m, used: pods=2,requests.cpu=1, "
            "limited: pods=2,requests.cpu=2; pod p-0 failed",
            "quota a is used up (pods: 2 of 2 used, 1 requested; requests.cpu: 1 of 2 used, 1500m requested)",
        ),
        ("exceeded quota: a, requested: pods=1,requests.cpu=1, used: pods=2,req", "quota a is used up"),
        (
            "exceeded quota: a, requested: pods=1,requests.cpu=1, used: pods=2,requests.cpu=2, limited: pods=2,req",
            "quota a is used up (pods: 2 of 2 used, 1 requested)",
        ),
    ],
    ids=["one", "two", "cut-off", "cut-off-late"],
)
def test_a_quota_that_is_used_up_is_told_as_far_as_the_api_s_words_go(said: str, told: str) -> None:
    from mlplatform.orchestration.quotas import used_up

    used = used_up(f'pods "x" is forbidden: {said}')
    assert str(used) == told
    assert used is not None
    assert used.can_hold(1)


def test_other_words_of_a_quota_are_none_of_one_that_is_used_up() -> None:
    from mlplatform.orchestration.quotas import used_up

    assert used_up("failed quota: steps: must specify limits.memory for: base") is None
    assert used_up("insufficient quota to match these scopes") is None


def test_an_answer_that_is_no_status_is_told_by_its_code() -> None:
    from mlplatform.orchestration.refusals import failure, refusal

    assert refusal(refused(502, None, "Bad Gateway")) == "502 Bad Gateway"
    assert str(failure(refused(502, None, "Bad Gateway"), "train")) == "Kubernetes answered 502: Bad Gateway"
    assert str(failure(refused(429, "the server has received too many requests"), "train")) == (
        "Kubernetes answered 429: the server has received too many requests"
    )


def test_the_text_of_an_error_in_the_triggerer_is_told_in_one_line() -> None:
    from mlplatform.orchestration.refusals import refusal

    assert refusal(str(refused(403, "pods is forbidden"))) == "pods is forbidden"
    assert refusal(str(refused(502, None, "Bad Gateway"))) == "502 Bad Gateway"
    assert refusal("Pod took too long\n to start.") == "Pod took too long to start."


def test_an_api_that_does_not_answer_is_told_in_one_line() -> None:
    from airflow.sdk.exceptions import AirflowException
    from kubernetes.client import ApiClient, Configuration, CoreV1Api

    from mlplatform.orchestration.refusals import told_in_one_line

    configuration = Configuration(host="https://127.0.0.1:9")
    configuration.retries = 0
    with pytest.raises(AirflowException) as raised, told_in_one_line("train"):
        CoreV1Api(ApiClient(configuration)).list_namespaced_pod("ml-training")
    said = "the Kubernetes API at 127.0.0.1:9 does not answer: "
    assert str(raised.value).startswith(said)
    assert "refused" in str(raised.value)
    assert "HTTPSConnection" not in str(raised.value)
    assert raised.value.__suppress_context__
