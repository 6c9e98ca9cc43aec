"""Messages on their way through the providers' own hooks, to servers on this machine that behave well or badly.

The way through SNS needs no hook: tests/unit/mlplatform/people/test_channels.py.
"""

from __future__ import annotations

import base64
import json
import logging
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from mlplatform import storage
from mlplatform.config.environment import Email, NotificationEvent, Notifications, Settings, Slack
from mlplatform.config.loading import load_settings
from mlplatform.documents.monitoring import MonitoringVerdict, MonitorResult
from mlplatform.monitoring import windows
from mlplatform.orchestration import notifications
from mlplatform.people import messages
from mlplatform.people.messages import Message

SECRET = "B0AB12CD/very-secret-token"
PASSWORD = "very-secret-password"
EVENTS: list[NotificationEvent] = [
    *("approval-wanted", "approved", "rejected", "expired", "superseded", "nothing-to-do"),
    *("deployed", "rolled-back", "failed", "monitoring"),
]
LINKS = ["http://mlflow/models/7", "Report: http://report"]
REASONS = ["roc_auc is 0.0200 worse than the champion's 0.8000"]
FAILED = messages.failed(
    "iris", "manual__1", "data.validate", "column x is missing", "http://airflow/log", "train__iris"
)


def drifted(monkeypatch: pytest.MonkeyPatch) -> Message:
    """What the monitoring of a dataset tells."""
    now = datetime(2026, 3, 1, tzinfo=UTC)
    result = MonitorResult(
        run_key="k",
        started_at=now,
        finished_at=now,
        endpoint_name="iris",
        start=now,
        labels_start=now,
        end=now,
        requests=3,
        rows=300,
        malformed=0,
        versions=[],
        verdict=MonitoringVerdict(outcome="drifted", reasons=["version 7: feature petal_width has drifted"]),
        report_uri="s3://data-bucket/monitoring/iris/w/report.html",
    )
    monkeypatch.setattr(storage, "read_document", lambda uri, model: result)
    _, message = windows.conclude(load_settings(), "iris", "s3://data-bucket/monitoring/iris/w")
    assert message is not None
    return message


STORIES: dict[str, tuple[Callable[[pytest.MonkeyPatch], Message], list[str]]] = {
    "approval-wanted": (
        lambda _: messages.approval_wanted("iris", "7", REASONS, 20, ["Answer: http://airflow/actions", *LINKS]),
        ["waits for approval", "within 20 h", REASONS[0], "http://airflow/actions", LINKS[0]],
    ),
    "approved": (
        lambda _: messages.approved("iris", "7", "jane", "looks good", REASONS, LINKS),
        ["version 7 was approved", "by jane (looks good)", LINKS[1]],
    ),
    "rejected": (
        lambda _: messages.rejected("iris", "7", REASONS, LINKS),
        ["version 7 was rejected", "what was live stays live", REASONS[0], LINKS[0]],
    ),
    "expired": (
        lambda _: messages.expired("iris", "7", "nobody answered within 20 h", LINKS),
        ["nobody approved version 7", "nobody answered within 20 h", "clear the task approval.ask"],
    ),
    "superseded": (
        lambda _: messages.superseded("iris", "7", "version 8 passed the gate since", LINKS),
        ["version 7 needs no answer", "version 8 passed the gate since", "What was live stays live", LINKS[1]],
    ),
    "deployed": (
        lambda _: messages.deployed("iris", "7", "iris-endpoint", "jane", "looks good", "6", LINKS),
        ["version 7 is live", "endpoint iris-endpoint; it was version 6 before", "Approved by jane: looks good"],
    ),
    "rolled-back": (
        lambda _: messages.rolled_back("iris", "6", "iris-endpoint", "jane", "too slow", "7", LINKS),
        ["back to version 6", "jane took iris back from version 7", "too slow"],
    ),
    "failed": (
        lambda _: FAILED,
        ["training failed in data.validate", "column x is missing", "Log: http://airflow/log"],
    ),
    "failed-deployment": (
        lambda _: messages.deployment_failed(
            "iris", "7", "deploy", "deploy__iris/x", "the canary's alarm rang", "http://airflow/log"
        ),
        ["deployment of version 7 failed", "the canary's alarm rang", "Log: http://airflow/log"],
    ),
    "drift": (drifted, ["the live model has drifted", "feature petal_width has drifted", "report.html"]),
}


@pytest.fixture(scope="module", autouse=True)
def _providers() -> None:
    """Import the hooks before the clock of a message runs: on a busy machine that takes longer than any message."""
    import airflow.providers.slack.hooks.slack_webhook
    import airflow.providers.smtp.hooks.smtp  # noqa: F401


