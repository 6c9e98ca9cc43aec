"""Several platforms in one account: nothing of one is called as something of another, and every name fits."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

import pytest

from tests.policies.documents import documents
from tests.policies.planning import ACCOUNT, REGION
from tests.policies.plans import Plans
from tests.policies.resources import Resource, of_type, strings

ROOTS = ("bootstrap", "staging")  # the environment with the longest name
NAME = "ml-platform"
OTHER = "acme-analytics"  # as long as a platform's name may be
FAR = "ap-northeast-3"
LONGEST_REGION = 15
GLOBAL = ("aws_budgets_", "aws_cloudwatch_dashboard", "aws_iam_", "aws_s3_bucket")
"""What an account has once for all its regions, by how its type begins."""
NAMED_BY = ("alarm_name", "bucket", "dashboard_name", "identifier", "node_group_name", "name_prefix", "name", "family")
VOCABULARY = re.compile(
    rf"{NAME}(/node-pool\b|:airflow\b)"  # a label and a group in a cluster, which is one platform's
    rf"|your-org/{NAME}/|amazonaws.com/{NAME}/|policy/{NAME}-boundary"  # given to the environment
)
WITHIN = {
    "aws_appautoscaling_policy": "a scaling target",
    "aws_cloudwatch_log_metric_filter": "a log group",
    "aws_eks_node_group": "a cluster",
    "aws_iam_role_policy": "a role",
    "aws_route53_record": "a zone",
    "aws_route53_zone": "a network",
}
"""Types whose names are unique only within something that is named itself."""
LIMITS = {
    "aws_cloudwatch_metric_alarm": 255,
    "aws_cloudwatch_dashboard": 255,
    "aws_budgets_budget": 100,
    "aws_db_instance": 63,
    "aws_db_parameter_group": 255,
    "aws_db_subnet_group": 255,
    "aws_ecr_repository": 256,
    "aws_ecs_cluster": 255,
    "aws_eks_cluster": 100,
    "aws_eks_node_group": 63,
    "aws_emrserverless_application": 64,
    "aws_iam_policy": 128,
    "aws_iam_role": 64,
    "aws_launch_template": 125,
    "aws_lb": 32,
    "aws_lb_target_group": 32,
    "aws_mwaa_environment": 80,
    "aws_s3_bucket": 63,
    "aws_sagemaker_endpoint": 63,
    "aws_sagemaker_endpoint_configuration": 63,
    "aws_sagemaker_model": 63,
    "aws_scheduler_schedule": 64,
    "aws_scheduler_schedule_group": 64,
    "aws_sns_topic": 256,
    "aws_sqs_queue": 80,
}
"""The most characters that each service takes."""


@pytest.fixture(scope="module", params=ROOTS)
def three(request: pytest.FixtureRequest, plans: Plans) -> tuple[list[Resource], list[Resource], list[Resource]]:
    """A root of the platform as it is, of another one in its region, and of that one in another region."""
    for root in ROOTS:
        plans.start(root)
        for region in (REGION, FAR):
            plans.start_elsewhere(root, OTHER, region)
    here, there = (plans.start_elsewhere(request.param, OTHER, region).result() for region in (REGION, FAR))
    return plans[request.param], here, there


Three = tuple[list[Resource], list[Resource], list[Resource]]


def names(resources: Iterable[Resource]) -> set[tuple[str, str]]:
    """Return type and name of everything that has one of its own."""
    found = set()
    for resource in resources:
        given = next((resource.values[key] for key in NAMED_BY if resource.values.get(key)), None)
        if given is not None and resource.type not in WITHIN:
            found.add((resource.type, str(given)))
    return found


def global_names(resources: Iterable[Resource]) -> set[tuple[str, str]]:
    return {(kind, name) for kind, name in names(resources) if kind.startswith(GLOBAL)}


def test_another_platform_beside_it_shares_no_name(three: Three) -> None:
    platform, other, _ = three

    assert len(names(other)) > 5
    assert names(platform) & names(other) == set()


def test_in_another_region_it_shares_none_that_the_account_has_once(three: Three) -> None:
    _, here, there = three

    assert len(global_names(here)) == len(global_names(there)) > 5
    assert global_names(here) & global_names(there) == set()


def test_nothing_of_it_says_whose_platform_the_first_one_is(three: Three) -> None:
    _, other, _ = three

    said = {
        (resource.address, path, text)
        for resource in other
        for path, text in strings(resource.values)
        if NAME in VOCABULARY.sub("", text) and path.rpartition(".")[2] not in ("CostCenter", "owner")
    }
    tags = {resource.values["tags_all"]["Project"] for resource in other if resource.values.get("tags_all")}

    assert not said
    assert tags == {OTHER}


def test_the_longest_names_fit(three: Three) -> None:
    _, _, longest = three
    longer = LONGEST_REGION - len(FAR)

    too_long = {
        (kind, name) for kind, name in names(longest) if len(name) + longer * (FAR in name) > LIMITS.get(kind, 255)
    }

    assert not too_long


def test_ci_reaches_what_is_its_platform_s_and_nothing_of_another_region(plans: Plans) -> None:
    for region in (REGION, FAR):
        plans.start_elsewhere("staging", OTHER, region)
    arns = {
        "aws_iam_role": f"arn:aws:iam::{ACCOUNT}:role/{{}}",
        "aws_s3_bucket": "arn:aws:s3:::{}",
        "aws_cloudwatch_dashboard": f"arn:aws:cloudwatch::{ACCOUNT}:dashboard/{{}}",
        "aws_budgets_budget": f"arn:aws:budgets::{ACCOUNT}:budget/{{}}",
    }
    given = [
        pattern
        for document in documents(of_type(plans["bootstrap"], "aws_iam_policy"))
        for statement in document.statements
        if statement.allows
        for pattern in statement.resources
        if NAME in pattern
    ]

    def reached(region: str) -> set[bool]:
        resources = plans.start_elsewhere("staging", OTHER, region).result()
        return {
            any(fnmatch.fnmatchcase(arns[kind].format(name.replace(OTHER, NAME)), pattern) for pattern in given)
            for kind, name in global_names(resources)
            if kind in arns
        }

    assert reached(REGION) == {True}
    assert reached(FAR) == {False}
