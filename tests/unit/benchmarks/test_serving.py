"""When the serving benchmark refuses to measure."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks import serving
from benchmarks.serving import Contender, Server
from benchmarks.serving_environment import ENVS, BenchmarkError
from benchmarks.serving_http import JSON, http_request

# A server that answers every row with the first argument.
SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = b'{"predictions": [%s]}' % sys.argv[2].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def contender(name: str, code: str, *arguments: str) -> Contender:
    requests = {(1, "JSON"): http_request("/invocations", JSON, b"{}")}
    return Contender(name, (sys.executable, "-S", "-c", code, "PORT", *arguments), {}, requests)


@pytest.mark.parametrize(("other", "agree"), [("0.500001", True), ("0.6", False), ("NaN", False), ("0.5, 0.5", False)])
def test_nothing_is_measured_unless_all_predict_the_same(tmp_path: Path, other: str, agree: bool) -> None:
    servers = [Server(contender(*one), tmp_path) for one in (("first", SERVER, "0.5"), ("second", SERVER, other))]
    try:
        if agree:
            serving.check_agreement(servers)
        else:
            with pytest.raises(BenchmarkError, match="second, 1 rows, JSON: other predictions than first"):
                serving.check_agreement(servers)
    finally:
        for server in servers:
            server.stop()


def test_a_contender_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"(?s)broken ended with 3: .*no such model"):
        Server(contender("broken", "import sys; print('no such model', flush=True); sys.exit(3)"), tmp_path)


@pytest.fixture
def refusing() -> Iterator[int]:
    """Return the port of a server that refuses everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_error(503, "no")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def test_a_refusal_ends_the_measurement(refusing: int, tmp_path: Path) -> None:
    if not (ENVS / "serving/bin/python").exists():
        pytest.skip("needs serving's environment")
    request = http_request("/invocations", JSON, b"{}")
    with pytest.raises(BenchmarkError, match=r"requests failed: HTTP/1.. 503"):
        serving.ask(refusing, request, tmp_path, 2, 0.2)


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--seconds", "0"], ["--clients", "0"], ["--swap", "3"]])
def test_numbers_that_make_no_sense_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        serving.main(arguments)
    assert "must be" in (said := capsys.readouterr().err) or "at least" in said
