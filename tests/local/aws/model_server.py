"""A tiny serving container: what it does is decided by files of the model and by its environment.

mode.txt: "ok" (default), "never-healthy", "error-500", "error-400", "slow", "exit", "stubborn"
answer.txt: the body of a good answer
delay.txt, start.txt: seconds that an answer and the start take

Written on sockets, because importing http.server takes longer than many a test.
"""

import json
import os
import signal
import socketserver
import sys
import time
from pathlib import Path

MODEL = Path(os.environ["SM_MODEL_DIR"])
ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"


def read(name: str, default: str) -> str:
    """Return the text of a file of the model."""
    path = MODEL / name
    return path.read_text().strip() if path.exists() else default


MODE = read("mode.txt", "ok")
DELAY = float(read("delay.txt", "0"))


class Handler(socketserver.StreamRequestHandler):
    """One request on one connection: the two routes of the container contract, and ways to die."""

    def handle(self) -> None:
        """Answer the request."""
        method = self.rfile.readline().split()[0]
        headers: dict[str, str] = {}
        while line := self.rfile.readline().decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = self.rfile.read(int(headers.get("content-length", 0)))
        status, answer = (503 if MODE == "never-healthy" else 200, b"") if method == b"GET" else invoke(body, headers)
        lines = [f"HTTP/1.1 {status} Fine", f"Content-Length: {len(answer)}", "Content-Type: application/json"]
        if ATTRIBUTES in headers:
            lines.append(f"{ATTRIBUTES}: got {headers[ATTRIBUTES]}")
        self.wfile.write("\r\n".join([*lines, "", ""]).encode() + answer)


def invoke(body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    """Return status and body for an invocation."""
    if body == b"die":
        os._exit(7)
    if body == b"env":
        return 200, json.dumps(dict(os.environ)).encode()
    time.sleep(DELAY)
    if MODE.startswith("error-"):
        return int(MODE.removeprefix("error-")), b"model says no"
    if MODE == "slow":
        time.sleep(1.0)
    echo = [headers.get(name, "") for name in ("content-type", "accept")]
    return 200, json.dumps({"answer": read("answer.txt", "none"), "headers": echo}).encode()


class Server(socketserver.ThreadingTCPServer):
    """A thread for each connection."""

    allow_reuse_address = True
    request_queue_size = 64


if __name__ == "__main__":
    assert sys.argv[1:] == ["serve"], sys.argv
    if MODE == "exit":
        sys.exit("the model cannot be loaded")
    time.sleep(float(read("start.txt", "0")))
    if MODE == "stubborn":  # ignores SIGTERM, and has a child that does too
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            time.sleep(600)
    Server(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
