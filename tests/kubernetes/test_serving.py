"""config/kubernetes/serving: valid, restricted, and of one mind with the server it runs."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from typing import Any

import kubernetes_validate
import pytest
import yaml
from policies import ROOT, not_restricted, select

from cloud import cluster_config

Object = dict[str, Any]


@pytest.fixture
def objects() -> list[Object]:
    folder = ROOT / "config" / "kubernetes" / "serving"
    command = [cluster_config.executable(), "kustomize", str(folder)]
    built = subprocess.run(command, capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(built.stdout))


def problems(objects: list[Object]) -> list[str]:
    """Return what does not hold, in words."""
    found: list[str] = []
    (deployment,) = select(objects, "Deployment")
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    found += not_restricted(spec)
    if not container["securityContext"].get("readOnlyRootFilesystem"):
        found.append("its root file system can be written to")
    if spec.get("automountServiceAccountToken") is not False:
        found.append("it has a token")
    for bound in ("requests", "limits"):
        if not {"cpu", "memory"} <= set(container["resources"].get(bound, {})):
            found.append(f"no {bound}")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if container.get(probe, {}).get("httpGet", {}).get("path") != "/ping":
            found.append(f"no {probe}")
    env = {entry["name"]: entry["value"] for entry in container["env"]}
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    # The supervisor waits two seconds longer than its workers, and those linger.
    if spec["terminationGracePeriodSeconds"] < int(env["SERVING_DRAIN_SECONDS"]) + pause + 5:
        found.append("it is killed before it has drained")
    if env["SERVING_WORKERS"] != container["resources"]["limits"]["cpu"]:
        found.append("not a worker for each core")
    if deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] != 0:
        found.append("an update takes capacity away")
    if "replicas" in deployment["spec"]:
        found.append("it resets the autoscaler's decision")
    for kind, selector in (
        ("Service", lambda item: item["spec"]["selector"]),
        ("PodDisruptionBudget", lambda item: item["spec"]["selector"]["matchLabels"]),
    ):
        for item in select(objects, kind):
            if not selector(item).items() <= labels.items():
                found.append(f"{kind} is for other pods")
    (scaler,) = select(objects, "HorizontalPodAutoscaler")
    (budget,) = select(objects, "PodDisruptionBudget")
    if scaler["spec"]["minReplicas"] <= budget["spec"]["maxUnavailable"]:
        found.append("a drained node takes all of it away")
    if scaler["spec"]["scaleTargetRef"]["name"] != deployment["metadata"]["name"]:
        found.append("something else is scaled")
    policies = {item["metadata"]["name"]: item["spec"] for item in select(objects, "NetworkPolicy")}
    if policies.get("default-deny") != {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}:
        found.append("traffic is not denied by default")
    if any(spec.get("egress") for spec in policies.values()):
        found.append("it may call others")
    for flow in policies["callers"]["ingress"]:
        if "from" not in flow or flow["ports"] != [{"protocol": "TCP", "port": 8080}]:
            found.append("everybody may call it")
    return found


def test_every_object_is_valid(objects: list[Object]) -> None:
    (namespace,) = select(objects, "Namespace")
    version = namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce-version"].removeprefix("v")
    main = (ROOT / "terraform" / "environments" / "dev" / "main.tf").read_text()
    assert re.findall(r'kubernetes_version\s*=\s*"(\d+\.\d+)"', main) == [version]
    for item in objects:
        kubernetes_validate.validate(item, version, strict=True)
        assert item["kind"] == "Namespace" or item["metadata"]["namespace"] == "ml-serving"


def test_all_holds(objects: list[Object]) -> None:
    assert problems(objects) == []


def test_the_settings_are_those_the_server_knows(objects: list[Object]) -> None:
    source = (ROOT / "containers" / "serving" / "src" / "serving" / "settings.py").read_text()
    for entry in one(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["env"]:
        assert f'"{entry["name"]}"' in source
    image = (ROOT / "containers" / "serving" / "Dockerfile").read_text()
    assert "USER 10001:10001" in image
    assert "EXPOSE 8080" in image


# --- Broken on purpose ------------------------------------------------------------------------


def one(objects: list[Object], kind: str) -> Object:
    (found,) = select(objects, kind)
    return found


def pod(objects: list[Object]) -> Object:
    spec: Object = one(objects, "Deployment")["spec"]["template"]["spec"]
    return spec


def as_root(objects: list[Object]) -> None:
    pod(objects)["securityContext"]["runAsUser"] = 0


def impatient(objects: list[Object]) -> None:
    pod(objects)["terminationGracePeriodSeconds"] = 30


def writable(objects: list[Object]) -> None:
    pod(objects)["containers"][0]["securityContext"]["readOnlyRootFilesystem"] = False


def never_ready(objects: list[Object]) -> None:
    del pod(objects)["containers"][0]["readinessProbe"]


def one_replica(objects: list[Object]) -> None:
    one(objects, "HorizontalPodAutoscaler")["spec"]["minReplicas"] = 1


def other_pods(objects: list[Object]) -> None:
    one(objects, "Service")["spec"]["selector"] = {"app": "other"}


def open_to_all(objects: list[Object]) -> None:
    for policy in select(objects, "NetworkPolicy"):
        for flow in policy["spec"].get("ingress", []):
            del flow["from"]


@pytest.mark.parametrize("damage", [as_root, impatient, writable, never_ready, one_replica, other_pods, open_to_all])
def test_what_is_broken_is_found(objects: list[Object], damage: Callable[[list[Object]], None]) -> None:
    damage(objects)
    assert len(problems(objects)) == 1
