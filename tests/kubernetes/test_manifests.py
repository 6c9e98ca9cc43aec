"""config/kubernetes: every environment builds, is valid, and keeps to the policies; whatever breaks one is found."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from policies import ENVIRONMENTS, ROOT, problems, select, settings

from cloud import cluster_config

Object = dict[str, Any]
Render = Callable[[str], list[Object]]
EVERY = pytest.mark.parametrize("environment", ENVIRONMENTS)


def version(objects: list[Object]) -> str:
    """Return the Kubernetes version the namespaces are pinned to."""
    labels = select(objects, "Namespace")[0]["metadata"]["labels"]
    return str(labels["pod-security.kubernetes.io/enforce-version"]).removeprefix("v")


@EVERY
def test_every_object_is_valid(rendered: Render, environment: str) -> None:
    objects = rendered(environment)
    for item in objects:
        kubernetes_validate.validate(item, version(objects), strict=True)


@EVERY
def test_every_policy_holds(rendered: Render, environment: str) -> None:
    assert problems(rendered(environment), settings(environment)) == []


@EVERY
def test_everything_can_be_found_again(rendered: Render, environment: str) -> None:
    cluster_config.check(rendered(environment))


@EVERY
def test_an_overlay_builds_by_hand_with_the_names_terraform_gives(environment: str) -> None:
    overlay = ROOT / "config" / "kubernetes" / "overlays" / environment
    built = subprocess.run(
        [cluster_config.executable(), "kustomize", str(overlay)], capture_output=True, text=True, check=True
    )
    objects = list(yaml.safe_load_all(built.stdout))
    assert {item["metadata"]["labels"]["ml-platform/environment"] for item in objects} == {environment}
    assert not select(objects, "ConfigMap", name="cluster"), "the cluster's facts stay here"
    (policy,) = select(objects, "NetworkPolicy", "ml-training", "mlflow")
    terraform = (ROOT / "terraform" / "environments" / environment / "main.tf").read_text()
    assert f'"{policy["spec"]["egress"][0]["to"][0]["ipBlock"]["cidr"]}"' in terraform
    (deployment,) = select(objects, "Deployment", "kube-system")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert {"name": "CLUSTER_NAME", "value": f"ml-platform-{environment}"} in container["env"]


@EVERY
def test_the_cluster_s_facts_reach_their_places(rendered: Render, environment: str) -> None:
    objects = rendered(environment)
    (deployment,) = select(objects, "Deployment", "kube-system")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    env = {entry["name"]: entry["value"] for entry in container["env"]}
    assert env == {"CLUSTER_NAME": f"ml-platform-{environment}", "AWS_REGION": "eu-west-1"}
    policies = [item for name in ("mlflow", "study-database") for item in select(objects, "NetworkPolicy", name=name)]
    assert len(policies) == 3
    for policy in policies:
        assert policy["spec"]["egress"][0]["to"][0]["ipBlock"]["cidr"] == "10.77.0.0/16"
    assert "192.0.2" not in yaml.safe_dump_all(objects)


@EVERY
def test_versions_are_those_of_the_cluster(rendered: Render, environment: str) -> None:
    """The autoscaler simulates the scheduler of its own minor version; Pod Security is pinned to the cluster's."""
    objects = rendered(environment)
    terraform = (ROOT / "terraform" / "environments" / environment / "main.tf").read_text()
    (cluster,) = re.findall(r'kubernetes_version\s*=\s*"(\d+\.\d+)"', terraform)
    (deployment,) = select(objects, "Deployment", "kube-system")
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    assert f":v{cluster}." in image
    pinned = {
        value
        for item in select(objects, "Namespace")
        for label, value in item["metadata"]["labels"].items()
        if label.endswith("-version")
    }
    assert pinned == {f"v{cluster}"}


