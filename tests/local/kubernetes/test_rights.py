# ruff: noqa: E501 - one case a line reads best
"""Who may do what: users, the project's own Roles, and refusals in the words of the real API."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import kubernetes
import pytest
from kubernetes.client.rest import ApiException

from local.kubernetes import manifests
from local.kubernetes.resources import Resources
from local.kubernetes.store import Store
from tests.kubernetes.policies import AIRFLOW_RIGHTS, AIRFLOW_RIGHTS_TO_JOBS
from tests.local.kubernetes.conftest import ROOT, Server, pod_body, start_server

TRAINING, DEPLOYMENT = "ml-training", "ml-deployment"
ROLES = "/apis/rbac.authorization.k8s.io/v1/namespaces/ml-training/roles"
VERBS = {
    "create": ("POST", ""),
    "get": ("GET", "/none"),
    "list": ("GET", ""),
    "watch": ("GET", "?watch=1&resourceVersion=1"),
    "patch": ("PATCH", "/none"),
    "update": ("PUT", "/none"),
    "delete": ("DELETE", "/none"),
    "deletecollection": ("DELETE", "?labelSelector=no=one"),
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with what is in every cluster, and with the users that it has there."""
    manifests = ("--manifest", str(ROOT / "config" / "kubernetes" / "base"))
    users = ("--user", "airflow=ml-platform:airflow", "--user", "on-call=ml-platform:on-call", "--user", "nobody=x")
    running = start_server(tmp_path_factory.mktemp("rights") / "state", *manifests, *users)
    yield running
    running.stop()


def call(cluster: Server, user: str, method: str, path: str, **options: Any) -> httpx.Response:
    token = (cluster.state_dir / f"{user}.token").read_text()
    headers = {"Authorization": f"Bearer {token}", **options.pop("headers", {})}
    return cluster.http(method, path, headers=headers, **options)


def may(cluster: Server, user: str, group: str, resource: str, verb: str, namespace: str) -> bool:
    """Try a verb on an object that does not exist; only rights can be what refuses it with 403."""
    method, rest = VERBS[verb]
    plural, _, subresource = resource.partition("/")
    root = f"/apis/{group}/v1" if group else "/api/v1"
    path = f"{root}/namespaces/{namespace}/{plural}"
    path += f"/none/{subresource}" if subresource else rest
    headers = {"Content-Type": "application/merge-patch+json" if verb == "patch" else "application/json"}
    answer = call(
        cluster, user, method, path, headers=headers, **({} if verb in ("get", "list", "watch") else {"content": "{}"})
    )
    return answer.status_code != 403


@pytest.mark.parametrize("namespace", [TRAINING, DEPLOYMENT, "default", "kube-system"])
def test_airflow_may_do_what_its_roles_say_and_nothing_else(cluster: Server, namespace: str) -> None:
    rights = dict(AIRFLOW_RIGHTS) if namespace in (TRAINING, DEPLOYMENT) else {}
    rights |= AIRFLOW_RIGHTS_TO_JOBS if namespace == TRAINING else {}
    for group, resource in [
        *(("", name) for name in ("pods", "events", "secrets", "configmaps", "serviceaccounts", "resourcequotas")),
        ("batch", "jobs"),
        ("rbac.authorization.k8s.io", "roles"),
    ]:
        for verb in VERBS:
            expected = verb in rights.get((group, resource), set())
            assert may(cluster, "airflow", group, resource, verb, namespace) is expected, (resource, verb)
    for resource, verb in (("pods/log", "get"), ("pods/exec", "get"), ("pods/eviction", "create")):
        expected = verb in rights.get(("", resource), set())
        assert may(cluster, "airflow", "", resource, verb, namespace) is expected, (resource, verb)


