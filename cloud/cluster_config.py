"""What the cluster holds besides its nodes: apply `config/kubernetes`, and remove what is gone from it.

kubectl renders and applies. Two things it does not do are done here: finding out what is gone (its own pruning does
not work with server-side apply), and showing the difference where a namespace does not exist yet.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import botocore.exceptions
import yaml

from cloud.errors import CloudError
from cloud.terraform import ROOT

MANIFESTS = ROOT / "config" / "kubernetes"
FIELD_MANAGER = "ml-platform"
OWNED = ("app.kubernetes.io/managed-by", "cluster-config")
"""Label of every object that is applied here."""

# Every kind that config/kubernetes may hold, as kubectl names it: what was applied before is looked for among these.
KINDS = {
    "Namespace": "namespaces",
    "PriorityClass": "priorityclasses.scheduling.k8s.io",
    "ServiceAccount": "serviceaccounts",
    "Role": "roles.rbac.authorization.k8s.io",
    "ClusterRole": "clusterroles.rbac.authorization.k8s.io",
    "RoleBinding": "rolebindings.rbac.authorization.k8s.io",
    "ClusterRoleBinding": "clusterrolebindings.rbac.authorization.k8s.io",
    "ResourceQuota": "resourcequotas",
    "LimitRange": "limitranges",
    "NetworkPolicy": "networkpolicies.networking.k8s.io",
    "ConfigMap": "configmaps",
    "Service": "services",
    "PodDisruptionBudget": "poddisruptionbudgets.policy",
    "Deployment": "deployments.apps",
}
# Others refer to these, so they come first.
_FIRST = ("Namespace", "PriorityClass")
_AUTOSCALER = ("kube-system", "cluster-autoscaler")
_ROLLOUT_SECONDS = 300
_REQUEST_SECONDS = 30
_COMMAND_SECONDS = 300  # on top, for a command of many requests

Object = dict[str, Any]


class Ref(NamedTuple):
    """Which object of a cluster."""

    kind: str
    namespace: str  # empty where the kind has none
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Cluster:
    """What has to be known of a cluster to configure it."""

    name: str
    region: str
    vpc_cidr: str
    endpoint: str = ""
    certificate_authority: str = ""
    public: bool = True  # whether its API can be reached from outside its network


@dataclass(frozen=True)
class Report:
    """What an apply changed, or would change; as text, what people want to read about it."""

    cluster_name: str
    created: tuple[Ref, ...] = ()
    changed: tuple[Ref, ...] = ()
    deleted: tuple[Ref, ...] = ()
    orphaned: tuple[Ref, ...] = ()  # namespaces that are gone from the files and still hold things
    unchanged: int = 0
    difference: str = ""
    dry_run: bool = False

    def __str__(self) -> str:
        lines = [self.difference.rstrip("\n")] if self.difference else []
        for mark, refs in (("+", self.created), ("~", self.changed), ("-", self.deleted)):
            lines += [f"{mark} {ref}" for ref in refs]
        lines += [
            f"! {ref} is no longer configured; it is kept, as all in it would be lost: "
            f"`kubectl delete namespace {ref.name}` if you mean it"
            for ref in self.orphaned
        ]
        if not (self.created or self.changed or self.deleted):
            lines.append(f"{self.cluster_name} is as configured: nothing {'to do' if self.dry_run else 'changed'}")
        else:
            would = "would be " if self.dry_run else ""
            counts = (("created", self.created), ("changed", self.changed), ("deleted", self.deleted))
            numbers = ", ".join(f"{len(refs)} {word}" for word, refs in counts if refs)
            lines.append(f"{self.cluster_name}: {would}{numbers}; {self.unchanged} unchanged")
        return "\n".join(lines)


def apply(
    environment: str, *, cluster_name: str, region: str, kubeconfig: Path | None = None, dry_run: bool = False
) -> Report:
    """Make the cluster hold what `config/kubernetes` says for the environment, and nothing it said before.

    Args:
        environment: name of an overlay.
        cluster_name: of the EKS cluster.
        region: the cluster is in.
        kubeconfig: to reach the cluster with; one is made with `aws eks get-token` when there is none.
        dry_run: only find out what would change; the cluster's own validation is asked too.

    Raises:
        CloudError: a tool is missing, the cluster cannot be reached or refuses something, or the autoscaler does
            not come up. What was applied by then stays; the same command goes on from there.
    """
    cluster = describe(cluster_name, region)
    objects = render(environment, cluster)
    check(objects)
    with tempfile.TemporaryDirectory(prefix="cluster-config-") as folder:
        if kubeconfig is None:
            kubeconfig = Path(folder, "kubeconfig")
            write_kubeconfig(kubeconfig, kubeconfig_for(cluster))
        return _apply(Kubectl(cluster, kubeconfig), objects, dry_run)


def describe(cluster_name: str, region: str) -> Cluster:
    """Ask AWS about a cluster.

    Raises:
        CloudError: there is no such cluster, or AWS does not answer.
    """
    try:
        found = boto3.client("eks", region_name=region).describe_cluster(name=cluster_name)["cluster"]
        network = found["resourcesVpcConfig"]
        (vpc,) = boto3.client("ec2", region_name=region).describe_vpcs(VpcIds=[network["vpcId"]])["Vpcs"]
    except botocore.exceptions.ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            raise CloudError(f"there is no cluster {cluster_name} in {region}: apply the environment first") from None
        raise CloudError(f"AWS does not tell about cluster {cluster_name} in {region}: {error}") from None
    except botocore.exceptions.BotoCoreError as error:
        raise CloudError(f"AWS cannot be asked about cluster {cluster_name} ({error}): are you signed in?") from None
    if found["status"] not in ("ACTIVE", "UPDATING"):
        raise CloudError(f"cluster {cluster_name} is {found['status']}: wait until it is ACTIVE and run this again")
    return Cluster(
        name=cluster_name,
        region=region,
        vpc_cidr=vpc["CidrBlock"],
        endpoint=found["endpoint"],
        certificate_authority=found["certificateAuthority"]["data"],
        public=network.get("endpointPublicAccess", True),
    )


def write_kubeconfig(path: Path, content: Object) -> None:
    """Write a kubeconfig that nobody else can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # one that is there would keep its mode
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def kubeconfig_for(cluster: Cluster) -> Object:
    """Return a kubeconfig that signs in with the caller's AWS identity; it holds no secret itself."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": cluster.name,
                "cluster": {
                    "server": cluster.endpoint,
                    "certificate-authority-data": cluster.certificate_authority,
                },
            }
        ],
        "users": [
            {
                "name": cluster.name,
                "user": {
                    "exec": {
                        "apiVersion": "client.authentication.k8s.io/v1beta1",
                        "command": "aws",
                        "args": [
                            *("--region", cluster.region, "eks", "get-token"),
                            *("--cluster-name", cluster.name, "--output", "json"),
                        ],
                        "interactiveMode": "Never",
                        "installHint": "install the AWS CLI, version 2",
                    }
                },
            }
        ],
        "contexts": [{"name": cluster.name, "context": {"cluster": cluster.name, "user": cluster.name}}],
        "current-context": cluster.name,
    }


# --- What is wanted ---------------------------------------------------------------------------


def facts(cluster: Cluster) -> Object:
    """Return the object that carries a cluster's facts into the overlay; see components/cluster."""
    ipaddress.ip_network(cluster.vpc_cidr)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "cluster", "annotations": {"config.kubernetes.io/local-config": "true"}},
        "data": {"name": cluster.name, "region": cluster.region, "vpc_cidr": cluster.vpc_cidr},
    }


