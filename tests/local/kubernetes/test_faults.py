"""Every fault that can be asked for, and what the API shows of it."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest


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
    assert any(c["type"] == "DisruptionTarget" for c in pod["status"]["conditions"])
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


def test_a_lost_node_takes_its_pods_with_it(pods: Any, server: Any) -> None:
    name = pods.create("print=before", "sleep=20", labels={"case": "lost"})
    pods.running(name, printed="before")
    pods.fault("node-lost", "lost", duration_seconds=1)
    pod = pods.wait(name, lambda pod: pod["status"].get("reason") == "NodeLost")
    assert pod["status"]["phase"] == "Running"
    assert "deletionTimestamp" in pod["metadata"]
    path = f"/api/v1/namespaces/{pods.namespace}/pods/{name}"
    assert server.http("GET", f"{path}/log").status_code == 500
    assert server.http("GET", f"{path}/exec?command=true&stdout=1").status_code == 500
    assert server.http("DELETE", path).status_code == 200
    assert server.http("GET", path).status_code == 200
    pods.gone(name, seconds=5)


def test_a_lost_node_that_nobody_cleans_up(pods: Any, core: Any) -> None:
    pods.fault("node-lost", "lost-for-ever", duration_seconds=None)
    name = pods.create("sleep=20", labels={"case": "lost-for-ever"})
    pods.wait(name, lambda pod: pod["status"].get("reason") == "NodeLost")
    core.delete_namespaced_pod(name, pods.namespace)
    time.sleep(0.5)
    assert pods.get(name)["status"]["phase"] == "Running"
    core.delete_namespaced_pod(name, pods.namespace, grace_period_seconds=0)
    pods.gone(name)


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
