"""An environment's three private services on this machine, and a bastion that leads to them."""

from __future__ import annotations

import base64
import os
import signal
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cloud import cluster_config
from cloud.access import forwards, opening, targets, ways
from cloud.environments import Environment
from tests.sessions import Sessions

BASTION = "i-0123456789abcdef0"
AIRFLOW, MLFLOW, KUBERNETES = "airflow.example", "mlflow.example", "kubernetes.example"


def certificate(host: str) -> tuple[bytes, bytes]:
    """Return a certificate for a host, which has signed itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return signed.public_bytes(serialization.Encoding.PEM), private


@dataclass
class Private:
    """What stands in the network, and what AWS says of it."""

    environment: Environment
    sessions: Sessions
    answers: dict[str, int]
    """The status that each host answers with."""
    ports: dict[str, int]
    """Where each `host:port` really is."""
    state: str = "running"
    ping: str | None = "Online"
    asked: list[str] = field(default_factory=list)
    """The Host header of each request."""
    tokens: int = 0

    def client(self, service: str) -> Any:
        return self

    def describe_instances(self, InstanceIds: list[str]) -> dict[str, Any]:
        assert InstanceIds == [BASTION]
        return {"Reservations": [{"Instances": [{"State": {"Name": self.state}}]}]}

    def describe_instance_information(self, Filters: list[dict[str, Any]]) -> dict[str, Any]:
        assert Filters == [{"Key": "InstanceIds", "Values": [BASTION]}]
        return {"InstanceInformationList": [{"PingStatus": self.ping}] if self.ping else []}

    def create_web_login_token(self, Name: str) -> dict[str, str]:
        if not self.signs_in:
            refusal = {"Error": {"Code": "AccessDenied", "Message": "not authorized"}}
            raise botocore.exceptions.ClientError(refusal, "CreateWebLoginToken")  # type: ignore[arg-type]
        self.tokens += 1
        return {"WebToken": f"token{self.tokens}", "WebServerHostname": AIRFLOW, "IamIdentity": "assumed-role/Ds/jane"}

    def describe_cluster(self, name: str) -> dict[str, Any]:
        return {"cluster": {"endpoint": f"https://{KUBERNETES}", "certificateAuthority": {"data": self.authority}}}

    authority: str = ""
    signs_in: bool = True


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Private]:
    sessions = Sessions(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    environment = Environment("dev", tmp_path)
    outputs = {
        "airflow_environment": "ml-platform-dev",
        "airflow_url": f"https://{AIRFLOW}",
        "mlflow_tracking_uri": f"http://{MLFLOW}",
        "cluster_name": "ml-platform-dev",
        "region": "us-east-1",
        "bastion_instance_id": BASTION,
    }
    monkeypatch.setitem(environment.__dict__, "outputs", outputs)
    private = Private(environment, sessions, {AIRFLOW: 302, MLFLOW: 200, KUBERNETES: 401}, {})
    monkeypatch.setattr(environment, "client", private.client)
    # Others on this machine may want the usual ports at the same moment.
    usual, free = {one.local_port for one in targets.targets(environment)}, forwards._free
    monkeypatch.setattr(forwards, "_free", lambda wanted: free(0 if wanted in usual else wanted))
    servers = []
    for host, tls in ((AIRFLOW, True), (MLFLOW, False), (KUBERNETES, True)):
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler(private, host))
        if tls:
            shown, key = certificate(host)
            (tmp_path / f"{host}.pem").write_bytes(shown + key)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tmp_path / f"{host}.pem")
            server.socket = context.wrap_socket(server.socket, server_side=True)
            if host == KUBERNETES:
                private.authority = base64.b64encode(shown).decode()
            else:
                (tmp_path / "trusted.pem").write_bytes(shown)
                monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        private.ports[f"{host}:{443 if tls else 80}"] = server.server_address[1]
    sessions.knows([BASTION], private.ports)

    def described(name: str, region: str) -> cluster_config.Cluster:
        return cluster_config.Cluster(name, region, "10.20.0.0/16", f"https://{KUBERNETES}", private.authority, False)

    for module in (opening, ways):
        monkeypatch.setattr(module, "describe", described)
    yield private
    for server in servers:
        server.shutdown()
        server.server_close()
    left = sessions.running()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


def handler(private: Private, host: str) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            private.asked.append(self.headers["Host"])
            self.send_response(private.answers[host])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Stay quiet."""

    return Handler