def render(environment: str, cluster: Cluster, manifests: Path = MANIFESTS) -> list[Object]:
    """Return the environment's objects with the cluster's facts in them.

    Raises:
        CloudError: there is no such overlay, or it cannot be built.
    """
    known = sorted(path.parent.name for path in (manifests / "overlays").glob("*/kustomization.yaml"))
    if environment not in known:
        raise CloudError(f"{manifests / 'overlays'} has no {environment!r}: choose one of {', '.join(known)}")
    with tempfile.TemporaryDirectory(prefix="cluster-config-") as folder:
        copy = Path(folder, "kubernetes")
        shutil.copytree(manifests, copy)
        overlay = copy / "overlays" / environment
        (overlay / "cluster.yaml").write_text(yaml.safe_dump(facts(cluster)), encoding="utf-8")
        built = subprocess.run([executable(), "kustomize", str(overlay)], capture_output=True, text=True)
        if built.returncode != 0:
            said = built.stderr.strip().replace(str(copy), str(manifests))
            raise CloudError(f"{manifests / 'overlays' / environment} cannot be built: {said}")
    return [item for item in yaml.safe_load_all(built.stdout) if item]


def ref(item: Object) -> Ref:
    """Return which object this is."""
    metadata = item["metadata"]
    return Ref(item["kind"], metadata.get("namespace", ""), metadata["name"])


