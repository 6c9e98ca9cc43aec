"""Break the real code, plan it, and see the suite fail: the rules are not only right about made-up resources."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.policies.plans import Plans
from tests.policies.policies import check, load_exceptions
from tests.policies.rules import Violation

# file in modules -> what stands there -> what is put in its place
EDITS = {
    "network/endpoints.tf": {"= var.cidr\n": '= "0.0.0.0/0"\n'},
    "network/flow_logs.tf": {'"logs:PutLogEvents"]': '"logs:*"]', "  kms_key_id        = var.kms_key_arn\n": ""},
    "cluster/workload_policies.tf": {
        # The deployer's exception is for looking, and for the deployer: to delete is more, and so is another's look.
        '      "sagemaker:ListModels",\n': '      "sagemaker:ListModels",\n      "sagemaker:DeleteEndpoint",\n',
        '    resources = ["${var.buckets.landing.arn}/labels/*"]\n': '    resources = ["*"]\n',
    },
}
NETWORK, CLUSTER = "module.platform.module.network", "module.platform.module.cluster"


def break_the_code(terraform: Path) -> None:
    for name, changes in EDITS.items():
        path = terraform / "modules" / name
        text = path.read_text()
        for before, after in changes.items():
            assert text.count(before) == 1, f"{path.name} no longer has {before!r} once: edit something else"
            text = text.replace(before, after)
        path.write_text(text)


@pytest.fixture(scope="module")
def violations(plans: Plans) -> list[Violation]:
    """All edits in one copy: a plan costs more than everything else here."""
    policies = [f'{CLUSTER}.aws_iam_role_policy.workload["{name}"]' for name in ("deployer", "monitor")]
    return check(plans.edited("dev", break_the_code, NETWORK, *policies), load_exceptions("dev"))


def named(violations: list[Violation], rule: str) -> list[tuple[str, str]]:
    return [(violation.address, violation.subject) for violation in violations if violation.rule == rule]


def test_an_opened_port_fails_the_suite(violations: list[Violation]) -> None:
    expected = (f"{NETWORK}.aws_vpc_security_group_ingress_rule.endpoints", "0.0.0.0/0")

    assert named(violations, "open-ingress") == [expected]


def test_an_added_wildcard_fails_the_suite(violations: list[Violation]) -> None:
    assert named(violations, "iam-wildcard-action") == [(f"{NETWORK}.aws_iam_role_policy.flow_logs", "logs:*")]


def test_dropped_encryption_fails_the_suite(violations: list[Violation]) -> None:
    assert named(violations, "encryption") == [(f"{NETWORK}.aws_cloudwatch_log_group.flow_logs", "kms_key_id")]


def test_a_widened_exception_fails_the_suite(violations: list[Violation]) -> None:
    """What an exception lets the deployer and the monitor do on everything is by action, so one more is found."""
    assert named(violations, "iam-wildcard-resource") == [
        (f'{CLUSTER}.aws_iam_role_policy.workload["deployer"]', "sagemaker:DeleteEndpoint"),
        (f'{CLUSTER}.aws_iam_role_policy.workload["monitor"]', "s3:GetObject"),
    ]


def test_nothing_else_breaks_a_rule(violations: list[Violation]) -> None:
    """They are found because of the edits, not because everything is."""
    assert {violation.rule for violation in violations} == {
        "open-ingress",
        "iam-wildcard-action",
        "iam-wildcard-resource",
        "encryption",
    }
