"""Take an environment down in one go, with what the deployer made in it, and see that nothing is left.

Every step finds its work done or not done, so an interrupted destroy is run again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import botocore.exceptions

from cloud.apply import PARALLELISM
from cloud.environments import Environment
from cloud.errors import CloudError
from cloud.kept_data import STORAGE, KeptData, addresses, storage_imports
from cloud.platform_file import platform

Say = Callable[[str], None]
ENDPOINT_MINUTES = 30
DATABASE = "module.platform.module.mlflow"
SETTLED = ("InService", "Failed", "OutOfService", "UpdateRollbackFailed")
# Made by the services themselves, in the name of what Terraform makes.
LOG_GROUPS = ("/aws/sagemaker/Endpoints/{}-", "/aws/eks/{}/", "/aws/containerinsights/{}/", "airflow-{}-")
PENDING = ("kms:key",)
"""Gone, but listed until AWS has waited out the time in which one could change one's mind."""


def destroy(environment: Environment, *, keep_data: bool, say: Say) -> list[str]:
    """Destroy everything of the environment; return the ARNs of what is left all the same.

    Args:
        environment: which.
        keep_data: keep the buckets with their key, and a last snapshot of the database.
        say: told of each step.

    Raises:
        CloudError: a step failed; run it again.
    """
    say("endpoints")
    remove_endpoints(environment, say)
    kept = KeptData(environment.folder)
    state = environment.terraform.show()
    if keep_data:
        _keep(environment, state, kept, say)
    elif storage_imports(state) or kept.recorded:
        _guards_off(environment, state, keep_data=False, say=say, targets=[STORAGE])
        # What an earlier destroy kept is in the state again, and goes with the rest.
        kept.clear()
    if environment.terraform.has_state():
        say("terraform destroy")
        environment.terraform.stream("destroy", *_options(keep_data))
    say("what the deployer and the services made")
    remove_deployments(environment)
    remove_log_groups(environment)
    remove_task_definitions(environment)
    if keep_data:
        kept.settle()
        return []
    remove_snapshots(environment)
    kept.clear()
    return list(left_behind(environment))


def _keep(environment: Environment, state: dict[str, Any], kept: KeptData, say: Say) -> None:
    """Write down what is to stay, and take it out of the state; done already where storage is not in the state."""
    imports = storage_imports(state)
    if not imports:
        return
    _guards_off(environment, state, keep_data=True, say=say, targets=[])
    snapshot = environment.terraform.output()["final_snapshot_identifier"] if _has_database(state) else None
    if snapshot:
        _set_aside_older_snapshot(environment, snapshot, say)
    kept.record(imports, snapshot)
    say(f"keeping {len(imports)} resources of storage, and the database as snapshot {snapshot}")
    environment.terraform.run("state", "rm", STORAGE)


def _guards_off(
    environment: Environment, state: dict[str, Any], *, keep_data: bool, say: Say, targets: list[str]
) -> None:
    """Take deletion protection off where it is set: it guards against the very calls that come next."""
    if _has_database(state):
        targets = [*targets, DATABASE]
    if targets:
        say("guards off")
        environment.terraform.stream("apply", *_options(keep_data), *(f"-target={module}" for module in targets))


def _has_database(state: dict[str, Any]) -> bool:
    return any(address.startswith(f"{DATABASE}.aws_db_instance.") for address in addresses(state))


def _options(keep_data: bool) -> list[str]:
    return [
        "-input=false",
        "-auto-approve",
        PARALLELISM,
        "-var=deletion_protection=false",
        "-var=allow_unprotected_production=true",
        f"-var=final_database_snapshot={str(keep_data).lower()}",
    ]


def remove_endpoints(environment: Environment, say: Say, poll_seconds: float = 2) -> None:
    """Delete every endpoint of the environment, whoever made it, and wait until all are gone.

    Raises:
        CloudError: one is not gone in time.
    """
    sagemaker = environment.client("sagemaker")

    def listed() -> list[str]:
        return list(_names(sagemaker, "list_endpoints", "Endpoints", "EndpointName", environment))

    deadline = time.monotonic() + ENDPOINT_MINUTES * 60
    asked: set[str] = set()
    while names := listed():
        for name in set(names) - asked:
            status = sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"]
            if status in SETTLED:  # one that is being changed can't be deleted yet
                say(f"deleting endpoint {name}")
                sagemaker.delete_endpoint(EndpointName=name)
                asked.add(name)
        if time.monotonic() > deadline:
            raise CloudError(
                f"endpoints not gone after {ENDPOINT_MINUTES} minutes: {', '.join(names)}; try again later"
            )
        time.sleep(poll_seconds)