def check(objects: Sequence[Object]) -> None:
    """Refuse what could not be found again, or taken back, after it is applied.

    Raises:
        CloudError: an object is of an unknown kind, without the label, or there twice.
    """
    key, value = OWNED
    problems = []
    seen: set[Ref] = set()
    for item in objects:
        this = ref(item)
        if this.kind not in KINDS:
            problems.append(
                f"{this}: its kind is not in KINDS of cloud/cluster_config.py, so it would never be removed"
            )
        if item["metadata"].get("labels", {}).get(key) != value:
            problems.append(f"{this}: the label {key}={value} is missing, so it would never be removed")
        if this in seen:
            problems.append(f"{this}: is there twice")
        seen.add(this)
    if problems:
        raise CloudError("config/kubernetes cannot be applied:\n" + "\n".join(problems))


def stale(live: Iterable[Ref], wanted: Iterable[Ref]) -> list[Ref]:
    """Return what was applied before and is not wanted any more, in the order in which to delete it."""
    order = list(KINDS)
    gone = set(live) - set(wanted)
    return sorted(gone, key=lambda item: (-order.index(item.kind), item))


def changes(difference: str) -> tuple[list[str], list[str]]:
    """Return the file names, in a `kubectl diff`, of objects that do not exist yet, and of those that differ."""
    created: list[str] = []
    changed: list[str] = []
    for part in re.split(r"^diff .*\n", difference, flags=re.MULTILINE)[1:]:
        if (name := re.match(r"--- \S*?/LIVE-\d+/(\S+)", part)) is None:
            continue
        (created if re.search(r"^@@ -0,0 ", part, flags=re.MULTILINE) else changed).append(name[1])
    return created, changed


def diff_name(item: Object) -> str:
    """Return how `kubectl diff` names an object's file."""
    group, _, version = item["apiVersion"].rpartition("/")
    metadata = item["metadata"]
    return ".".join([*filter(None, [group]), version, item["kind"], metadata.get("namespace", ""), metadata["name"]])


# --- What is there ----------------------------------------------------------------------------


def executable() -> str:
    """Return kubectl's path: this project's own, else the one on PATH.

    Raises:
        CloudError: there is none.
    """
    own = Path(sys.executable).parent / "kubectl"
    found = str(own) if own.exists() else shutil.which("kubectl")
    if not found:
        raise CloudError("kubectl was not found: run `make setup`, which installs it")
    return found


