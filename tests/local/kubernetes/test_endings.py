"""How pods end, step by step, as a watch tells it."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import pytest


def _conditions(event: Any) -> dict[str, tuple[str, str | None]]:
    return {c["type"]: (c["status"], c.get("reason")) for c in event["object"]["status"].get("conditions", [])}


def _state(event: Any) -> Any:
    statuses = event["object"]["status"].get("containerStatuses", [])
    return statuses[0]["state"] if statuses else {}


def _phase(event: Any) -> str:
    return str(event["object"]["status"]["phase"])


def _is_over(event: Any) -> bool:
    return _phase(event) in ("Succeeded", "Failed")


@pytest.mark.parametrize(("words", "phase"), [(["exit=0"], "Succeeded"), (["exit=3"], "Failed")])
def test_a_container_ends_before_its_pod(pods: Any, words: list[str], phase: str) -> None:
    since = pods.version()
    events = pods.seen(pods.create(*words), since, _is_over)
    ended = next(event for event in events if "terminated" in _state(event))
    assert _phase(ended) == "Running"
    why = "PodCompleted" if phase == "Succeeded" else "PodFailed"
    before, after = _conditions(ended), _conditions(events[-1])
    assert before["Ready"] == before["ContainersReady"] == ("False", why)
    assert before["Initialized"] == ("True", "PodCompleted" if phase == "Succeeded" else None)
    assert before["PodReadyToStartContainers"] == ("True", None)
    assert _phase(events[-1]) == phase
    assert after == {**before, "PodReadyToStartContainers": ("False", None)}


def test_the_sandbox_comes_before_the_containers(pods: Any) -> None:
    since = pods.version()
    events = pods.seen(pods.create("exit=0"), since, lambda event: "running" in _state(event))
    sandbox = [_conditions(event).get("PodReadyToStartContainers", ("",))[0] for event in events if _state(event)]
    assert sandbox[0] == "False"
    assert sandbox[-1] == "True"
    unready = next(c for c in events[-2]["object"]["status"]["conditions"] if c["type"] == "Ready")
    assert (unready["reason"], unready["message"]) == (
        "ContainersNotReady",
        "containers with unready status: [base]",
    )


def test_why_a_pod_was_stopped_is_told_with_its_phase(pods: Any) -> None:
    since = pods.version()
    name = pods.create("trap=out of time", "print=ready", "sleep=20", activeDeadlineSeconds=1)
    events = pods.seen(name, since, _is_over)
    assert all("reason" not in event["object"]["status"] for event in events[:-1])
    assert events[-1]["object"]["status"]["reason"] == "DeadlineExceeded"
    assert {e["type"] for e in pods.events(name) if e["reason"] == "DeadlineExceeded"} == {"Normal"}


def test_at_a_real_clusters_pace_the_end_is_told_a_second_late(new_server: Any, pods: Any) -> None:
    server = new_server("--time-scale", "1", "--start-delay", "0")
    path = "/api/v1/namespaces/ml-training/pods"
    server.http("POST", path, json=pods.body("exit=0", name="slow"))
    deadline = time.monotonic() + 10
    while (status := server.http("GET", f"{path}/slow").json()["status"])["phase"] != "Succeeded":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    times = {c["type"]: datetime.fromisoformat(c["lastTransitionTime"]) for c in status["conditions"]}
    assert (times["PodReadyToStartContainers"] - times["Ready"]).total_seconds() >= 1


@pytest.mark.parametrize(("word", "phase"), [("trap=bye", "Failed"), ("graceful", "Succeeded")])
def test_a_deleted_pod_is_seen_to_end(pods: Any, core: Any, word: str, phase: str) -> None:
    name = pods.create(word, "print=ready", "sleep=20")
    since = pods.running(name, printed="ready")["metadata"]["resourceVersion"]
    core.delete_namespaced_pod(name, pods.namespace)
    events = pods.seen(name, since, lambda event: event["type"] == "DELETED")
    grace = [event["object"]["metadata"]["deletionGracePeriodSeconds"] for event in events]
    assert grace == [5] * (len(grace) - 2) + [0, 0]
    assert (_phase(events[0]), "running" in _state(events[0])) == ("Running", True)
    assert _phase(events[-3]) == phase, "the end is told while the pod is still there"
    assert [event["type"] for event in events] == ["MODIFIED"] * (len(events) - 1) + ["DELETED"]


def test_what_does_not_run_is_deleted_at_once(pods: Any, core: Any) -> None:
    finished = pods.create("exit=0")
    pods.finish(finished)
    unplaced = pods.create("exit=0", nodeSelector={"no": "such-node"})
    forced = pods.create("ignore", "print=ready", "sleep=20")
    pods.running(forced, printed="ready")
    pods.wait(unplaced, lambda pod: pod["status"].get("conditions"))
    for name, options in ((finished, {}), (unplaced, {}), (forced, {"grace_period_seconds": 0})):
        since = pods.get(name)["metadata"]["resourceVersion"]
        core.delete_namespaced_pod(name, pods.namespace, **options)
        events = pods.seen(name, since, lambda event: event["type"] == "DELETED")
        assert [event["type"] for event in events] == ["MODIFIED", "DELETED"]
        assert {event["object"]["metadata"]["deletionGracePeriodSeconds"] for event in events} == {0}


def test_a_second_deletion_can_only_shorten_the_grace_period(pods: Any, core: Any) -> None:
    name = pods.create("ignore", "print=ready", "sleep=20", terminationGracePeriodSeconds=20)
    pods.running(name, printed="ready")

    def delete(**options: Any) -> Any:
        return core.delete_namespaced_pod(name, pods.namespace, **options).metadata

    first = delete()
    for options in ({}, {"grace_period_seconds": 30}):
        again = delete(**options)
        assert again.deletion_timestamp == first.deletion_timestamp
        assert again.deletion_grace_period_seconds == 20
    shorter = delete(grace_period_seconds=-1)  # which the API takes for the shortest there is
    assert shorter.deletion_grace_period_seconds == 1
    assert (first.deletion_timestamp - shorter.deletion_timestamp).total_seconds() == 19
    pods.gone(name)


def test_an_evicted_pod_says_who_evicted_it(pods: Any, core: Any) -> None:
    name = pods.create("trap=drained", "print=ready", "sleep=30")
    since = pods.running(name, printed="ready")["metadata"]["resourceVersion"]
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    core.create_namespaced_pod_eviction(name, pods.namespace, body)
    events = pods.seen(name, since, lambda event: event["type"] == "DELETED")
    for event in events:
        target = next(c for c in event["object"]["status"]["conditions"] if c["type"] == "DisruptionTarget")
        assert (target["status"], target["reason"]) == ("True", "EvictionByEvictionAPI")
        assert target["message"] == "Eviction API: evicting"
    assert "deletionTimestamp" not in events[0]["object"]["metadata"]


def test_the_generation_counts_what_was_asked_for(pods: Any, core: Any) -> None:
    name = pods.create("trap=bye", "print=ready", "sleep=20")
    pod = pods.running(name, printed="ready")
    assert (pod["metadata"]["generation"], pod["status"]["observedGeneration"]) == (1, 1)
    assert {c["observedGeneration"] for c in pod["status"]["conditions"]} == {1}
    core.patch_namespaced_pod(name, pods.namespace, {"metadata": {"labels": {"a": "b"}}})
    assert pods.get(name)["metadata"]["generation"] == 1, "only the specification counts"
    core.patch_namespaced_pod(name, pods.namespace, {"spec": {"activeDeadlineSeconds": 600}})
    since = pods.get(name)["metadata"]
    assert since["generation"] == 2
    core.delete_namespaced_pod(name, pods.namespace)
    events = pods.seen(name, since["resourceVersion"], lambda event: event["type"] == "DELETED")
    assert events[0]["object"]["metadata"]["generation"] == 3
    assert events[-1]["object"]["status"]["observedGeneration"] == 3
