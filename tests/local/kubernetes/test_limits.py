# ruff: noqa: E501 - one case a line reads best
"""What a namespace lets in: quotas, LimitRange, priority classes, Pod Security. Refusals are the real API's, word by word."""

from __future__ import annotations

import copy
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from local.kubernetes import pod_security
from local.kubernetes.errors import ApiError
from tests.local.kubernetes.conftest import JSON, Server, pod_body, start_server, until

CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = start_server(tmp_path_factory.mktemp("limits") / "state")
    yield running
    running.stop()


@pytest.fixture
def namespace(cluster: Server) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    assert cluster.http("POST", "/api/v1/namespaces", json={"metadata": {"name": name}}).status_code == 201
    yield name
    cluster.http("DELETE", f"/api/v1/namespaces/{name}")


def add(cluster: Server, namespace: str, resource: str, name: str, spec: JSON) -> None:
    body = {"metadata": {"name": name}, "spec": spec}
    made = cluster.http("POST", f"/api/v1/namespaces/{namespace}/{resource}", json=body)
    assert made.status_code == 201, made.text


def pod(*words: str, name: str = "x", requests: JSON | None = None, limits: JSON | None = None, **spec: Any) -> JSON:
    resources = {"requests": requests or {}, "limits": limits or {}}
    return pod_body(*(words or ("sleep=30",)), name=name, container={"resources": resources}, **spec)


def create(cluster: Server, namespace: str, body: JSON, *, dry_run: bool = False) -> JSON:
    query = "?dryRun=All" if dry_run else ""
    answer: JSON = cluster.http("POST", f"/api/v1/namespaces/{namespace}/pods{query}", json=body).json()
    return answer


def refused(cluster: Server, namespace: str, body: JSON) -> str:
    """Create a pod; returns why it is forbidden."""
    answer = create(cluster, namespace, body)
    assert (answer.get("code"), answer.get("reason")) == (403, "Forbidden"), answer
    return str(answer["message"])


def phase(cluster: Server, namespace: str, name: str) -> str:
    got = cluster.http("GET", f"/api/v1/namespaces/{namespace}/pods/{name}").json()
    return str(got.get("status", {}).get("phase", "gone") if got["kind"] == "Pod" else "gone")


# --- ResourceQuota


