"""Which node a pod gets, and what it is told when it gets none."""

from __future__ import annotations

import json
from typing import Any

TOLERATION = [{"key": "nvidia.com/gpu", "operator": "Equal", "value": "true", "effect": "NoSchedule"}]
GPU_POOL = {"ml-platform/node-pool": "gpu"}


def _gpus(count: int) -> dict[str, Any]:
    return {"resources": {"limits": {"nvidia.com/gpu": str(count)}}}


def _unschedulable(pod: Any) -> str | None:
    for condition in pod["status"].get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            assert condition["reason"] == "Unschedulable"
            return str(condition["message"])
    return None


def test_a_gpu_pod_without_the_toleration_waits(pods: Any) -> None:
    name = pods.create("print=x", container=_gpus(1), nodeSelector=GPU_POOL)
    message = _unschedulable(pods.wait(name, _unschedulable))
    assert message == (
        "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, "
        "1 node(s) had untolerated taint(s). "
        "no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    )
    event = pods.events(name)[0]
    assert (event["type"], event["reason"], event["message"]) == ("Warning", "FailedScheduling", message)
    assert event["reportingComponent"] == "default-scheduler"


def test_a_gpu_pod_with_the_toleration_runs_on_the_gpu_node(pods: Any) -> None:
    for tolerations in (TOLERATION, [{"operator": "Exists"}], [{"key": "nvidia.com/gpu", "operator": "Exists"}]):
        name = pods.create("env", container=_gpus(1), tolerations=tolerations)
        pod = pods.finish(name)
        assert pod["spec"]["nodeName"] == "gpu"
        assert json.loads(pods.log(name))["NVIDIA_VISIBLE_DEVICES"] in ("0", "1")


def test_gpus_are_waited_for_and_never_given_twice(pods: Any) -> None:
    options = {"tolerations": TOLERATION, "nodeSelector": GPU_POOL}
    first = pods.create("env", "sleep=1", container=_gpus(1), **options)
    second = pods.create("env", "sleep=1", container=_gpus(1), **options)
    both = pods.create("env", container=_gpus(2), **options)
    message = _unschedulable(pods.wait(both, _unschedulable))
    assert message == (
        "0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) didn't match Pod's node affinity/selector. "
        "no new claims to deallocate, preemption: 0/2 nodes are available: "
        "1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."
    )
    for name in (first, second, both):
        assert pods.finish(name)["status"]["phase"] == "Succeeded"
    given = [json.loads(pods.log(name))["NVIDIA_VISIBLE_DEVICES"] for name in (first, second, both)]
    assert sorted(given[:2]) == ["0", "1"]
    assert given[2] == "0,1"
    assert pods.history(both)["started"] >= max(pods.history(name)["finished"] for name in (first, second))


def test_more_gpus_than_there_are_never_fit(pods: Any) -> None:
    name = pods.create("print=x", container=_gpus(3), tolerations=TOLERATION)
    message = _unschedulable(pods.wait(name, _unschedulable))
    assert message is not None
    assert "2 Insufficient nvidia.com/gpu" in message


def test_node_affinity_chooses(pods: Any) -> None:
    def affinity(operator: str, *values: str) -> dict[str, Any]:
        term = {"matchExpressions": [{"key": "ml-platform/node-pool", "operator": operator, "values": list(values)}]}
        return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}

    everything = [{"operator": "Exists"}]
    chosen = pods.create("print=x", affinity=affinity("In", "gpu"), tolerations=everything)
    avoided = pods.create("print=x", affinity=affinity("NotIn", "gpu"), tolerations=everything)
    nowhere = pods.create("print=x", affinity=affinity("In", "tpu"), tolerations=everything)
    assert pods.finish(chosen)["spec"]["nodeName"] == "gpu"
    assert pods.finish(avoided)["spec"]["nodeName"] == "cpu"
    assert "2 node(s) didn't match" in str(_unschedulable(pods.wait(nowhere, _unschedulable)))


def test_cpu_is_counted(pods: Any) -> None:
    request = {"resources": {"requests": {"cpu": "9"}}}
    name = pods.create("print=x", container=request)
    message = str(_unschedulable(pods.wait(name, _unschedulable)))
    assert "1 Insufficient cpu" in message
    assert "1 node(s) had untolerated taint(s)" in message
    # It would not fit the other node either if that were empty.
    assert message.endswith("preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.")


def test_a_pod_that_must_not_preempt_is_told_so(pods: Any, server: Any) -> None:
    patient = {"metadata": {"name": "patient"}, "value": 1, "preemptionPolicy": "Never"}
    assert server.http("POST", "/apis/scheduling.k8s.io/v1/priorityclasses", json=patient).status_code == 201
    options = {"nodeSelector": {"no": "such-node"}, "tolerations": [{"operator": "Exists"}]}
    name = pods.create("print=x", priorityClassName="patient", **options)
    assert _unschedulable(pods.wait(name, _unschedulable)) == (
        "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector. "
        "no new claims to deallocate, preemption: not eligible due to preemptionPolicy=Never."
    )


def test_the_nodes_can_be_looked_at(core: Any) -> None:
    nodes = {node.metadata.name: node for node in core.list_node().items}
    assert set(nodes) == {"cpu", "gpu"}
    assert nodes["gpu"].status.allocatable["nvidia.com/gpu"] == "2"
    assert nodes["gpu"].spec.taints[0].key == "nvidia.com/gpu"
    assert nodes["gpu"].metadata.labels["k8s.amazonaws.com/accelerator"] == "simulated"
    assert nodes["cpu"].spec.taints is None
