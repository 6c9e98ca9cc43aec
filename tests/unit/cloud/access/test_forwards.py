"""The way through the bastion: when it is there, and that nothing of it is left."""

from __future__ import annotations

import os
import signal
import socket
import time
from dataclasses import replace

import pytest

from cloud.access import forwards
from cloud.access.forwards import forwarded
from cloud.access.probe import silence
from cloud.access.targets import Target, targets
from cloud.errors import CloudError
from tests.sessions import AWS, PLUGIN
from tests.unit.cloud.access.conftest import AIRFLOW, BASTION, KUBERNETES, MLFLOW, Private


def refused(private: Private) -> str:
    with pytest.raises(CloudError) as error, forwarded(private.environment, targets(private.environment), print):
        raise AssertionError("it must not come this far")
    return str(error.value)


def test_all_three_answer_on_localhost(private: Private) -> None:
    with forwarded(private.environment, targets(private.environment), print) as found:
        assert [forward.target.name for forward in found] == ["Airflow", "MLflow", "Kubernetes"]
        for forward in found:
            assert silence(forward.target, "localhost", forward.port, 5) is None
        # A browser there says so, and MLflow has to take it.
        assert f"localhost:{found[1].port}" in private.asked
        assert len(private.sessions.running()) == 3
    assert private.sessions.running() == []
    for forward in found:
        assert silence(forward.target, "localhost", forward.port, 1)


def test_a_port_that_is_taken_is_left_to_who_has_it(private: Private) -> None:
    (airflow, *_) = targets(private.environment)
    with socket.create_server(("localhost", 0)) as taken:
        wanted = replace(airflow, local_port=taken.getsockname()[1])
        with forwarded(private.environment, [wanted], print) as (found,):
            assert found.port != wanted.local_port


def test_the_certificate_has_to_be_for_the_host_s_own_name(private: Private) -> None:
    (airflow, *_) = targets(private.environment)
    with forwarded(private.environment, [airflow], print) as (found,):
        stranger = Target(**{**vars(airflow), "host": "stranger.example"})
        assert "CERTIFICATE_VERIFY_FAILED" in str(silence(stranger, "localhost", found.port, 5))


def test_what_does_not_answer_is_told_with_what_the_session_says(
    private: Private, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwards, "ANSWERS_WITHIN", 1.0)
    private.sessions.knows([BASTION], {})
    said = refused(private)
    assert said.startswith("Airflow does not answer through the bastion: ")
    assert f"{AIRFLOW}:443 says: " in said
    assert "Connection to destination port failed" in said


@pytest.mark.parametrize(("host", "status"), [(MLFLOW, 403), (KUBERNETES, 500), (AIRFLOW, 503)])
def test_an_answer_that_says_no_is_none(
    private: Private, monkeypatch: pytest.MonkeyPatch, host: str, status: int
) -> None:
    monkeypatch.setattr(forwards, "ANSWERS_WITHIN", 0.5)
    private.answers[host] = status
    assert f"is answered with {status}" in refused(private)


@pytest.mark.parametrize(
    ("program", "words"), [(PLUGIN, "install it, see https://docs.aws"), (AWS, "install version 2")]
)
def test_what_is_not_installed_is_named(private: Private, program: str, words: str) -> None:
    private.sessions.remove(program)
    said = refused(private)
    assert f"{'the AWS CLI' if program == AWS else program} was not found" in said
    assert words in said


def test_without_a_bastion_the_other_ways_are_told(private: Private) -> None:
    private.bastions.clear()
    said = refused(private)
    assert "dev has no bastion" in said
    assert "private_client_cidrs" in said


def test_a_stopped_bastion_is_not_asked(private: Private) -> None:
    private.state = "stopped"
    assert "is stopped: start it with `aws ec2 start-instances --instance-ids i-0123456789abcdef0`" in refused(private)


@pytest.mark.parametrize("ping", [None, "ConnectionLost"])
def test_a_bastion_without_a_connection_is_told(
    private: Private, monkeypatch: pytest.MonkeyPatch, ping: str | None
) -> None:
    monkeypatch.setattr(forwards, "ONLINE_WITHIN", 0.0)
    private.ping = ping
    assert "is not connected to Systems Manager" in refused(private)


def test_a_bastion_that_has_just_been_made_is_waited_for(private: Private, monkeypatch: pytest.MonkeyPatch) -> None:
    private.ping, private.state = None, "pending"
    (airflow, *_) = targets(private.environment)
    said: list[str] = []
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            private.ping, private.state = "Online", "running"

    monkeypatch.setattr(time, "sleep", sleep)
    with forwarded(private.environment, [airflow], said.append):
        pass
    assert waited[:3] == [forwards.ASK_AGAIN_SECONDS] * 3
    assert said == [f"the bastion {BASTION} is not connected yet; asking again for up to three minutes"]


def test_the_newest_of_two_bastions_is_taken(private: Private) -> None:
    private.bastions = ["i-0000000000000000a", BASTION]
    assert forwards.bastion(private.environment, print) == BASTION


def test_a_session_that_is_refused_is_told_in_aws_s_words(private: Private, monkeypatch: pytest.MonkeyPatch) -> None:
    private.sessions.knows([], private.ports)
    said = refused(private)
    assert said.startswith("Airflow: the session has ended (254): ")
    assert "(TargetNotConnected)" in said
    private.sessions.knows([BASTION], private.ports)
    monkeypatch.setattr(forwards, "DOCUMENT", "AWS-StartPortForwardingSession")
    assert "(InvalidDocument)" in refused(private)


def test_a_plugin_that_hears_no_signal_is_ended_all_the_same(private: Private, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwards, "_END_SECONDS", 0.3)
    (airflow, *_) = targets(private.environment)
    with forwarded(private.environment, [airflow], print):
        (plugin,) = private.sessions.running()
        os.kill(plugin, signal.SIGSTOP)
    deadline = time.monotonic() + 5
    while private.sessions.running() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert private.sessions.running() == []


def test_a_kill_ends_the_sessions(private: Private) -> None:
    with pytest.raises(SystemExit) as left, forwarded(private.environment, targets(private.environment), print):
        signal.raise_signal(signal.SIGTERM)
    assert left.value.code == 128 + signal.SIGTERM
    assert private.sessions.running() == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