def test_a_quota_is_what_all_pods_may_use_together(cluster: Server, namespace: str) -> None:
    hard = {"pods": "3", "requests.cpu": "1500m", "requests.memory": "1Gi", "limits.memory": "1Gi"}
    add(cluster, namespace, "resourcequotas", "steps", {"hard": hard})
    need = {"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"memory": "512Mi"}}
    assert create(cluster, namespace, pod(name="a", **need))["kind"] == "Pod"
    assert create(cluster, namespace, pod("print=done", name="b", **need))["kind"] == "Pod"
    until(lambda: phase(cluster, namespace, "b") == "Succeeded")
    # What has ended uses nothing any more, though it is still there.
    assert create(cluster, namespace, pod(name="c", **need))["kind"] == "Pod"
    assert refused(cluster, namespace, pod(name="d", **need)) == (
        'pods "d" is forbidden: exceeded quota: steps, requested: limits.memory=512Mi,requests.memory=512Mi, '
        "used: limits.memory=1Gi,requests.memory=1Gi, limited: limits.memory=1Gi,requests.memory=1Gi"
    )
    quota = cluster.http("GET", f"/api/v1/namespaces/{namespace}/resourcequotas/steps").json()
    assert quota["status"] == {
        "hard": hard,
        "used": {"pods": "2", "requests.cpu": "1", "requests.memory": "1Gi", "limits.memory": "1Gi"},
    }
    cluster.http("DELETE", f"/api/v1/namespaces/{namespace}/pods/a?gracePeriodSeconds=0")
    until(lambda: create(cluster, namespace, pod(name="d", **need), dry_run=True)["kind"] == "Pod")


def test_a_quota_wants_to_know_what_a_pod_needs(cluster: Server, namespace: str) -> None:
    add(cluster, namespace, "resourcequotas", "steps", {"hard": {"requests.cpu": "2", "limits.memory": "1Gi"}})
    assert refused(cluster, namespace, pod()) == (
        'pods "x" is forbidden: failed quota: steps: must specify limits.memory for: base; requests.cpu for: base'
    )


def test_gpus_and_objects_are_counted(cluster: Server, namespace: str) -> None:
    hard = {"requests.nvidia.com/gpu": "1", "configmaps": "1", "count/jobs.batch": "0"}
    add(cluster, namespace, "resourcequotas", "few", {"hard": hard})
    assert refused(cluster, namespace, pod(limits={"nvidia.com/gpu": "2"})) == (
        'pods "x" is forbidden: exceeded quota: few, requested: requests.nvidia.com/gpu=2, '
        "used: requests.nvidia.com/gpu=0, limited: requests.nvidia.com/gpu=1"
    )
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    assert cluster.http("POST", path, json={"metadata": {"name": "a"}}).status_code == 201
    second = cluster.http("POST", path, json={"metadata": {"name": "b"}})
    assert second.status_code == 403
    assert second.json()["message"].endswith("requested: configmaps=1, used: configmaps=1, limited: configmaps=1")
    job = {"metadata": {"name": "j"}, "spec": {"template": {"spec": pod()["spec"]}}}
    none = cluster.http("POST", f"/apis/batch/v1/namespaces/{namespace}/jobs", json=job)
    assert none.json()["message"] == (
        'jobs.batch "j" is forbidden: exceeded quota: few, requested: count/jobs.batch=1, used: count/jobs.batch=0, '
        "limited: count/jobs.batch=0"
    )


def test_a_quota_is_for_the_pods_in_its_scope(cluster: Server, namespace: str) -> None:
    selector = {"scopeName": "PriorityClass", "operator": "In", "values": ["system-cluster-critical"]}
    spec = {"hard": {"pods": "0"}, "scopeSelector": {"matchExpressions": [selector]}}
    add(cluster, namespace, "resourcequotas", "no-system-priority", spec)
    add(cluster, namespace, "resourcequotas", "unbounded", {"hard": {"pods": "0"}, "scopes": ["NotTerminating"]})
    critical = pod(priorityClassName="system-cluster-critical", activeDeadlineSeconds=60)
    assert refused(cluster, namespace, critical) == (
        'pods "x" is forbidden: exceeded quota: no-system-priority, requested: pods=1, used: pods=0, limited: pods=0'
    )
    assert "exceeded quota: unbounded" in refused(cluster, namespace, pod())
    assert create(cluster, namespace, pod(activeDeadlineSeconds=60), dry_run=True)["kind"] == "Pod"


def test_a_quota_counts_every_kind_and_only_what_can_be_limited(cluster: Server, namespace: str) -> None:
    hard = {"count/serviceaccounts": "1", "count/events": "0", "limits.nvidia.com/gpu": "0", "hugepages-2Mi": "2Mi"}
    add(cluster, namespace, "resourcequotas", "few", {"hard": hard})
    path = f"/api/v1/namespaces/{namespace}"
    account = cluster.http("POST", f"{path}/serviceaccounts", json={"metadata": {"name": "a"}})
    assert account.json().get("message") == (
        'serviceaccounts "a" is forbidden: exceeded quota: few, requested: count/serviceaccounts=1, '
        "used: count/serviceaccounts=1, limited: count/serviceaccounts=1"
    )
    assert cluster.http("POST", f"{path}/events", json={"metadata": {"name": "a"}}).status_code == 201
    gpus = {"nvidia.com/gpu": "1"}
    assert create(cluster, namespace, pod(limits=gpus, requests=gpus), dry_run=True)["kind"] == "Pod"
    assert "requested: hugepages-2Mi=4Mi, used: hugepages-2Mi=0" in refused(
        cluster, namespace, pod(limits={"hugepages-2Mi": "4Mi", "cpu": "1", "memory": "1Gi"})
    )


def test_a_quota_counts_the_pod_as_a_whole_and_its_init_containers(cluster: Server, namespace: str) -> None:
    add(cluster, namespace, "resourcequotas", "a", {"hard": {"requests.cpu": "1"}})
    add(cluster, namespace, "resourcequotas", "b", {"hard": {"requests.memory": "1G"}})
    whole = pod(resources={"requests": {"cpu": "2", "memory": "1M"}, "limits": {"cpu": "2", "memory": "1M"}})
    assert "exceeded quota: a, requested: requests.cpu=2, used: requests.cpu=0" in refused(cluster, namespace, whole)
    # What each wants to know comes before what any has left.
    assert refused(cluster, namespace, pod(requests={"cpu": "2"})).endswith(
        "failed quota: b: must specify requests.memory for: base"
    )
    little = pod(requests={"cpu": "1m", "memory": "1M"})
    first = {
        **little["spec"]["containers"][0],
        "name": "first",
        "resources": {"requests": {"cpu": "1m", "memory": "1500M"}},
    }
    little["spec"]["initContainers"] = [first]
    # In the powers in which it was given.
    assert refused(cluster, namespace, little).endswith(
        "exceeded quota: b, requested: requests.memory=1500M, used: requests.memory=0, limited: requests.memory=1G"
    )


def test_a_job_whose_pods_exceed_the_quota_says_so_and_goes_on_when_there_is_room(
    cluster: Server, namespace: str
) -> None:
    add(cluster, namespace, "resourcequotas", "steps", {"hard": {"pods": "0"}})
    job = {"metadata": {"name": "j"}, "spec": {"template": {"spec": pod("print=x")["spec"]}}}
    assert cluster.http("POST", f"/apis/batch/v1/namespaces/{namespace}/jobs", json=job).status_code == 201

    def messages() -> list[str]:
        items = cluster.http("GET", f"/api/v1/namespaces/{namespace}/events").json()["items"]
        return [item["message"] for item in items if item["reason"] == "FailedCreate"]

    until(lambda: any("is forbidden: exceeded quota: steps, requested: pods=1" in text for text in messages()))
    cluster.http("DELETE", f"/api/v1/namespaces/{namespace}/resourcequotas/steps")
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs/j"
    until(lambda: cluster.http("GET", path).json()["status"].get("succeeded") == 1)


def test_a_pod_is_refused_under_the_name_that_it_has_by_then(cluster: Server, namespace: str) -> None:
    generated = pod(serviceAccountName="none")
    generated["metadata"] = {"generateName": "step-"}
    assert refused(cluster, namespace, generated).startswith(
        'pods "step-" is forbidden: error looking up service account'
    )
    assert refused(cluster, namespace, {**generated, "metadata": {}}).startswith('pods "Unknown" is forbidden: ')
    add(cluster, namespace, "resourcequotas", "none", {"hard": {"pods": "0"}})
    generated["spec"].pop("serviceAccountName")
    assert re.match(r'pods "step-[a-z0-9]{5}" is forbidden: exceeded quota', refused(cluster, namespace, generated))
    assert refused(cluster, namespace, pod(overhead={"cpu": "1"})).endswith(
        "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
    )


# --- LimitRange

CONTAINERS = {
    "type": "Container",
    "defaultRequest": {"cpu": "500m", "ephemeral-storage": "0"},
    "default": {"memory": "2Gi", "ephemeral-storage": "50Gi"},
    "max": {"memory": "64Gi", "ephemeral-storage": "50Gi"},
}


def test_containers_that_say_nothing_get_the_defaults(cluster: Server, namespace: str) -> None:
    add(cluster, namespace, "limitranges", "steps", {"limits": [CONTAINERS]})
    made = create(cluster, namespace, pod(requests={"memory": "1Gi"}), dry_run=True)
    resources = made["spec"]["containers"][0]["resources"]
    assert resources == {
        "requests": {"memory": "1Gi", "cpu": "500m", "ephemeral-storage": "0"},
        "limits": {"memory": "2Gi", "ephemeral-storage": "50Gi"},
    }
    assert made["metadata"]["annotations"]["kubernetes.io/limit-ranger"] == (
        "LimitRanger plugin set: cpu, ephemeral-storage request for container base; "
        "ephemeral-storage, memory limit for container base"
    )
    assert made["status"]["qosClass"] == "Burstable"
    # A limit is also the request, where there is no other: the API's own default comes first.
    limited = create(cluster, namespace, pod(limits={"memory": "3Gi"}), dry_run=True)
    assert limited["spec"]["containers"][0]["resources"]["requests"]["memory"] == "3Gi"


def test_containers_may_not_have_more_than_the_maximum(cluster: Server, namespace: str) -> None:
    add(cluster, namespace, "limitranges", "steps", {"limits": [CONTAINERS]})
    assert refused(cluster, namespace, pod(limits={"memory": "100Gi"})) == (
        'pods "x" is forbidden: maximum memory usage per Container is 64Gi, but limit is 100Gi'
    )
    both = refused(cluster, namespace, pod(limits={"memory": "100Gi", "ephemeral-storage": "60Gi"}))
    assert both.startswith('pods "x" is forbidden: [maximum ')
    assert "maximum ephemeral-storage usage per Container is 50Gi, but limit is 60Gi" in both


def test_what_is_wrong_with_several_containers_is_said_once(cluster: Server, namespace: str) -> None:
    ratio = {"type": "Container", "max": {"memory": "1G"}, "maxLimitRequestRatio": {"cpu": "2"}}
    add(cluster, namespace, "limitranges", "a", {"limits": [ratio]})
    add(cluster, namespace, "limitranges", "b", {"limits": [{"type": "Pod", "max": {"memory": "1k"}}]})
    body = pod(requests={"cpu": "1"}, limits={"memory": "2G"})
    body["spec"]["initContainers"] = [{**body["spec"]["containers"][0], "name": "first"}]
    assert refused(cluster, namespace, body) == (
        'pods "x" is forbidden: [maximum memory usage per Container is 1G, but limit is 2G, '
        "cpu max limit to request ratio per Container is 2, but no limit is specified or limit is 0]"
    )


def test_minimum_ratio_and_the_sum_of_a_pod_are_bounded(cluster: Server, namespace: str) -> None:
    limits = [
        {"type": "Container", "min": {"cpu": "100m"}, "maxLimitRequestRatio": {"memory": "2"}},
        {"type": "Pod", "max": {"memory": "1Gi"}},
    ]
    add(cluster, namespace, "limitranges", "steps", {"limits": limits})
    message = refused(cluster, namespace, pod(requests={"cpu": "50m", "memory": "512Mi"}, limits={"memory": "2Gi"}))
    assert message == (
        'pods "x" is forbidden: [minimum cpu usage per Container is 100m, but request is 50m, '
        "memory max limit to request ratio per Container is 2, but provided ratio is 4.000000, "
        "maximum memory usage per Pod is 1Gi, but limit is 2Gi]"
    )


# --- PriorityClass


def test_a_pod_gets_the_priority_of_its_class(cluster: Server, namespace: str) -> None:
    for body in (
        {"metadata": {"name": "usual"}, "value": 5, "globalDefault": True, "preemptionPolicy": "Never"},
        {"metadata": {"name": "first"}, "value": 1000},
    ):
        assert cluster.http("POST", CLASSES, json=body).status_code == 201
    try:
        silent = create(cluster, namespace, pod(), dry_run=True)["spec"]
        assert (silent["priorityClassName"], silent["priority"], silent["preemptionPolicy"]) == ("usual", 5, "Never")
        named = create(cluster, namespace, pod(priorityClassName="first"), dry_run=True)["spec"]
        assert (named["priority"], named["preemptionPolicy"]) == (1000, "PreemptLowerPriority")
        assert refused(cluster, namespace, pod(priorityClassName="first", priority=7)) == (
            'pods "x" is forbidden: the integer value of priority (7) must not be provided in pod spec; '
            "priority admission controller computed 1000 from the given PriorityClass name"
        )
    finally:
        for name in ("usual", "first"):
            assert cluster.http("DELETE", f"{CLASSES}/{name}").status_code == 200
    assert "priorityClassName" not in create(cluster, namespace, pod(), dry_run=True)["spec"]
    assert refused(cluster, namespace, pod(priorityClassName="first")) == (
        'pods "x" is forbidden: no PriorityClass with name first was found'
    )


@pytest.mark.parametrize(
    ("resource", "body", "message"),
    [
        ("resourcequotas", {"spec": {"hard": {"pods": "-1"}}}, "spec.hard[pods]: Invalid value"),
        ("resourcequotas", {"spec": {"scopes": ["Sometimes"]}}, 'spec.scopes: Invalid value: ["Sometimes"]: unsupported scope'),
        ("resourcequotas", {"spec": {"hard": {"request.cpu": "1"}}}, '[spec.hard[request.cpu]: Invalid value: "request.cpu": must be a standard resource type or fully qualified, spec.hard[request.cpu]: Invalid value: "request.cpu": must be a standard resource for quota]'),
        ("resourcequotas", {"spec": {"hard": {"pods": "1.5"}}}, 'spec.hard[pods]: Invalid value: "1.5": must be an integer'),
        ("resourcequotas", {"spec": {"hard": {"count/jobs.batch": "1m"}}}, "must be an integer"),
        ("resourcequotas", {"spec": {"scopes": ["Terminating", "NotTerminating"]}}, 'spec.scopes: Invalid value: ["Terminating","NotTerminating"]: conflicting scopes'),
        ("resourcequotas", {"spec": {"scopes": ["BestEffort"], "hard": {"cpu": "1"}}}, "unsupported scope applied to resource"),
        ("resourcequotas", {"spec": {"scopes": ["Terminating"], "hard": {"configmaps": "1"}}}, "unsupported scope applied to resource"),
        ("resourcequotas", {"spec": {"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}}}, "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value"),
        ("resourcequotas", {"spec": {"scopeSelector": {"matchExpressions": [{"scopeName": "Terminating", "operator": "In", "values": ["x"]}]}}}, "must be 'Exist' only operator"),
        ("limitranges", {"spec": {"limits": [{"type": "Node"}]}}, 'spec.limits[0].type: Invalid value: "Node": must be a standard limit type or fully qualified'),
        ("limitranges", {"spec": {"limits": [{"type": "Pod"}, {"type": "Pod"}]}}, 'spec.limits[1].type: Duplicate value: "Pod"'),
        ("limitranges", {"spec": {"limits": [{"type": "Pod", "default": {"cpu": "1"}}]}}, "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'"),
        ("limitranges", {"spec": {"limits": [{"type": "Container", "max": {"pods": "1"}}]}}, 'spec.limits[0].max[pods]: Invalid value: "pods": must be a standard resource for containers'),
        ("limitranges", {"spec": {"limits": [{"type": "PersistentVolumeClaim"}]}}, "spec.limits[0].limits: Required value: either minimum or maximum"),
        ("limitranges", {"spec": {"limits": [{"type": "Container", "maxLimitRequestRatio": {"cpu": "500m"}}]}}, "ratio 500m is less than 1"),
        ("limitranges", {"spec": {"limits": [{"type": "Container", "default": {"cpu": "2"}, "max": {"cpu": "1"}}]}}, 'spec.limits[0].default[cpu]: Invalid value: "1": default value 2 is greater than max value 1'),
        ("limitranges", {"spec": {"limits": [{"type": "Container", "default": {"a/gpu": "2"}, "defaultRequest": {"a/gpu": "1"}}]}}, "default value 2 must equal to defaultRequest value 1 in a/gpu"),
        ("limitranges", {"spec": {"limits": [{"type": "Pod", "min": {"cpu": "2"}, "max": {"cpu": "1"}}]}}, "min value 2 is greater than max value 1"),
        (CLASSES, {"value": 2000000000}, "maximum allowed value of a user defined priority is 1000000000"),
        (CLASSES, {"metadata": {"name": "system-x"}}, "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-x is not a known system priority class"),
        ("/api/v1/namespaces", {"metadata": {"name": "x", "labels": {"pod-security.kubernetes.io/enforce": "strict"}}}, 'metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "strict": must be one of privileged, baseline, restricted'),
        ("/api/v1/namespaces", {"metadata": {"name": "x", "labels": {"pod-security.kubernetes.io/warn-version": "1.36"}}}, 'Invalid value: "1.36": must be "latest" or "v1.x"'),
        (CLASSES, {"preemptionPolicy": "Always"}, 'preemptionPolicy: Unsupported value: "Always"'),
    ],
)  # fmt: skip
def test_what_is_no_limit_is_refused(cluster: Server, resource: str, body: JSON, message: str) -> None:
    path = resource if resource.startswith("/") else f"/api/v1/namespaces/default/{resource}"
    answer = cluster.http("POST", path, json={"metadata": {"name": "x"}, **body})
    assert answer.status_code == 422, answer.text
    assert message in answer.json()["message"]


@pytest.mark.parametrize(
    ("path", "change", "code", "message"),
    [
        (f"{CLASSES}/usual", {"value": 2}, 422, "value: Forbidden: may not be changed in an update."),
        (f"{CLASSES}/other", {"globalDefault": True}, 403, "PriorityClass usual is already marked as default. Only one default can exist"),
        ("/api/v1/namespaces/default/resourcequotas/open", {"spec": {"scopes": ["Terminating"]}}, 422, "spec.scopes: Invalid value: [\"Terminating\"]: field is immutable"),
        ("/api/v1/namespaces/default", {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "strict"}}}, 422, "must be one of privileged, baseline, restricted"),
        ("/api/v1/nodes/cpu", {"metadata": {"labels": {"a": "b"}}}, 405, "the nodes of the local Kubernetes API are fixed"),
    ],
)  # fmt: skip
def test_what_may_not_become_of_a_limit_is_refused(
    cluster: Server, path: str, change: JSON, code: int, message: str
) -> None:
    cluster.http("POST", CLASSES, json={"metadata": {"name": "usual"}, "value": 1, "globalDefault": True})
    cluster.http("POST", CLASSES, json={"metadata": {"name": "other"}, "value": 1})
    second = cluster.http("POST", CLASSES, json={"metadata": {"name": "second"}, "globalDefault": True})
    assert second.json()["message"].endswith(
        '"second" is forbidden: PriorityClass usual is already marked as default. Only one default can exist'
    )
    cluster.http("POST", "/api/v1/namespaces/default/resourcequotas", json={"metadata": {"name": "open"}})
    try:
        answer = cluster.http("PATCH", path, json=change, headers={"Content-Type": "application/merge-patch+json"})
        assert (answer.status_code, message in answer.json()["message"]) == (code, True), answer.text
    finally:
        for name in ("usual", "other"):
            cluster.http("DELETE", f"{CLASSES}/{name}")


# --- Pod Security

RESTRICTED: JSON = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "base",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
    ],
}


