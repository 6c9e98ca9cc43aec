"""What an environment costs at rest, and an hour of training, by the sizes in its folder and the prices beside this.

Reads `terraform/environments/<name>/main.tf` and `config/`, asks nobody: the sizes are written out there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hcl2
import yaml
from pydantic import BaseModel, ConfigDict

from cloud.environments import Environment
from cloud.errors import CloudError
from cloud.terraform import ROOT
from cloud.variables import plain

NODE_DISK_GIB = 50
"""Disk of a system node, the cluster module's default."""
BASTION_DISK_GIB = 8
"""Disk of the bastion, the bastion module's default."""
TRAINING_STEP = "train"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Airflow(_Strict):
    environment: dict[str, float]
    worker: dict[str, float]
    scheduler: dict[str, float]


class _Cluster(_Strict):
    per_hour: float


class _Database(_Strict):
    instance: dict[str, float]
    gib_month: float


class _Fargate(_Strict):
    vcpu: float
    gib: float


class _LoadBalancer(_Strict):
    per_hour: float


class _Network(_Strict):
    nat_gateway: float
    public_ipv4: float
    interface_endpoint_per_zone: float


class Prices(_Strict):
    """US dollars an hour, or a month where the name says so."""

    region: str
    compiled: str
    hours_per_month: float
    nodes: dict[str, float]
    spot_share_of_on_demand: float
    cluster: _Cluster
    airflow: _Airflow
    database: _Database
    fargate: _Fargate
    load_balancer: _LoadBalancer
    network: _Network
    endpoint: dict[str, float]
    disk_gib_month: float
    key_month: float


