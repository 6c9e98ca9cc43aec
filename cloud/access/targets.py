"""What people want to reach, and how it is known that it answers."""

from __future__ import annotations

import base64
from collections.abc import Container
from dataclasses import dataclass
from urllib.parse import urlsplit

from cloud.environments import Environment

AIRFLOW, MLFLOW, KUBERNETES = "Airflow", "MLflow", "Kubernetes"


@dataclass(frozen=True)
class Target:
    """Something in the environment's network that speaks HTTP."""

    name: str
    host: str
    port: int
    tls: bool
    path: str
    """What is asked for to see whether it answers; nobody has to be signed in for it."""
    statuses: Container[int]
    """Answers that say so."""
    local_port: int
    """Where it is on this machine, if that is free."""
    authority: str | None = None
    """Certificates that its own is signed with, where they are not this machine's usual ones."""

    @property
    def scheme(self) -> str:
        """The scheme of its addresses."""
        return "https" if self.tls else "http"


def airflow(environment: Environment) -> Target:
    """Return Airflow's page, which sends who is not signed in elsewhere or refuses them."""
    return airflow_at(str(urlsplit(environment.outputs["airflow_url"]).hostname))


def airflow_at(host: str) -> Target:
    """Return Airflow's page by the name of its host."""
    return Target(AIRFLOW, host, 443, True, "/", range(200, 500), 8443)


def mlflow(environment: Environment) -> Target:
    """Return MLflow; a page and not its health, which it tells under any name."""
    url = urlsplit(environment.outputs["mlflow_tracking_uri"])
    tls = url.scheme == "https"
    return Target(MLFLOW, str(url.hostname), 443 if tls else 80, tls, "/", range(200, 400), 8500)


def kubernetes(environment: Environment) -> Target:
    """Return the Kubernetes API, which may tell whoever is not signed in nothing but that."""
    found = environment.client("eks").describe_cluster(name=environment.outputs["cluster_name"])["cluster"]
    host = str(urlsplit(found["endpoint"]).hostname)
    authority = base64.b64decode(found["certificateAuthority"]["data"]).decode()
    return Target(KUBERNETES, host, 443, True, "/readyz", (200, 401, 403), 6443, authority)


def targets(environment: Environment) -> list[Target]:
    """Return all three.

    Raises:
        CloudError: nothing is applied.
    """
    return [airflow(environment), mlflow(environment), kubernetes(environment)]