def changed(change: Callable[[JSON], Any]) -> JSON:
    spec = copy.deepcopy(RESTRICTED)
    change(spec)
    return spec


def own(spec: JSON) -> JSON:
    context: JSON = spec["containers"][0]["securityContext"]
    return context


VIOLATIONS: dict[str, tuple[Callable[[JSON], Any], str, str]] = {
    "host network": (lambda s: s.update(hostNetwork=True, hostPID=True), "baseline", "host namespaces (hostNetwork=true, hostPID=true)"),
    "host port": (lambda s: s["containers"][0].update(ports=[{"hostPort": 80}]), "baseline", 'hostPort (container "base" uses hostPort 80)'),
    "privileged": (lambda s: own(s).update(privileged=True), "baseline", 'privileged (container "base" must not set securityContext.privileged=true)'),
    "host path": (lambda s: s.update(volumes=[{"name": "v", "hostPath": {}}]), "baseline", 'hostPath volumes (volume "v")'),
    "sysctl": (lambda s: s["securityContext"].update(sysctls=[{"name": "kernel.msgmax"}]), "baseline", "forbidden sysctls (kernel.msgmax)"),
    "capability": (lambda s: own(s)["capabilities"].update(add=["SYS_ADMIN"]), "baseline", 'non-default capabilities (container "base" must not include "SYS_ADMIN" in securityContext.capabilities.add)'),
    "escalation": (lambda s: own(s).pop("allowPrivilegeEscalation"), "restricted", 'allowPrivilegeEscalation != false (container "base" must set securityContext.allowPrivilegeEscalation=false)'),
    "kept": (lambda s: own(s).pop("capabilities"), "restricted", 'unrestricted capabilities (container "base" must set securityContext.capabilities.drop=["ALL"])'),
    "added": (lambda s: own(s)["capabilities"].update(add=["CHOWN"]), "restricted", 'unrestricted capabilities (container "base" must not include "CHOWN" in securityContext.capabilities.add)'),
    "volume": (lambda s: s.update(volumes=[{"name": "v", "hostPath": {}}]), "restricted", 'restricted volume types (volume "v" uses restricted volume type "hostPath")'),
    "root": (lambda s: s["securityContext"].pop("runAsNonRoot"), "restricted", 'runAsNonRoot != true (pod or container "base" must set securityContext.runAsNonRoot=true)'),
    "root told": (lambda s: own(s).update(runAsNonRoot=False), "restricted", 'runAsNonRoot != true (container "base" must not set securityContext.runAsNonRoot=false)'),
    "user 0": (lambda s: s["securityContext"].update(runAsUser=0), "restricted", "runAsUser=0 (pod must not set runAsUser=0)"),
    "not root only in containers": (lambda s: (s["securityContext"].update(runAsNonRoot=False), own(s).update(runAsNonRoot=True)), "restricted", "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)"),
    "proc mount": (lambda s: own(s).update(procMount="Unmasked"), "baseline", 'procMount (container "base" must not set securityContext.procMount to "Unmasked")'),
    "selinux": (lambda s: (s["securityContext"].update(seLinuxOptions={"type": "spc_t", "user": "u"}), own(s).update(seLinuxOptions={"type": "x_t"})), "baseline", 'seLinuxOptions (pod and container "base" set forbidden securityContext.seLinuxOptions: types "spc_t", "x_t"; user may not be set)'),
    "apparmor": (lambda s: own(s).update(appArmorProfile={"type": "Unconfined"}), "baseline", 'forbidden AppArmor profile (container "base" must not set AppArmor profile type to "Unconfined")'),
    "several of the baseline": (lambda s: s.update(hostNetwork=True, volumes=[{"name": "v", "hostPath": {}}], containers=[{**s["containers"][0], "securityContext": {"privileged": True, "capabilities": {"add": ["SYS_ADMIN"]}}}]), "baseline", 'non-default capabilities (container "base" must not include "SYS_ADMIN" in securityContext.capabilities.add), host namespaces (hostNetwork=true), hostPath volumes (volume "v"), privileged (container "base" must not set securityContext.privileged=true)'),
    "several volumes": (lambda s: s.update(volumes=[{"name": "a", "hostPath": {}}, {"name": "b", "nfs": {}}, {"name": "c", "hostPath": {}}]), "restricted", 'restricted volume types (volumes "a", "b", "c" use restricted volume types "hostPath", "nfs")'),
    "init containers first": (lambda s: (own(s).pop("allowPrivilegeEscalation"), s.update(initContainers=[{**s["containers"][0], "name": "first"}])), "restricted", 'allowPrivilegeEscalation != false (containers "first", "base" must set securityContext.allowPrivilegeEscalation=false)'),
    "no profile": (lambda s: s["securityContext"].pop("seccompProfile"), "restricted", 'seccompProfile (pod or container "base" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")'),
    "unconfined": (lambda s: own(s).update(seccompProfile={"type": "Unconfined"}), "restricted", 'seccompProfile (container "base" must not set securityContext.seccompProfile.type to "Unconfined")'),
}  # fmt: skip


