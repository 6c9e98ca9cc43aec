# ruff: noqa: E501 - one case a line reads best
"""Jobs from creation to end, seen by the official client."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import kubernetes
import pytest
from kubernetes.client.rest import ApiException

from tests.local.kubernetes.conftest import until

JSON = dict[str, Any]
NAMESPACE = "ml-training"
JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
INDEX = "batch.kubernetes.io/job-completion-index"


@dataclass
class Jobs:
    """Creates jobs, waits for them, and deletes them after the test."""

    pods: Any
    batch: Any
    names: list[str] = field(default_factory=list)

    def body(self, *words: str, template: JSON | None = None, **spec: Any) -> JSON:
        """Return an indexed job of two pods whose container follows some words of the test image's program."""
        pod = self.pods.body(*words, **(template or {}))
        metadata = {"labels": pod["metadata"]["labels"]}
        spec = {"completions": 2, "parallelism": 2, "completionMode": "Indexed", "backoffLimit": 0, **spec}
        spec["template"] = {"metadata": metadata, "spec": pod["spec"]}
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": f"job-{uuid.uuid4().hex[:8]}"},
            "spec": {key: value for key, value in spec.items() if value is not None},
        }

    def create(self, *words: str, template: JSON | None = None, **spec: Any) -> str:
        """Create a job of `body`; returns its name."""
        name: str = self.batch.create_namespaced_job(
            NAMESPACE, self.body(*words, template=template, **spec)
        ).metadata.name
        self.names.append(name)
        return name

    def get(self, name: str) -> JSON:
        """Return a job as JSON."""
        response = self.pods.server.http("GET", f"{JOBS}/{name}/status")
        response.raise_for_status()
        found: JSON = response.json()
        return found

    def of(self, name: str) -> list[JSON]:
        """Return a job's pods, those of the first index first."""
        query = {"labelSelector": f"job-name={name}"}
        listed = self.pods.server.http("GET", f"/api/v1/namespaces/{NAMESPACE}/pods", params=query).json()["items"]
        return sorted(listed, key=lambda pod: pod["metadata"].get("annotations", {}).get(INDEX, ""))

    def wait(self, name: str, until: Callable[[JSON], Any], seconds: float = 15) -> JSON:
        """Wait until something is true of a job; returns the job."""
        deadline = time.monotonic() + seconds
        while not until(job := self.get(name)):
            assert time.monotonic() < deadline, json.dumps(job["status"], indent=1)
            time.sleep(0.05)
        return job

    def running(self, name: str, count: int = 2) -> list[JSON]:
        """Wait until so many of a job's pods run; returns them."""
        self.wait(name, lambda job: job["status"].get("ready") == count)
        return self.of(name)

    def finish(self, name: str) -> JSON:
        """Wait for a job's end."""
        return self.wait(name, lambda job: {"Complete", "Failed"} & set(conditions(job)))


def conditions(job: JSON) -> dict[str, str]:
    """Return the reasons of a job's conditions by type."""
    return {item["type"]: item["reason"] for item in job["status"].get("conditions", []) if item["status"] == "True"}


def gone(check: Callable[[], Any], seconds: float = 10) -> None:
    """Wait until nothing is there any more."""
    until(lambda: not check(), seconds)


@pytest.fixture
def jobs(pods: Any) -> Iterator[Jobs]:
    """Jobs that are deleted when the test is over."""
    made = Jobs(pods, kubernetes.client.BatchV1Api(kubernetes.config.new_client_from_config(pods.server.kubeconfig)))
    yield made
    for name in made.names:
        with contextlib.suppress(ApiException):
            made.batch.delete_namespaced_job(name, NAMESPACE, propagation_policy="Background")


