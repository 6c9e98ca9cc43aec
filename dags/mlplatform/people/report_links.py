"""Where people read the reports that steps write to S3."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from mlplatform import storage


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