class Kubectl:
    """kubectl with one cluster, saying in one message why something did not work."""

    def __init__(self, cluster: Cluster, kubeconfig: Path) -> None:
        self.cluster = cluster
        self._executable = executable()
        self._environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "KUBECTL_EXTERNAL_DIFF": "diff -u -N"}

    def run(
        self,
        *arguments: str,
        objects: Sequence[Mapping[str, Any]] = (),
        accept: Sequence[int] = (0,),
        seconds: float = _REQUEST_SECONDS,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, with objects on its standard input.

        Raises:
            CloudError: it ended with an exit code that is not accepted.
        """
        try:
            done = subprocess.run(
                [self._executable, f"--request-timeout={seconds:g}s", *arguments],
                env=self._environment,
                input="\n---\n".join(map(json.dumps, objects)) if objects else None,
                stdin=None if objects else subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=seconds + _COMMAND_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise CloudError(f"kubectl {arguments[0]} did not end; is the API of {self.cluster.name} there?") from None
        if done.returncode not in accept:
            raise CloudError(explain(done.stderr, self.cluster, arguments[0]))
        return done

    def items(self, *arguments: str) -> list[Object]:
        """Return the objects of a `get`."""
        found: list[Object] = json.loads(self.run("get", *arguments, "--output=json").stdout)["items"]
        return found


def explain(said: str, cluster: Cluster, verb: str) -> str:
    """Say what kubectl's error means and what to do about it."""
    words = "\n".join(line for line in said.strip().splitlines() if "memcache.go" not in line) or said.strip()
    if re.search(r"executable aws not found|install the AWS CLI", said):
        return f"the AWS CLI, which signs in to cluster {cluster.name}, was not found: install version 2 of it"
    if re.search(r"getting credentials|Unauthorized|must be logged in", said):
        return (
            f"cluster {cluster.name} does not know you: sign in to AWS as a role that admin_role_arns of the "
            f"environment names, or add yours there and apply\n{words}"
        )
    if re.search(r"orbidden", said) and "exceeded quota" not in said:
        return f"you may not {verb} this in cluster {cluster.name}: it takes a role of admin_role_arns\n{words}"
    if re.search(r"Unable to connect|dial tcp|no such host|i/o timeout|connection refused|deadline exceeded", said):
        where = (
            "is the address right, and is a firewall between?"
            if cluster.public
            else "it answers only inside its VPC: give the environment a `bastion`, or name your network in "
            "private_client_cidrs or your public address in operator_cidrs, and apply"
        )
        return f"the API of cluster {cluster.name} cannot be reached; {where}\n{words}"
    if verb == "diff" and re.search(r'executable file not found|"diff"', said):
        return f"the program `diff` was not found: install diffutils\n{words}"
    return f"kubectl {verb} failed in cluster {cluster.name}:\n{words}"


def _apply(kubectl: Kubectl, objects: Sequence[Object], dry_run: bool) -> Report:
    wanted = {ref(item): item for item in objects}
    namespaces = {item["metadata"]["name"] for item in kubectl.items("namespaces")}
    selector = f"--selector={'='.join(OWNED)}"
    live = [ref(item) for item in kubectl.items(",".join(KINDS.values()), "--all-namespaces", selector)]
    gone = stale(live, wanted)
    delete = [item for item in gone if item.kind != "Namespace"]

    # Nothing can be asked about what is in a namespace that is not there yet: all of it is new.
    new = [item for item in objects if (place := ref(item).namespace) and place not in namespaces]
    comparable = [item for item in objects if item not in new]
    server_side = ("--server-side", "--force-conflicts", f"--field-manager={FIELD_MANAGER}", "--filename=-")
    compared = kubectl.run("diff", *server_side, objects=comparable, accept=(0, 1))
    if compared.returncode == 1 and "diff -u" not in compared.stdout:
        raise CloudError(explain(compared.stderr, kubectl.cluster, "diff"))
    by_file = {diff_name(item): ref(item) for item in comparable}
    added, altered = ([by_file[name] for name in names if name in by_file] for names in changes(compared.stdout))
    report = Report(
        cluster_name=kubectl.cluster.name,
        created=tuple(sorted([*added, *map(ref, new)])),
        changed=tuple(sorted(altered)),
        deleted=tuple(delete),
        orphaned=tuple(item for item in gone if item.kind == "Namespace"),
        unchanged=len(objects) - len(added) - len(altered) - len(new),
        difference=_of_changed(compared.stdout),
        dry_run=dry_run,
    )
    if dry_run:
        return report
    for wave in (True, False):
        part = [item for item in objects if (item["kind"] in _FIRST) is wave]
        kubectl.run("apply", *server_side, "--validate=strict", objects=part)
    for item in delete:
        where = [f"--namespace={item.namespace}"] if item.namespace else []
        kubectl.run("delete", KINDS[item.kind], item.name, *where, "--ignore-not-found", "--wait=false")
    if Ref("Deployment", *_AUTOSCALER) in wanted:
        _wait(kubectl)
    return report


def _of_changed(difference: str) -> str:
    """Leave out of a difference what is new: the list of names says it."""
    parts = re.split(r"^(?=diff )", difference, flags=re.MULTILINE)
    kept = [part for part in parts if not re.search(r"^@@ -0,0 ", part, flags=re.MULTILINE)]
    return "".join(re.sub(r"^(diff .*\n)--- \S*/(\S+).*\n\+\+\+ .*\n", r"--- \2\n", part) for part in kept)


def _wait(kubectl: Kubectl) -> None:
    namespace, name = _AUTOSCALER
    rollout = kubectl.run(
        *("rollout", "status", f"deployment/{name}", f"--namespace={namespace}", f"--timeout={_ROLLOUT_SECONDS}s"),
        accept=(0, 1),
        seconds=_ROLLOUT_SECONDS,
    )
    if rollout.returncode == 0:
        return
    pods = kubectl.items("pods", f"--namespace={namespace}", f"--selector=app.kubernetes.io/name={name}")
    states = "\n".join(f"  {pod['metadata']['name']}: {pod_state(pod)}" for pod in pods) or "  it has no pods"
    raise CloudError(
        f"the cluster autoscaler of {kubectl.cluster.name} did not come up within {_ROLLOUT_SECONDS // 60} minutes; "
        f"without it no GPU node starts. Its pods:\n{states}\nEverything is applied: look at them with "
        f"`kubectl --namespace {namespace} describe pods --selector app.kubernetes.io/name={name}`, then run this again"
    )


def pod_state(pod: Object) -> str:
    """Say in one line what a pod is doing."""
    status = pod.get("status", {})
    for container in status.get("containerStatuses", []):
        for state in (container.get("state", {}), container.get("lastState", {})):
            for detail in (state.get("waiting"), state.get("terminated")):
                if detail and detail.get("reason") not in (None, "CrashLoopBackOff", "ContainerCreating"):
                    return f"{detail['reason']}: {detail.get('message') or 'no message'}".strip()
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"found no node: {condition.get('message') or condition.get('reason')}"
    return str(status.get("phase", "unknown"))
