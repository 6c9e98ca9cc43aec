from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cloud import apply, wheels
from cloud.environments import Environment
from cloud.errors import CloudError


def planned(*changes: tuple[str, list[str], Any]) -> dict[str, Any]:
    return {
        "resource_changes": [
            {"address": address, "change": {"actions": actions, "before": before}}
            for address, actions, before in changes
        ]
    }


def test_changes_are_counted_by_kind() -> None:
    plan = planned(
        ("a", ["create"], None),
        ("b", ["delete", "create"], {}),
        ("c", ["create", "delete"], {}),
        ("d", ["update"], {}),
        ("e", ["delete"], {}),
        ("f", ["no-op"], {}),
        ("data.g", ["read"], None),
    )
    assert apply.counts(plan) == {"create": 1, "update": 1, "replace": 2, "delete": 1}


def network(before: dict[str, str], after: dict[str, str]) -> dict[str, Any]:
    """A plan of private subnets, with the addresses of each zone."""

    def subnet(zones: dict[str, str], zone: str) -> dict[str, str] | None:
        return {"availability_zone": zone, "cidr_block": zones[zone]} if zone in zones else None

    changes = [
        {
            "address": f'module.platform.module.network.aws_subnet.private["{zone}"]',
            "change": {"actions": ["?"], "before": subnet(before, zone), "after": subnet(after, zone)},
        }
        for zone in before | after
    ]
    return {"resource_changes": [*changes, {"address": "other", "change": {"before": {}, "after": None}}]}


A, B, D = "10.20.0.0/20", "10.20.16.0/20", "10.20.32.0/20"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"a": A, "b": B}),
        ({"a": A, "b": B}, {"a": A, "b": B}),  # also where one of them is made anew
        ({"a": A, "b": B}, {"a": A, "b": B, "d": D}),
        ({"a": A}, {"a": A, "b": B}),
        ({}, {}),
    ],
)
def test_a_network_may_be_made_and_may_grow(before: dict[str, str], after: dict[str, str]) -> None:
    apply.refuse_moves(Environment("dev"), network(before, after))


@pytest.mark.parametrize(
    "after",
    [
        {"d": A, "b": B},  # chosen anew
        {"b": A, "a": B},  # reordered
        {"a": A},
        {"d": A, "a": B, "b": D},  # put in front
        {"a": "10.30.0.0/20", "b": "10.30.16.0/20"},
    ],
)
def test_a_network_that_is_there_is_not_moved(after: dict[str, str]) -> None:
    with pytest.raises(CloudError, match=r'dev/terraform.tfvars: availability_zones = \["a", "b"\]') as refused:
        apply.refuse_moves(Environment("dev"), network({"b": B, "a": A}, after))
    assert "lies in a (10.20.0.0/20), b (10.20.16.0/20), and would lie in " in str(refused.value)


@pytest.mark.parametrize(
    ("actions", "before", "needed"),
    [
        (["create", "delete"], {"image": "old"}, True),
        (["delete", "create"], {"image": "old"}, True),
        (["create"], None, False),  # a new MLflow makes its own tables
        (["no-op"], {"image": "same"}, False),
        (["delete"], {"image": "old"}, False),
    ],
)
def test_the_database_is_migrated_when_a_standing_mlflow_gets_another_image(
    actions: list[str], before: Any, needed: bool
) -> None:
    assert apply.migration_needed(planned((apply.MIGRATION, actions, before), ("other", ["create"], None))) is needed


def test_an_mlflow_that_is_not_in_the_plan_needs_no_migration() -> None:
    assert not apply.migration_needed(planned(("other", ["create", "delete"], {})))


class Terraform:
    """Plans one change, and remembers what it was told."""

    def __init__(self, planned: dict[str, Any], did: list[str]) -> None:
        self.planned = planned
        self.did = did

    def stream(self, *arguments: str) -> None:
        self.did.append(arguments[0])

    def show(self, *_: str) -> dict[str, Any]:
        return self.planned


@pytest.mark.parametrize(("actions", "fetched"), [(["create"], ["fetch"]), (["no-op"], [])])
def test_airflows_packages_are_fetched_before_anybody_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, actions: list[str], fetched: list[str]
) -> None:
    did: list[str] = []
    terraform = Terraform(planned((wheels.OBJECT, actions, None)), did)
    environment: Any = SimpleNamespace(terraform=terraform, name="dev", root=tmp_path, folder=tmp_path)
    monkeypatch.setattr(wheels, "build", lambda root, say: did.append("fetch"))

    def approve(_: dict[str, Any]) -> bool:
        did.append("ask")
        return True

    assert apply.apply(environment, approve, print)
    assert did == ["plan", *fetched, "ask", "apply"]


class Ecs:
    """Answers as ECS does for one task that goes through the given states."""

    def __init__(self, states: list[dict[str, Any]], failures: list[dict[str, str]] | None = None) -> None:
        self.states = states
        self.failures = failures or []
        self.started: dict[str, Any] = {}

    def run_task(self, **arguments: Any) -> dict[str, Any]:
        self.started = arguments
        return {"tasks": [] if self.failures else [{"taskArn": "arn:task"}], "failures": self.failures}

    def describe_tasks(self, **_: Any) -> dict[str, Any]:
        return {"tasks": [self.states.pop(0) if len(self.states) > 1 else self.states[0]]}


def environment(ecs: Ecs) -> Any:
    facts = {
        "cluster": "c",
        "service": "s",
        "task_definition_arn": "arn:aws:ecs:r:1:task-definition/migrate:7",
        "subnet_ids": ["subnet-1"],
        "security_group_id": "sg-1",
    }
    terraform = SimpleNamespace(output=lambda: {"mlflow_migration": facts})
    return SimpleNamespace(terraform=terraform, client=lambda _: ecs)


def test_the_migration_runs_privately_as_the_newest_revision_and_is_waited_for() -> None:
    ecs = Ecs([{"lastStatus": "RUNNING"}, {"lastStatus": "STOPPED", "containers": [{"exitCode": 0}]}])
    said: list[str] = []
    apply.migrate(environment(ecs), said.append, poll_seconds=0)
    assert ecs.started["taskDefinition"] == "arn:aws:ecs:r:1:task-definition/migrate"
    assert ecs.started["networkConfiguration"]["awsvpcConfiguration"]["assignPublicIp"] == "DISABLED"
    assert said == ["MLflow's database is migrated"]


@pytest.mark.parametrize(
    ("ecs", "message"),
    [
        (Ecs([{}], [{"reason": "no room"}]), "did not start.*no room"),
        (
            Ecs([{"lastStatus": "STOPPED", "containers": [{"exitCode": 1}]}]),
            r"failed \(\[1\]\).*the old server still runs",
        ),
        # stopped before the container ran: there is no exit code at all
        (Ecs([{"lastStatus": "STOPPED", "stoppedReason": "CannotPull", "containers": [{}]}]), "failed .CannotPull."),
    ],
)
def test_a_migration_that_fails_ends_the_apply(ecs: Ecs, message: str) -> None:
    with pytest.raises(CloudError, match=message):
        apply.migrate(environment(ecs), lambda _: None, poll_seconds=0)


def test_a_migration_that_hangs_ends_the_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "MIGRATION_MINUTES", 0)
    with pytest.raises(CloudError, match="has not ended"):
        apply.migrate(environment(Ecs([{"lastStatus": "RUNNING"}])), lambda _: None, poll_seconds=0)
