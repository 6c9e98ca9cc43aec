"""How many DAGs an environment class of MWAA is meant for, and whether an environment has more."""

from __future__ import annotations

from collections.abc import Sequence

from cloud.datasets import dag_ids, enabled
from cloud.environments import Environment
from cloud.preflight import sizes_of

# "DAG capacity" of https://docs.aws.amazon.com/mwaa/latest/userguide/environment-class.html
CAPACITY = {
    "mw1.micro": 25,
    "mw1.small": 50,
    "mw1.medium": 200,
    "mw1.large": 1000,
    "mw1.xlarge": 2000,
    "mw1.2xlarge": 4000,
}


def capacity_warning(environment: Environment) -> str | None:
    """Return what to tell people of an environment that has more DAGs than its class is meant for.

    Raises:
        CloudError: a file of the configuration is refused.
    """
    size = str(sizes_of(environment)["airflow"]["environment_class"])
    told = excess(size, [dag for dataset in enabled(environment) for dag in dag_ids(dataset)])
    return told and f"{told}: environment_class in terraform/environments/{environment.name}/main.tf, `make apply`"


def excess(size: str, dags: Sequence[str]) -> str | None:
    """Return how many more DAGs there are than a class is meant for, and which class is for as many."""
    if len(dags) <= CAPACITY.get(size, len(dags)):
        return None
    larger = next((name for name, capacity in CAPACITY.items() if capacity >= len(dags)), "no class")
    return (
        f"{len(dags)} DAGs, and AWS means {size} for up to {CAPACITY[size]}: parsed late, their tasks wait; "
        f"{larger} is for as many"
    )