@EVERY
def test_the_cluster_module_makes_what_is_named_here(rendered: Render, environment: str) -> None:
    """Names that only this folder, the DAGs' configuration and the module agree on."""
    objects = rendered(environment)
    module = "\n".join(path.read_text() for path in (ROOT / "terraform" / "modules" / "cluster").glob("*.tf"))
    # Of each entry of `step_access` a role is made; the module's own tests ask for its namespace.
    assert 'namespace = step == "deployer" ? "ml-deployment" : "ml-training"' in module
    access = module.partition("  step_access = {\n")[2].partition("\n  }\n")[0]
    made_for_steps = dict.fromkeys(re.findall(r"^    (\w+) = {$", access, re.MULTILINE), "ml-training")
    made_for_steps["deployer"] = "ml-deployment"
    for item in select(objects, "ServiceAccount"):
        namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
        if name != "default":
            assert made_for_steps.get(name) == namespace or re.search(
                rf'{name}\s*= {{ namespace = "{namespace}"', module
            ), f"{name} has no AWS role"
    assert 'kubernetes_groups = ["ml-platform:airflow"]' in module
    assert '"gpu-spot"' in module or '-gpu-${group.capacity_type == "SPOT" ? "spot" : "on-demand"}"' in module
    assert '"${var.name}-gpu-on-demand"' in module
    for pool in settings(environment)["kubernetes"]["node_pools"].values():
        for label, value in pool["node_selector"].items():
            assert f'"{label}" = "{value}"' in module
        for toleration in pool.get("tolerations", []):
            assert f'"{toleration["key"]}" = "{toleration["value"]}"' in module
    assert '"ml-platform/node-pool" = "system"' in module
    disks = [int(size) for size in re.findall(r"disk_gib\s*= optional\(number, (\d+)\)", module)]
    for limits in select(objects, "LimitRange", "ml-training"):
        limit = int(limits["spec"]["limits"][0]["default"]["ephemeral-storage"].removesuffix("Gi"))
        assert sorted(disks)[-3] > limit, "a step could fill the disk of a node for steps before it meets its limit"


def test_production_survives_the_loss_of_a_zone(rendered: Render) -> None:
    replicas = {
        environment: select(rendered(environment), "Deployment", "kube-system")[0]["spec"]["replicas"]
        for environment in ENVIRONMENTS
    }
    assert replicas == {"dev": 1, "staging": 1, "prod": 2}


# --- Broken on purpose ------------------------------------------------------------------------


def one(objects: list[Object], kind: str, namespace: str | None = None, name: str | None = None) -> Object:
    (found,) = select(objects, kind, namespace, name)
    return found


def pod(objects: list[Object]) -> Object:
    spec: Object = one(objects, "Deployment")["spec"]["template"]["spec"]
    return spec


def drop(objects: list[Object], item: Object) -> None:
    objects.remove(item)


def wildcard_verb(objects: list[Object]) -> None:
    one(objects, "Role", "ml-training", "airflow")["rules"][0]["verbs"] = ["*"]


def one_right_more(objects: list[Object]) -> None:
    one(objects, "Role", "ml-training", "airflow")["rules"].append(
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}
    )


def one_right_less(objects: list[Object]) -> None:
    one(objects, "Role", "ml-deployment", "airflow")["rules"][0]["verbs"].remove("patch")


def exec_into_pods(objects: list[Object]) -> None:
    one(objects, "Role", "ml-training", "on-call")["rules"].append(
        {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]}
    )


def airflow_everywhere(objects: list[Object]) -> None:
    binding = one(objects, "ClusterRoleBinding")
    binding["subjects"] = [{"kind": "Group", "name": "ml-platform:airflow"}]


def everybody(objects: list[Object]) -> None:
    one(objects, "RoleBinding", "ml-training", "airflow")["subjects"][0]["name"] = "system:authenticated"


def on_call_deletes(objects: list[Object]) -> None:
    one(objects, "Role", "ml-deployment", "on-call")["rules"][0]["verbs"].append("delete")


def no_default_deny(objects: list[Object]) -> None:
    drop(objects, one(objects, "NetworkPolicy", "ml-training", "default-deny"))


def default_deny_of_ingress_only(objects: list[Object]) -> None:
    one(objects, "NetworkPolicy", "ml-deployment", "default-deny")["spec"]["policyTypes"] = ["Ingress"]


def metadata_service(objects: list[Object]) -> None:
    del one(objects, "NetworkPolicy", "ml-training", "https")["spec"]["egress"][0]["to"][0]["ipBlock"]["except"]


def any_port(objects: list[Object]) -> None:
    del one(objects, "NetworkPolicy", "ml-training", "https")["spec"]["egress"][0]["ports"]


def open_ingress(objects: list[Object]) -> None:
    one(objects, "NetworkPolicy", "ml-training", "dns")["spec"]["ingress"] = [{}]


def trainers_to_everybody(objects: list[Object]) -> None:
    one(objects, "NetworkPolicy", "ml-training", "distributed-training")["spec"]["podSelector"] = {}


