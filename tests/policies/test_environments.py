"""Each root as it would be applied: nothing breaks a rule, and no exception is idle."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlplatform.config.base import RESERVED_NAMES
from mlplatform.config.loading import load_settings
from tests.policies.planning import ENVIRONMENTS
from tests.policies.plans import ROOTS, Plans
from tests.policies.policies import (
    ROOT,
    check,
    judge,
    listed_runbooks,
    load_exceptions,
    load_file,
    runbook_names,
    runbooks_by_hand,
    unused,
)
from tests.policies.resources import Resource, of_type
from tests.policies.rules import idle_runbooks


@pytest.fixture(scope="module")
def every_plan(plans: Plans) -> dict[str, list[Resource]]:
    for root in ROOTS:
        plans.start(root)
    return {root: plans[root] for root in ROOTS}


@pytest.mark.parametrize("root", ROOTS)
def test_nothing_breaks_a_rule(plans: Plans, root: str) -> None:
    violations = check(plans[root], load_exceptions(root))

    assert not violations, "\n".join(map(str, violations))


def test_no_exception_is_idle(every_plan: dict[str, list[Resource]]) -> None:
    found = {root: judge(resources) for root, resources in every_plan.items()}

    idle = unused(load_exceptions(), found)

    assert not idle, "\n".join(idle)


def test_every_runbook_belongs_to_an_alarm(every_plan: dict[str, list[Resource]]) -> None:
    resources = [resource for planned in every_plan.values() for resource in planned]

    assert idle_runbooks(resources, runbook_names() - runbooks_by_hand()) == []


def test_no_alarm_names_a_runbook_for_what_people_want_to_do(every_plan: dict[str, list[Resource]]) -> None:
    resources = [resource for planned in every_plan.values() for resource in planned]

    assert idle_runbooks(resources, runbooks_by_hand()) == sorted(runbooks_by_hand())


def test_the_index_lists_every_runbook_once() -> None:
    assert sorted(listed_runbooks()) == sorted(runbook_names())


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_plan_holds_the_platform(plans: Plans, environment: str) -> None:
    """A plan that lost a module would break no rule."""
    types = {resource.type for resource in plans[environment]}

    assert {
        "aws_cloudwatch_metric_alarm",
        "aws_db_instance",
        "aws_ecs_service",
        "aws_eks_cluster",
        "aws_eks_node_group",
        "aws_mwaa_environment",
        "aws_s3_bucket",
        "aws_sagemaker_endpoint",
        "aws_sqs_queue",
        "aws_vpc",
    } <= types


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_documents_are_known_in_the_plan(plans: Plans, environment: str) -> None:
    """The rules on documents judge what is there, not what will be."""
    policies = [resource for resource in plans[environment] if resource.type == "aws_iam_role_policy"]

    assert policies
    assert all("Statement" in resource.values["policy"] for resource in policies)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_dags_can_read_what_terraform_tells_them(plans: Plans, environment: str, tmp_path: Path) -> None:
    """platform.json fits the DAGs' schema, and says of serving what the planned resources are."""
    planned = plans[environment]
    (told,) = [
        item.values["content"] for item in planned if item.address.endswith("module.airflow.aws_s3_object.platform")
    ]
    (tmp_path / "config").symlink_to(ROOT / "config")
    (tmp_path / "platform.json").write_text(told, encoding="utf-8")

    settings = load_settings(tmp_path)

    serving, named = settings.serving, settings.serving.endpoint_name.format(dataset="flights")
    (config,) = of_type(planned, "aws_sagemaker_endpoint_configuration")
    (capture,) = config.blocks("data_capture_config")
    assert settings.environment == environment
    (model,) = of_type(planned, "aws_sagemaker_model")
    assert settings.project == model.values["tags_all"]["Project"]
    nodes = [group.values["ami_type"] for group in of_type(planned, "aws_eks_node_group")]
    assert settings.kubernetes.gpus == any(image.endswith("_NVIDIA") for image in nodes)
    assert named in [endpoint.values["name"] for endpoint in of_type(planned, "aws_sagemaker_endpoint")]
    assert (serving.capture.uri or "").format(dataset="flights") == capture["destination_s3_uri"]
    assert serving.kms_key_arn == config.values["kms_key_arn"] == capture["kms_key_id"]
    assert serving.network_isolation
    alarms = [alarm.values["alarm_name"] for alarm in of_type(planned, "aws_cloudwatch_metric_alarm")]
    assert len(serving.alarms["flights"]) == 4
    assert set(serving.alarms["flights"]) <= set(alarms), "SageMaker refuses a deployment whose alarms do not exist"
    assert serving.instance_type in [variant["instance_type"] for variant in config.blocks("production_variants")]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_only_data_that_lands_is_announced(plans: Plans, environment: str) -> None:
    (notification,) = of_type(plans[environment], "aws_s3_bucket_notification")
    prefixes = [queue["filter_prefix"] for queue in notification.blocks("queue")]

    assert prefixes == ["flights/"]
    assert not any(f"{name}/".startswith(prefix) for prefix in prefixes for name in RESERVED_NAMES)


def test_the_exceptions_file_is_valid() -> None:
    assert load_file().policies


@pytest.mark.parametrize("root", ROOTS)
def test_documents_fit_into_what_iam_takes(plans: Plans, root: str) -> None:
    """IAM counts without white space; `terraform plan` does not count at all, and the apply fails."""
    limits = {"aws_iam_policy": 6144, "aws_iam_role_policy": 10240}
    for resource in plans[root]:
        if limit := limits.get(resource.type):
            size = len("".join(str(resource.values["policy"]).split()))
            assert size <= limit, f"{resource.address} has {size} characters: split it"