def test_an_indexed_job_that_succeeds(jobs: Jobs, pods: Any) -> None:
    name = jobs.create("env")
    job = jobs.finish(name)
    assert conditions(job) == {"SuccessCriteriaMet": "CompletionsReached", "Complete": "CompletionsReached"}
    status = job["status"]
    assert status["succeeded"] == 2
    assert status["completedIndexes"] == "0,1"
    assert {"startTime", "completionTime"} <= set(status)
    assert "active" not in status
    assert "failed" not in status
    first, second = jobs.of(name)
    uid = job["metadata"]["uid"]
    for index, pod in enumerate((first, second)):
        metadata = pod["metadata"]
        assert metadata["name"].startswith(f"{name}-{index}-")
        assert metadata["generateName"] == f"{name}-{index}-"
        assert metadata["labels"] == {
            "batch.kubernetes.io/controller-uid": uid,
            "batch.kubernetes.io/job-name": name,
            "controller-uid": uid,
            "job-name": name,
            INDEX: str(index),
        }
        assert metadata["annotations"] == {INDEX: str(index)}
        (owner,) = metadata["ownerReferences"]
        assert owner == {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": name,
            "uid": uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
        assert pod["spec"]["hostname"] == f"{name}-{index}"
        told = json.loads(pods.log(metadata["name"]))
        assert told["JOB_COMPLETION_INDEX"] == str(index)
        assert told["HOSTNAME"] == f"{name}-{index}"
    reasons = [event["reason"] for event in pods.events(name)]
    assert reasons == ["SuccessfulCreate", "SuccessfulCreate", "Completed"]


def test_pods_of_a_job_are_found_by_name(jobs: Jobs, pods: Any) -> None:
    body = jobs.body("print=$(WHERE)", "print=$(ELSEWHERE)", "env", template={"subdomain": "workers"})
    name = body["metadata"]["name"]
    texts = {
        "WHERE": f"{name}-0.workers:29500",
        "FULL": f"tcp://{name}-1.workers.{NAMESPACE}.svc.cluster.local:1,{name}-0.workers.{NAMESPACE}",
        "ELSEWHERE": f"{name}-0.workers.ml-deployment:1 {name}-2.workers:1 my-{name}-0.workers:1",
    }
    body["spec"]["template"]["spec"]["containers"][0]["env"] = [
        {"name": key, "value": value} for key, value in texts.items()
    ]
    jobs.names.append(jobs.batch.create_namespaced_job(NAMESPACE, body).metadata.name)
    jobs.finish(name)
    lines = pods.log(jobs.of(name)[1]["metadata"]["name"]).splitlines()
    assert lines[:2] == ["127.0.0.1:29500", texts["ELSEWHERE"]]
    assert json.loads(lines[2])["FULL"] == "tcp://127.0.0.1:1,127.0.0.1"


def test_a_pod_that_fails_ends_the_job_and_its_other_pods(jobs: Jobs, pods: Any) -> None:
    # The first is slow to stop: until then the job is about to fail, and has not failed.
    body = jobs.body(template={"container": {"command": ["/bin/sh", "-c"]}})
    script = (
        'trap "sleep 1; exit 143" TERM; if [ $JOB_COMPLETION_INDEX = 1 ]; then sleep 0.5; exit 64; fi; sleep 30 & wait'
    )
    body["spec"]["template"]["spec"]["containers"][0]["args"] = [script]
    name = jobs.batch.create_namespaced_job(NAMESPACE, body).metadata.name
    jobs.names.append(name)
    failing = jobs.wait(name, lambda job: "FailureTarget" in conditions(job))
    assert "Failed" not in conditions(failing)
    assert failing["status"]["terminating"] == 1
    job = jobs.finish(name)
    reason = "BackoffLimitExceeded"
    assert conditions(job) == {"FailureTarget": reason, "Failed": reason}
    assert "completionTime" not in job["status"]
    assert job["status"]["failed"] == 2
    assert job["status"]["terminating"] == 0
    gone(lambda: len(jobs.of(name)) > 1)
    (left,) = jobs.of(name)  # what ended by itself stays to be looked at
    assert left["metadata"]["annotations"][INDEX] == "1"
    assert left["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 64
    assert "SuccessfulDelete" in [event["reason"] for event in pods.events(name)]


def test_a_pod_that_fails_is_replaced_within_the_limit(jobs: Jobs, pods: Any) -> None:
    case = uuid.uuid4().hex[:8]
    pods.fault("evict", case)
    name = jobs.create("sleep=1", template={"labels": {"case": case}}, backoffLimit=1)
    job = jobs.finish(name)
    assert "Complete" in conditions(job)
    assert job["status"]["failed"] == 1
    assert job["status"]["succeeded"] == 2
    assert len(jobs.of(name)) == 3


@pytest.mark.parametrize("how", ["evict", "delete"])
def test_a_pod_that_is_taken_away_counts_as_failed(jobs: Jobs, pods: Any, how: str) -> None:
    case = uuid.uuid4().hex[:8]
    name = jobs.create("trap=saved", "print=ready", "sleep=30", template={"labels": {"case": case}})
    first, _ = jobs.running(name)
    if how == "evict":
        pods.fault("evict", case)
    else:
        pods.core.delete_namespaced_pod(first["metadata"]["name"], NAMESPACE)
    job = jobs.finish(name)
    assert conditions(job)["Failed"] == "BackoffLimitExceeded"
    assert job["status"]["failed"] == 2


def test_a_job_that_takes_too_long(jobs: Jobs) -> None:
    name = jobs.create("sleep=30", activeDeadlineSeconds=1)
    job = jobs.finish(name)
    assert conditions(job) == {"FailureTarget": "DeadlineExceeded", "Failed": "DeadlineExceeded"}
    gone(lambda: jobs.of(name))


def test_pods_run_side_by_side_as_far_as_the_parallelism_says(jobs: Jobs, pods: Any) -> None:
    name = jobs.create("sleep=0.3", completions=4, parallelism=2)
    assert jobs.finish(name)["status"]["completedIndexes"] == "0-3"
    times = [pods.history(pod["metadata"]["name"]) for pod in jobs.of(name)]
    for moment in (entry["started"] for entry in times):
        assert sum(entry["started"] <= moment < entry["finished"] for entry in times) <= 2


def test_a_job_without_indexes(jobs: Jobs) -> None:
    name = jobs.create("print=x", completionMode=None, completions=3, parallelism=3)
    job = jobs.finish(name)
    assert job["spec"]["completionMode"] == "NonIndexed"
    assert job["status"]["succeeded"] == 3
    assert "completedIndexes" not in job["status"]
    for pod in jobs.of(name):
        assert INDEX not in pod["metadata"]["labels"]
        assert "hostname" not in pod["spec"]
        assert pod["metadata"]["name"].removeprefix(f"{name}-").isalnum()


def test_a_job_whose_pods_are_refused_waits_and_says_why(jobs: Jobs, pods: Any, core: Any) -> None:
    account = f"late-{uuid.uuid4().hex[:6]}"
    name = jobs.create("print=x", template={"serviceAccountName": account})
    deadline = time.monotonic() + 10
    while "FailedCreate" not in [event["reason"] for event in pods.events(name)]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    core.create_namespaced_service_account(NAMESPACE, {"metadata": {"name": account}})
    assert "Complete" in conditions(jobs.finish(name))


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
def test_a_deleted_job_takes_its_pods_along(jobs: Jobs, policy: str) -> None:
    name = jobs.create("trap=bye", "print=ready", "sleep=30")
    jobs.running(name)
    jobs.batch.delete_namespaced_job(name, NAMESPACE, propagation_policy=policy)
    if policy == "Foreground":
        job = jobs.get(name)
        assert "deletionTimestamp" in job["metadata"]
        assert "foregroundDeletion" in job["metadata"]["finalizers"]
    gone(lambda: jobs.pods.server.http("GET", f"{JOBS}/{name}").status_code != 404)
    gone(lambda: jobs.of(name))


@pytest.mark.parametrize("policy", ["Orphan", None])
def test_pods_are_not_left_without_their_job(jobs: Jobs, policy: str | None) -> None:
    name = jobs.create("sleep=30")
    with pytest.raises(ApiException, match="would leave the pods running without their job") as refused:
        jobs.batch.delete_namespaced_job(name, NAMESPACE, **({"propagation_policy": policy} if policy else {}))
    assert refused.value.status == 422
    assert jobs.get(name)["metadata"]["name"] == name


def test_a_finished_job_goes_after_its_time_to_live(jobs: Jobs) -> None:
    name = jobs.create("print=x", ttlSecondsAfterFinished=1)
    jobs.finish(name)
    gone(lambda: jobs.pods.server.http("GET", f"{JOBS}/{name}").status_code != 404)
    gone(lambda: jobs.of(name))


def test_a_job_is_watched_to_its_end(jobs: Jobs) -> None:
    body = jobs.body("print=x")
    body["metadata"]["labels"] = {"watched": "yes"}
    seen: list[tuple[str, set[str]]] = []

    def follow() -> None:
        watch = kubernetes.watch.Watch()
        for event in watch.stream(
            jobs.batch.list_namespaced_job, NAMESPACE, label_selector="watched=yes", timeout_seconds=10
        ):
            found = {item.type for item in event["object"].status.conditions or []}
            seen.append((event["type"], found))
            if "Complete" in found:
                watch.stop()

    thread = threading.Thread(target=follow)
    thread.start()
    jobs.names.append(jobs.batch.create_namespaced_job(NAMESPACE, body).metadata.name)
    thread.join(15)
    assert seen[0] == ("ADDED", set())
    assert seen[-1] == ("MODIFIED", {"SuccessCriteriaMet", "Complete"})


def _set(path: str, value: Any) -> Callable[[JSON], None]:
    def change(body: JSON) -> None:
        *parents, last = path.split(".")
        for part in parents:
            body = body[int(part)] if part.isdigit() else body[part]  # type: ignore[index]
        body[last] = value

    return change


REFUSED = {
    "no completions": (_set("spec.completions", None), "spec.completions: Required value: when completion mode is Indexed"),
    "mode": (_set("spec.completionMode", "Numbered"), 'supported values: "Indexed", "NonIndexed"'),
    "negative": (_set("spec.backoffLimit", -1), "spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0"),
    "long name": (_set("metadata.name", "a" * 62), "will not able to create pod with invalid DNS label"),
    "Always": (_set("spec.template.spec.restartPolicy", "Always"), 'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"'),
    "OnFailure": (_set("spec.template.spec.restartPolicy", "OnFailure"), "spec.template.spec.restartPolicy: Invalid value"),
    "no image": (_set("spec.template.spec.containers.0.image", ""), "spec.template.spec.containers[0].image: Required value"),
    "selector": (_set("spec.selector", {"matchLabels": {"a": "b"}}), "`selector` not auto-generated"),
    "own labels": (_set("spec.template.metadata.labels", {"job-name": "other"}), "must be '"),
    "subdomain": (_set("spec.template.spec.subdomain", "a.b"), "spec.template.spec.subdomain: Invalid value"),
    "suspended": (_set("spec.suspend", True), "starts every job at once"),
    "per index": (_set("spec.backoffLimitPerIndex", 1), "spec.backoffLimitPerIndex: Forbidden"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(jobs: Jobs, case: str) -> None:
    change, message = REFUSED[case]
    body = jobs.body("print=x")
    change(body)
    response = jobs.pods.server.http("POST", JOBS, json=body)
    assert response.status_code == 422, response.text
    assert message in response.json()["message"]


def test_fields_and_types_are_checked(jobs: Jobs) -> None:
    body = jobs.body("print=x")
    body["spec"]["paralelism"] = 2
    strict = jobs.pods.server.http("POST", JOBS, json=body, params={"fieldValidation": "Strict"})
    assert strict.status_code == 400
    assert 'unknown field "spec.paralelism"' in strict.json()["message"]
    body = jobs.body("print=x", parallelism="2")
    wrong = jobs.pods.server.http("POST", JOBS, json=body)
    assert (
        "cannot unmarshal string into Go struct field JobSpec.spec.parallelism of type int64" in wrong.json()["message"]
    )
    assert jobs.pods.server.http("GET", f"/api/v1/namespaces/{NAMESPACE}/jobs").status_code == 404


def test_what_may_change_in_a_job(jobs: Jobs) -> None:
    name = jobs.create("trap=bye", "print=ready", "sleep=30", completions=3, parallelism=1)
    jobs.running(name, 1)
    jobs.batch.patch_namespaced_job(name, NAMESPACE, {"spec": {"parallelism": 3}})
    jobs.running(name, 3)
    jobs.batch.patch_namespaced_job(name, NAMESPACE, {"metadata": {"labels": {"a": "b"}}})
    with pytest.raises(ApiException, match=r"spec\.completions: Invalid value: 4: can only be modified in tandem"):
        jobs.batch.patch_namespaced_job(name, NAMESPACE, {"spec": {"completions": 4}})
    template = {"spec": {"terminationGracePeriodSeconds": 1}}
    with pytest.raises(ApiException, match="field is immutable"):
        jobs.batch.patch_namespaced_job(name, NAMESPACE, {"spec": {"template": template}})
