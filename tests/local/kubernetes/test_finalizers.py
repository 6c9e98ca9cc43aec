"""What is deleted and has a finalizer stays, marked, until the last one is taken away."""

from __future__ import annotations

from typing import Any

import kubernetes
import pytest
from kubernetes.client.rest import ApiException

from local.kubernetes import jobs, store
from local.kubernetes.job_controller import JobController
from tests.local.kubernetes.conftest import until

HELD = ["example.com/held"]
TRACKING = "batch.kubernetes.io/job-tracking"
JOBS = "/apis/batch/v1/namespaces/ml-training/jobs"
PODS = "/api/v1/namespaces/ml-training/pods"


def test_a_config_map_is_held(core: Any, pods: Any, server: Any) -> None:
    path = f"/api/v1/namespaces/{pods.namespace}/configmaps/held"
    core.create_namespaced_config_map(pods.namespace, {"metadata": {"name": "held", "finalizers": HELD}})
    answer = server.http("DELETE", path).json()
    assert answer["kind"] == "ConfigMap"
    marked = core.read_namespaced_config_map("held", pods.namespace).metadata
    assert marked.deletion_timestamp is not None
    assert marked.deletion_grace_period_seconds == 0
    with pytest.raises(ApiException, match="no new finalizers can be added if the object is being deleted"):
        core.patch_namespaced_config_map("held", pods.namespace, {"metadata": {"finalizers": [*HELD, "a.com/b"]}})
    core.patch_namespaced_config_map("held", pods.namespace, {"metadata": {"labels": {"still": "there"}}})
    assert server.http("GET", path).status_code == 200
    core.patch_namespaced_config_map("held", pods.namespace, {"metadata": {"finalizers": None}})
    assert server.http("GET", path).status_code == 404


def test_a_pod_is_held_when_it_has_ended(core: Any, pods: Any) -> None:
    body = pods.body("trap=bye", "print=ready", "sleep=20")
    body["metadata"]["finalizers"] = HELD
    name = pods.create_body(body)
    pods.running(name, printed="ready")
    core.delete_namespaced_pod(name, pods.namespace)
    pod = pods.wait(name, lambda pod: pod["metadata"].get("deletionGracePeriodSeconds") == 0)
    assert pod["status"]["phase"] == "Failed"
    core.patch_namespaced_pod(name, pods.namespace, {"metadata": {"finalizers": None}})
    pods.gone(name)
    assert pods.history(name)["deleted"] is not None


def _job(pods: Any, *words: str, count: int, **template: Any) -> Any:
    spec = {"template": {"spec": {**pods.body(*words)["spec"], **template}}, "backoffLimit": 0}
    spec |= {"completions": count, "parallelism": count}
    return {"metadata": {"generateName": "tracked-"}, "spec": spec}


def _of(server: Any, name: str) -> list[Any]:
    items: list[Any] = server.http("GET", PODS, params={"labelSelector": f"job-name={name}"}).json()["items"]
    return items


@pytest.fixture(scope="module")
def batch(server: Any) -> Any:
    """The official client of jobs."""
    return kubernetes.client.BatchV1Api(kubernetes.config.new_client_from_config(server.kubeconfig))


def test_a_jobs_pod_is_tracked_until_it_is_counted(batch: Any, pods: Any, server: Any) -> None:
    since = pods.version()
    name = batch.create_namespaced_job(pods.namespace, _job(pods, "exit=0", count=1)).metadata.name
    until(lambda: batch.read_namespaced_job(name, pods.namespace).status.succeeded == 1)
    (pod,) = _of(server, name)
    seen = pods.seen(pod["metadata"]["name"], since, lambda event: "finalizers" not in event["object"]["metadata"])
    assert {event["object"]["metadata"].get("finalizers", [None])[0] for event in seen[:-1]} == {TRACKING}
    assert seen[-1]["object"]["status"]["phase"] == "Succeeded"
    batch.delete_namespaced_job(name, pods.namespace, propagation_policy="Background")
    until(lambda: not _of(server, name))


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
@pytest.mark.parametrize("where", ["running", "unplaced"])
def test_no_tracked_pod_is_left_behind(batch: Any, pods: Any, server: Any, policy: str, where: str) -> None:
    options = {"nodeSelector": {"no": "such-node"}} if where == "unplaced" else {}
    job = _job(pods, "trap=bye", "print=ready", "sleep=20", count=6, **options)
    name = batch.create_namespaced_job(pods.namespace, job).metadata.name
    until(lambda: len(_of(server, name)) == 6)
    assert all(TRACKING in pod["metadata"]["finalizers"] for pod in _of(server, name))
    batch.delete_namespaced_job(name, pods.namespace, propagation_policy=policy)
    until(lambda: not _of(server, name))
    until(lambda: server.http("GET", f"{JOBS}/{name}").status_code == 404)


def test_pods_are_cleared_away_when_the_end_of_their_job_was_missed() -> None:
    class Kubelet:
        @staticmethod
        def delete(pod: Any, grace: int | None) -> Any:
            return objects.delete("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])

    objects = store.Store()
    template = {"metadata": {}, "spec": {"containers": [{"name": "base"}]}}
    job = {"metadata": {"name": "gone", "namespace": "n", "uid": "u"}, "spec": {"template": template}}
    for index in range(3):
        objects.create("pods", jobs.make_pod(job, index))
    kubelet: Any = Kubelet()
    JobController(objects, kubelet, objects.create).look_at_all()
    assert objects.select("pods") == []
