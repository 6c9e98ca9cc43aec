"""HTTP probes with the standard library: quick to import, and deaf to proxy settings."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from local.platform.service import NotReady


def get(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    context: ssl.SSLContext | None = None,
    timeout: float = 3.0,
) -> bytes:
    """Return the body of a successful answer.

    Raises:
        NotReady: no answer within ``timeout`` seconds, or an error status.
    """
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if context is not None:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    request = urllib.request.Request(url, headers=dict(headers or {}))
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=timeout) as answer:
            body: bytes = answer.read()
            return body
    except urllib.error.HTTPError as error:
        text = error.read(300).decode(errors="replace")
        raise NotReady(f"GET {url}: status {error.code}: {text}") from None
    except (OSError, ValueError) as error:
        raise NotReady(f"GET {url}: {error}") from None


def get_json(url: str, *, headers: Mapping[str, str] | None = None, timeout: float = 3.0) -> Any:
    """Like `get`, for a JSON answer."""
    body = get(url, headers=headers, timeout=timeout)
    try:
        return json.loads(body)
    except ValueError:
        raise NotReady(f"GET {url}: the answer is not JSON") from None
