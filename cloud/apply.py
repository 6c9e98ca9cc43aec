"""Plan and apply an environment, with Airflow's packages fetched before, and MLflow's database brought up to date."""

from __future__ import annotations

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
        CloudError: planning, fetching Airflow's packages, the database's migration or the apply failed.
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
