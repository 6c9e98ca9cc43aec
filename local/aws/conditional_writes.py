"""Makes writes to one S3 key happen one after the other.

moto checks If-None-Match and If-Match, and writes after that: two requests in two threads can both pass the
check. S3 lets exactly one of them win, and ledgers and locks rely on that.
"""

from __future__ import annotations

import threading
import zlib
from typing import Any

_STRIPES = 64
_WRITES = frozenset({"PUT", "POST", "DELETE"})


class SerializedWrites:
    """A WSGI application that holds a lock for the path of each write while the wrapped one answers."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._locks = [threading.Lock() for _ in range(_STRIPES)]

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Answer a WSGI request."""
        # Only S3: a long poll of an SQS queue would keep everybody else from sending to it.
        if environ["REQUEST_METHOD"] not in _WRITES or not _is_s3(environ):
            return self._app(environ, start_response)
        with self._locks[zlib.crc32(environ["PATH_INFO"].encode()) % _STRIPES]:
            return self._app(environ, start_response)


def _is_s3(environ: dict[str, Any]) -> bool:
    presigned = "X-Amz-Signature=" in environ.get("QUERY_STRING", "")
    return presigned or "/s3/aws4_request" in environ.get("HTTP_AUTHORIZATION", "")
