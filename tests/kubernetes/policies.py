"""What has to hold of the objects in config/kubernetes. Each check returns the problems it finds, in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from kubernetes.utils.quantity import parse_quantity
from pydantic import TypeAdapter

from mlplatform.config.environment import StepResources, Training
from mlplatform.config.loading import merge

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ("dev", "staging", "prod")
NAMESPACES = ("ml-training", "ml-deployment")
Object = dict[str, Any]
Check = Callable[[list[Object], dict[str, Any]], Iterable[str]]

AIRFLOW_RIGHTS = {
    ("", "pods"): {"create", "get", "list", "watch", "patch", "delete"},
    ("", "pods/log"): {"get"},
    ("", "events"): {"list", "watch"},
}
# Training over several pods is a Job; there is none of anything else.
AIRFLOW_RIGHTS_TO_JOBS = {
    ("batch", "jobs"): {"create", "get", "list", "watch", "patch", "delete"},
    ("batch", "jobs/status"): {"get"},
}
# Rights over the whole cluster, or over objects that give rights, each with the reason. Nothing else may have them.
CLUSTER_WIDE = {"cluster-autoscaler": "starts and stops nodes, and simulates the scheduler on all pods"}
POWERFUL = ("secrets", "pods/exec", "pods/attach", "serviceaccounts/token", "*")
READ = {"get", "list", "watch"}
EVERYWHERE = frozenset({"0.0.0.0/0"})
PRIVATE = r"(10\.|172\.(1[6-9]|2\d|3[01])\.|192\.168\.)"
# Addresses of the VPC that some steps may reach: by policy, the way, and which steps.
TRACKED = {"validate", "train", "evaluate", "deploy", "monitor"}
INSIDE: dict[tuple[str, str], tuple[tuple[str, str, int, int], set[str]]] = {
    ("mlflow", "ml-training"): (("egress", "TCP", 80, 80), TRACKED),
    ("mlflow", "ml-deployment"): (("egress", "TCP", 80, 80), TRACKED),
    ("study-database", "ml-training"): (("egress", "TCP", 5432, 5432), {"train"}),
}
AGENT = frozenset({"169.254.170.23/32", "fd00:ec2::23/128"})


def settings(environment: str) -> dict[str, Any]:
    """Return an environment's configuration, without the facts that only a platform has."""
    read = [yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text()) for name in ("base", environment)]
    return merge(read[0], read[1])


def select(objects: list[Object], kind: str, namespace: str | None = None, name: str | None = None) -> list[Object]:
    """Return the objects of a kind, in a namespace, of a name."""
    return [
        item
        for item in objects
        if item["kind"] == kind
        and namespace in (None, item["metadata"].get("namespace"))
        and name in (None, item["metadata"]["name"])
    ]


def where(item: Object) -> str:
    """Return an object's name for a message."""
    return f"{item['kind']} {item['metadata'].get('namespace', '')}/{item['metadata']['name']}"


# --- Pods -------------------------------------------------------------------------------------


