"""A package index that asks for a password and leads on to the machine's own: a company's, as a build meets it."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

USER, PASSWORD = "builder", "never-to-be-found-in-an-image"
"""The same in every run: a layer that an earlier run cached is searched for it too."""
DEFAULT = "https://pypi.org/simple"


@contextmanager
def private_index() -> Iterator[tuple[str, list[str]]]:
    """Run the index; yield its address with the credentials, and the list of the paths it was asked for with them."""
    asked: list[str] = []
    upstream = pip_setting("index-url", "UV_DEFAULT_INDEX", "UV_INDEX_URL") or DEFAULT
    expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Authorization") != expected:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="packages"')
            else:
                asked.append(self.path)
                self.send_response(302)
                self.send_header("Location", upstream.rstrip("/") + self.path.removeprefix("/simple"))
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{USER}:{PASSWORD}@127.0.0.1:{server.server_port}/simple", asked
    finally:
        server.shutdown()
        server.server_close()


def authorities() -> Path | None:
    """Return the file of certificates that this machine's Python tools trust, if they are told one."""
    path = pip_setting("cert", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
    return Path(path) if path and Path(path).is_file() else None


def pip_setting(name: str, *variables: str) -> str | None:
    """Return what pip is configured to use, or else what one of the variables says."""
    python = Path(sys.base_prefix) / "bin" / "python3"
    listed = subprocess.run([str(python), "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    found = re.search(rf"^\S+\.{name}='(.*)'$", listed, re.MULTILINE)
    if found:
        return found.group(1)
    return next((value for variable in variables if (value := os.environ.get(variable))), None)
