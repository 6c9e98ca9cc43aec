"""Plan and apply an environment, with Airflow's packages fetched before, and MLflow's database brought up to date."""

from __future__ import annotations

import ipaddress
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cloud import wheels
from cloud.environments import Environment
from cloud.errors import CloudError
from cloud.kept_data import KeptData

MIGRATION = "module.platform.module.mlflow.aws_ecs_task_definition.migration"
MIGRATION_MINUTES = 15
PRIVATE_SUBNETS = "module.platform.module.network.aws_subnet.private["
PARALLELISM = "-parallelism=20"
Say = Callable[[str], None]


def plan(environment: Environment) -> None:
    """Show what an apply would do.

    Raises:
        CloudError: planning failed.
    """
    environment.terraform.stream("plan", "-input=false", PARALLELISM)


def apply(environment: Environment, approve: Callable[[dict[str, Any]], bool], say: Say) -> bool:
    """Plan, have the plan approved, and apply it. Safe to run again after any interruption.

    Returns:
        Whether everything is as configured now; False when the plan was not approved.

    Raises:
        CloudError: planning, fetching Airflow's packages, the database's migration or the apply failed, or the plan
            moves the network.
    """
    terraform = environment.terraform
    with tempfile.TemporaryDirectory() as folder:
        saved = str(Path(folder, "plan"))
        terraform.stream("plan", "-input=false", PARALLELISM, f"-out={saved}")
        planned = terraform.show(saved)
        if not planned.get("applyable", True):
            say(f"{environment.name} is as configured: nothing to do")
            KeptData(environment.folder).forget()
            return True
        refuse_moves(environment, planned)
        if wheels.uploaded(planned):
            wheels.build(environment.root, say)
        if not approve(planned):
            return False
        if migration_needed(planned):
            say("MLflow's new server needs a newer database: migrating it first")
            terraform.stream("apply", "-input=false", "-auto-approve", f"-target={MIGRATION}")
            migrate(environment, say)
            terraform.stream("plan", "-input=false", PARALLELISM, f"-out={saved}")
        terraform.stream("apply", "-input=false", PARALLELISM, saved)
    KeptData(environment.folder).forget()
    return True


def refuse_moves(environment: Environment, planned: dict[str, Any]) -> None:
    """See that a network that is there stays where it is: Terraform would begin to take it down with all in it.

    Raises:
        CloudError: the plan takes it out of a zone, or gives a zone other addresses.
    """
    before, after = (_private_subnets(planned, when) for when in ("before", "after"))
    if before.items() <= after.items():
        return
    path = (environment.folder / "terraform.tfvars").relative_to(environment.root)
    raise CloudError(
        f"the network of {environment.name} lies in {_listed(before)}, and would lie in {_listed(after)}: it cannot be "
        "moved, and can only grow by one zone at the end; nothing was changed. To stay, write into "
        f"{path}: availability_zones = {json.dumps(_in_order(before))}"
    )


def _private_subnets(planned: dict[str, Any], when: str) -> dict[str, str]:
    """The addresses of each zone."""
    found = (change["change"][when] for change in planned.get("resource_changes", []) if _is_private_subnet(change))
    return {subnet["availability_zone"]: subnet["cidr_block"] for subnet in found if subnet}


def _is_private_subnet(change: dict[str, Any]) -> bool:
    address: str = change["address"]
    return address.startswith(PRIVATE_SUBNETS)


def _in_order(zones: dict[str, str]) -> list[str]:
    return sorted(zones, key=lambda zone: ipaddress.IPv4Network(zones[zone]))


def _listed(zones: dict[str, str]) -> str:
    return ", ".join(f"{zone} ({zones[zone]})" for zone in _in_order(zones)) or "no zone"


def migration_needed(planned: dict[str, Any]) -> bool:
    """Whether a plan replaces the migration task of an MLflow that exists already; a new one makes its own tables."""
    for change in planned.get("resource_changes", []):
        if change["address"] == MIGRATION:
            actions = set(change["change"]["actions"])
            return "create" in actions and change["change"]["before"] is not None
    return False


def counts(planned: dict[str, Any]) -> dict[str, int]:
    """Return how many resources a plan creates, updates, replaces and deletes."""
    found = {"create": 0, "update": 0, "replace": 0, "delete": 0}
    for change in planned.get("resource_changes", []):
        actions = change["change"]["actions"]
        if len(actions) == 2:
            found["replace"] += 1
        elif actions[0] in found:
            found[actions[0]] += 1
    return found


def migrate(environment: Environment, say: Say, poll_seconds: float = 5) -> None:
    """Run MLflow's database migration as a task of its own and wait for it.

    Raises:
        CloudError: it could not be started, failed, or took too long.
    """
    facts = environment.terraform.output()["mlflow_migration"]
    ecs = environment.client("ecs")
    started = ecs.run_task(
        cluster=facts["cluster"],
        taskDefinition=facts["task_definition_arn"].rsplit(":", 1)[0],  # the newest revision, just made
        launchType="FARGATE",
        networkConfiguration={
            "awsvpcConfiguration": {
                "subnets": facts["subnet_ids"],
                "securityGroups": [facts["security_group_id"]],
                "assignPublicIp": "DISABLED",
            }
        },
    )
    if started.get("failures") or not started["tasks"]:
        raise CloudError(f"the migration of MLflow's database did not start: {started.get('failures')}")
    task = started["tasks"][0]["taskArn"]
    deadline = time.monotonic() + MIGRATION_MINUTES * 60
    while time.monotonic() < deadline:
        found = ecs.describe_tasks(cluster=facts["cluster"], tasks=[task])["tasks"][0]
        if found["lastStatus"] == "STOPPED":
            codes = [container.get("exitCode") for container in found["containers"]]
            if codes != [0]:
                raise CloudError(
                    f"the migration of MLflow's database failed ({found.get('stoppedReason', codes)}): its log is in "
                    f"the log group of {facts['cluster']}; the old server still runs, nothing else was changed"
                )
            say("MLflow's database is migrated")
            return
        time.sleep(poll_seconds)
    raise CloudError(
        f"the migration of MLflow's database has not ended after {MIGRATION_MINUTES} minutes: look at {task}"
    )
