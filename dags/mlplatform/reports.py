"""Where people read the reports that steps write to S3. No Airflow import."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from mlplatform import storage
from mlplatform.results import EvaluateResult, MonitorResult, StepResult, ValidateResult

NAME = "report.html"
"""A step's report, beside its result."""


def report_of(result: StepResult | None) -> str | None:
    """Return the S3 address of the report of a step that has one."""
    return result.report_uri if isinstance(result, ValidateResult | EvaluateResult | MonitorResult) else None


def page(uri: str) -> str:
    """Return an address for a browser: of the S3 console, or of the object itself where S3 is not Amazon's.

    Raises:
        ValueError: it is not an S3 address.
    """
    bucket, key = storage.split_uri(uri)
    meta = storage.client().meta
    host = urlsplit(meta.endpoint_url).hostname or ""
    if not host.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        return f"{meta.endpoint_url.rstrip('/')}/{bucket}/{quote(key)}"
    console = "console.amazonaws.cn" if host.endswith(".cn") else "console.aws.amazon.com"
    return f"https://{console}/s3/object/{bucket}?region={meta.region_name}&prefix={quote(key, safe='')}"