PRICES = Prices.model_validate(yaml.safe_load((ROOT / "cloud" / "prices.yaml").read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Line:
    """One part of the monthly price."""

    part: str
    what: str
    dollars: float


@dataclass(frozen=True)
class Estimate:
    """What an environment costs, in US dollars."""

    environment: str
    at_rest: list[Line] = field(default_factory=list)
    training_hour: float = 0
    training_what: str = ""

    @property
    def monthly(self) -> float:
        """The sum at rest."""
        return sum(line.dollars for line in self.at_rest)


def estimate(name: str, root: Path = ROOT, prices: Prices = PRICES) -> Estimate:
    """Estimate an environment.

    Raises:
        CloudError: its folder cannot be read, or a size has no price in the table.
    """
    sizes = read_sizes(Environment(name, root).folder / "main.tf")
    settings = _settings(name, root)
    lines = at_rest(sizes, prices)
    per_hour, what = training_hour(sizes, settings, prices)
    return Estimate(name, lines, per_hour, what)


def read_sizes(path: Path) -> dict[str, Any]:
    """Return the arguments of the environment's `module "platform"`, as they are written.

    Raises:
        CloudError: the file is not what it should be.
    """
    try:
        content = hcl2.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CloudError(f"{path}: cannot be read: {error.strerror}") from None
    except Exception as error:  # the parser has no error of its own
        raise CloudError(f"{path}: is not Terraform code: {str(error).splitlines()[0]}") from None
    for block in content.get("module", []):
        for name, arguments in block.items():
            if name.strip('"') == "platform":
                sizes: dict[str, Any] = plain(arguments)
                return sizes
    raise CloudError(f'{path}: has no module "platform"')


def at_rest(sizes: dict[str, Any], prices: Prices) -> list[Line]:
    """Price what stands while nothing trains."""
    hours = prices.hours_per_month
    network, cluster, airflow, mlflow = (sizes[part] for part in ("network", "cluster", "airflow", "mlflow"))
    zones = network["zones"]
    gateways = 1 if network["single_nat_gateway"] else zones
    endpoints = network["interface_endpoints"]
    system = cluster["system"]
    node = system["instance_types"][0]
    kind = airflow["environment_class"]
    workers = max(airflow["min_workers"] - 1, 0)
    schedulers = max(airflow["schedulers"] - 2, 0)  # the first two are part of the environment
    databases = 2 if mlflow["database_multi_az"] else 1
    database = mlflow["database_class"]
    tasks, vcpu, gib = mlflow["min_tasks"], mlflow["task_cpu"] / 1024, mlflow["task_memory"] / 1024
    lines = [
        Line(
            "network",
            f"{gateways} NAT gateway{'s' * (gateways > 1)}, {len(endpoints)} private endpoints in {zones} zones",
            hours
            * (
                gateways * (prices.network.nat_gateway + prices.network.public_ipv4)
                + len(endpoints) * zones * prices.network.interface_endpoint_per_zone
            ),
        ),
        Line("cluster", "EKS control plane", hours * prices.cluster.per_hour),
        Line(
            "system nodes",
            f"{system['min_size']} × {node} with {NODE_DISK_GIB} GiB",
            system["min_size"] * (hours * _price(prices.nodes, node, "nodes") + NODE_DISK_GIB * prices.disk_gib_month),
        ),
        Line("cpu and gpu nodes", "none at rest", 0.0),
        Line(
            "airflow",
            f"MWAA {kind}, {airflow['min_workers']} worker{'s' * (airflow['min_workers'] > 1)}",
            hours
            * (
                _price(prices.airflow.environment, kind, "airflow.environment")
                + workers * _price(prices.airflow.worker, kind, "airflow.worker")
                + schedulers * _price(prices.airflow.scheduler, kind, "airflow.scheduler")
            ),
        ),
        Line(
            "mlflow database",
            f"{database}, {mlflow['database_storage_gib']} GiB{', two zones' * (databases > 1)}",
            databases
            * (
                hours * _price(prices.database.instance, database, "database.instance")
                + mlflow["database_storage_gib"] * prices.database.gib_month
            ),
        ),
        Line(
            "mlflow service",
            f"{tasks} × {vcpu:g} vCPU, {gib:g} GiB, load balancer",
            hours * (tasks * (vcpu * prices.fargate.vcpu + gib * prices.fargate.gib) + prices.load_balancer.per_hour),
        ),
    ]
    if bastion := sizes.get("bastion"):
        each = _price(prices.nodes, bastion["instance_type"], "nodes")
        what = f"{bastion['instance_type']} with {BASTION_DISK_GIB} GiB"
        lines.append(Line("bastion", what, hours * each + BASTION_DISK_GIB * prices.disk_gib_month))
    for name, size in sorted(sizes["endpoints"].items()):
        count = size["instance_count"] if size.get("at_rest", True) else 0
        each = _price(prices.endpoint, size["instance_type"], "endpoint")
        lines.append(Line(f"endpoint {name}", f"{count} × {size['instance_type']}", hours * count * each))
    lines.append(Line("key", "one customer-managed key", prices.key_month))
    return lines


def training_hour(sizes: dict[str, Any], settings: dict[str, Any], prices: Prices) -> tuple[float, str]:
    """Price an hour in which as many trials train as the environment's configuration lets run at once.

    On GPU nodes where there are some, else on those without, where a trial needs most of one.
    """
    cluster = sizes["cluster"]
    pool = cluster["gpu"] or cluster["cpu"]
    node = pool["instance_types"][0]
    nodes = min(settings["training"]["parallel_pods"], pool["max_size"])
    dearest = nodes * _price(prices.nodes, node, "nodes")
    if not pool.get("spot", True):  # GPU nodes are spot first
        return dearest, f"{nodes} × {node}, gone some minutes after the last trial"
    spot = _price(prices.nodes, node, "nodes") * prices.spot_share_of_on_demand
    return nodes * spot, f"{nodes} × {node} on spot (on demand {dearest:,.2f}), gone some minutes after the last trial"


def markdown(estimates: list[Estimate]) -> str:
    """Return the table of docs/cost.md: a row per part, a column per environment."""
    parts = list(dict.fromkeys(line.part for found in estimates for line in found.at_rest))
    rows = [
        f"| | {' | '.join(found.environment for found in estimates)} |",
        f"|---|{'---:|' * len(estimates)}",
    ]
    for part in parts:
        cells = []
        for found in estimates:
            line = next((line for line in found.at_rest if line.part == part), None)
            cells.append(f"{line.dollars:,.0f} ({line.what})" if line else "")
        rows.append(f"| {part} | {' | '.join(cells)} |")
    rows.append(f"| **a month at rest** | {' | '.join(f'**{found.monthly:,.0f}**' for found in estimates)} |")
    hours = [f"{found.training_hour:,.2f} ({found.training_what})" for found in estimates]
    rows.append(f"| an hour of training adds | {' | '.join(hours)} |")
    return "\n".join(rows) + "\n"


def _settings(name: str, root: Path) -> dict[str, Any]:
    base: dict[str, Any] = yaml.safe_load((root / "config" / "base.yaml").read_text(encoding="utf-8"))
    overlay = yaml.safe_load((root / "config" / f"{name}.yaml").read_text(encoding="utf-8")) or {}
    return {**base, "training": {**base["training"], **overlay.get("training", {})}}


def _price(table: dict[str, float], size: str, part: str) -> float:
    try:
        return table[size]
    except KeyError:
        raise CloudError(f"cloud/prices.yaml: {part}: has no price for {size}: add it") from None
