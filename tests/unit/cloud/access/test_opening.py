"""`make open`: what it prints, and how it ends."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cloud.access import forwards, open_ways, opening
from cloud.access.forwards import Forward
from cloud.access.targets import targets
from cloud.errors import CloudError
from tests import readme
from tests.unit.cloud.access.conftest import AIRFLOW, KUBERNETES, MLFLOW, Private


def test_it_says_where_everything_is_and_stays_until_it_is_interrupted(private: Private) -> None:
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if "Ctrl-C" in line:
            assert len(private.sessions.running()) == 3
            signal.setitimer(signal.ITIMER_REAL, 0.2)

    # As Ctrl-C; a process that was started in the background hears none.
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        open_ways(private.environment, say)
    finally:
        signal.signal(signal.SIGALRM, before)
    text = "\n".join(said)
    assert re.search(r"^Airflow +https://localhost:\d+$", text, re.MULTILINE)
    assert re.search(r"^MLflow +http://localhost:\d+$", text, re.MULTILINE)
    assert re.search(r"^Kubernetes +https://localhost:\d+$", text, re.MULTILINE)
    assert re.search(
        r"^  https://localhost:\d+/pluginsv2/aws_mwaa/aws-console-sso\?login=true#token1$", text, re.MULTILINE
    )
    assert "Sign in to Airflow as assumed-role/Ds/jane, within a minute" in text
    assert "Airflow's certificate was checked: it is for airflow.example." in text
    assert said[-1] == "closed: nothing of dev is on localhost any more"


def test_the_kubeconfig_goes_to_localhost_and_expects_the_api_s_own_certificate(private: Private) -> None:
    seen: list[dict[str, str]] = []

    def say(line: str) -> None:
        if found := re.search(r"export KUBECONFIG=(\S+)", line):
            path = Path(found[1])
            assert path.stat().st_mode & 0o077 == 0
            (cluster,) = json.loads(path.read_text())["clusters"]
            seen.append(cluster["cluster"])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_ways(private.environment, say)
    (cluster,) = seen
    assert re.fullmatch(r"https://localhost:\d+", cluster["server"])
    assert cluster["tls-server-name"] == KUBERNETES
    assert cluster["certificate-authority-data"] == private.authority


def test_what_does_not_answer_keeps_nobody_from_the_rest(private: Private, monkeypatch: pytest.MonkeyPatch) -> None:
    """At night dev's MLflow is stopped; and who may not sign in to Airflow may still want to look at the cluster."""
    monkeypatch.setattr(forwards, "ANSWERS_WITHIN", 2.0)
    private.answers[MLFLOW] = 503
    private.denied = "CreateWebLoginToken"
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if "Ctrl-C" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_ways(private.environment, say)
    assert said[0].startswith("MLflow does not answer through the bastion: / is answered with 503")
    assert not any(line.startswith("MLflow ") for line in said[1:])
    assert any(line.startswith("Kubernetes https://localhost:") for line in said)
    assert any("no link to sign in to Airflow" in line and "AccessDenied" in line for line in said)
    assert not list((private.environment.root / ".local").rglob("kubeconfig*")), "it leads nowhere any more"


def test_a_session_that_dies_ends_it_with_a_reason(private: Private) -> None:
    def say(line: str) -> None:
        if "Ctrl-C" in line:
            # As Systems Manager does with sessions that have been idle for too long.
            os.kill(private.sessions.running()[0], signal.SIGINT)

    with pytest.raises(
        CloudError, match=r"(Airflow|MLflow|Kubernetes): the session has ended \(0\): [\s\S]*Exiting session"
    ):
        open_ways(private.environment, say)
    assert private.sessions.running() == []


def test_the_readme_shows_what_it_prints(private: Private) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        forwards = [Forward(one, one.local_port, process, io.BytesIO()) for one in targets(private.environment)]
    printed = [
        *opening.addresses(forwards, Path("/home/jane/ml-platform/.local/open/dev/kubeconfig-6443")),
        *opening.sign_in(private.environment, forwards[0]).splitlines(),
        opening.STAY,
    ]
    shown = [line.replace("….airflow.us-east-1.on.aws", AIRFLOW) for line in readme.printed("Airflow")]
    assert len(shown) == len(printed)
    for expected, line in zip(shown, printed, strict=True):
        assert re.fullmatch(re.escape(expected).replace("…", ".+"), line), line