@pytest.mark.parametrize("case", VIOLATIONS)
def test_a_level_is_violated(case: str) -> None:
    change, level, message = VIOLATIONS[case]
    assert pod_security.violations(changed(change), level) == message
    assert pod_security.violations(changed(change), "privileged") == ""


@pytest.mark.parametrize(
    "change",
    [
        lambda s: None,
        lambda s: own(s)["capabilities"].update(add=["NET_BIND_SERVICE"]),
        lambda s: (s.pop("securityContext"), own(s).update(runAsNonRoot=True, seccompProfile={"type": "Localhost"})),
        lambda s: s.update(volumes=[{"name": "v", "emptyDir": {}}]),
        lambda s: (s.update(hostUsers=False), own(s).update(runAsUser=0, runAsNonRoot=False, procMount="Unmasked")),
    ],
)
def test_a_level_is_kept(change: Callable[[JSON], Any]) -> None:
    assert pod_security.violations(changed(change), "restricted") == ""
    assert pod_security.violations(changed(change), "baseline") == ""


def test_all_that_is_wrong_is_named_in_the_order_of_the_real_api(cluster: Server, namespace: str) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/enforce-version": "v1.36"}
    patch = {"json": {"metadata": {"labels": labels}}, "headers": {"Content-Type": "application/merge-patch+json"}}
    assert cluster.http("PATCH", f"/api/v1/namespaces/{namespace}", **patch).status_code == 200
    assert refused(cluster, namespace, pod()) == (
        'pods "x" is forbidden: violates PodSecurity "restricted:v1.36": '
        'allowPrivilegeEscalation != false (container "base" must set securityContext.allowPrivilegeEscalation=false), '
        'unrestricted capabilities (container "base" must set securityContext.capabilities.drop=["ALL"]), '
        'runAsNonRoot != true (pod or container "base" must set securityContext.runAsNonRoot=true), '
        'seccompProfile (pod or container "base" must set securityContext.seccompProfile.type to '
        '"RuntimeDefault" or "Localhost")'
    )