def test_people_on_call_may_look_and_change_nothing(cluster: Server) -> None:
    for resource in ("pods", "events", "resourcequotas", "limitranges"):
        allowed = {verb for verb in VERBS if may(cluster, "on-call", "", resource, verb, TRAINING)}
        assert allowed == {"get", "list", "watch"}, resource
    assert not may(cluster, "on-call", "", "secrets", "list", TRAINING)


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("POST", "/api/v1/namespaces/ml-training/pods", 'pods is forbidden: User "nobody" cannot create resource "pods" in API group "" in the namespace "ml-training"'),
        ("GET", "/api/v1/namespaces/ml-training/pods/a/log", 'pods "a" is forbidden: User "nobody" cannot get resource "pods/log" in API group "" in the namespace "ml-training"'),
        ("GET", "/apis/batch/v1/namespaces/ml-training/jobs?watch=true", 'jobs.batch is forbidden: User "nobody" cannot watch resource "jobs" in API group "batch" in the namespace "ml-training"'),
        ("DELETE", "/apis/batch/v1/namespaces/ml-training/jobs/j", 'jobs.batch "j" is forbidden: User "nobody" cannot delete resource "jobs" in API group "batch" in the namespace "ml-training"'),
        ("GET", "/api/v1/pods", 'pods is forbidden: User "nobody" cannot list resource "pods" in API group "" at the cluster scope'),
        ("GET", "/api/v1/nodes/cpu", 'nodes "cpu" is forbidden: User "nobody" cannot get resource "nodes" in API group "" at the cluster scope'),
        ("GET", "/apis/apps/v1/namespaces/ml-training/deployments", 'deployments.apps is forbidden: User "nobody" cannot list resource "deployments" in API group "apps" in the namespace "ml-training"'),
        ("GET", "/api/v1/namespaces/ml-training/pods?watch=yes", 'pods is forbidden: User "nobody" cannot watch resource "pods" in API group "" in the namespace "ml-training"'),
        ("GET", "/api/v1/namespaces/ml-training/pods?watch=", 'pods is forbidden: User "nobody" cannot watch resource "pods" in API group "" in the namespace "ml-training"'),
        ("GET", "/api/v1/watch/namespaces/ml-training/pods", 'pods is forbidden: User "nobody" cannot watch resource "pods" in API group "" in the namespace "ml-training"'),
        ("OPTIONS", "/api/v1/namespaces/ml-training/pods", 'pods is forbidden: User "nobody" cannot  resource "pods" in API group "" in the namespace "ml-training"'),
        ("GET", "/healthz/etcd", 'forbidden: User "nobody" cannot get path "/healthz/etcd"'),
        ("GET", "/version/x", 'forbidden: User "nobody" cannot get path "/version/x"'),
        ("POST", "/version", 'forbidden: User "nobody" cannot post path "/version"'),
        ("GET", "/metrics", 'forbidden: User "nobody" cannot get path "/metrics"'),
        ("GET", "/local/requests", 'forbidden: User "nobody" cannot get path "/local/requests"'),
        ("POST", "/local/faults", 'forbidden: User "nobody" cannot post path "/local/faults"'),
    ],
)  # fmt: skip
def test_a_refusal_has_the_words_of_the_real_api(cluster: Server, method: str, path: str, message: str) -> None:
    answer = call(cluster, "nobody", method, path).json()
    assert answer["message"] == message
    assert (answer["status"], answer["reason"], answer["code"]) == ("Failure", "Forbidden", 403)


def test_a_refusal_names_the_roles_that_nobody_has_made(cluster: Server) -> None:
    path = "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/rolebindings"
    for name, kind, role in (("a", "Role", "gone"), ("b", "ClusterRole", "gone"), ("c", "Role", "gone")):
        body = {"roleRef": {"kind": kind, "name": role}, "subjects": [{"kind": "Group", "name": "x"}]}
        assert cluster.http("POST", path, json={"metadata": {"name": name}, **body}).status_code == 201
    refused = call(cluster, "nobody", "GET", "/api/v1/namespaces/kube-system/pods").json()["message"]
    assert refused.endswith(
        'in the namespace "kube-system": RBAC: [role.rbac.authorization.k8s.io "gone" not found, '
        'clusterrole.rbac.authorization.k8s.io "gone" not found]'
    )
    for name in "bc":
        cluster.http("DELETE", f"{path}/{name}")
    refused = call(cluster, "nobody", "GET", "/api/v1/namespaces/kube-system/pods").json()["message"]
    assert refused.endswith('"kube-system": RBAC: role.rbac.authorization.k8s.io "gone" not found')
    cluster.http("DELETE", f"{path}/a")


def test_a_path_is_of_the_object_whose_rights_are_asked_for(cluster: Server) -> None:
    """Or a rule for `*/pods`, which are no pods, would show all pods."""
    for path in ("/api/v1///pods", "/api/v1//pods", "//api/v1/pods", "/api/v1/namespaces//pods"):
        assert cluster.http("GET", path).status_code == 404, path
    assert cluster.http("GET", "/api/v1/pods/").json()["kind"] == "PodList"


@pytest.mark.parametrize(
    ("form", "code"),
    [("bearer {}", 200), ("Bearer  {}", 401), ("Bearer", 401), ("", 401), ("Basic {}", 401)],
)
def test_a_token_is_a_bearers(cluster: Server, form: str, code: int) -> None:
    answer = cluster.http("GET", "/api/v1/nodes", headers={"Authorization": form.format(cluster.token)})
    assert answer.status_code == code


