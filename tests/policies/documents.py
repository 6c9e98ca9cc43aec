"""The IAM documents in resources, whatever attribute they stand in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from tests.policies.resources import Resource

Kind = Literal["identity", "trust", "resource"]

# What holds a document: type of resource -> attribute -> what kind. "identity" says what its holder may do, "trust" who
# may take a role, "resource" who may use the thing it is attached to.
HOLDERS: dict[str, dict[str, Kind]] = {
    "aws_cloudwatch_log_resource_policy": {"policy_document": "resource"},
    "aws_ecr_repository_policy": {"policy": "resource"},
    "aws_iam_group_policy": {"policy": "identity"},
    "aws_iam_policy": {"policy": "identity"},
    "aws_iam_role": {"assume_role_policy": "trust"},
    "aws_iam_role_policy": {"policy": "identity"},
    "aws_iam_user_policy": {"policy": "identity"},
    "aws_kms_key": {"policy": "resource"},
    "aws_kms_key_policy": {"policy": "resource"},
    "aws_s3_bucket_policy": {"policy": "resource"},
    "aws_secretsmanager_secret": {"policy": "resource"},
    "aws_secretsmanager_secret_policy": {"policy": "resource"},
    "aws_sns_topic": {"policy": "resource"},
    "aws_sns_topic_policy": {"policy": "resource"},
    "aws_sqs_queue": {"policy": "resource"},
    "aws_sqs_queue_policy": {"policy": "resource"},
    "aws_vpc_endpoint": {"policy": "resource"},
    "aws_vpc_endpoint_policy": {"policy": "resource"},
}


# What shows a document that another resource may have put there.
_SHOWING = frozenset(
    {"aws_iam_role", "aws_kms_key", "aws_secretsmanager_secret", "aws_sns_topic", "aws_sqs_queue", "aws_vpc_endpoint"}
)


@dataclass(frozen=True)
class Statement:
    """One statement of a document, its lists always lists."""

    allows: bool
    sid: str
    actions: tuple[str, ...]
    not_actions: tuple[str, ...]
    resources: tuple[str, ...]
    not_resources: tuple[str, ...]
    principals: tuple[str, ...]
    """Who, without the kind of principal: `*`, an ARN, the name of a service."""
    conditions: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Document:
    """An IAM document and where it stands."""

    resource: Resource
    attribute: str
    kind: Kind
    text: str

    @property
    def statements(self) -> list[Statement]:
        """Its statements, in order."""
        return [
            _statement(index, body) for index, body in enumerate(_list(json.loads(self.text).get("Statement")), start=1)
        ]


def documents(resources: Iterable[Resource]) -> Iterator[Document]:
    """Yield every document that is there and known, once.

    After an apply a role, a topic or a queue shows the document that another resource put there; the other is given.
    """
    found = list(_documents(resources))
    attached = {_canonical(document.text) for document in found if document.resource.type not in _SHOWING}
    for document in found:
        if (
            document.resource.type not in _SHOWING
            or document.kind == "trust"
            or _canonical(document.text) not in attached
        ):
            yield document


def _documents(resources: Iterable[Resource]) -> Iterator[Document]:
    for resource in resources:
        for attribute, kind in HOLDERS.get(resource.type, {}).items():
            text = resource.values.get(attribute)
            if isinstance(text, str) and text.strip():
                yield Document(resource, attribute, kind, text)
        for block in resource.blocks("inline_policy") if resource.type == "aws_iam_role" else ():
            if block.get("policy"):
                yield Document(resource, "inline_policy", "identity", block["policy"])


def _canonical(text: str) -> str:
    """Return a document as one text however it was written: order and lists of one mean nothing in IAM."""

    def settled(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: settled(inner) for name, inner in value.items()}
        if isinstance(value, list):
            inner = sorted((settled(item) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
            return inner[0] if len(inner) == 1 else inner
        return value

    return json.dumps(settled(json.loads(text)), sort_keys=True)


def undecided(resources: Iterable[Resource]) -> Iterator[tuple[Resource, str]]:
    """Yield the documents that a plan could not tell yet: who holds one, and in which attribute."""
    for resource in resources:
        for attribute in HOLDERS.get(resource.type, {}):
            # A queue's or topic's own policy is filled in by AWS when nothing is asked for.
            own = attribute == "policy" and resource.type in (
                "aws_sns_topic",
                "aws_sqs_queue",
                "aws_secretsmanager_secret",
            )
            if attribute in resource.unknown and not own:
                yield resource, attribute


def _statement(index: int, body: dict[str, Any]) -> Statement:
    principal = body.get("Principal") or {}
    principals = (
        [principal] if isinstance(principal, str) else [who for kind in principal.values() for who in _list(kind)]
    )
    return Statement(
        allows=body.get("Effect") == "Allow",
        sid=body.get("Sid") or f"statement {index}",
        actions=tuple(_list(body.get("Action"))),
        not_actions=tuple(_list(body.get("NotAction"))),
        resources=tuple(_list(body.get("Resource"))),
        not_resources=tuple(_list(body.get("NotResource"))),
        principals=tuple(principals),
        conditions=body.get("Condition") or {},
    )


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
