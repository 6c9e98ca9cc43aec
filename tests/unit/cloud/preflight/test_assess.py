"""What is enough, what is too small, and what is neither because nobody knows."""

from __future__ import annotations

import pytest

from cloud.preflight.assess import (
    Limit,
    Unknown,
    Use,
    linked_roles_line,
    quota_line,
)
from cloud.preflight.needs import Need, Quota
from cloud.preflight.report import Line, Report

REGION = "eu-central-1"
ADDRESSES = Need("elastic IPs", 3, Quota("ec2", "L-0263D0A3"), "elastic ips")


def assessed(limit: float, total: float | None = 0, own: float = 0, amount: float = 3) -> Line:
    need = Need(ADDRESSES.what, amount, ADDRESSES.quota, "elastic ips")
    return quota_line(need, Limit("L-0263D0A3", limit), Use(total, own), REGION)


@pytest.mark.parametrize(
    ("limit", "total", "own", "verdict", "have", "need"),
    [
        (3, 0, 0, "enough", 3, 3),
        (5, 2, 0, "enough", 3, 3),
        (5, 3, 0, "too small", 2, 3),
        (0, 0, 0, "too small", 0, 3),
        (3, 3, 3, "enough", 0, 0),  # all of it is the environment's own
        (3, 3, 1, "too small", 0, 2),
        (5, 3, 1, "enough", 2, 2),
        (5, 9, 9, "enough", -4, 0),  # a quota that was lowered takes nothing away
        (5, 9, 0, "too small", -4, 3),
    ],
)
def test_what_is_left_is_compared_with_what_is_still_needed(
    limit: float, total: float, own: float, verdict: str, have: float, need: float
) -> None:
    line = assessed(limit, total, own)
    assert (line.verdict, line.have, line.need) == (verdict, have, need)


def test_the_command_asks_for_what_is_in_use_and_what_is_missing() -> None:
    assert assessed(5, 4, 1).ask == [
        "aws service-quotas request-service-quota-increase --region eu-central-1 --service-code ec2 "
        "--quota-code L-0263D0A3 --desired-value 6"
    ]
    assert assessed(2, amount=2.5).ask[0].endswith("--desired-value 3")
    assert assessed(6, 3).ask == []


def test_a_quota_that_cannot_be_raised_is_not_asked_for() -> None:
    line = quota_line(ADDRESSES, Limit("L-0263D0A3", 1, adjustable=False), Use(0), REGION)
    assert line.verdict == "too small"
    assert "cannot be raised" in line.ask[0]


def test_use_that_aws_does_not_tell_leaves_the_whole_quota() -> None:
    line = assessed(3, None)
    assert (line.verdict, line.in_use, line.note) == ("enough", None, "AWS does not tell what is in use")


def test_what_could_not_be_read_is_unknown_and_never_enough() -> None:
    no_limit = quota_line(ADDRESSES, Unknown("AccessDenied"), Use(4, 1), REGION)
    assert (no_limit.verdict, no_limit.have, no_limit.need, no_limit.note) == ("unknown", None, 2, "AccessDenied")
    no_use = quota_line(ADDRESSES, Limit("L-0263D0A3", 100), Unknown("Throttled"), REGION)
    assert (no_use.verdict, no_use.limit, no_use.note) == ("unknown", 100, "Throttled")


def roles(there: set[str], allowed: dict[str, bool | Unknown]) -> Line:
    return linked_roles_line(["eks.amazonaws.com", "rds.amazonaws.com"], frozenset(there), allowed)


def test_a_role_is_there_or_may_be_made() -> None:
    assert roles({"eks.amazonaws.com", "rds.amazonaws.com"}, {}).verdict == "enough"
    made = roles({"eks.amazonaws.com"}, {"rds.amazonaws.com": True})
    assert (made.verdict, made.note) == ("enough", "the first apply makes those of rds")


def test_a_role_that_may_not_be_made_is_missing() -> None:
    line = roles({"eks.amazonaws.com"}, {"rds.amazonaws.com": False})
    assert (line.verdict, line.have, line.need) == ("too small", 1, 2)
    assert line.ask == ["aws iam create-service-linked-role --aws-service-name rds.amazonaws.com"]


def test_a_role_of_which_nobody_knows_whether_it_may_be_made_is_unknown() -> None:
    line = roles({"eks.amazonaws.com"}, {"rds.amazonaws.com": Unknown("AccessDenied")})
    assert (line.verdict, line.have, line.note) == ("unknown", None, "AccessDenied")
    both = roles(set(), {"eks.amazonaws.com": False, "rds.amazonaws.com": Unknown("AccessDenied")})
    assert both.verdict == "too small"


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [(["enough"], 0), (["enough", "unknown"], 4), (["unknown", "too small"], 3), ([], 0)],
)
def test_the_exit_code_tells_too_small_from_unknown(verdicts: list[str], code: int) -> None:
    lines = [Line.model_validate({"what": str(number), "verdict": one}) for number, one in enumerate(verdicts)]
    assert Report(environment="dev", account="1", region=REGION, lines=lines).exit_code == code