def test_whoever_has_signed_in_may_find_out_what_there_is(cluster: Server) -> None:
    for path in ("/version", "/api", "/apis", "/api/v1", "/apis/batch/v1", "/openapi/v3"):
        assert call(cluster, "nobody", "GET", path).status_code == 200, path
    groups = {group["name"] for group in call(cluster, "nobody", "GET", "/apis").json()["groups"]}
    assert groups == {"batch", "scheduling.k8s.io", "rbac.authorization.k8s.io"}


def test_a_right_that_is_taken_away_is_missed_at_once(cluster: Server) -> None:
    config = kubernetes.config.new_client_from_config(str(cluster.state_dir / "airflow.kubeconfig"))
    core = kubernetes.client.CoreV1Api(config)
    assert core.list_namespaced_pod(TRAINING).items == []
    role = cluster.http("GET", f"{ROLES}/airflow").json()
    fewer = [{**rule, "verbs": [verb for verb in rule["verbs"] if verb != "list"]} for rule in role["rules"]]
    patch = {"content": json.dumps({"rules": fewer}), "headers": {"Content-Type": "application/merge-patch+json"}}
    assert cluster.http("PATCH", f"{ROLES}/airflow", **patch).status_code == 200
    with pytest.raises(ApiException, match='User \\\\"airflow\\\\" cannot list resource') as refused:
        core.list_namespaced_pod(TRAINING)
    assert refused.value.status == 403
    assert core.list_namespaced_pod(DEPLOYMENT).items == [], "the other namespace has a role of its own"
    cluster.http("PUT", f"{ROLES}/airflow", json=role | {"metadata": {"name": "airflow", "namespace": TRAINING}})
    assert core.list_namespaced_pod(TRAINING).items == []


def test_rules_name_objects_subresources_and_everything(cluster: Server) -> None:
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    rules = [
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["one"], "verbs": ["get"]},
        {"apiGroups": ["*"], "resources": ["*/log"], "verbs": ["*"]},
        {"nonResourceURLs": ["/metrics/*"], "verbs": ["get"]},
    ]
    made = cluster.http("POST", f"{rbac}/clusterroles", json={"metadata": {"name": "some:thing"}, "rules": rules})
    assert made.status_code == 201, made.text
    binding = {
        "metadata": {"name": "some:thing"},
        "roleRef": {"kind": "ClusterRole", "name": "some:thing"},
        "subjects": [{"kind": "User", "name": "nobody"}],
    }
    made = cluster.http("POST", f"{rbac}/clusterrolebindings", json=binding)
    assert made.status_code == 201, made.text
    for path, code in (
        ("/api/v1/namespaces/default/configmaps/one", 404),
        ("/api/v1/namespaces/default/configmaps/two", 403),
        ("/api/v1/namespaces/default/configmaps", 403),
        ("/api/v1/namespaces/default/configmaps?fieldSelector=metadata.name%3Done", 403),
        ("/api/v1/namespaces/default/pods/x/log", 404),
        ("/api/v1/namespaces/default/pods/x", 403),
        ("/metrics/cadvisor", 404),
        ("/metrics", 403),
    ):
        assert call(cluster, "nobody", "GET", path).status_code == code, path
    changed = {**binding, "roleRef": {"kind": "ClusterRole", "name": "other"}}
    refused = cluster.http("PUT", f"{rbac}/clusterrolebindings/some:thing", json=changed)
    assert (refused.status_code, "cannot change roleRef" in refused.text) == (422, True)


