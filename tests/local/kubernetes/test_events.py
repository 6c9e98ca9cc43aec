"""The two kinds of events: the kubelet's with counts, the scheduler's with one time and a series."""

from __future__ import annotations

import re
import socket
from typing import Any

from local.kubernetes.events import EventRecorder
from local.kubernetes.store import Store

MICROTIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def test_the_schedulers_events_are_of_the_new_kind(pods: Any) -> None:
    name = pods.create("exit=0")
    pods.finish(name)
    scheduled, *others = pods.events(name)
    assert (scheduled["reason"], scheduled["action"]) == ("Scheduled", "Binding")
    assert MICROTIME.fullmatch(scheduled["eventTime"])
    assert (scheduled["firstTimestamp"], scheduled["lastTimestamp"]) == (None, None)
    assert scheduled["source"] == {}
    assert "count" not in scheduled
    assert scheduled["reportingComponent"] == "default-scheduler"
    assert scheduled["reportingInstance"] == f"default-scheduler-{socket.gethostname()}"
    for event in others:
        assert event["source"] == {"component": "kubelet", "host": "cpu"}
        assert event["eventTime"] is None
        assert event["count"] >= 1


def test_the_official_client_and_the_table_read_both_kinds(pods: Any, core: Any, server: Any) -> None:
    name = pods.create(nodeSelector={"no": "such-node"})
    pods.wait(name, lambda pod: pod["status"].get("conditions"))
    selector = f"involvedObject.name={name},source=default-scheduler"
    (event,) = core.list_namespaced_event(pods.namespace, field_selector=selector).items
    assert (event.reason, event.action) == ("FailedScheduling", "Scheduling")
    assert event.event_time.microsecond is not None
    assert event.metadata.resource_version
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    path = f"/api/v1/namespaces/{pods.namespace}/events?fieldSelector=involvedObject.name%3D{name}"
    (row,) = server.http("GET", path, headers=accept).json()["rows"]
    assert re.fullmatch(r"\d+s", row["cells"][0])


def test_a_repeated_event_is_counted_in_its_own_way() -> None:
    store = Store()
    events = EventRecorder(store)
    metadata = {"name": "p", "namespace": "n", "uid": "u"}
    pod = {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": {}}
    for _ in range(3):
        events.schedule(pod, "Warning", "FailedScheduling", "Scheduling", "no room")
        events.record(pod, "Normal", "BackOff", "waiting")
    new, old = sorted(store.select("events"), key=lambda event: "count" in event)
    assert new["series"]["count"] == old["count"] == 3
    assert new["series"]["lastObservedTime"] > new["eventTime"]