def mlflow_everywhere(objects: list[Object]) -> None:
    policy = one(objects, "NetworkPolicy", "ml-training", "mlflow")
    policy["spec"]["egress"][0]["to"][0]["ipBlock"]["cidr"] = "0.0.0.0/0"


def database_for_every_step(objects: list[Object]) -> None:
    one(objects, "NetworkPolicy", "ml-training", "study-database")["spec"]["podSelector"] = {}


def jobs_where_there_are_none(objects: list[Object]) -> None:
    one(objects, "RoleBinding", "ml-training", "airflow-jobs")["metadata"]["namespace"] = "ml-deployment"
    one(objects, "Role", "ml-training", "airflow-jobs")["metadata"]["namespace"] = "ml-deployment"


def jobs_left_behind(objects: list[Object]) -> None:
    one(objects, "Role", "ml-training", "airflow-jobs")["rules"][0]["verbs"].remove("delete")


def privileged(objects: list[Object]) -> None:
    pod(objects)["containers"][0]["securityContext"]["privileged"] = True


def root(objects: list[Object]) -> None:
    pod(objects)["securityContext"]["runAsUser"] = 0


def writable(objects: list[Object]) -> None:
    pod(objects)["containers"][0]["securityContext"]["readOnlyRootFilesystem"] = False


def host_network(objects: list[Object]) -> None:
    pod(objects)["hostNetwork"] = True


def host_path(objects: list[Object]) -> None:
    pod(objects)["volumes"] = [{"name": "certificates", "hostPath": {"path": "/etc/ssl"}}]


def latest_image(objects: list[Object]) -> None:
    pod(objects)["containers"][0]["image"] = "registry.k8s.io/autoscaling/cluster-autoscaler:latest"


def no_limits(objects: list[Object]) -> None:
    del pod(objects)["containers"][0]["resources"]["limits"]


def autoscaler_on_its_own_nodes(objects: list[Object]) -> None:
    pod(objects)["nodeSelector"] = {"ml-platform/node-pool": "cpu"}


def baseline(objects: list[Object]) -> None:
    labels = one(objects, "Namespace", name="ml-training")["metadata"]["labels"]
    labels["pod-security.kubernetes.io/enforce"] = "baseline"


def version_not_pinned(objects: list[Object]) -> None:
    labels = one(objects, "Namespace", name="ml-deployment")["metadata"]["labels"]
    labels["pod-security.kubernetes.io/enforce-version"] = "latest"


def token_for_all(objects: list[Object]) -> None:
    del one(objects, "ServiceAccount", "ml-training", "trainer")["automountServiceAccountToken"]


def account_missing(objects: list[Object]) -> None:
    drop(objects, one(objects, "ServiceAccount", "ml-training", "evaluator"))


def too_few_gpus(objects: list[Object]) -> None:
    hard = one(objects, "ResourceQuota", "ml-training", "steps")["spec"]["hard"]
    hard["requests.nvidia.com/gpu"] = "2"


def too_few_pods(objects: list[Object]) -> None:
    one(objects, "ResourceQuota", "ml-training", "steps")["spec"]["hard"]["pods"] = "3"


def quota_on_cpu_limits(objects: list[Object]) -> None:
    one(objects, "ResourceQuota", "ml-training", "steps")["spec"]["hard"]["limits.cpu"] = "100"


def system_priority(objects: list[Object]) -> None:
    drop(objects, one(objects, "ResourceQuota", "ml-training", "no-system-priority"))


def maximum_of_gpus(objects: list[Object]) -> None:
    one(objects, "LimitRange", "ml-training")["spec"]["limits"][0]["max"]["nvidia.com/gpu"] = "1"


def small_maximum(objects: list[Object]) -> None:
    one(objects, "LimitRange", "ml-training")["spec"]["limits"][0]["max"]["memory"] = "4Gi"


def disk_is_requested(objects: list[Object]) -> None:
    del one(objects, "LimitRange", "ml-training")["spec"]["limits"][0]["defaultRequest"]["ephemeral-storage"]


def preemption(objects: list[Object]) -> None:
    one(objects, "PriorityClass", name="ml-platform-deployment")["preemptionPolicy"] = "PreemptLowerPriority"


def no_node_for_it(objects: list[Object]) -> None:
    one(objects, "PriorityClass", name="ml-platform-step")["value"] = -100