@pytest.mark.parametrize(
    ("resource", "body", "message"),
    [
        ("roles", {"rules": [{"apiGroups": [""], "resources": ["pods"]}]}, "rules[0].verbs: Required value"),
        ("roles", {"metadata": {"name": ".."}}, "metadata.name: Invalid value: \"..\": may not be '..'"),
        ("roles", {"rules": [{"apiGroups": [], "resources": ["pods"], "verbs": ["get"]}]}, "rules[0].apiGroups: Required value"),
        ("rolebindings", {"roleRef": {"kind": "Role", "name": "a/b"}}, "roleRef.name: Invalid value: \"a/b\": may not contain '/'"),
        ("roles", {"rules": [{"nonResourceURLs": ["/x"], "resources": ["pods"], "verbs": ["get"]}]}, 'rules[0].nonResourceURLs: Invalid value: ["/x"]: rules cannot apply to both regular resources and non-resource URLs'),
        ("roles", {"rules": [{"resources": ["pods"], "verbs": ["get"]}]}, "rules[0].apiGroups: Required value"),
        ("roles", {"rules": [{"nonResourceURLs": ["/x"], "verbs": ["get"]}]}, "namespaced rules cannot apply"),
        ("rolebindings", {"roleRef": {"kind": "Pod", "name": "x"}}, 'roleRef.kind: Unsupported value: "Pod"'),
        ("rolebindings", {"roleRef": {"kind": "Role", "name": "x"}, "subjects": [{"kind": "Group"}]}, "subjects[0].name: Required"),
    ],
)  # fmt: skip
def test_what_is_no_rule_is_refused(cluster: Server, resource: str, body: dict[str, Any], message: str) -> None:
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/default/{resource}"
    answer = cluster.http("POST", path, json={"metadata": {"name": "x"}, **body})
    assert answer.status_code == 422, answer.text
    assert message in answer.json()["message"]


def test_requests_are_recorded_with_who_made_them(cluster: Server) -> None:
    call(cluster, "airflow", "GET", f"/api/v1/namespaces/{TRAINING}/pods?limit=1")
    cluster.http("GET", f"/api/v1/namespaces/{TRAINING}/pods?limit=2", headers={"Authorization": "Bearer wrong"})
    recorded = cluster.http("GET", "/local/requests").json()
    users = {entry["query"]: entry["user"] for entry in recorded if entry["path"].endswith("/pods")}
    assert users["limit=1"] == "airflow"
    assert users["limit=2"] == ""


def test_airflow_starts_a_pod_that_the_namespace_lets_in(cluster: Server) -> None:
    """The project's own manifests and pods are for each other; see tests/dags for the pods of the steps."""
    config = kubernetes.config.new_client_from_config(str(cluster.state_dir / "airflow.kubeconfig"))
    core = kubernetes.client.CoreV1Api(config)
    body = pod_body("print=hello", serviceAccountName="trainer")
    with pytest.raises(ApiException, match="violates PodSecurity"):
        core.create_namespaced_pod(TRAINING, body)
    body["spec"]["securityContext"] = {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    closed = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    body["spec"]["containers"][0]["securityContext"] = closed
    made = core.create_namespaced_pod(TRAINING, body)
    assert made.spec.priority_class_name == "ml-platform-step"
    assert made.spec.preemption_policy == "Never"
    assert made.spec.containers[0].resources.limits == {"memory": "2Gi", "ephemeral-storage": "50Gi"}
    core.delete_namespaced_pod(made.metadata.name, TRAINING, grace_period_seconds=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: Role\napiVersion: rbac.authorization.k8s.io/v1\nmetadata: {name: a, namespace: nowhere}\nrules: []", 'namespaces "nowhere" not found'),
        ("a: [", "cannot be read"),
    ],
)  # fmt: skip
def test_a_manifest_that_is_refused_stops_the_start(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "m.yaml").write_text(text)
    _assert_no_start(tmp_path, message, "--manifest", str(tmp_path / "m.yaml"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--namespace", "UPPER"], 'Namespace "UPPER" is invalid'),
        (["--user", "a=x", "--user", "a=y"], "--user: a is given twice"),
        (["--user", "a=x,,y"], "must be name=group,group"),
    ],
)  # fmt: skip
def test_an_option_that_is_refused_stops_the_start(tmp_path: Path, options: list[str], message: str) -> None:
    _assert_no_start(tmp_path, message, *options)