def test_a_job_is_only_warned_of_what_its_pods_will_be_refused_for(cluster: Server, namespace: str) -> None:
    labels = {f"pod-security.kubernetes.io/{mode}": "baseline" for mode in ("enforce", "warn")}
    patch = {"json": {"metadata": {"labels": labels}}, "headers": {"Content-Type": "application/merge-patch+json"}}
    assert cluster.http("PATCH", f"/api/v1/namespaces/{namespace}", **patch).status_code == 200
    job = {"metadata": {"name": "j"}, "spec": {"template": {"spec": {**pod()["spec"], "hostNetwork": True}}}}
    made = cluster.http("POST", f"/apis/batch/v1/namespaces/{namespace}/jobs?dryRun=All", json=job)
    assert made.status_code == 201, made.text
    assert (
        'would violate PodSecurity \\"baseline:latest\\": host namespaces (hostNetwork=true)' in made.headers["Warning"]
    )


def test_a_namespace_without_labels_lets_everything_in() -> None:
    spec = {"containers": [{"name": "base", "securityContext": {"privileged": True}}]}
    assert pod_security.check_pod({"metadata": {}}, {"metadata": {"name": "x"}, "spec": spec}) == []
    home = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}}
    with pytest.raises(ApiError, match='violates PodSecurity "baseline:latest": privileged'):
        pod_security.check_pod(home, {"metadata": {"name": "x"}, "spec": spec})
