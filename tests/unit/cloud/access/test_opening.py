"""`make open`: what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

from cloud.access import open_ways
from cloud.errors import CloudError
from tests.unit.cloud.access.conftest import KUBERNETES, Private


def test_it_says_where_everything_is_and_stays_until_it_is_interrupted(private: Private) -> None:
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if "Ctrl-C" in line:
            assert len(private.sessions.running()) == 3
            signal.setitimer(signal.ITIMER_REAL, 0.2)

    before = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        open_ways(private.environment, say)
    finally:
        signal.signal(signal.SIGALRM, before)
    text = "\n".join(said)
    assert re.search(r"^Airflow +https://localhost:\d+$", text, re.MULTILINE)
    assert re.search(r"^MLflow +http://localhost:\d+$", text, re.MULTILINE)
    assert re.search(r"^Kubernetes +https://localhost:\d+$", text, re.MULTILINE)
    assert re.search(r"^  https://localhost:\d+/aws_mwaa/aws-console-sso\?login=true#token1$", text, re.MULTILINE)
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


def test_a_session_that_dies_ends_it_with_a_reason(private: Private) -> None:
    def say(line: str) -> None:
        if "Ctrl-C" in line:
            # As Systems Manager does with sessions that have been idle for too long.
            os.kill(private.sessions.running()[1], signal.SIGINT)

    with pytest.raises(CloudError, match=r"MLflow: the session has ended \(0\): [\s\S]*Exiting session"):
        open_ways(private.environment, say)
    assert private.sessions.running() == []
