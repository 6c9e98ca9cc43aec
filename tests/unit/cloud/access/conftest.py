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

import pytest
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cloud import cluster_config
from cloud.access import forwards, opening, targets, ways
from cloud.environments import Environment
from local.emulators.airflow_page import AirflowPage
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
    mode: str = "PRIVATE_ONLY"
    page: AirflowPage = field(default_factory=AirflowPage)
    """Airflow's, which answers all but what is asked of it to see whether it answers."""
    bastions: list[str] = field(default_factory=lambda: [BASTION])
    made: bool | None = True
    """Whether the environment of Airflow is, or is still being made."""
    denied: str = ""
    """The operation that the caller has no right to."""
    asked: list[str] = field(default_factory=list)
    """The Host header of each request."""
    tokens: int = 0

    def client(self, service: str) -> Any:
        return self

    def describe_instances(self, Filters: list[dict[str, Any]]) -> dict[str, Any]:
        self.see_the_right_to("DescribeInstances", "UnauthorizedOperation")
        wanted = {one["Name"]: one["Values"] for one in Filters}
        assert wanted.pop("instance-state-name") == ["pending", "running", "stopping", "stopped"]
        name = self.environment.name
        assert wanted == {
            "tag:Name": [f"ml-platform-{name}-bastion"],
            "tag:Project": ["ml-platform"],
            "tag:Environment": [name],
        }
        made = datetime(2026, 11, 29, tzinfo=UTC)
        found = [
            {"InstanceId": one, "State": {"Name": self.state}, "LaunchTime": made + timedelta(days=number)}
            for number, one in enumerate(self.bastions)
        ]
        return {"Reservations": [{"Instances": [one]} for one in reversed(found)]}

    def describe_instance_information(self, Filters: list[dict[str, Any]]) -> dict[str, Any]:
        assert Filters == [{"Key": "InstanceIds", "Values": self.bastions[-1:]}]
        return {"InstanceInformationList": [{"PingStatus": self.ping}] if self.ping else []}

    def get_environment(self, Name: str) -> dict[str, Any]:
        self.see_the_right_to("GetEnvironment", "AccessDeniedException")
        assert Name == self.environment.prefix
        found = {"Name": Name, "WebserverAccessMode": self.mode, "AirflowVersion": "3"}
        if self.made is None:
            raise ClientError(
                {"Error": {"Code": "ResourceNotFoundException", "Message": "not found"}}, "GetEnvironment"
            )
        if not self.made:
            return {"Environment": {**found, "Status": "CREATING"}}
        return {"Environment": {**found, "Status": "AVAILABLE", "WebserverUrl": AIRFLOW}}

    def invoke_rest_api(self, *, Path: str, Method: str, **more: Any) -> dict[str, Any]:
        if self.mode == "PRIVATE_ONLY":
            message = "Private webserver environments can only call InvokeRestApi within a VPC"
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": message}}, "InvokeRestApi")
        status, answer = self.page.api.answer(Method, Path, more.get("QueryParameters"), more.get("Body"))
        return {"RestApiStatusCode": status, "RestApiResponse": answer}

    def create_web_login_token(self, Name: str) -> dict[str, str]:
        self.see_the_right_to("CreateWebLoginToken", "AccessDeniedException")
        self.tokens += 1
        token = f"token{self.tokens}"
        self.page.expect(token)
        return {"WebToken": token, "WebServerHostname": AIRFLOW, "IamIdentity": "assumed-role/Ds/jane"}

    def see_the_right_to(self, operation: str, code: str) -> None:
        if self.denied == operation:
            raise ClientError({"Error": {"Code": code, "Message": "not authorized to perform"}}, operation)

    def describe_cluster(self, name: str) -> dict[str, Any]:
        return {"cluster": {"endpoint": f"https://{KUBERNETES}", "certificateAuthority": {"data": self.authority}}}

    authority: str = ""


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
    monkeypatch.setenv("AWS_REGION", "us-east-1")
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
            if host == AIRFLOW and self.path != "/":
                self.do_POST()
                return
            self.send_response(private.answers[host])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = private.page.answer(self.command, self.path, dict(self.headers), body)
            self.send_response(answer.status)
            for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        do_PATCH = do_POST

        def log_message(self, format: str, *args: Any) -> None:
            """Stay quiet."""

    return Handler