def remove_deployments(environment: Environment) -> None:
    """Delete the endpoint configurations and models that the deployer made."""
    sagemaker = environment.client("sagemaker")
    for kind, key in (("EndpointConfig", "endpoint_configs"), ("Model", "models")):
        for name in list(_names(sagemaker, f"list_{key}", f"{kind}s", f"{kind}Name", environment)):
            getattr(sagemaker, f"delete_{key[:-1]}")(**{f"{kind}Name": name})


def remove_log_groups(environment: Environment) -> None:
    """Delete log groups that services made again after Terraform had deleted them."""
    logs = environment.client("logs")
    for pattern in LOG_GROUPS:
        prefix = pattern.format(environment.prefix)
        for page in logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=prefix):
            for group in page["logGroups"]:
                logs.delete_log_group(logGroupName=group["logGroupName"])


def remove_task_definitions(environment: Environment) -> None:
    """Delete ECS task definitions for good: Terraform only takes them out of service."""
    ecs = environment.client("ecs")
    pages = ecs.get_paginator("list_task_definitions").paginate(status="INACTIVE")
    arns = [arn for page in pages for arn in page["taskDefinitionArns"] if f"/{environment.prefix}-" in arn]
    for start in range(0, len(arns), 10):  # the API's limit
        ecs.delete_task_definitions(taskDefinitions=arns[start : start + 10])


def remove_snapshots(environment: Environment) -> None:
    """Delete what earlier destroys kept of the database."""
    rds = environment.client("rds")
    for page in rds.get_paginator("describe_db_snapshots").paginate(SnapshotType="manual"):
        for snapshot in page["DBSnapshots"]:
            if snapshot["DBSnapshotIdentifier"].startswith(f"{environment.prefix}-"):
                rds.delete_db_snapshot(DBSnapshotIdentifier=snapshot["DBSnapshotIdentifier"])


def left_behind(environment: Environment) -> Iterator[str]:
    """Yield the ARN of everything that still carries the environment's tags."""
    tagging = environment.client("resourcegroupstaggingapi")
    wanted = [{"Key": "Project", "Values": [platform().name]}, {"Key": "Environment", "Values": [environment.name]}]
    for page in tagging.get_paginator("get_resources").paginate(TagFilters=wanted):
        for found in page["ResourceTagMappingList"]:
            arn: str = found["ResourceARN"]
            service, _, rest = arn.split(":", 2)[2].partition(":")
            kind = f"{service}:{rest.split(':', 2)[2].split('/', 1)[0]}"
            if kind not in PENDING:
                yield arn


def _names(client: Any, operation: str, plural: str, name: str, environment: Environment) -> Iterator[str]:
    """Yield the names of what belongs to the environment."""
    for page in client.get_paginator(operation).paginate(NameContains=environment.prefix):
        for found in page[plural]:
            if found[name].startswith(f"{environment.prefix}-"):
                yield found[name]


def _set_aside_older_snapshot(environment: Environment, identifier: str, say: Say) -> None:
    """Give a snapshot of the same name, kept by an earlier destroy, a name of its own."""
    rds = environment.client("rds")
    try:
        older = rds.describe_db_snapshots(DBSnapshotIdentifier=identifier)["DBSnapshots"][0]
    except botocore.exceptions.ClientError as error:
        if error.response["Error"]["Code"] in ("DBSnapshotNotFound", "DBSnapshotNotFoundFault"):
            return
        raise
    aside = f"{identifier}-{older['SnapshotCreateTime']:%Y%m%d%H%M%S}"
    say(f"an older snapshot is kept as {aside}")
    rds.copy_db_snapshot(SourceDBSnapshotIdentifier=identifier, TargetDBSnapshotIdentifier=aside, CopyTags=True)
    rds.get_waiter("db_snapshot_available").wait(DBSnapshotIdentifier=aside)
    rds.delete_db_snapshot(DBSnapshotIdentifier=identifier)
