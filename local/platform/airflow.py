"""Airflow: database migration, API server, scheduler, DAG processor, triggerer, the pools, and a check of the DAGs.

The DAG bundle and all that it sees are the cloud's, and so are Airflow's options but for some (`airflow_options`).
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from local.pipeline import pools
from local.pipeline.airflow_client import AirflowClient
from local.platform import airflow_options
from local.platform.facts import REGION, Facts
from local.platform.home import ROOT, environment_python, use_dag_library
from local.platform.launcher import is_supported
from local.platform.ports import LOOPBACK
from local.platform.postgres import database_url
from local.platform.probes import get, get_json
from local.platform.service import Command, NotReady, Service, StartError

_LAUNCHER = ROOT / "local" / "airflow" / "launcher.py"


def environment(facts: Facts) -> dict[str, str]:
    """Return the environment of every Airflow process.

    KUBECONFIG stays unset: the operators are given the kubeconfig's path, and a deferred one refuses two.
    """
    home = facts.home.folder("airflow")
    bundles = [
        {
            "name": "dags",
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(facts.home.bundle)},
        }
    ]
    connection = {
        "conn_type": "aws",
        "login": "local",
        "password": "local",
        "extra": {"endpoint_url": facts.aws_endpoint, "region_name": REGION},
    }
    configured = airflow_options.variables(
        {
            "bundle": facts.home.bundle,
            "bundles": json.dumps(bundles),
            "airflow_url": facts.airflow_url,
            "host": LOOPBACK,
            "port": facts.ports["airflow"],
            "database": database_url(facts, "psycopg2", "airflow"),
            "database_async": database_url(facts, "asyncpg", "airflow"),
            "logs": home / "logs",
            "fernet_key": facts.secrets.fernet_key,
            "api_secret_key": facts.secrets.api_secret_key,
            "jwt_secret": facts.secrets.jwt_secret,
        }
    )
    return {
        **facts.base_environment,
        **facts.aws_environment,
        **configured,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(connection),
        "DO_NOT_TRACK": "true",
    }


def services(facts: Facts) -> list[Service]:
    """Return Airflow's processes, in the order a reader would expect."""
    home = facts.home.folder("airflow")

    def launch() -> Command:
        return Command([environment_python("airflow"), "-P", _LAUNCHER], environment(facts), home)

    launcher = Service(
        name="airflow",
        command=launch,
        launcher=True,
        prepare=lambda: home.mkdir(exist_ok=True),
        start_timeout=180,
    )
    forks = is_supported()
    base = (launcher.name,) if forks else ()

    def component(name: str, *argv: str, health: str | None = None) -> Service:
        def command() -> Command:
            home.mkdir(exist_ok=True)
            full: list[str | Path] = [environment_python("airflow"), "-P", "-m", "airflow", *argv]
            return Command(full, environment(facts), home, airflow=argv if forks else None)

        def ready() -> None:
            status = get_json(f"{facts.airflow_url}/api/v2/monitor/health")[health]["status"]
            if status != "healthy":
                raise NotReady(f"{facts.airflow_url}/api/v2/monitor/health says {health} is {status}")

        return Service(
            name=name,
            needs=(*base, "migration"),
            command=command,
            ready=ready if health else None,
            start_timeout=180,
            stop_grace=4 if name != "triggerer" else 1,  # it waits for its triggers, which wait for the cluster
        )

    migration = component("migration", "db", "migrate")
    api = component("api-server", "api-server")
    return [
        *([launcher] if forks else []),
        replace(migration, needs=(*base, "postgres"), job=True),
        replace(
            api,
            needs=base,  # it builds its routes, the most of its start, without a database
            port=facts.ports["airflow"],
            ready=lambda: _api_answers(facts),
            finish=lambda: _warm_up(facts),
        ),
        # Without their own log servers, which listen on every address: the API server finds the files itself.
        component("scheduler", "scheduler", "--skip-serve-logs", health="scheduler"),
        component("triggerer", "triggerer", "--skip-serve-logs", health="triggerer"),
        component("dag-processor", "dag-processor", health="dag_processor"),
        Service(
            name="pools",
            needs=("migration", "api-server"),
            ready=lambda: make_pools(facts),
            again_seconds=10,  # a dataset that is added meanwhile has its DAGs at once; its tasks wait for its pool
            start_timeout=180,
        ),
        Service(
            name="dags",
            needs=("migration", "api-server", "dag-processor"),
            ready=lambda: check_dags(facts),
            start_timeout=180,
        ),
    ]


def _api_answers(facts: Facts) -> None:
    get(f"{facts.airflow_url}/api/v2/version")


def _warm_up(facts: Facts) -> None:
    """Have the API server build its versioned execution API now; the first task would wait seconds for it."""
    get(f"{facts.airflow_url}/execution/health", timeout=60)


def make_pools(facts: Facts) -> None:
    """Make the pools that the DAGs need, or bring them up to date with the configuration."""
    use_dag_library()
    from mlplatform.config.pools import pools_of

    pools.make(client(facts), pools_of(facts.home.bundle))


def client(facts: Facts) -> AirflowClient:
    """Return a client of this platform's Airflow."""
    return AirflowClient.on_this_machine(facts.airflow_url)


def check_dags(facts: Facts) -> None:
    """Make sure that every DAG file was read and none is broken.

    Raises:
        StartError: a file cannot be imported; the message has its traceback.
        NotReady: the files have not been read yet.
    """
    token = get_json(f"{facts.airflow_url}/auth/token")["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    errors = get_json(f"{facts.airflow_url}/api/v2/importErrors", headers=headers)["import_errors"]
    if errors:
        details = "\n\n".join(f"{error['filename']}:\n{error['stack_trace'].rstrip()}" for error in errors)
        raise StartError(f"Airflow cannot import these DAG files:\n{details}")
    for dag in dag_names(facts):
        get(f"{facts.airflow_url}/api/v2/dags/{dag}", headers=headers)


def dag_names(facts: Facts) -> list[str]:
    """Return the DAGs to wait for: those of every dataset that has some here."""
    use_dag_library()
    from mlplatform.config.loading import enabled_datasets
    from mlplatform.config.names import dag_ids

    return [dag for dataset in enabled_datasets("local", facts.home.bundle) for dag in dag_ids(dataset)]
