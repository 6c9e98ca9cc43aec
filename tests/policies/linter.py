"""parliament, the linter of IAM documents, behind one function."""

from __future__ import annotations

import functools
import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

# Our own rule on wildcards of resources is stricter, and exceptions to it name the actions.
_OURS = frozenset({"RESOURCE_STAR"})


@functools.cache
def lint(document: str) -> tuple[tuple[str, str], ...]:
    """Return parliament's findings in a policy document: what kind, and its own words.

    Findings that differ only in the place in the document are given once.
    """
    body = json.loads(document)
    statements = body.get("Statement", [])
    for statement in statements if isinstance(statements, list) else [statements]:
        if "Principal" in statement and "NotResource" not in statement:
            # A trust policy, or a repository's, has no resource: it is the thing itself. parliament wants one.
            statement.setdefault("Resource", "*")
    findings = _parliament().analyze_policy_string(json.dumps(body)).findings
    return tuple(sorted({(finding.issue, _words(finding)) for finding in findings if finding.issue not in _OURS}))


def _words(finding: Any) -> str:
    detail = finding.detail if isinstance(finding.detail, str) else json.dumps(finding.detail, default=str)
    said = finding.location.get("string") if isinstance(finding.location, dict) else None
    words = " ".join(str(part) for part in (detail, said) if part)
    return words if len(words) <= 300 else f"{words[:300]} …"


@functools.cache
def _parliament() -> Any:
    # parliament asks pkg_resources for the paths of two of its files, and setuptools 82 has no pkg_resources any more.
    if "pkg_resources" not in sys.modules and importlib.util.find_spec("pkg_resources") is None:
        module = types.ModuleType("pkg_resources")

        def resource_filename(package: str, name: str) -> str:
            spec = importlib.util.find_spec(package)
            assert spec is not None
            assert spec.origin is not None
            return str(Path(spec.origin).parent / name)

        module.__dict__["resource_filename"] = resource_filename
        sys.modules["pkg_resources"] = module
    import parliament

    return parliament