def _assert_no_start(tmp_path: Path, message: str, *options: str) -> None:
    (tmp_path / "images.json").write_text("{}")
    command = [sys.executable, "-m", "local.kubernetes", "--state-dir", str(tmp_path / "s")]
    command += ["--images", str(tmp_path / "images.json"), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert message in done.stderr.replace("\n", " ").replace("│", ""), done.stderr
    assert "Traceback" not in done.stderr


RBAC = "rbac.authorization.k8s.io/v1"


@pytest.fixture
def resources() -> Resources:
    """An API of its own, without a server."""
    made = Resources(Store(), Mock())
    for name in ("default", TRAINING):
        made.add("namespaces", {"metadata": {"name": name}})
    return made


def _applied(resources: Resources, folder: Path, text: str) -> None:
    (folder / "m.yaml").write_text(text)
    manifests.apply(resources, manifests.read(folder / "m.yaml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("just words", "no object, which has an apiVersion and a kind: 'just words'"),
        ("- kind: Role", "no object"),
        ("1", "no object"),
        ("kind: Role\napiVersion: [v1]", "no object"),
        ("kind: {a: b}\napiVersion: v1", "no object"),
        ("kind: List\napiVersion: v1\nitems: 1", "the items of a List are no list: 1"),
        ("kind: List\napiVersion: v1\nitems: [1]", "no object"),
        ("a: &a [*a]", "exceeded max depth"),
        ("a: &a [x, x, x, x]\n" + "".join(f"{c}: &{c} [*{d}, *{d}, *{d}, *{d}]\n" for d, c in pairwise("abcdefghijklmnopqr")), "no object"),
        ("[" * 3000, "exceeded max depth"),
        ("? [a]\n: b", "unhashable key"),
        ("kind: !!python/name:os.system", "could not determine a constructor"),
        (f"kind: Role\napiVersion: {RBAC}", 'Role : Role "" is invalid: metadata.name: Required value'),
        (f"kind: Role\napiVersion: {RBAC}\nmetadata: 1", "Role: Role in version"),
        (f"kind: Role\napiVersion: {RBAC}\nmetadata: [a]", "cannot unmarshal array"),
        (f"kind: Role\napiVersion: {RBAC}\nmetadata: {{name: a}}\nrules: 1", "cannot unmarshal number"),
        (f"kind: RoleBinding\napiVersion: {RBAC}\nmetadata: {{name: a}}\nsubjects: {{}}", "cannot unmarshal object"),
        (f"kind: Role\napiVersion: {RBAC}\nmetadata: {{name: a}}\n---\n" * 2, 'Role a: roles.rbac.authorization.k8s.io "a" already exists'),
        ("kind: LimitRange\napiVersion: v1\nmetadata: {name: a}\nspec: {limit: []}", 'unknown field "spec.limit"'),
        ("kind: ResourceQuota\napiVersion: v1\nmetadata: {name: a}\nspec: {hard: {pods: many}}", "quantities must match"),
        ("kind: Namespace\napiVersion: v1\nmetadata: {name: default, labels: {pod-security.kubernetes.io/enforce: x}}", "must be one of privileged, baseline, restricted"),
        ("kind: ServiceAccount\napiVersion: v1\nmetadata: {name: default, labels: {a: '?'}}", "metadata.labels: Invalid value"),
    ],
)  # fmt: skip
def test_a_hostile_manifest_has_one_message(resources: Resources, tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        _applied(resources, tmp_path, text)


def test_a_folder_that_does_not_build_has_one_message(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(ValueError, match=r"m\.yaml: cannot be read"):
        manifests.read(tmp_path / "m.yaml")
    with pytest.raises(ValueError, match="unable to find one of"):
        manifests.read(tmp_path)
    (tmp_path / "kustomization.yaml").write_text("resources: [none.yaml]")
    with pytest.raises(ValueError, match=r"none\.yaml"):
        manifests.read(tmp_path)


def test_a_manifest_may_be_a_list_and_is_read_as_json(resources: Resources, tmp_path: Path) -> None:
    """As kubectl does it: dates and keys are texts."""
    config = (
        "kind: ConfigMap\napiVersion: v1\nmetadata: {name: a, annotations: {day: 2026-01-02}}\ndata: {2: x, yes: y}"
    )
    role = f"kind: Role\napiVersion: {RBAC}\nmetadata: {{name: r}}"
    items = "".join(f"- {text}".replace("\n", "\n  ") + "\n" for text in (config, role))
    _applied(resources, tmp_path, f"kind: List\napiVersion: v1\nitems:\n{items}")
    made = resources.store.get("configmaps", "default", "a")
    assert made["data"] == {"2": "x", "true": "y"}
    assert made["metadata"]["annotations"] == {"day": "2026-01-02"}
    assert resources.store.find("roles", "default", "r")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("yaml", "metadata: {name: a, labels: {1: a}}\ndata: {1: x, yes: y}"),
        ("yaml", "a: &a [*a]"),
        ("yaml", "[" * 3000),
        ("yaml", "---\n---\n"),
        ("json", "[" * 200_000),
        ("json", '{"a":' * 5000),
        ("json", '"' + "9" * 5000),
    ],
)
def test_a_hostile_body_is_answered_with_a_status(cluster: Server, kind: str, body: str) -> None:
    path, headers = "/api/v1/namespaces/default/configmaps?dryRun=All", {"Content-Type": f"application/{kind}"}
    answer = cluster.http("POST", path, content=body, headers=headers)
    assert answer.status_code in (201, 400), answer.text
    assert answer.json()["kind"] in ("ConfigMap", "Status")
