"""Ask an environment, through the AWS API, whether it works. Changes nothing."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import botocore.exceptions
import httpx

from cloud import bundle, paused
from cloud.access import reached_from_here
from cloud.airflow_api import Opened, Say
from cloud.datasets import configured, dag_ids, enabled, starting_paused
from cloud.environments import Environment
from cloud.errors import CloudError
from local.pipeline import pools
from local.pipeline.airflow_client import AirflowClient

Outputs = dict[str, Any]


@dataclass(frozen=True)
class Check:
    """What was asked and what came back."""

    name: str
    passed: bool
    detail: str
    warning: bool = False
    """It works, but something is to be done."""


def smoke(environment: Environment, say: Say) -> Iterator[Check]:
    """Yield one check after the other; an error of AWS is a check that did not pass.

    Raises:
        CloudError: nothing is applied.
    """
    outputs = environment.outputs
    with contextlib.ExitStack() as stack:
        api = Opened(environment, say, stack)
        questions: dict[str, Callable[[], str]] = {
            "airflow": lambda: _airflow(environment),
            "dags": lambda: _dags(environment, api()),
            "pools": lambda: _pools(environment, outputs, api()),
            "cluster": lambda: _cluster(environment, outputs),
            "mlflow": lambda: _mlflow(environment, outputs),
            "endpoints": lambda: _endpoints(environment, outputs),
            "alarms": lambda: _alarms(environment),
            "rollback": lambda: _rollback(environment),
            "access": lambda: reached_from_here(environment),
        }
        for name, ask in questions.items():
            yield _check(name, ask)


def _check(name: str, ask: Callable[[], str]) -> Check:
    try:
        return Check(name, True, ask())
    except _NotYet as problem:
        return Check(name, False, str(problem))
    except _ToDo as problem:
        return Check(name, True, str(problem), warning=True)
    except KeyError as missing:
        return Check(name, False, f"there is no output {missing}: the last apply did not end, run `make apply`")
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        return Check(name, False, f"AWS answered: {error}")
    except httpx.HTTPStatusError as error:
        return Check(name, False, f"Airflow refused: {error.response.text}")
    except httpx.TransportError as error:
        return Check(name, False, f"Airflow does not answer: {error}")
    except CloudError as error:
        return Check(name, False, str(error))


class _NotYet(Exception):
    """Something is not as it should be."""


class _ToDo(Exception):
    """All works, but somebody should do something."""


def _airflow(environment: Environment) -> str:
    found = environment.client("mwaa").get_environment(Name=environment.prefix)["Environment"]
    if found["Status"] != "AVAILABLE":
        raise _NotYet(
            f"{found['Name']} is {found['Status']}: {found.get('LastUpdate', {}).get('Error', 'see its page')}"
        )
    return f"{found['Name']} is available, Airflow {found['AirflowVersion']}"


def _dags(environment: Environment, client: AirflowClient) -> str:
    if errors := client.import_errors():
        raise _NotYet(f"{len(errors)} DAG files cannot be imported: {'; '.join(map(_named, errors))}")
    datasets = enabled(environment)
    expected = {dag for dataset in datasets for dag in dag_ids(dataset)}
    found = {dag["dag_id"]: dag for dag in client.dag_details()}
    if missing := sorted(expected - found.keys()):
        there = ", ".join(sorted(found)) or "no DAG"
        raise _NotYet(f"{', '.join(missing)} is not there ({there}): run `make push-dags`, wait a minute")
    resting = sorted(dag for dag in expected if found[dag]["is_paused"])
    if told := paused.costs(resting, datasets, starting_paused(environment)):
        raise _ToDo(f"{'; '.join(told)}. Unpause in Airflow what nobody means to be paused")
    as_configured = f"; paused, as configured: {', '.join(resting)}" if resting else ""
    return f"{len(expected)} DAGs of {', '.join(datasets)}{as_configured}"


def _pools(environment: Environment, outputs: Outputs, client: AirflowClient) -> str:
    """What is missing is said as a push would say it, as it would make it."""
    platform = environment.client("s3").get_object(Bucket=outputs["dags_bucket"], Key=bundle.PLATFORM)["Body"].read()
    wanted = bundle.pools(bundle.contents(environment.root), platform)
    if missing := pools.make(client, wanted, dry_run=True):
        raise _NotYet(f"{'; '.join(missing)}: run `make push-dags`; until then tasks of these pools do not start")
    return f"{len(wanted)} pools"


def _named(error: dict[str, Any]) -> str:
    """Return which file cannot be imported, and the last line of its traceback."""
    return ": ".join([error["filename"], *(error["stack_trace"] or "").strip().splitlines()[-1:]])


def _cluster(environment: Environment, outputs: Outputs) -> str:
    eks = environment.client("eks")
    name = outputs["cluster_name"]
    status = eks.describe_cluster(name=name)["cluster"]["status"]
    if status != "ACTIVE":
        raise _NotYet(f"{name} is {status}")
    groups = eks.list_nodegroups(clusterName=name)["nodegroups"]
    for group in groups:
        found = eks.describe_nodegroup(clusterName=name, nodegroupName=group)["nodegroup"]
        if found["status"] != "ACTIVE":
            raise _NotYet(f"node group {group} is {found['status']}: {found.get('health', {}).get('issues', [])}")
    return f"{name} and {len(groups)} node groups are active"


def _mlflow(environment: Environment, outputs: Outputs) -> str:
    where = outputs["mlflow_migration"]
    service = environment.client("ecs").describe_services(cluster=where["cluster"], services=[where["service"]])
    found = service["services"][0]
    if found["runningCount"] < max(found["desiredCount"], 1):
        raise _NotYet(f"{found['runningCount']} of {found['desiredCount']} tasks run: see the service's events")
    return f"{found['runningCount']} tasks run; {outputs['mlflow_tracking_uri']} inside the network"


def _endpoints(environment: Environment, outputs: Outputs) -> str:
    sagemaker, runtime = environment.client("sagemaker"), environment.client("sagemaker-runtime")
    said = []
    for name in outputs["endpoint_names"].values():
        status = sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"]
        if status != "InService":
            raise _NotYet(f"{name} is {status}")
        said.append(f"{name} {_model(runtime, name)}")
    return ", ".join(said) or "none stands at rest"


def _model(runtime: Any, name: str) -> str:
    """What an endpoint says to a request with no rows: that there is no model, or that it wants rows."""
    try:
        runtime.invoke_endpoint(EndpointName=name, ContentType="application/json", Body=b'{"instances": []}')
    except botocore.exceptions.ClientError as error:
        if error.response["Error"]["Code"] != "ModelError":
            raise
        original = error.response.get("OriginalMessage", "")
        code = error.response.get("OriginalStatusCode")
        if code == 503:
            return "waits for its first model"
        if code != 400:
            raise _NotYet(f"{name} answers {code}: {original}") from None
        try:
            json.loads(original)
        except ValueError:
            raise _NotYet(f"{name} answers {code} in a way the serving image does not: {original}") from None
    return "serves a model"


def _alarms(environment: Environment) -> str:
    alarms = _all_alarms(environment)
    ringing = [alarm["AlarmName"] for alarm in alarms if alarm["StateValue"] == "ALARM"]
    if ringing:
        raise _NotYet(f"{', '.join(ringing)}: see the runbook that each alarm's description links")
    if not alarms:
        raise _NotYet("there are no alarms: run `make apply`")
    return f"{len(alarms)} alarms, none in alarm"


def _all_alarms(environment: Environment) -> list[dict[str, Any]]:
    pages = environment.client("cloudwatch").get_paginator("describe_alarms")
    found = pages.paginate(AlarmNamePrefix=f"{environment.prefix}-")
    return [alarm for page in found for alarm in page["MetricAlarms"] + page.get("CompositeAlarms", [])]


def _rollback(environment: Environment) -> str:
    """A dataset gets DAGs and an endpoint by its file alone, but rollback alarms by Terraform."""
    alarms = {alarm["AlarmName"] for alarm in _all_alarms(environment)}
    sagemaker = environment.client("sagemaker")
    guarded, bare = [], []
    for dataset in configured(environment):
        endpoint = f"{environment.prefix}-{dataset}"
        if any(name.startswith(f"{endpoint}-rollback-") for name in alarms):
            guarded.append(dataset)
        elif _exists(sagemaker, endpoint):
            bare.append(dataset)
    if bare:
        raise _ToDo(
            f"nothing rolls back a bad deployment of {', '.join(bare)}: add it to `endpoints` in "
            f"terraform/environments/{environment.name}/main.tf, then `make plan apply ENV={environment.name}`"
        )
    return f"alarms watch over {', '.join(guarded) or 'no endpoint, and there is none'}"


def _exists(sagemaker: Any, endpoint: str) -> bool:
    try:
        sagemaker.describe_endpoint(EndpointName=endpoint)
    except botocore.exceptions.ClientError as error:
        # SageMaker has no code of its own for what is not there.
        if "could not find" not in error.response["Error"]["Message"].lower():
            raise
        return False
    return True