def pod_specs(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Yield every pod template with the name of its owner."""
    for item in objects:
        if "template" in item.get("spec", {}):
            yield where(item), item["spec"]["template"]["spec"]


def not_restricted(spec: Object) -> Iterator[str]:
    """Yield what the Pod Security Standard "restricted" refuses; see the Kubernetes documentation."""
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield f"{field} is set"
    for volume in spec.get("volumes", []):
        allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected"}
        if not (set(volume) - {"name"}) <= allowed | {"secret"}:
            yield f"volume {volume['name']} is of a kind that is not allowed"
    pod = spec.get("securityContext", {})
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        own, name = container.get("securityContext", {}), container["name"]
        context = {**pod, **own}
        if own.get("privileged"):
            yield f"container {name} is privileged"
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"container {name} may escalate privileges"
        if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
            yield f"container {name} may run as root"
        if "ALL" not in own.get("capabilities", {}).get("drop", []):
            yield f"container {name} keeps capabilities"
        if set(own.get("capabilities", {}).get("add", [])) - {"NET_BIND_SERVICE"}:
            yield f"container {name} adds capabilities"
        if context.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"container {name} has no seccomp profile"
        if any(port.get("hostPort") for port in container.get("ports", [])):
            yield f"container {name} takes a port of its node"


def pods_are_restricted(objects: list[Object], _: dict[str, Any]) -> Iterator[str]:
    """Every pod satisfies "restricted", wherever it runs, and more than that."""
    for owner, spec in pod_specs(objects):
        for problem in not_restricted(spec):
            yield f"{owner}: {problem}"
        for container in spec["containers"]:
            name = f"{owner}: container {container['name']}"
            if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
                yield f"{name} can write to its root file system"
            for need in ("cpu", "memory"):
                for bound in ("requests", "limits"):
                    if need not in container.get("resources", {}).get(bound, {}):
                        yield f"{name} has no {need} in its {bound}"
            if not re.search(r"(:v?\d+\.\d+\.\d+|@sha256:[0-9a-f]{64})$", container["image"]):
                yield f"{name}: image {container['image']} is not pinned to a version or digest"
            if not {"livenessProbe", "readinessProbe"} & set(container):
                yield f"{name} is not probed"
        if spec.get("nodeSelector") != {"ml-platform/node-pool": "system"}:
            yield f"{owner} does not run on the system nodes"


def namespaces_are_restricted(objects: list[Object], config: dict[str, Any]) -> Iterator[str]:
    """Both namespaces enforce, audit and warn with a pinned version; no other namespace is made."""
    made = {item["metadata"]["name"]: item for item in select(objects, "Namespace")}
    kubernetes = config["kubernetes"]
    if set(made) != {kubernetes["training_namespace"], kubernetes["deployment_namespace"]}:
        yield f"the namespaces are {sorted(made)}, not those of config/base.yaml"
    for name, item in made.items():
        for mode in ("enforce", "audit", "warn"):
            label = f"pod-security.kubernetes.io/{mode}"
            labels = item["metadata"].get("labels", {})
            if labels.get(label) != "restricted":
                yield f"namespace {name}: {label} is not restricted"
            if not re.fullmatch(r"v1\.\d+", labels.get(f"{label}-version", "")):
                yield f"namespace {name}: {label}-version is not pinned"


# --- Rights -----------------------------------------------------------------------------------


def rights(role: Object) -> dict[tuple[str, str], set[str]]:
    """Return a role's verbs by group and resource."""
    found: dict[tuple[str, str], set[str]] = {}
    for rule in role["rules"]:
        for group in rule.get("apiGroups", []):
            for resource in rule.get("resources", []):
                found.setdefault((group, resource), set()).update(rule["verbs"])
    return found


def rights_are_few(objects: list[Object], _: dict[str, Any]) -> Iterator[str]:
    """No wildcard, no right that gives others, nothing over the whole cluster that is not listed."""
    for role in [*select(objects, "Role"), *select(objects, "ClusterRole")]:
        for rule in role["rules"]:
            values = [*rule.get("apiGroups", []), *rule.get("resources", []), *rule["verbs"]]
            if "*" in values or rule.get("nonResourceURLs"):
                yield f"{where(role)}: has a wildcard"
            if {"bind", "escalate", "impersonate"} & set(rule["verbs"]):
                yield f"{where(role)}: can give itself rights"
            if "rbac.authorization.k8s.io" in rule.get("apiGroups", []):
                yield f"{where(role)}: touches rights"
            for resource in rule.get("resources", []):
                if resource in POWERFUL:
                    yield f"{where(role)}: {resource} leads to other accounts' rights"
    for item in [*select(objects, "ClusterRole"), *select(objects, "ClusterRoleBinding")]:
        if item["metadata"]["name"] not in CLUSTER_WIDE:
            yield f"{where(item)}: has rights over the whole cluster"
    for binding in [*select(objects, "RoleBinding"), *select(objects, "ClusterRoleBinding")]:
        role, namespace = binding["roleRef"], binding["metadata"].get("namespace")
        if not select(objects, role["kind"], namespace if role["kind"] == "Role" else None, role["name"]):
            yield f"{where(binding)}: binds {role['kind']} {role['name']}, which is not here"
        for subject in binding["subjects"]:
            if subject["name"].startswith("system:"):
                yield f"{where(binding)}: gives rights to {subject['name']}"
            if subject["kind"] == "ServiceAccount" and not select(
                objects, "ServiceAccount", subject["namespace"], subject["name"]
            ):
                yield f"{where(binding)}: names an account that is not here, {subject['name']}"


def groups_have_their_rights(objects: list[Object], _: dict[str, Any]) -> Iterator[str]:
    """Airflow may do what is listed, people on call may look, in both namespaces and nowhere else."""
    for group in ("ml-platform:airflow", "ml-platform:on-call"):
        bindings = [
            item
            for kind in ("RoleBinding", "ClusterRoleBinding")
            for item in select(objects, kind)
            if any(subject["kind"] == "Group" and subject["name"] == group for subject in item["subjects"])
        ]
        places = sorted({item["metadata"].get("namespace", "everywhere") for item in bindings})
        if places != sorted(NAMESPACES):
            yield f"{group} has rights in {places}"
        for place in places:
            given: dict[tuple[str, str], set[str]] = {}
            for binding in bindings:
                namespace = binding["metadata"].get("namespace")
                if namespace in (place, None):
                    for role in select(objects, binding["roleRef"]["kind"], namespace, binding["roleRef"]["name"]):
                        for what, verbs in rights(role).items():
                            given.setdefault(what, set()).update(verbs)
            expected = AIRFLOW_RIGHTS | (AIRFLOW_RIGHTS_TO_JOBS if place == "ml-training" else {})
            if group == "ml-platform:airflow" and given != expected:
                yield f"namespace {place}: Airflow's rights are {given}"
            if group == "ml-platform:on-call" and any(verbs - READ for verbs in given.values()):
                yield f"namespace {place}: people on call can change something"


def accounts_are_those_of_the_steps(objects: list[Object], config: dict[str, Any]) -> Iterator[str]:
    """A service account for each step in its namespace, and none of them gets a token."""
    kubernetes = config["kubernetes"]
    wanted = {
        (kubernetes[f"{step.get('namespace', 'training')}_namespace"], step["service_account"])
        for step in config["steps"].values()
    }
    wanted |= {(namespace, "default") for namespace in NAMESPACES} | {("kube-system", "cluster-autoscaler")}
    accounts = select(objects, "ServiceAccount")
    there = {(item["metadata"]["namespace"], item["metadata"]["name"]) for item in accounts}
    for namespace, name in sorted(wanted ^ there):
        yield f"service account {namespace}/{name} is {'missing' if (namespace, name) in wanted else 'too many'}"
    for item in accounts:
        if item.get("automountServiceAccountToken") is not False:
            yield f"{where(item)}: its token is put into pods that do not ask for it"


# --- Network ----------------------------------------------------------------------------------


def _addresses(flow: Object, side: str) -> frozenset[str]:
    found = set()
    for peer in flow.get(side, [{}]):  # no peers: everybody
        if "ipBlock" in peer:
            found.add(peer["ipBlock"]["cidr"])
            if peer["ipBlock"]["cidr"] == "0.0.0.0/0" and "169.254.0.0/16" not in peer["ipBlock"].get("except", []):
                found.add("metadata service")
        else:
            found.add(yaml.safe_dump(peer, default_flow_style=True, width=1000).strip())
    return frozenset(found)


def flows(policy: Object) -> set[tuple[str, frozenset[str], str, int, int]]:
    """Return what a policy lets through: direction, peers, protocol, first and last port (0 is all)."""
    found = set()
    for direction, side in (("ingress", "from"), ("egress", "to")):
        for flow in policy["spec"].get(direction, []):
            for port in flow.get("ports", [{"protocol": "any", "port": 0}]):
                first = port.get("port", 0)
                peers = _addresses(flow, side)
                found.add((direction, peers, port["protocol"], first, port.get("endPort", first)))
    return found


def steps_of(selector: Object) -> set[str]:
    """Return the steps that a pod selector is about, and nothing else."""
    labels = selector.get("matchLabels", {})
    if set(selector) == {"matchLabels"} and set(labels) == {"ml-platform/step"}:
        return {labels["ml-platform/step"]}
    match selector:
        case {"matchExpressions": [{"key": "ml-platform/step", "operator": "In", "values": values}], **rest} if (
            not rest
        ):
            return set(values)
    return set()


DNS_SERVER = (
    "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}, "
    "podSelector: {matchLabels: {k8s-app: kube-dns}}}"
)
WORKERS = '{podSelector: {matchLabels: {ml-platform/distributed: "true", ml-platform/step: train}}}'


def traffic_is_denied_by_default(objects: list[Object], _: dict[str, Any]) -> Iterator[str]:
    """Both directions are denied in every namespace, and exactly the listed flows are allowed."""
    for namespace in NAMESPACES:
        policies = select(objects, "NetworkPolicy", namespace)
        if not any(item["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} for item in policies):
            yield f"namespace {namespace}: traffic is not denied by default"
        allowed: dict[str, set[tuple[str, frozenset[str], str, int, int]]] = {
            "dns": {("egress", frozenset({DNS_SERVER}), protocol, 53, 53) for protocol in ("UDP", "TCP")},
            "https": {("egress", EVERYWHERE, "TCP", 443, 443)},
            "pod-identity": {("egress", AGENT, "TCP", 80, 80)},
        }
        for policy in policies:
            name, found = policy["metadata"]["name"], flows(policy)
            if (name, namespace) in INSIDE:
                way, steps = INSIDE[(name, namespace)]
                private = {item for item in found if all(re.match(PRIVATE, address) for address in item[1])}
                expected = {item for item in private if len(found) == 1 and (item[0], *item[2:]) == way}
                if steps_of(policy["spec"]["podSelector"]) != steps:
                    yield f"{where(policy)}: is not for the steps {sorted(steps)}"
            elif name == "distributed-training" and namespace == "ml-training":
                if policy["spec"]["podSelector"] != yaml.safe_load(WORKERS)["podSelector"]:
                    yield f"{where(policy)}: is not only for distributed training"
                workers = frozenset({WORKERS.replace('"', "'")})
                expected = {(way, workers, "TCP", 1024, 65535) for way in ("ingress", "egress")}
            else:
                expected = allowed.get(name, set())
            if found != expected:
                yield f"{where(policy)}: lets through {sorted(map(str, found - expected)) or 'too little'}"
            if (name, namespace) not in INSIDE and name != "distributed-training" and policy["spec"]["podSelector"]:
                yield f"{where(policy)}: is not for all pods"
    for policy in select(objects, "NetworkPolicy", "kube-system"):
        if not policy["spec"]["podSelector"]:
            yield f"{where(policy)}: would cut off the cluster's own pods"
        if policy["spec"]["policyTypes"] != ["Ingress", "Egress"] or policy["spec"].get("ingress"):
            yield f"{where(policy)}: the autoscaler can be called"
        if any("metadata service" in peers for _, peers, *_ in flows(policy)):
            yield f"{where(policy)}: the metadata service can be reached"


# --- Sizes ------------------------------------------------------------------------------------


def pods_of_a_run(config: dict[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Return what the pods of the configured parallelism ask for, by namespace, as quotas name it.

    All steps of one dataset's run at once (other datasets' pods wait for room), and one more trial, as the pod on a
    lost node is counted until it is cleared away.
    """
    steps = TypeAdapter(dict[str, StepResources]).validate_python(config["steps"])
    training = Training.model_validate(config["training"])
    found: dict[str, list[dict[str, str]]] = {"ml-training": [], "ml-deployment": []}
    for name, step in steps.items():
        pod = {
            "pods": "1",
            "requests.cpu": step.cpu,
            "requests.memory": step.memory,
            "limits.memory": step.memory,
            "requests.nvidia.com/gpu": str(step.gpus),
        }
        copies = 1
        if name == "train":
            # A task is one pod, or a job of several, of which all are replaced together.
            copies = (min(training.trials, training.parallel_pods) + 1) * training.pods_per_trial
        found[f"ml-{step.namespace}"] += [pod] * copies
    return found


def quotas_admit_the_configured_runs(objects: list[Object], config: dict[str, Any]) -> Iterator[str]:
    """No quota refuses a pod of a run, and none asks for what the steps' pods do not say."""
    for namespace, pods in pods_of_a_run(config).items():
        quotas = select(objects, "ResourceQuota", namespace)
        guarded = False
        for quota in quotas:
            hard, scope = quota["spec"]["hard"], quota["spec"].get("scopeSelector")
            if scope is not None:
                system = {"system-cluster-critical", "system-node-critical"}
                (expression,) = scope["matchExpressions"]
                guarded |= hard == {"pods": "0"} and set(expression["values"]) == system
                continue
            for resource, limit in hard.items():
                if resource in ("persistentvolumeclaims", "services.loadbalancers", "services.nodeports"):
                    continue
                if any(resource not in pod for pod in pods):
                    yield f"{where(quota)}: {resource}: a step's pod does not say it, so that all would be refused"
                    continue
                needed = sum(parse_quantity(pod[resource]) for pod in pods)
                if needed > parse_quantity(limit):
                    yield f"{where(quota)}: {resource}: {limit} is less than the {needed:f} of the configured runs"
            for resource in ("pods", "requests.cpu", "requests.memory", "requests.nvidia.com/gpu"):
                if resource not in hard:
                    yield f"{where(quota)}: {resource} is not limited"
        if not guarded:
            yield f"namespace {namespace}: a step can take a priority class of the system"


def limits_admit_every_step(objects: list[Object], config: dict[str, Any]) -> Iterator[str]:
    """No step is larger than a maximum, and no default throttles it or gives it a GPU."""
    for namespace, pods in pods_of_a_run(config).items():
        for limits in select(objects, "LimitRange", namespace):
            (item,) = limits["spec"]["limits"]
            default, maximum, request = item["default"], item.get("max", {}), item["defaultRequest"]
            for resource in set(maximum) - set(default):
                yield f"{where(limits)}: the maximum of {resource} would become every pod's limit"
            if "cpu" in default or "cpu" in maximum:
                yield f"{where(limits)}: steps would be throttled"
            if any("gpu" in resource for resource in [*default, *maximum, *request]):
                yield f"{where(limits)}: pods would get GPUs that they did not ask for"
            if request.get("ephemeral-storage") != "0":
                yield f"{where(limits)}: every pod would request the whole of its disk limit"
            for resource, least in request.items():
                if resource in default and parse_quantity(least) > parse_quantity(default[resource]):
                    yield f"{where(limits)}: {resource}: more is requested than allowed"
            for pod in pods:
                if parse_quantity(pod["limits.memory"]) > parse_quantity(maximum["memory"]):
                    yield f"{where(limits)}: a step's {pod['limits.memory']} is more than the maximum"


# --- Scheduling -------------------------------------------------------------------------------


def priorities_are_harmless(objects: list[Object], _: dict[str, Any]) -> Iterator[str]:
    """One class is the default, none stops other pods, and the autoscaler starts nodes for all of them."""
    classes = select(objects, "PriorityClass")
    if sum(item.get("globalDefault", False) for item in classes) != 1:
        yield "there is not exactly one default priority class"
    for item in classes:
        if item.get("preemptionPolicy") != "Never":
            yield f"{where(item)}: stops other pods"
        if not -10 <= item["value"] <= 1_000_000:
            yield f"{where(item)}: {item['value']}: the autoscaler starts no node for it, or it is near the system's"


def duration(text: str) -> int:
    """Return seconds of a duration as Go writes it."""
    return sum(int(number) * {"h": 3600, "m": 60, "s": 1}[unit] for number, unit in re.findall(r"(\d+)([hms])", text))


def the_autoscaler_knows_its_nodes(objects: list[Object], config: dict[str, Any]) -> Iterator[str]:
    """It looks for this cluster's groups, prefers spot, and has tried both before a step gives up."""
    (deployment,) = select(objects, "Deployment", "kube-system", "cluster-autoscaler")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    arguments = dict(item.removeprefix("--").split("=", 1) for item in container["args"])
    tags = "asg:tag=k8s.io/cluster-autoscaler/enabled,k8s.io/cluster-autoscaler/$(CLUSTER_NAME)"
    if arguments["node-group-auto-discovery"] != tags:
        yield "it does not look for this cluster's groups"
    if not arguments["expander"].startswith("priority"):
        yield "it does not follow the priorities"
    patience = config["orchestration"]["startup_timeout_seconds"]
    if 2 * duration(arguments["max-node-provision-time"]) > patience:
        yield f"a step waits {patience} s for a node: too short to try spot and then on-demand nodes"
    (priorities,) = select(objects, "ConfigMap", "kube-system", "cluster-autoscaler-priority-expander")
    patterns = yaml.safe_load(priorities["data"]["priorities"])

    def rank(group: str) -> int:
        name = f"eks-{group}-3ac4f9e1-0000-0000-0000-000000000000"
        return max(
            (number for number, entries in patterns.items() if any(re.match(e, name) for e in entries)), default=0
        )

    prefix = "ml-platform-dev"
    ranks = [rank(f"{prefix}-{pool}") for pool in ("gpu-spot", "gpu-on-demand", "cpu")]
    if not ranks[0] > ranks[1] > ranks[2] > 0:
        yield f"spot GPUs do not come before on-demand ones: {ranks}"
    (budget,) = select(objects, "PodDisruptionBudget", "kube-system", "cluster-autoscaler")
    if budget["spec"].get("maxUnavailable") != 1:
        yield "its disruption budget would stop updates of the nodes"
    selector = deployment["spec"]["selector"]["matchLabels"]
    if budget["spec"]["selector"]["matchLabels"] != selector:
        yield "its disruption budget is for other pods"


CHECKS: tuple[Check, ...] = (
    pods_are_restricted,
    namespaces_are_restricted,
    rights_are_few,
    groups_have_their_rights,
    accounts_are_those_of_the_steps,
    traffic_is_denied_by_default,
    quotas_admit_the_configured_runs,
    limits_admit_every_step,
    priorities_are_harmless,
    the_autoscaler_knows_its_nodes,
)


def problems(objects: list[Object], config: dict[str, Any]) -> list[str]:
    """Return what all checks find."""
    return [problem for check in CHECKS for problem in check(objects, config)]
