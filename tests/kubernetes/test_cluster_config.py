"""`cluster-config` with the real kubectl, against an API that keeps what it is given."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import certifi
import pytest
import yaml
from fake_api import FakeApi, Refused, serve
from moto import mock_aws

from cloud import cluster_config
from cloud.cluster_config import Cluster, Ref, Report, apply
from cloud.errors import CloudError

CLUSTER = Cluster("ml-platform-dev", "eu-west-1", "10.77.0.0/16", "https://cluster.invalid", "Q0E=")


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with serve() as served:
        yield served


@pytest.fixture
def configure(api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Report]:
    """Run `cluster-config` for dev against the API."""
    monkeypatch.setattr(cluster_config, "describe", lambda name, region: CLUSTER)
    monkeypatch.setenv("KUBECACHEDIR", str(tmp_path / "cache"))
    kubeconfig = tmp_path / "kubeconfig"
    content: Any = cluster_config.kubeconfig_for(CLUSTER)
    content["clusters"][0]["cluster"] = {"server": api.url}
    content["users"][0]["user"] = {}
    kubeconfig.write_text(json.dumps(content))

    def run(dry_run: bool = False) -> Report:
        return apply("dev", cluster_name=CLUSTER.name, region=CLUSTER.region, kubeconfig=kubeconfig, dry_run=dry_run)

    return run


def labelled(kind: str, version: str, name: str, namespace: str | None = None, **content: Any) -> dict[str, Any]:
    """An object that an earlier `cluster-config` applied."""
    metadata: dict[str, Any] = {"name": name, "labels": dict([cluster_config.OWNED])}
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **content}


def test_an_empty_cluster_gets_everything_and_a_second_time_changes_nothing(
    api: FakeApi, configure: Callable[..., Report], rendered: Callable[[str], list[dict[str, Any]]]
) -> None:
    wanted = {cluster_config.ref(item) for item in rendered("dev")}
    first = configure()
    assert set(first.created) == wanted
    assert (first.changed, first.deleted, first.orphaned, first.unchanged) == ((), (), (), 0)
    assert str(first).endswith(f"ml-platform-dev: {len(wanted)} created; 0 unchanged")
    assert "+ NetworkPolicy ml-training/default-deny" in str(first)
    stored = {(item["kind"], key[1], key[2]) for key, item in api.objects.items()}
    assert {tuple(item) for item in wanted} <= stored

    second = configure()
    assert str(second) == "ml-platform-dev is as configured: nothing changed"
    assert second.unchanged == len(wanted)


def test_what_was_changed_by_hand_is_shown_and_put_right(api: FakeApi, configure: Callable[..., Report]) -> None:
    configure()
    quota = api.objects["resourcequotas", "ml-training", "steps"]
    quota["spec"]["hard"]["requests.nvidia.com/gpu"] = "64"
    tried = configure(dry_run=True)
    assert tried.changed == (Ref("ResourceQuota", "ml-training", "steps"),)
    assert '-    requests.nvidia.com/gpu: "64"\n+    requests.nvidia.com/gpu: "4"' in tried.difference
    assert str(tried).endswith("would be 1 changed; 49 unchanged")
    assert api.objects["resourcequotas", "ml-training", "steps"]["spec"]["hard"]["requests.nvidia.com/gpu"] == "64"
    assert configure().changed == tried.changed
    assert api.objects["resourcequotas", "ml-training", "steps"]["spec"]["hard"]["requests.nvidia.com/gpu"] == "4"


def test_what_is_gone_from_the_files_is_deleted_and_nothing_else(
    api: FakeApi, configure: Callable[..., Report]
) -> None:
    configure()
    rules = {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}
    api.put("roles", labelled("Role", "rbac.authorization.k8s.io/v1", "old", "ml-training", **rules))
    api.put("priorityclasses", labelled("PriorityClass", "scheduling.k8s.io/v1", "old", value=1))
    api.put("namespaces", labelled("Namespace", "v1", "ml-old"))
    api.put("configmaps", labelled("ConfigMap", "v1", "old", "ml-old"))
    foreign = labelled("ConfigMap", "v1", "somebody-else-s", "ml-training")
    del foreign["metadata"]["labels"]
    api.put("configmaps", foreign)
    report = configure()
    assert set(report.deleted) == {
        Ref("Role", "ml-training", "old"),
        Ref("PriorityClass", "", "old"),
        Ref("ConfigMap", "ml-old", "old"),
    }
    assert report.orphaned == (Ref("Namespace", "", "ml-old"),)
    assert "`kubectl delete namespace ml-old` if you mean it" in str(report)
    assert ("roles", "ml-training", "old") not in api.objects
    assert ("namespaces", "", "ml-old") in api.objects
    assert ("configmaps", "ml-training", "somebody-else-s") in api.objects


def test_a_dry_run_changes_nothing(api: FakeApi, configure: Callable[..., Report]) -> None:
    report = configure(dry_run=True)
    assert api.writes() == []
    assert "would be 50 created" in str(report)


def test_namespaces_come_before_what_is_in_them(api: FakeApi, configure: Callable[..., Report]) -> None:
    configure()
    paths = [path for method, path in api.writes() if method == "PATCH"]
    first_inside = next(
        number for number, path in enumerate(paths) if "/namespaces/ml-" in path and path.count("/") > 4
    )
    assert all(f"/api/v1/namespaces/{name}" in paths[:first_inside] for name in ("ml-training", "ml-deployment"))


def test_an_autoscaler_that_does_not_come_up_is_an_error_that_says_why(
    api: FakeApi, configure: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_config, "_ROLLOUT_SECONDS", 1)
    api.rolled_out = False
    waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    pod = labelled("Pod", "v1", "cluster-autoscaler-1", "kube-system")
    pod["metadata"]["labels"] = {"app.kubernetes.io/name": "cluster-autoscaler"}
    pod["status"] = {"phase": "Pending", "containerStatuses": [{"state": {"waiting": waiting}}]}
    api.put("pods", pod)
    with pytest.raises(CloudError, match="cluster-autoscaler-1: ImagePullBackOff: no such image") as raised:
        configure()
    assert "no GPU node starts" in str(raised.value)
    assert ("deployments", "kube-system", "cluster-autoscaler") in api.objects


@pytest.mark.parametrize(
    ("request_", "refused", "message"),
    [
        (("GET", "namespaces"), Refused(401, "Unauthorized", "Unauthorized"), "does not know you: sign in to AWS"),
        (
            ("PATCH", "clusterroles"),
            Refused(403, "Forbidden", 'clusterroles "cluster-autoscaler" is forbidden: attempt to grant extra rights'),
            "it takes a role of admin_role_arns",
        ),
        (
            ("PATCH", "resourcequotas"),
            Refused(422, "Invalid", 'ResourceQuota "steps" is invalid: spec.hard: Invalid value'),
            "spec.hard: Invalid value",
        ),
    ],
    ids=["unknown", "forbidden", "invalid"],
)
def test_what_the_cluster_refuses_is_told_with_what_to_do(
    api: FakeApi,
    configure: Callable[..., Report],
    request_: tuple[str, str],
    refused: Refused,
    message: str,
) -> None:
    api.refuse[request_] = refused
    with pytest.raises(CloudError) as raised:
        configure()
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("public", "message"), [(True, "is a firewall between?"), (False, "it answers only inside its VPC")]
)
def test_an_api_that_cannot_be_reached(
    configure: Callable[..., Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, public: bool, message: str
) -> None:
    monkeypatch.setattr(cluster_config, "describe", lambda name, region: replace(CLUSTER, public=public))
    kubeconfig = tmp_path / "kubeconfig"
    content = json.loads(kubeconfig.read_text())
    content["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:9"
    kubeconfig.write_text(json.dumps(content))
    with pytest.raises(CloudError, match="cannot be reached") as raised:
        configure()
    assert message in str(raised.value)


def test_without_the_aws_cli(monkeypatch: pytest.MonkeyPatch) -> None:
    authority = base64.b64encode(Path(certifi.where()).read_bytes()).decode()
    cluster = replace(CLUSTER, certificate_authority=authority)
    monkeypatch.setattr(cluster_config, "describe", lambda name, region: cluster)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CloudError, match="the AWS CLI, which signs in to cluster ml-platform-dev, was not found"):
        apply("dev", cluster_name=CLUSTER.name, region=CLUSTER.region, kubeconfig=None, dry_run=True)


def test_without_kubectl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cluster_config.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CloudError, match=r"kubectl was not found: run `make setup`"):
        cluster_config.render("dev", CLUSTER)


def test_an_environment_that_is_not_there() -> None:
    with pytest.raises(CloudError, match="has no 'test': choose one of dev, prod, staging"):
        cluster_config.render("test", CLUSTER)


def test_an_overlay_that_does_not_build_is_told_by_its_own_path(tmp_path: Path) -> None:
    shutil.copytree(cluster_config.MANIFESTS, tmp_path / "kubernetes")
    (tmp_path / "kubernetes" / "base" / "priority-classes.yaml").unlink()
    with pytest.raises(CloudError, match="cannot be built") as raised:
        cluster_config.render("dev", CLUSTER, tmp_path / "kubernetes")
    assert "base/priority-classes.yaml" in str(raised.value)
    assert "cluster-config-" not in str(raised.value)


def test_what_could_never_be_removed_is_refused(rendered: Callable[[str], list[dict[str, Any]]]) -> None:
    objects = rendered("dev")
    objects.append({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "ml-training"}})
    objects.append(objects[0])
    with pytest.raises(CloudError) as raised:
        cluster_config.check(objects)
    assert "Job ml-training/j: its kind is not in KINDS" in str(raised.value)
    assert "Job ml-training/j: the label app.kubernetes.io/managed-by=cluster-config is missing" in str(raised.value)
    assert f"{cluster_config.ref(objects[0])}: is there twice" in str(raised.value)


def test_bindings_are_deleted_before_the_roles_they_bind() -> None:
    live = [Ref("Namespace", "", "n"), Ref("Role", "n", "r"), Ref("RoleBinding", "n", "b"), Ref("Deployment", "n", "d")]
    assert cluster_config.stale(live, []) == list(reversed(live))
    assert cluster_config.stale(live, live) == []


def test_a_network_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="vpc"):
        cluster_config.facts(replace(CLUSTER, vpc_cidr="vpc-123"))


@mock_aws
def test_aws_is_asked_for_the_cluster_s_address_and_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    ec2, eks = (boto3.client(service, region_name="eu-west-1") for service in ("ec2", "eks"))
    with pytest.raises(
        CloudError, match="there is no cluster ml-platform-dev in eu-west-1: apply the environment first"
    ):
        cluster_config.describe("ml-platform-dev", "eu-west-1")
    vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.20.0.0/20")["Subnet"]["SubnetId"]
    eks.create_cluster(
        name="ml-platform-dev",
        roleArn="arn:aws:iam::123456789012:role/cluster",
        resourcesVpcConfig={"subnetIds": [subnet], "endpointPublicAccess": False},
    )
    monkeypatch.setattr(cluster_config.boto3, "client", with_network(vpc))
    cluster = cluster_config.describe("ml-platform-dev", "eu-west-1")
    assert (cluster.name, cluster.region, cluster.vpc_cidr) == ("ml-platform-dev", "eu-west-1", "10.20.0.0/16")
    assert cluster.endpoint.startswith("https://")
    assert not cluster.public


def with_network(vpc: str) -> Callable[..., Any]:
    """boto3's client; EKS's knows the VPC of a cluster, which moto's does not tell."""
    make = boto3.client

    def client(service: str, **options: Any) -> Any:
        made = make(service, **options)
        if service == "eks":
            ask = made.describe_cluster

            def describe_cluster(**arguments: Any) -> Any:
                answer = ask(**arguments)
                answer["cluster"]["resourcesVpcConfig"] = {"vpcId": vpc, "endpointPublicAccess": False}
                return answer

            made.describe_cluster = describe_cluster
        return made

    return client


def test_the_kubeconfig_signs_in_by_aws_and_holds_no_secret() -> None:
    content = cluster_config.kubeconfig_for(CLUSTER)
    user = content["users"][0]["user"]
    assert list(user) == ["exec"]
    assert [user["exec"]["command"], *user["exec"]["args"]] == (
        ["aws", "--region", "eu-west-1", "eks", "get-token", "--cluster-name", "ml-platform-dev", "--output", "json"]
    )
    assert content["clusters"][0]["cluster"]["server"] == CLUSTER.endpoint
    assert yaml.safe_load(json.dumps(content)) == content


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"phase": "Running"}, "Running"),
        (
            {
                "phase": "Pending",
                "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available"}],
            },
            "found no node: 0/2 nodes are available",
        ),
        (
            {
                "phase": "Running",
                "containerStatuses": [
                    {
                        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
                        "lastState": {"terminated": {"reason": "Error", "message": "AccessDenied"}},
                    }
                ],
            },
            "Error: AccessDenied",
        ),
    ],
)
def test_what_a_pod_is_doing_in_one_line(status: dict[str, Any], said: str) -> None:
    assert cluster_config.pod_state({"metadata": {"name": "p"}, "status": status}) == said
