"""Each root as it would be applied: nothing breaks a rule, and no exception is idle."""

from __future__ import annotations

import pytest

from tests.policies.planning import ENVIRONMENTS
from tests.policies.plans import ROOTS, Plans
from tests.policies.policies import check, judge, load_exceptions, load_file, runbook_names, unused
from tests.policies.resources import Resource
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

    assert idle_runbooks(resources, runbook_names()) == []


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
