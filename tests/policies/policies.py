"""The policy suite: every rule over every resource, less the exceptions that are written down.

violations = check(from_state(terraform.show()), load_exceptions("dev"))
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tests.policies.resources import Resource
from tests.policies.rules import RULES, Violation, runbooks

ROOT = Path(__file__).resolve().parents[2]
EXCEPTIONS = Path(__file__).with_name("exceptions.yaml")
RUNBOOKS = ROOT / "docs" / "runbooks"
RUNBOOK_RULE = "runbook"

Reason = Annotated[str, Field(min_length=20)]


class Strict(BaseModel):
    """Base of the schemas here: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PolicyException(Strict):
    """Leave to break one rule, for a written reason. Patterns are shell patterns (`*` is anything)."""

    rule: str
    addresses: Annotated[tuple[str, ...], Field(min_length=1)]
    subjects: Annotated[tuple[str, ...], Field(min_length=1)]
    """What about the resource is excepted: actions, findings, attributes."""
    environments: tuple[str, ...] = ()
    """Where it holds; everywhere when empty."""
    reason: Reason

    @model_validator(mode="after")
    def _is_a_rule(self) -> Self:
        if self.rule not in {*RULES, RUNBOOK_RULE}:
            raise ValueError(f"{self.rule} is no rule: the rules are {', '.join(sorted({*RULES, RUNBOOK_RULE}))}")
        return self


class CheckovException(Strict):
    """Leave to fail one of checkov's checks, for a written reason."""

    check: Annotated[str, Field(pattern=r"^CKV2?_[A-Z0-9]+_\d+$")]
    resources: Annotated[tuple[str, ...], Field(min_length=1)]
    reason: Reason


class Exceptions(Strict):
    """The exceptions file."""

    policies: tuple[PolicyException, ...] = ()
    checkov: tuple[CheckovException, ...] = ()


def load_exceptions(environment: str | None = None, path: Path = EXCEPTIONS) -> tuple[PolicyException, ...]:
    """Return the exceptions that hold in an environment, or all of them."""
    found = load_file(path).policies
    return tuple(
        entry for entry in found if environment is None or environment in (entry.environments or (environment,))
    )


def load_file(path: Path = EXCEPTIONS) -> Exceptions:
    """Return the whole exceptions file, checked."""
    return Exceptions.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})


def runbook_names(folder: Path = RUNBOOKS) -> frozenset[str]:
    """Return the names of the runbooks that are written, without `.md`."""
    return frozenset(path.stem for path in folder.glob("*.md") if path.stem != "README")


def listed_runbooks(heading: str = "", index: Path = RUNBOOKS / "README.md") -> list[str]:
    """Return the runbooks that the index lists, all of them or those under a heading."""
    sections = re.split(r"^## ", index.read_text(encoding="utf-8"), flags=re.MULTILINE)
    wanted = [section for section in sections[1:] if section.startswith(f"{heading}\n" if heading else "")]
    return [name for section in wanted for name in re.findall(r"^\| \[([a-z0-9-]+)\]\(\1\.md\)", section, re.MULTILINE)]


def runbooks_by_hand() -> frozenset[str]:
    """Return the runbooks that no alarm leads to: they are for what people want to do."""
    return frozenset(listed_runbooks("By hand"))


def judge(resources: Sequence[Resource], names: frozenset[str] | None = None) -> list[Violation]:
    """Return every violation of every rule, exceptions or not; `names` are the runbooks that exist."""
    found = [
        Violation(name, resource.address, subject, message)
        for name, function in RULES.items()
        for resource, subject, message in function(resources)
    ]
    found += runbooks(resources, runbook_names() if names is None else names)
    return sorted(set(found), key=lambda violation: (violation.rule, violation.address, violation.subject))


def check(
    resources: Sequence[Resource], exceptions: Iterable[PolicyException], names: frozenset[str] | None = None
) -> list[Violation]:
    """Return the violations for which there is no exception."""
    allowed = list(exceptions)
    return [
        violation for violation in judge(resources, names) if not any(covers(entry, violation) for entry in allowed)
    ]


def covers(exception: PolicyException, violation: Violation) -> bool:
    """Whether an exception gives leave for a violation."""
    return (
        exception.rule == violation.rule
        and any(fnmatchcase(violation.address, pattern) for pattern in _literal(exception.addresses))
        and any(fnmatchcase(violation.subject, pattern) for pattern in exception.subjects)
    )


def unused(exceptions: Iterable[PolicyException], found: Mapping[str, Sequence[Violation]]) -> list[str]:
    """Return what in the exceptions nothing needs, in words; `found` are all violations by environment.

    An exception is used only when each of its address and subject patterns is, and in each environment it names.
    """
    idle = []
    for entry in exceptions:
        where = {name: violations for name, violations in found.items() if name in (entry.environments or (name,))}
        covered = [violation for violations in where.values() for violation in violations if covers(entry, violation)]
        for environment in entry.environments:
            if not any(covers(entry, violation) for violation in where.get(environment, ())):
                idle.append(f"{entry.rule}: {', '.join(entry.addresses)}: nothing in {environment} needs it")
        for pattern in entry.addresses:
            if not any(fnmatchcase(violation.address, *_literal([pattern])) for violation in covered):
                idle.append(f"{entry.rule}: address {pattern}: nothing needs it")
        for pattern in entry.subjects:
            if not any(fnmatchcase(violation.subject, pattern) for violation in covered):
                idle.append(f"{entry.rule}: {', '.join(entry.addresses)}: subject {pattern}: nothing needs it")
    return idle


def _literal(patterns: Iterable[str]) -> list[str]:
    """Patterns of addresses, in which brackets are Terraform's and not a set of characters."""
    return [pattern.replace("[", "[[]") for pattern in patterns]
