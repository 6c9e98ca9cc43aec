"""Whether a text is a reference of a container image.

Follows github.com/distribution/reference, which the kubelet reads an image's name with.
"""

from __future__ import annotations

import re

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"(?:{_DOMAIN}/)?{_PART}(?:/{_PART})*(?::[\w][\w.-]{{0,127}})?"
    r"(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?",
    re.ASCII,
)


def problem(reference: str) -> str | None:
    """Return why a text is no image reference, in the kubelet's words; None when it is one."""
    if re.fullmatch("[a-f0-9]{64}", reference):
        return f"invalid repository name ({reference}), cannot specify 64-byte hexadecimal strings"
    domain, slash, rest = reference.partition("/")
    if not slash or not (set(domain) & set(".:") or domain == "localhost" or domain.lower() != domain):
        rest = reference if slash else f"library/{reference}"
    repository = rest.split(":", 1)[0]
    if repository != repository.lower():
        return f"invalid reference format: repository name ({repository}) must be lowercase"
    if _REFERENCE.fullmatch(reference):
        return None
    if _REFERENCE.fullmatch(reference.lower()):
        return "repository name must be lowercase"
    return "invalid reference format"
