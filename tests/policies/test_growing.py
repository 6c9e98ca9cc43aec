"""A zone is added to an environment that is there: what the plan would do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.policies.plans import Plans

# Tags of groups whose names are made up twice, with the tag and with the node group.
MADE_UP = "module.platform.module.cluster.aws_autoscaling_group_tag.autoscaler["
NETWORK, MLFLOW = "module.platform.module.network", "module.platform.module.mlflow"


def a_third_zone(terraform: Path) -> None:
    path = terraform / "environments" / "dev" / "main.tf"
    text = path.read_text()
    assert text.count(" = 2\n") == 1, "dev has two zones"
    path.write_text(text.replace(" = 2\n", " = 3\n"))


@pytest.fixture(scope="module")
def changes(plans: Plans) -> dict[str, tuple[str, ...]]:
    return plans.changes("dev", a_third_zone)


def test_nothing_is_replaced_or_deleted(changes: dict[str, tuple[str, ...]]) -> None:
    gone = {address for address, actions in changes.items() if "delete" in actions}

    assert {address for address in gone if not address.startswith(MADE_UP)} == set()


def test_the_network_grows(changes: dict[str, tuple[str, ...]]) -> None:
    created = {address for address, actions in changes.items() if actions == ("create",)}

    assert len(created) == 6
    assert {address.partition("[")[0] for address in created} == {
        f"{NETWORK}.aws_subnet.private",
        f"{NETWORK}.aws_subnet.public",
        f"{NETWORK}.aws_route.nat",
        f"{NETWORK}.aws_route_table.private",
        f"{NETWORK}.aws_route_table_association.private",
        f"{NETWORK}.aws_route_table_association.public",
    }
    assert {address.partition("[")[2] for address in created} == {'"us-east-1a"]'}


def test_what_can_grow_takes_the_new_subnet(changes: dict[str, tuple[str, ...]]) -> None:
    updated = {address for address, actions in changes.items() if actions == ("update",)}

    assert {f"{MLFLOW}.aws_db_subnet_group.this", f"{MLFLOW}.aws_lb.this", f"{MLFLOW}.aws_ecs_service.this"} <= updated
