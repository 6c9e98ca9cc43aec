"""An HTTP/1.1 server for moto with keep-alive, on threads.

werkzeug's own request handler closes every connection, and waits 10 ms at the end of each for more input.
A step that reads and writes hundreds of small S3 objects feels both.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable
from typing import Any

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.exceptions import InternalServerError
from werkzeug.serving import BaseWSGIServer, DechunkedInput, make_server

log = logging.getLogger(__name__)

AccessLog = Callable[[str], None]
_IDLE_SECONDS = 75


class KeepAliveRequestHandler(MotoRequestHandler):
    """Reads each request to its end before answering, so that the next one can follow on the same connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024
    timeout = _IDLE_SECONDS
    access_log: AccessLog | None = None

    def run_wsgi(self) -> None:
        """Answer one request."""
        began = time.perf_counter()
        try:
            environ = self._read_request()
        except (OSError, ValueError):
            self.close_connection = True
            return
        status, headers, body = self._call(environ)
        try:
            self._write_response(status, headers, body)
        except OSError:
            self.close_connection = True
        if self.access_log:
            operation = environ.get("HTTP_X_AMZ_TARGET", "")
            took = (time.perf_counter() - began) * 1000
            clock = time.strftime("%H:%M:%S")
            line = f"{clock} {self.command} {self.path} {operation} {status[:3]} {len(body)} {took:.1f}ms"
            self.access_log(" ".join(line.split()))

    def _read_request(self) -> dict[str, Any]:
        environ = self.make_environ()
        stream = environ["wsgi.input"]
        if isinstance(stream, DechunkedInput):
            body = stream.readall()
            environ.pop("HTTP_TRANSFER_ENCODING", None)
            environ["CONTENT_LENGTH"] = str(len(body))
        else:
            length = int(environ.get("CONTENT_LENGTH") or 0)
            body = stream.read(length)
            if len(body) < length:
                raise OSError("the client closed the connection within a request")
        environ["wsgi.input"] = io.BytesIO(body)
        environ["wsgi.input_terminated"] = True
        return environ

    def _call(self, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
        answer: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], Any]:
            answer[:] = [status, headers]
            return lambda data: None

        try:
            iterable = self.server.app(environ, start_response)
            try:
                body = b"".join(iterable)
            finally:
                if hasattr(iterable, "close"):
                    iterable.close()
        except Exception:
            log.exception("%s %s", self.command, self.path)
            body = b"".join(InternalServerError()(environ, start_response))
        return answer[0], answer[1], body

    def _write_response(self, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        code = int(status[:3])
        bodiless = code < 200 or code in (204, 304)
        names = {name.lower() for name, _ in headers}
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
        if "date" not in names:
            lines.append(f"Date: {self.date_time_string()}")
        if "content-length" not in names and not bodiless and self.command != "HEAD":
            lines.append(f"Content-Length: {len(body)}")
        if ("connection", "close") in ((name.lower(), value.lower()) for name, value in headers):
            self.close_connection = True
        self.wfile.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        if self.command != "HEAD" and not bodiless:
            self.wfile.write(body)
        self.wfile.flush()

    def handle_expect_100(self) -> bool:
        """Tell a client that waits for it to send the body; the answer must not stay in the buffer."""
        self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.wfile.flush()
        return True

    def log_error(self, *args: Any) -> None:
        """Say nothing about idle connections that time out."""


def make_keep_alive_server(port: int, app: Any, access_log: AccessLog | None) -> BaseWSGIServer:
    """Return a threaded server on 127.0.0.1 that is bound but not yet serving."""
    # Not in the class body: a function there would be bound as a method.
    attribute = staticmethod(access_log) if access_log else None
    handler = type("Handler", (KeepAliveRequestHandler,), {"access_log": attribute})
    return make_server("127.0.0.1", port, app, threaded=True, request_handler=handler)
