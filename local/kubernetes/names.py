"""What names, label keys and label values may look like (k8s.io/apimachinery/pkg/util/validation)."""

from __future__ import annotations

import re
import secrets

_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
MAX_GENERATED = 58
"""Characters of a prefix that are kept, so that with the random end it is a DNS label."""

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_NAME_PART_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_LABEL_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


def length_problems(text: str, limit: int) -> list[str]:
    """Return what is wrong with the length of a text."""
    return [f"must be no more than {limit} characters"] if len(text) > limit else []


def name_problems(name: str, *, label: bool = False) -> list[str]:
    """Return what is wrong with an object's name (an RFC 1123 subdomain, or label)."""
    pattern, text, limit = (_LABEL, _LABEL_TEXT, 63) if label else (_SUBDOMAIN, _SUBDOMAIN_TEXT, 253)
    return length_problems(name, limit) + ([] if pattern.fullmatch(name) else [text])


def qualified_name_problems(key: str) -> list[str]:
    """Return what is wrong with the key of a label, annotation, taint or resource."""
    prefix, slash, name = key.rpartition("/")
    problems = []
    if slash and not prefix:
        problems.append("prefix part must be non-empty")
    elif slash and not _SUBDOMAIN.fullmatch(prefix):
        problems.append(f"prefix part {_SUBDOMAIN_TEXT}")
    if not name:
        problems.append("name part must be non-empty")
    if len(name) > 63:
        problems.append("name part must be no more than 63 characters")
    if not _QUALIFIED_NAME.fullmatch(name):
        problems.append(_NAME_PART_TEXT)
    return problems


def label_value_problems(value: str) -> list[str]:
    """Return what is wrong with the value of a label."""
    return length_problems(value, 63) + ([] if _LABEL_VALUE.fullmatch(value) else [_LABEL_VALUE_TEXT])


def generated_name(prefix: str) -> str:
    """Return a name of its own that begins with a prefix, as the API server makes it of ``generateName``."""
    return prefix[:MAX_GENERATED] + "".join(secrets.choice(_SUFFIX) for _ in range(5))
