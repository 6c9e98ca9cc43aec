"""Watches, by both Python clients."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

import kubernetes
import kubernetes_asyncio
import pytest
from kubernetes_asyncio.client.rest import ApiException as AsyncApiException

PODS = "/api/v1/namespaces/ml-training/pods"


def test_a_watch_shows_the_life_of_a_pod(core: Any, pods: Any) -> None:
    version = core.list_namespaced_pod(pods.namespace).metadata.resource_version
    name = pods.create("print=x", labels={"watched": "yes"})
    pods.finish(name)
    core.delete_namespaced_pod(name, pods.namespace)
    watch = kubernetes.watch.Watch()
    seen = []
    for event in watch.stream(
        core.list_namespaced_pod,
        pods.namespace,
        label_selector="watched=yes",
        resource_version=version,
        timeout_seconds=10,
    ):
        seen.append((event["type"], event["object"].status.phase))
        if event["type"] == "DELETED":
            watch.stop()
    assert seen[0] == ("ADDED", "Pending")
    assert ("MODIFIED", "Succeeded") in seen
    assert seen[-1] == ("DELETED", "Succeeded")


def test_a_watch_ends_when_its_time_is_up(server: Any) -> None:
    began = time.monotonic()
    response = server.http("GET", f"{PODS}?watch=True&timeoutSeconds=1&resourceVersion=0&labelSelector=no=one")
    assert response.text == ""
    assert 0.9 < time.monotonic() - began < 5


def test_without_a_version_a_watch_begins_with_what_is_there(server: Any, pods: Any) -> None:
    name = pods.create("sleep=20", labels={"there": "yes"})
    events = server.http("GET", f"{PODS}?watch=1&timeoutSeconds=1&labelSelector=there").text.splitlines()
    first = json.loads(events[0])
    assert (first["type"], first["object"]["metadata"]["name"]) == ("ADDED", name)


def test_a_version_that_is_too_old_is_gone(server: Any) -> None:
    events = server.http("GET", f"{PODS}?watch=1&timeoutSeconds=5&resourceVersion=5").text.splitlines()
    assert len(events) == 1
    event = json.loads(events[0])
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


def test_leaving_the_selector_is_a_deletion(server: Any, core: Any, pods: Any) -> None:
    name = pods.create("sleep=20", labels={"chosen": "yes"})
    pods.running(name)
    version = core.list_namespaced_pod(pods.namespace).metadata.resource_version
    core.patch_namespaced_pod(name, pods.namespace, {"metadata": {"labels": {"chosen": "no"}}})
    url = f"{PODS}?watch=1&timeoutSeconds=1&labelSelector=chosen%3Dyes&resourceVersion={version}"
    events = [json.loads(line) for line in server.http("GET", url).text.splitlines()]
    assert [event["type"] for event in events] == ["DELETED"]


def test_initial_events_end_with_a_bookmark(server: Any, pods: Any) -> None:
    pods.create("sleep=20", labels={"initial": "yes"})
    query = "watch=1&timeoutSeconds=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
    lines = server.http("GET", f"{PODS}?{query}&labelSelector=initial").text.splitlines()
    kinds = [json.loads(line)["type"] for line in lines]
    assert kinds[0] == "ADDED"
    marked = next(json.loads(line)["object"] for line in lines if json.loads(line)["type"] == "BOOKMARK")
    assert marked["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_the_asynchronous_client_does_what_the_trigger_does(server: Any, pods: Any) -> None:
    async def story() -> tuple[list[str], str, str]:
        client = await kubernetes_asyncio.config.new_client_from_config(server.kubeconfig)
        async with client:
            core = kubernetes_asyncio.client.CoreV1Api(client)
            created = await core.create_namespaced_pod(pods.namespace, pods.body("print=hello", "sleep=0.3"))
            name = created.metadata.name
            pods.names.append(name)
            reasons: list[str] = []
            selector = f"involvedObject.name={name}"
            async with kubernetes_asyncio.watch.Watch() as watch:
                async for event in watch.stream(
                    core.list_namespaced_event, pods.namespace, field_selector=selector, timeout_seconds=2
                ):
                    reasons.append(event["object"].reason)
                    if reasons[-1] == "Started":
                        break
            while (await core.read_namespaced_pod(name, pods.namespace)).status.phase not in ("Succeeded", "Failed"):
                await asyncio.sleep(0.1)
            log = await core.read_namespaced_pod_log(name, pods.namespace, container="base", timestamps=True)
            await core.delete_namespaced_pod(name, pods.namespace, body={"gracePeriodSeconds": 1})
            with pytest.raises(AsyncApiException) as gone:
                await core.read_namespaced_pod(name, pods.namespace)
            return reasons, log, str(gone.value.status)

    reasons, log, status = asyncio.run(story())
    assert reasons == ["Scheduled", "Pulled", "Created", "Started"]
    assert log.endswith(" hello\n")
    assert status == "404"


def test_many_pods_at_once(pods: Any) -> None:
    names: list[str] = []
    threads = [threading.Thread(target=lambda: names.append(pods.create("print=x"))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names) == 12
    assert {pods.finish(name)["status"]["phase"] for name in names} == {"Succeeded"}