def on_demand_first(objects: list[Object]) -> None:
    data = one(objects, "ConfigMap", "kube-system")["data"]
    data["priorities"] = data["priorities"].replace("gpu-spot", "gpu-xyz").replace("gpu-on-demand", "gpu-spot")


def impatient(objects: list[Object]) -> None:
    arguments = pod(objects)["containers"][0]["args"]
    arguments[:] = ["--max-node-provision-time=20m" if "provision" in item else item for item in arguments]


def budget_that_stops_updates(objects: list[Object]) -> None:
    spec = one(objects, "PodDisruptionBudget")["spec"]
    del spec["maxUnavailable"]
    spec["minAvailable"] = 1


BROKEN: list[tuple[Callable[[list[Object]], None], str]] = [
    (wildcard_verb, "has a wildcard"),
    (one_right_more, "Airflow's rights are"),
    (one_right_less, "Airflow's rights are"),
    (exec_into_pods, "leads to other accounts' rights"),
    (airflow_everywhere, "'everywhere'"),
    (everybody, "gives rights to system:authenticated"),
    (on_call_deletes, "people on call can change something"),
    (no_default_deny, "not denied by default"),
    (default_deny_of_ingress_only, "not denied by default"),
    (metadata_service, "metadata service"),
    (any_port, "lets through"),
    (open_ingress, "lets through"),
    (trainers_to_everybody, "not only for distributed training"),
    (mlflow_everywhere, "lets through"),
    (database_for_every_step, "is not for the steps ['train']"),
    (jobs_where_there_are_none, "namespace ml-deployment: Airflow's rights are"),
    (jobs_left_behind, "namespace ml-training: Airflow's rights are"),
    (privileged, "is privileged"),
    (root, "may run as root"),
    (writable, "can write to its root file system"),
    (host_network, "hostNetwork is set"),
    (host_path, "of a kind that is not allowed"),
    (latest_image, "not pinned"),
    (no_limits, "has no memory in its limits"),
    (autoscaler_on_its_own_nodes, "does not run on the system nodes"),
    (baseline, "is not restricted"),
    (version_not_pinned, "version is not pinned"),
    (token_for_all, "its token is put into pods"),
    (account_missing, "service account ml-training/evaluator is missing"),
    (too_few_gpus, "less than the"),
    (too_few_pods, "less than the"),
    (quota_on_cpu_limits, "all would be refused"),
    (system_priority, "priority class of the system"),
    (maximum_of_gpus, "GPUs that they did not ask for"),
    (small_maximum, "is more than the maximum"),
    (disk_is_requested, "whole of its disk limit"),
    (preemption, "stops other pods"),
    (no_node_for_it, "starts no node for it"),
    (on_demand_first, "do not come before"),
    (impatient, "too short"),
    (budget_that_stops_updates, "would stop updates"),
]


@pytest.mark.parametrize(("broken", "found"), BROKEN, ids=[broken.__name__ for broken, _ in BROKEN])
def test_what_breaks_a_policy_is_found(rendered: Render, broken: Callable[[list[Object]], None], found: str) -> None:
    objects = rendered("staging")
    broken(objects)
    assert any(found in problem for problem in problems(objects, settings("staging")))


def test_more_trials_side_by_side_than_the_quota_admits_are_found(rendered: Render) -> None:
    config = settings("dev")
    config["training"] |= {"parallel_pods": 4, "trials": 4}
    found = problems(rendered("dev"), config)
    assert any("requests.nvidia.com/gpu: 4 is less than the 5" in problem for problem in found)


def test_more_pods_for_a_trial_than_the_quota_admits_are_found(rendered: Render) -> None:
    config = settings("dev")
    config["training"]["pods_per_trial"] = 4
    found = problems(rendered("dev"), config)
    assert any("pods: 10 is less than the" in problem for problem in found)


def test_a_misspelt_field_is_not_valid(rendered: Render) -> None:
    objects = rendered("dev")
    pod(objects)["securityContext"]["runAsNonRoots"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(one(objects, "Deployment"), version(objects), strict=True)


def test_no_file_is_left_out() -> None:
    """Every file is named by a kustomization, so that none is silently without effect."""
    base = ROOT / "config" / "kubernetes"
    for file in base.rglob("*.yaml"):
        if file.name != "kustomization.yaml":
            assert f"- {file.name}" in named(file.parent) or f"path: {file.name}" in named(file.parent), file


def named(folder: Path) -> str:
    return (folder / "kustomization.yaml").read_text()
