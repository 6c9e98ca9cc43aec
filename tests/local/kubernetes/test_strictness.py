# ruff: noqa: E501 - one case a line reads best
"""What the API server refuses, is refused here with the same status and words."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

PODS = "/api/v1/namespaces/ml-training/pods"


def _set(path: str, value: Any) -> Any:
    """Return a change that sets what a dotted path names."""

    def change(body: Any) -> None:
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        for part in parents:
            body = body[part] if isinstance(part, int) else body.setdefault(part, {})
        body[last] = value

    return change


def _gpu(requests: str | None, limits: str | None) -> Any:
    resources = {"requests": {"nvidia.com/gpu": requests}, "limits": {"nvidia.com/gpu": limits}}
    return _set(
        "spec.containers.0.resources", {k: v for k, v in resources.items() if next(iter(v.values())) is not None}
    )


C = "spec.containers.0"
REFUSED = {
    "no name": (_set("metadata.name", ""), 422, "metadata.name: Required value: name or generateName is required"),
    "capital in name": (_set("metadata.name", "Train"), 422, 'metadata.name: Invalid value: "Train": a lowercase RFC 1123 subdomain'),
    "underscore in name": (_set("metadata.name", "a_b"), 422, "a lowercase RFC 1123 subdomain"),
    "long name": (_set("metadata.name", "a" * 254), 422, "must be no more than 253 characters"),
    "label value": (_set("metadata.labels", {"a": "not valid!"}), 422, "a valid label must be an empty string or consist of"),
    "long label value": (_set("metadata.labels", {"a": "x" * 64}), 422, "must be no more than 63 characters"),
    "label key": (_set("metadata.labels", {"-a": "x"}), 422, "name part must consist of alphanumeric characters"),
    "label number": (_set("metadata.labels", {"a": 1}), 400, "cannot unmarshal number into Go struct field"),
    "annotation key": (_set("metadata.annotations", {"a b": "x"}), 422, "metadata.annotations"),
    "other namespace": (_set("metadata.namespace", "ml-deployment"), 400, "does not match the namespace sent on the request"),
    "no containers": (_set("spec.containers", []), 422, "spec.containers: Required value"),
    "containers is no list": (_set("spec.containers", {}), 400, "cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container"),
    "no container name": (_set(f"{C}.name", ""), 422, "spec.containers[0].name: Required value"),
    "bad container name": (_set(f"{C}.name", "Base"), 422, "a lowercase RFC 1123 label"),
    "no image": (_set(f"{C}.image", ""), 422, "spec.containers[0].image: Required value"),
    "two of a name": (lambda b: b["spec"]["containers"].append(copy.deepcopy(b["spec"]["containers"][0])), 422, 'spec.containers[1].name: Duplicate value: "base"'),
    "bad restartPolicy": (_set("spec.restartPolicy", "Sometimes"), 422, 'supported values: "Always", "OnFailure", "Never"'),
    "restartPolicy Always": (_set("spec.restartPolicy", "Always"), 422, "runs pods to completion only"),
    "restartPolicy OnFailure": (_set("spec.restartPolicy", "OnFailure"), 422, "runs pods to completion only"),
    "restartPolicy left out": (lambda b: b["spec"].pop("restartPolicy"), 422, "runs pods to completion only"),
    "bad pull policy": (_set(f"{C}.imagePullPolicy", "Often"), 422, "Unsupported value"),
    "bad message policy": (_set(f"{C}.terminationMessagePolicy", "Log"), 422, "Unsupported value"),
    "bad dnsPolicy": (_set("spec.dnsPolicy", "x"), 422, "spec.dnsPolicy: Unsupported value"),
    "bad quantity": (_set(f"{C}.resources", {"limits": {"memory": "1 GB"}}), 400, "quantities must match the regular expression"),
    "bad quantity suffix": (_set(f"{C}.resources", {"limits": {"memory": "1gb"}}), 400, "quantities must match the regular expression"),
    "request over limit": (_set(f"{C}.resources", {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}), 422, "must be less than or equal to cpu limit of 1"),
    "negative request": (_set(f"{C}.resources", {"requests": {"cpu": "-1"}}), 422, "must be greater than or equal to 0"),
    "unknown resource": (_set(f"{C}.resources", {"limits": {"gpu": "1"}}), 422, "must be a standard resource type or fully qualified"),
    "GPU request is not limit": (_gpu("1", "2"), 422, "must be equal to nvidia.com/gpu limit of 2"),
    "GPU request alone": (_gpu("1", None), 422, "Limit must be set for non overcommitable resources"),
    "half a GPU": (_gpu(None, "500m"), 422, "must be an integer"),
    "deadline 0": (_set("spec.activeDeadlineSeconds", 0), 422, "must be between 1 and 2147483647, inclusive"),
    "deadline text": (_set("spec.activeDeadlineSeconds", "60"), 400, "cannot unmarshal string into Go struct field PodSpec.spec.activeDeadlineSeconds of type int64"),
    "negative grace": (_set("spec.terminationGracePeriodSeconds", -1), 422, "must be greater than or equal to 0"),
    "env without name": (_set(f"{C}.env", [{"value": "x"}]), 422, "env[0].name: Required value"),
    "env with number": (_set(f"{C}.env", [{"name": "A", "value": 1}]), 400, "cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string"),
    "env from two": (_set(f"{C}.env", [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]), 422, "may not be specified when `value` is not empty"),
    "env from unknown field": (_set(f"{C}.env", [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.x"}}}]), 422, "field label not supported: metadata.x"),
    "mount without volume": (_set(f"{C}.volumeMounts", [{"name": "no", "mountPath": "/x"}]), 422, 'volumeMounts[0].name: Not found: "no"'),
    "mount without path": (_set(f"{C}.volumeMounts", [{"name": "no"}]), 422, "mountPath: Required value"),
    "volume of two types": (_set("spec.volumes", [{"name": "v", "emptyDir": {}, "configMap": {"name": "x"}}]), 422, "may not specify more than 1 volume type"),
    "volume twice": (_set("spec.volumes", [{"name": "v"}, {"name": "v"}]), 422, 'spec.volumes[1].name: Duplicate value: "v"'),
    "toleration of any key": (_set("spec.tolerations", [{"operator": "Equal", "value": "x"}]), 422, "operator must be Exists when `key` is empty"),
    "toleration exists value": (_set("spec.tolerations", [{"key": "a", "operator": "Exists", "value": "x"}]), 422, "value must be empty when `operator` is 'Exists'"),
    "toleration effect": (_set("spec.tolerations", [{"key": "a", "operator": "Exists", "effect": "Never"}]), 422, "Unsupported value"),
    "affinity operator": (_set("spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution", {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Is"}]}]}), 422, "not a valid selector operator"),
    "unknown service account": (_set("spec.serviceAccountName", "nobody"), 403, 'pods "probe" is forbidden: error looking up service account ml-training/nobody: serviceaccount "nobody" not found'),
    "unknown priority class": (_set("spec.priorityClassName", "high"), 403, "no PriorityClass with name high was found"),
    "unknown runtime class": (_set("spec.runtimeClassName", "nvidia"), 403, 'RuntimeClass "nvidia" not found'),
    "other kind": (_set("kind", "Job"), 400, "cannot be handled as a Pod"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, server: Any, pods: Any) -> None:
    change, code, text = REFUSED[case]
    body = pods.body("print=x", name="probe")
    change(body)
    response = server.http("POST", f"{PODS}?dryRun=All", json=body)
    answer = response.json()
    assert (response.status_code, answer["kind"], answer["status"]) == (code, "Status", "Failure"), answer
    assert text in answer["message"]
    assert answer["code"] == code
    if code == 422:
        assert answer["reason"] == "Invalid"
        assert answer["details"]["causes"]


def test_all_problems_are_named_at_once(server: Any, pods: Any) -> None:
    body = pods.body(name="Bad", labels={"a": "b c"})
    body["spec"]["containers"][0]["image"] = ""
    answer = server.http("POST", PODS, json=body).json()
    fields = {cause["field"] for cause in answer["details"]["causes"]}
    assert fields == {"metadata.name", "metadata.labels", "spec.containers[0].image"}


REQUESTS: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "no such namespace": ("POST", "/api/v1/namespaces/nowhere/pods", {}, 404),
    "no such pod": ("GET", f"{PODS}/none", {}, 404),
    "delete no such pod": ("DELETE", f"{PODS}/none", {}, 404),
    "no such resource": ("GET", "/api/v1/namespaces/ml-training/jobs", {}, 404),
    "no such group": ("GET", "/apis/apps/v1/namespaces/ml-training/deployments", {}, 404),
    "no such subresource": ("GET", f"{PODS}/none/portforward", {}, 404),
    "bad label selector": ("GET", f"{PODS}?labelSelector=a%20b%20c", {}, 400),
    "bad set selector": ("GET", f"{PODS}?labelSelector=a%20in%20b", {}, 400),
    "unsupported field": ("GET", f"{PODS}?fieldSelector=spec.foo%3Dx", {}, 400),
    "bad version": ("GET", f"{PODS}?resourceVersion=abc", {}, 400),
    "version of the future": ("GET", f"{PODS}?resourceVersion=99999999999999999", {}, 504),
    "method": ("PUT", PODS, {"json": {}}, 405),
    "node created": ("DELETE", "/api/v1/nodes/cpu", {}, 405),
    "default namespace deleted": ("DELETE", "/api/v1/namespaces/default", {}, 403),
    "body is no JSON": ("POST", PODS, {"content": b"{", "headers": {"Content-Type": "application/json"}}, 400),
    "body is text": ("POST", PODS, {"content": b"x", "headers": {"Content-Type": "text/csv"}}, 415),
    "protobuf wanted": ("GET", PODS, {"headers": {"Accept": "application/vnd.kubernetes.protobuf"}}, 406),
    "namespace name": ("POST", "/api/v1/namespaces", {"json": {"metadata": {"name": "a.b"}}}, 422),
    "config map key": ("POST", "/api/v1/namespaces/ml-training/configmaps", {"json": {"metadata": {"name": "a"}, "data": {"a b": "x"}}}, 422),
    "secret not base64": ("POST", "/api/v1/namespaces/ml-training/secrets", {"json": {"metadata": {"name": "a"}, "data": {"a": "?"}}}, 400),
    "negative grace": ("DELETE", f"{PODS}/none?gracePeriodSeconds=-1", {}, 404),  # taken for 1
    "grace is no number": ("DELETE", f"{PODS}/none?gracePeriodSeconds=x", {}, 400),
    "unknown fault": ("POST", "/local/faults", {"json": {"kind": "earthquake"}}, 400),
    "unknown control": ("GET", "/local/nothing", {}, 404),
}  # fmt: skip


@pytest.mark.parametrize("case", REQUESTS)
def test_refused_requests(case: str, server: Any, pods: Any) -> None:
    method, path, options, code = REQUESTS[case]
    if case == "no such namespace":
        options = {"json": pods.body(name="probe")}
    response = server.http(method, path, **options)
    assert response.status_code == code, response.text
    assert response.json()["code"] == code


def test_a_token_is_needed(server: Any) -> None:
    for value in ("", "Bearer wrong", f"Basic {server.token}"):
        response = server.http("GET", PODS, headers={"Authorization": value})
        assert response.status_code == 401
        assert response.json()["reason"] == "Unauthorized"
    assert server.http("GET", "/local/requests", headers={"Authorization": ""}).status_code == 401
    assert server.http("GET", "/readyz", headers={"Authorization": ""}).text == "ok"


def test_a_name_is_taken_once(server: Any, pods: Any) -> None:
    name = pods.create("print=x")
    answer = server.http("POST", PODS, json=pods.body(name=name))
    assert answer.status_code == 409
    assert answer.json()["reason"] == "AlreadyExists"


def test_unknown_fields_are_warned_about_or_refused(server: Any, pods: Any) -> None:
    body = pods.body("print=x", name="probe")
    body["spec"]["containers"][0]["imagePolicy"] = "Always"
    url = f"{PODS}?dryRun=All"
    warned = server.http("POST", url, json=body)
    assert warned.status_code == 201
    assert 'unknown field \\"spec.containers[0].imagePolicy\\"' in warned.headers["Warning"]
    assert "imagePolicy" not in warned.text
    assert "Warning" not in server.http("POST", f"{url}&fieldValidation=Ignore", json=body).headers
    strict = server.http("POST", f"{url}&fieldValidation=Strict", json=body)
    assert strict.status_code == 400
    assert 'strict decoding error: unknown field "spec.containers[0].imagePolicy"' in strict.json()["message"]


def test_defaults_are_those_of_the_api_server(server: Any, pods: Any) -> None:
    body = pods.body("print=x", name="probe")
    del body["spec"]["terminationGracePeriodSeconds"]
    body["spec"]["containers"][0]["resources"] = {"limits": {"memory": "1Gi"}}
    pod = server.http("POST", f"{PODS}?dryRun=All", json=body).json()
    spec = pod["spec"]
    assert spec["terminationGracePeriodSeconds"] == 30
    assert spec["dnsPolicy"] == "ClusterFirst"
    assert spec["schedulerName"] == "default-scheduler"
    assert spec["serviceAccountName"] == "default"
    assert {t["key"] for t in spec["tolerations"]} == {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}
    assert spec["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    assert spec["containers"][0]["resources"]["requests"] == {"memory": "1Gi"}
    assert pod["status"] == {"phase": "Pending", "qosClass": "Burstable"}
    assert server.http("GET", f"{PODS}/probe").status_code == 404


def test_patches(server: Any, pods: Any) -> None:
    name = pods.create("sleep=20", labels={"a": "1", "b": "2"})
    pods.running(name)

    def patch(kind: str, body: Any) -> Any:
        headers = {"Content-Type": kind}
        return server.http("PATCH", f"{PODS}/{name}", content=json.dumps(body), headers=headers)

    assert patch("application/json", {"metadata": {"labels": {"a": "x"}}}).status_code == 415
    merged = patch("application/merge-patch+json", {"metadata": {"labels": {"a": None, "c": "3"}}})
    assert merged.json()["metadata"]["labels"] == {"b": "2", "c": "3"}
    strategic = patch("application/strategic-merge-patch+json", {"metadata": {"labels": {"already_checked": "True"}}})
    assert strategic.json()["metadata"]["labels"] == {"b": "2", "c": "3", "already_checked": "True"}
    assert strategic.json()["status"]["phase"] == "Running"
    operations = [
        {"op": "test", "path": "/metadata/labels/b", "value": "2"},
        {"op": "remove", "path": "/metadata/labels/b"},
    ]
    assert "b" not in patch("application/json-patch+json", operations).json()["metadata"]["labels"]
    assert patch("application/json-patch+json", operations).status_code == 422
    for frozen in (
        {"restartPolicy": "Always"},
        {"nodeSelector": {"a": "b"}},
        {"containers": [{"name": "base", "args": ["x"]}]},
    ):
        refused = patch("application/strategic-merge-patch+json", {"spec": frozen})
        assert refused.status_code == 422, frozen
        assert "pod updates may not change fields other than" in refused.json()["message"]
    assert patch("application/strategic-merge-patch+json", {"metadata": {"labels": {"a": "b c"}}}).status_code == 422
    assert patch("application/strategic-merge-patch+json", {"metadata": {"name": "other"}}).status_code == 400
    stale = {"metadata": {"resourceVersion": "1", "labels": {"z": "1"}}}
    assert patch("application/merge-patch+json", stale).status_code == 409
    assert patch("application/strategic-merge-patch+json", {"spec": {"activeDeadlineSeconds": 1}}).status_code == 200
    assert pods.finish(name)["status"]["reason"] == "DeadlineExceeded"


def test_namespaces_come_and_go(server: Any, core: Any, pods: Any) -> None:
    core.create_namespace({"metadata": {"name": "passing"}})
    assert [a.metadata.name for a in core.list_namespaced_service_account("passing").items] == ["default"]
    core.create_namespaced_pod("passing", pods.body("sleep=30", name="held"))
    core.delete_namespace("passing")
    refused = server.http("POST", "/api/v1/namespaces/passing/pods", json=pods.body("print=x"))
    assert refused.status_code in (403, 404)
    pods_left = "/api/v1/namespaces/passing"
    deadline = 100
    while server.http("GET", pods_left).status_code != 404 and deadline:
        deadline -= 1
    assert server.http("GET", "/api/v1/namespaces/passing/pods").json()["items"] == []


def test_lists_come_in_pages(server: Any, core: Any) -> None:
    for number in range(5):
        core.create_namespaced_config_map("ml-deployment", {"metadata": {"name": f"page-{number}"}})
    url = "/api/v1/namespaces/ml-deployment/configmaps?limit=2"
    names, token = [], ""
    while True:
        page = server.http("GET", f"{url}&continue={token}").json()
        names += [item["metadata"]["name"] for item in page["items"]]
        token = page["metadata"].get("continue", "")
        if not token:
            break
    assert names == [f"page-{number}" for number in range(5)]