# --- The servers --------------------------------------------------------------------------------


@contextmanager
def running(server: socketserver.BaseServer) -> Iterator[int]:
    """Serve on a thread; returns the port."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


class SlackServer(ThreadingHTTPServer):
    """An incoming webhook: keeps what is posted, and answers with a status."""

    status, daemon_threads = 200, True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), SlackHandler)
        self.posted: list[tuple[str, dict[str, Any]]] = []


class SlackHandler(BaseHTTPRequestHandler):
    """One request."""

    server: SlackServer

    def do_POST(self) -> None:
        """Take a message."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append((self.path, json.loads(body)))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(b"ok" if self.server.status == 200 else b"no_service")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class MailServer(socketserver.ThreadingTCPServer):
    """As much of SMTP as a client needs; it wants a password."""

    allow_reuse_address, daemon_threads = True, True
    verdict = "250 taken"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), MailHandler)
        self.taken: list[tuple[list[str], bytes]] = []


class MailHandler(socketserver.StreamRequestHandler):
    """One connection."""

    server: MailServer

    def handle(self) -> None:
        """Answer line by line."""
        recipients: list[str] = []
        self.say("220 here")
        while line := self.rfile.readline().decode().strip():
            verb = line.split(" ")[0].upper()
            if verb == "EHLO":
                self.say("250-here\r\n250 AUTH PLAIN")
            elif verb == "AUTH":
                _, user, password = base64.b64decode(line.split(" ")[2]).decode().split("\0")
                known = (user, password) == ("sender", PASSWORD)
                self.say("235 welcome" if known else f"535 {password} is not the password")
            elif verb == "DATA":
                self.say("354 go on")
                body = b"".join(iter(self.rfile.readline, b".\r\n"))
                if self.server.verdict.startswith("250"):
                    self.server.taken.append((recipients, body))  # before the client hears of it
                self.say(self.server.verdict)
            elif verb == "QUIT":
                self.say("221 bye")
                return
            else:
                recipients += [line.partition(":")[2].strip("<>")] if verb == "RCPT" else []
                self.say("250 fine")

    def say(self, line: str) -> None:
        """Send a reply."""
        self.wfile.write(f"{line}\r\n".encode())


def slack_at(port: int, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    connection = {"conn_type": "slackwebhook", "host": f"http://127.0.0.1:{port}/services", "password": SECRET}
    monkeypatch.setenv("AIRFLOW_CONN_SLACK_MODELS", json.dumps({**connection, **changes}))


def mail_at(port: int, monkeypatch: pytest.MonkeyPatch, password: str = PASSWORD) -> None:
    connection = {
        "conn_type": "smtp",
        "host": "127.0.0.1",
        "port": port,
        "login": "sender",
        "password": password,
        "extra": {"disable_ssl": True, "disable_tls": True, "from_email": "ml@example.org", "timeout": 60},
    }
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_MODELS", json.dumps(connection))


@pytest.fixture
def slack_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlackServer]:
    """A webhook that the connection of the settings leads to."""
    with running(server := SlackServer()) as port:
        slack_at(port, monkeypatch)
        yield server


@pytest.fixture
def mail_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MailServer]:
    """A mail server that the connection of the settings leads to."""
    with running(server := MailServer()) as port:
        mail_at(port, monkeypatch)
        yield server


