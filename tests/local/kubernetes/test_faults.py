"""Every fault that can be asked for, and what the API shows of it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.local.kubernetes.conftest import until


def _waiting(pod: Any) -> str | None:
    statuses = pod["status"].get("containerStatuses", [])
    return statuses[0]["state"].get("waiting", {}).get("reason") if statuses else None


def _reasons(pods: Any, name: str) -> list[str]:
    return [event["reason"] for event in pods.events(name)]


def test_eviction_of_a_pod_to_come(pods: Any, server: Any) -> None:
    pods.fault("evict", "evict-1", delay_seconds=0.3)
    name = pods.create("sleep=20", labels={"case": "evict-1"})
    pod = pods.finish(name)
    assert (pod["status"]["phase"], pod["status"]["reason"]) == ("Failed", "Evicted")
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 137
    assert _condition(pod, "DisruptionTarget")["reason"] == "TerminationByKubelet"
    assert _condition(pod, "DisruptionTarget")["message"] == pod["status"]["message"]
    assert "Evicted" in _reasons(pods, name)
    described = server.http("GET", "/local/faults").json()[0]
    assert (described["left"], described["applied"]) == (0, [f"{pods.namespace}/{name}"])
    spared = pods.create("print=x", labels={"case": "evict-1"})
    assert pods.finish(spared)["status"]["phase"] == "Succeeded"


def test_eviction_of_a_running_pod(pods: Any) -> None:
    name = pods.create("sleep=20", labels={"case": "evict-2"})
    other = pods.create("sleep=1", labels={"case": "evict-other"})
    pods.running(name)
    pods.fault("evict", "evict-2", times=None)
    assert pods.finish(name)["status"]["reason"] == "Evicted"
    assert pods.finish(other)["status"]["phase"] == "Succeeded"


def test_oom(pods: Any) -> None:
    pods.fault("oom", "oom")
    pod = pods.finish(pods.create("sleep=20", labels={"case": "oom"}))
    terminated = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (terminated["reason"], terminated["exitCode"]) == ("OOMKilled", 137)
    assert pod["status"]["phase"] == "Failed"


def test_an_image_that_does_not_exist(pods: Any, server: Any) -> None:
    name = pods.create(container={"image": "mlplatform/none:1"})
    pods.wait(name, lambda pod: _waiting(pod) == "ErrImagePull")
    pod = pods.wait(name, lambda pod: _waiting(pod) == "ImagePullBackOff")
    assert pod["status"]["phase"] == "Pending"
    assert "not found" in pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"]
    assert {"Pulling", "Failed", "BackOff"} <= set(_reasons(pods, name))
    refused = server.http("GET", f"/api/v1/namespaces/{pods.namespace}/pods/{name}/log")
    assert refused.status_code == 400
    assert "is waiting to start: trying and failing to pull image" in refused.json()["message"]


def test_a_pull_is_tried_again_and_again(pods: Any) -> None:
    since = pods.version()
    name = pods.create(container={"image": "mlplatform/none:2"})
    told: list[str | None] = []

    def again(event: Any) -> bool:
        reason = _waiting(event["object"])
        if reason != (told or [None])[-1]:
            told.append(reason)
        return told.count("ErrImagePull") == 2

    pods.seen(name, since, again)
    assert told[-3:] == ["ErrImagePull", "ImagePullBackOff", "ErrImagePull"]
    assert next(event["count"] for event in pods.events(name) if event["reason"] == "Pulling") >= 2


def test_what_is_no_image_is_never_pulled(pods: Any) -> None:
    name = pods.create(container={"image": "UPPER/case:tag:"})
    pod = pods.wait(name, lambda pod: _waiting(pod) == "InvalidImageName")
    message = (
        'Failed to apply default image tag "UPPER/case:tag:": couldn\'t parse image reference "UPPER/case:tag:": '
        "invalid reference format"
    )
    assert pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"] == message
    events = {event["reason"]: event["message"] for event in pods.events(name)}
    assert events["InspectFailed"] == message
    assert events["Failed"] == "Error: InvalidImageName"


def test_an_image_that_cannot_be_pulled_for_a_while(pods: Any) -> None:
    pods.fault("image-pull", "pull", duration_seconds=0.8, message="toomanyrequests: slow down")
    name = pods.create("print=x", labels={"case": "pull"})
    pod = pods.wait(name, _waiting_for_pull)
    assert "toomanyrequests" in pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"]
    assert pods.finish(name)["status"]["phase"] == "Succeeded"


def _waiting_for_pull(pod: Any) -> bool:
    return _waiting(pod) in ("ErrImagePull", "ImagePullBackOff")


def test_unschedulable_until_the_fault_is_deleted(pods: Any, server: Any) -> None:
    fault = pods.fault("unschedulable", "full", message="0/2 nodes are available: 2 Insufficient cpu.")
    name = pods.create("print=x", labels={"case": "full"})
    pods.wait(name, lambda pod: pod["status"].get("conditions"))
    condition = pods.get(name)["status"]["conditions"][0]
    assert (condition["type"], condition["status"], condition["reason"]) == ("PodScheduled", "False", "Unschedulable")
    assert condition["message"] == "0/2 nodes are available: 2 Insufficient cpu."
    assert server.http("DELETE", f"/local/faults/{fault['id']}").status_code == 200
    assert server.http("DELETE", f"/local/faults/{fault['id']}").status_code == 404
    assert pods.finish(name)["status"]["phase"] == "Succeeded"


def _condition(pod: Any, kind: str) -> Any:
    return next((c for c in pod["status"]["conditions"] if c["type"] == kind), {})


def _lost(pods: Any, server: Any, name: str) -> None:
    """Wait until the node of a pod answers no more."""
    path = f"/api/v1/namespaces/{pods.namespace}/pods/{name}/log"
    until(lambda: server.http("GET", path).status_code == 500, 10)


def test_a_lost_node_takes_its_pods_with_it(pods: Any, server: Any) -> None:
    name = pods.create("print=before", "sleep=20", labels={"case": "lost"})
    pods.running(name, printed="before")
    pods.fault("node-lost", "lost", duration_seconds=2)
    _lost(pods, server, name)
    pod = pods.get(name)
    assert pod["status"]["phase"] == "Running"
    assert "reason" not in pod["status"]
    assert "deletionTimestamp" not in pod["metadata"]
    path = f"/api/v1/namespaces/{pods.namespace}/pods/{name}"
    assert server.http("GET", f"{path}/exec?command=true&stdout=1").status_code == 500
    assert server.http("DELETE", path).status_code == 200
    # Nobody ends it: only when its node leaves the cluster, the pod garbage collector does.
    events = pods.seen(name, pod["metadata"]["resourceVersion"], lambda event: event["type"] == "DELETED")
    deleted = events[0]["object"]
    assert deleted["metadata"]["deletionGracePeriodSeconds"] == 5
    assert deleted["status"]["phase"] == "Running"
    orphaned = events[1]["object"]
    assert orphaned["status"]["phase"] == "Failed"
    target = _condition(orphaned, "DisruptionTarget")
    assert (target["reason"], target["message"]) == ("DeletionByPodGC", "PodGC: node no longer exists")
    assert [event["object"]["metadata"]["deletionGracePeriodSeconds"] for event in events[1:]] == [5, 0, 0]


def test_a_lost_node_that_nobody_cleans_up(pods: Any, server: Any, core: Any) -> None:
    pods.fault("node-lost", "lost-for-ever", duration_seconds=None)
    toleration = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"}
    name = pods.create(
        "sleep=20", labels={"case": "lost-for-ever"}, tolerations=[{**toleration, "tolerationSeconds": 10}]
    )
    _lost(pods, server, name)
    version = pods.get(name)["metadata"]["resourceVersion"]
    events = pods.seen(name, version, lambda event: "deletionTimestamp" in event["object"]["metadata"])
    # First the node is found to be silent; what its pods tolerate of that runs from then.
    silent, marked, deleted = (event["object"] for event in events)
    assert _condition(silent, "Ready")["status"] == "False"
    assert _condition(silent, "DisruptionTarget") == {}
    target = _condition(marked, "DisruptionTarget")
    assert (target["reason"], target["message"]) == (
        "DeletionByTaintManager",
        "Taint manager: deleting due to NoExecute taint",
    )
    assert deleted["metadata"]["deletionGracePeriodSeconds"] == 5
    components = {event["reason"]: event["source"].get("component") for event in pods.events(name)}
    assert components["NodeNotReady"] == "node-controller"
    assert components["TaintManagerEviction"] == "taint-eviction-controller"
    assert pods.get(name)["status"]["phase"] == "Running"
    core.delete_namespaced_pod(name, pods.namespace, grace_period_seconds=0)
    pods.gone(name)


def test_preemption_gives_the_grace_period(pods: Any) -> None:
    name = pods.create("trap=saved", "print=ready", "sleep=20", labels={"case": "preempt"})
    version = pods.running(name, printed="ready")["metadata"]["resourceVersion"]
    pods.fault("preempt", "preempt")
    events = pods.seen(name, version, lambda event: event["type"] == "DELETED")
    target = _condition(events[0]["object"], "DisruptionTarget")
    assert (target["reason"], target["message"]) == (
        "PreemptionByScheduler",
        "default-scheduler: preempting to accommodate a higher priority pod",
    )
    assert events[1]["object"]["metadata"]["deletionGracePeriodSeconds"] == 5
    last = events[-1]["object"]["status"]
    assert last["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 143
    preempted = next(event for event in pods.events(name) if event["reason"] == "Preempted")
    assert (preempted["reportingComponent"], preempted["action"]) == ("default-scheduler", "Preempting")
    assert preempted["message"].startswith("Preempted by pod ")


def test_failing_requests(pods: Any, server: Any) -> None:
    path = f"/api/v1/namespaces/{pods.namespace}/pods"
    fault = {"kind": "api-error", "verb": "create", "path": "/pods$", "status": 429, "times": 2, "message": "slow down"}
    assert server.http("POST", "/local/faults", json=fault).status_code == 201
    body = pods.body("print=x")
    assert server.http("GET", path).status_code == 200
    refused = server.http("POST", path, json=body)
    assert (refused.status_code, refused.json()["reason"], refused.json()["message"]) == (
        429,
        "TooManyRequests",
        "slow down",
    )
    assert refused.headers["Retry-After"] == "1"
    assert server.http("POST", path, json=body).status_code == 429
    assert server.http("POST", path, json=body).status_code == 201
    pods.names.append(body["metadata"]["name"])


def test_a_connection_that_is_cut(pods: Any, server: Any) -> None:
    server.http("POST", "/local/faults", json={"kind": "api-error", "verb": "get", "path": "/pods/cut", "status": 0})
    path = f"/api/v1/namespaces/{pods.namespace}/pods/cut"
    with pytest.raises(httpx.TransportError):
        server.http("GET", path)
    assert server.http("GET", path).status_code == 404


def test_the_request_log_tells_who_asked_what(pods: Any, server: Any, core: Any) -> None:
    server.http("DELETE", "/local/requests")
    core.list_namespaced_pod(pods.namespace, label_selector="a=b")
    entries = server.http("GET", "/local/requests").json()
    assert len(entries) == 1
    entry = entries[0]
    assert (entry["method"], entry["status"]) == ("GET", 200)
    assert entry["path"] == f"/api/v1/namespaces/{pods.namespace}/pods"
    assert "labelSelector=a%3Db" in entry["query"] or "labelSelector=a=b" in entry["query"]
    assert "OpenAPI-Generator" in entry["user_agent"]


def test_history_outlives_the_pod(pods: Any, core: Any) -> None:
    name = pods.create("burn=0.2", "exit=3", labels={"task_id": "train"})
    pods.finish(name)
    core.delete_namespaced_pod(name, pods.namespace)
    entry = pods.history(name)
    assert entry["deleted"] >= entry["finished"] >= entry["started"]
    assert (entry["exit_code"], entry["phase"], entry["labels"]) == (3, "Failed", {"task_id": "train"})
    assert 0.2 <= entry["containers"][0]["cpu_seconds"] < 5
