"""The exceptions: what one covers, when one is idle, and what the file may not say."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.policies.policies import PolicyException, check, covers, load_exceptions, load_file, unused
from tests.policies.resources import Resource
from tests.policies.rules import Violation

REASON = "Because this test needs one that is long enough."
OPEN = Violation("open-ingress", 'module.a.aws_security_group_rule.this["x"]', "0.0.0.0/0", "is open")


def exception(**changes: object) -> PolicyException:
    fields: dict[str, object] = {
        "rule": OPEN.rule,
        "addresses": ["module.a.*"],
        "subjects": ["0.0.0.0/0"],
        "reason": REASON,
    }
    return PolicyException.model_validate(fields | changes)


def test_an_exception_covers_what_it_names() -> None:
    assert covers(exception(), OPEN)
    assert covers(exception(addresses=[OPEN.address]), OPEN), "brackets are part of an address"


@pytest.mark.parametrize(
    "changes",
    [{"rule": "tags"}, {"addresses": ["module.b.*"]}, {"subjects": ["::/0"]}],
    ids=lambda change: next(iter(change)),
)
def test_an_exception_covers_nothing_else(changes: dict[str, object]) -> None:
    assert not covers(exception(**changes), OPEN)


def test_a_violation_with_an_exception_is_not_reported() -> None:
    rule = Resource("module.a.open", "aws_vpc_security_group_ingress_rule", {"cidr_ipv4": "0.0.0.0/0"})

    assert [violation.subject for violation in check([rule], [])] == ["0.0.0.0/0"]
    assert check([rule], [exception()]) == []


def test_an_exception_that_nothing_needs_is_idle() -> None:
    assert unused([exception()], {"dev": [OPEN]}) == []
    assert unused([exception()], {"dev": []}) != []


def test_each_pattern_has_to_be_needed() -> None:
    assert unused([exception(subjects=["0.0.0.0/0", "::/0"])], {"dev": [OPEN]}) == [
        "open-ingress: module.a.*: subject ::/0: nothing needs it"
    ]
    assert unused([exception(addresses=["module.a.*", "module.b.*"])], {"dev": [OPEN]}) == [
        "open-ingress: address module.b.*: nothing needs it"
    ]


def test_each_environment_has_to_need_it() -> None:
    both = exception(environments=["dev", "prod"])

    assert unused([both], {"dev": [OPEN], "prod": [OPEN]}) == []
    assert unused([both], {"dev": [OPEN], "prod": []}) == ["open-ingress: module.a.*: nothing in prod needs it"]


def test_an_exception_of_one_environment_does_not_hold_in_another(tmp_path: Path) -> None:
    path = tmp_path / "exceptions.yaml"
    path.write_text(f"""
policies:
  - {{rule: tags, addresses: [x], subjects: [y], environments: [dev], reason: {REASON}}}
  - {{rule: tags, addresses: [z], subjects: [y], reason: {REASON}}}
""")

    assert [entry.addresses for entry in load_exceptions("dev", path)] == [("x",), ("z",)]
    assert [entry.addresses for entry in load_exceptions("prod", path)] == [("z",)]
    assert len(load_exceptions(None, path)) == 2


@pytest.mark.parametrize(
    "text",
    [
        "policies: [{rule: tags, addresses: [x], subjects: [y]}]",
        "policies: [{rule: tags, addresses: [x], subjects: [y], reason: short}]",
        f"policies: [{{rule: tagz, addresses: [x], subjects: [y], reason: {REASON}}}]",
        f"policies: [{{rule: tags, addresses: [], subjects: [y], reason: {REASON}}}]",
        f"checkov: [{{check: everything, resources: [y], reason: {REASON}}}]",
    ],
    ids=["no reason", "hardly a reason", "unknown rule", "no address", "no check"],
)
def test_a_careless_exception_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "exceptions.yaml"
    path.write_text(text)

    with pytest.raises(ValidationError):
        load_file(path)