def told(*ways: str, timeout: float = 60) -> Settings:
    """Return settings that tell of everything on these ways."""
    found = Notifications(
        slack=Slack(connection="slack_models", events=EVENTS) if "slack" in ways else None,
        email=Email(connection="smtp_models", recipients=["a@example.org", "b@example.org"], events=EVENTS)
        if "email" in ways
        else None,
        timeout_seconds=timeout,
    )
    return load_settings().model_copy(update={"notifications": found})


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Return all that was logged at any level, or printed."""
    caplog.set_level(logging.DEBUG)

    def text() -> str:
        printed = capfd.readouterr()
        return caplog.text + printed.out + printed.err

    return text


# --- Where all is well --------------------------------------------------------------------------


@pytest.mark.parametrize("story", STORIES)
def test_every_message_gets_to_slack_and_mail_whole(
    slack_server: SlackServer, mail_server: MailServer, monkeypatch: pytest.MonkeyPatch, story: str
) -> None:
    make, expected = STORIES[story]
    message = make(monkeypatch)
    assert notifications.send(told("slack", "email"), message)
    ((path, posted),) = slack_server.posted
    ((recipients, mailed),) = mail_server.taken
    mail = message_from_bytes(mailed, policy=default)
    assert path == f"/services/{SECRET}"
    assert posted["unfurl_links"] is False
    assert (recipients, mail["From"]) == (["a@example.org", "b@example.org"], "ml@example.org")
    assert mail["Subject"] == f"[local] {message.subject}"
    body = mail.get_body()
    assert body is not None
    for text in (posted["text"], f"{mail['Subject']}\n{body.get_content()}"):
        assert [part for part in expected if part not in unescape(text)] == []


def test_markup_in_a_reason_reaches_nobody(slack_server: SlackServer, mail_server: MailServer) -> None:
    message = messages.rejected("iris", "7", ["<!channel> & <b>shout</b>"], [])
    assert notifications.send(told("slack", "email"), message)
    assert "&lt;!channel&gt; &amp; &lt;b&gt;" in slack_server.posted[0][1]["text"]
    body = message_from_bytes(mail_server.taken[0][1], policy=default).get_body()
    assert body is not None
    assert "&lt;!channel&gt;" in body.get_content()


# --- Where it is not ----------------------------------------------------------------------------


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize("status", [400, 404, 429, 500])
def test_a_webhook_that_refuses_is_logged_and_keeps_its_secret(
    slack_server: SlackServer, everything_logged: Callable[[], str], status: int
) -> None:
    slack_server.status = status
    assert not notifications.send(told("slack"), FAILED)
    logged = everything_logged()
    assert "could not be sent by Slack" in logged
    assert str(status) in logged
    assert len(slack_server.posted) == 1
    assert SECRET not in logged


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="refused"),
        pytest.param({"password": f"https://127.0.0.1:{{port}}/services/{SECRET}"}, id="refused-whole-address"),
        pytest.param({"password": f"slack://hooks/{SECRET}"}, id="no-web-address"),
        pytest.param({"password": f"http://127.0.0.1:none/{SECRET}"}, id="no-port"),
    ],
)
def test_a_webhook_that_is_not_there_is_logged_and_keeps_its_secret(
    everything_logged: Callable[[], str], monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]
) -> None:
    port = closed_port()
    slack_at(port, monkeypatch, **{key: value.format(port=port) for key, value in changes.items()})
    assert not notifications.send(told("slack"), FAILED)
    logged = everything_logged()
    assert "could not be sent by Slack" in logged
    assert SECRET not in logged


def test_a_mail_server_that_refuses_is_logged(mail_server: MailServer, everything_logged: Callable[[], str]) -> None:
    mail_server.verdict = "554 no mail today"
    assert not notifications.send(told("email"), FAILED)
    logged = everything_logged()
    assert "could not be sent by e-mail" in logged
    assert "no mail today" in logged
    assert PASSWORD not in logged


@pytest.mark.parametrize("there", [True, False])
def test_a_mail_server_without_the_right_password_is_logged_and_the_password_is_not(
    mail_server: MailServer, everything_logged: Callable[[], str], monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    """A server may repeat in its answer what it was sent."""
    mail_at(mail_server.server_address[1] if there else closed_port(), monkeypatch, password=f"old-{PASSWORD}")
    assert not notifications.send(told("email"), FAILED)
    logged = everything_logged()
    assert "could not be sent by e-mail" in logged
    assert "535" in logged or not there
    assert PASSWORD not in logged
    assert mail_server.taken == []


@pytest.mark.parametrize(("way", "name"), [("slack", "Slack"), ("email", "e-mail")])
def test_a_server_that_never_answers_is_given_up(
    everything_logged: Callable[[], str], monkeypatch: pytest.MonkeyPatch, way: str, name: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        (slack_at if way == "slack" else mail_at)(server.getsockname()[1], monkeypatch)
        settings, started = told(way, timeout=0.3), time.monotonic()
        assert not notifications.send(settings, FAILED)
        assert time.monotonic() - started < 5, "less than the libraries would wait"
    logged = everything_logged()
    assert f"could not be sent by {name}: no answer in 0.3 s" in logged
    assert SECRET not in logged
    assert PASSWORD not in logged


@pytest.mark.parametrize("way", ["slack", "email"])
def test_a_connection_that_nobody_made_is_named(everything_logged: Callable[[], str], way: str) -> None:
    assert not notifications.send(told(way), FAILED)
    assert "could not be sent" in everything_logged()


def test_a_dead_way_does_not_keep_the_others_from_it(
    mail_server: MailServer, monkeypatch: pytest.MonkeyPatch, everything_logged: Callable[[], str]
) -> None:
    slack_at(closed_port(), monkeypatch)
    assert notifications.send(told("slack", "email"), FAILED)
    assert len(mail_server.taken) == 1
    assert "could not be sent by Slack" in everything_logged()
