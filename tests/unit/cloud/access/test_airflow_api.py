"""The way to an environment's Airflow: by AWS where its page is public, in a session of the page where it is not."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import botocore.exceptions
import httpx
import pytest

from cloud import airflow_api
from cloud.access import forwards
from cloud.access.targets import Target
from cloud.airflow_api import MwaaTransport, Opened, airflow
from cloud.approve import answer
from cloud.errors import CloudError
from cloud.terraform import ROOT
from local.pipeline.airflow_client import AirflowClient
from tests.unit.cloud.access.conftest import AIRFLOW, BASTION, Private

POOL: dict[str, Any] = {"name": "training__x", "slots": 2, "description": "of x", "include_deferred": True}


@contextlib.contextmanager
def asked(private: Private, said: list[str] | None = None) -> Iterator[AirflowClient]:
    with airflow(private.environment, (said if said is not None else []).append) as client:
        yield client


def end_the_session(private: Private) -> None:
    """As Systems Manager does with sessions that have been idle for too long."""
    (plugin,) = private.sessions.running()
    os.kill(plugin, signal.SIGINT)
    while private.sessions.running():
        time.sleep(0.01)


def test_a_private_page_is_asked_through_the_bastion_under_its_own_name(private: Private) -> None:
    said: list[str] = []
    with asked(private, said) as client:
        assert list(client.pools()) == ["default_pool"]
        client.make_pool(**POOL)
        assert client.pools()["training__x"]["slots"] == 2
        assert len(private.sessions.running()) == 1
    assert private.sessions.running() == []
    assert private.tokens == 1
    assert said == ["Airflow's page is private: going through the bastion"]
    assert AIRFLOW in private.asked


def test_a_page_that_answers_from_here_is_asked_straight(private: Private, monkeypatch: pytest.MonkeyPatch) -> None:
    went: list[str] = []

    class Straight(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            went.append(f"{request.url.host} {request.url.path}")
            sent = request.url.copy_with(host="127.0.0.1", port=private.ports[f"{AIRFLOW}:443"])
            there = {"sni_hostname": AIRFLOW}
            return super().handle_request(
                httpx.Request(request.method, sent, headers=request.headers, stream=request.stream, extensions=there)
            )

    monkeypatch.setattr(airflow_api, "reached", lambda _: True)
    monkeypatch.setattr(httpx, "HTTPTransport", Straight)
    said: list[str] = []
    with asked(private, said) as client:
        assert list(client.pools()) == ["default_pool"]
        assert private.sessions.running() == []
    assert went == [f"{AIRFLOW} /pluginsv2/aws_mwaa/login", f"{AIRFLOW} /api/v2/pools"]
    assert said == []


@pytest.mark.parametrize("mode", ["PUBLIC_ONLY", "PUBLIC_AND_PRIVATE"])
def test_a_public_page_is_asked_through_aws(private: Private, mode: str) -> None:
    private.mode = mode
    with asked(private) as client:
        client.make_pool(**POOL)
    assert "training__x" in private.page.api.pools
    assert (private.tokens, private.asked) == (0, [])


def test_a_session_of_the_page_that_has_ended_is_opened_again(private: Private) -> None:
    with asked(private) as client:
        client.pools()
        private.page.end_sessions()
        client.make_pool(**POOL)
    assert private.tokens == 2
    assert "training__x" in private.page.api.pools


def test_threads_share_a_session(private: Private) -> None:
    said: list[str] = []
    with asked(private, said) as client, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: list(client.pools()), range(8)))
        private.page.end_sessions()
        found += list(pool.map(lambda _: list(client.pools()), range(8)))
    assert found == [["default_pool"]] * 16
    assert private.tokens == 2
    assert len(said) == 1


def test_a_refusal_of_airflow_keeps_its_status_and_words(private: Private) -> None:
    with asked(private) as client:
        client.make_pool(**POOL)
        with pytest.raises(httpx.HTTPStatusError) as refused:
            client.make_pool(**POOL)
    assert refused.value.response.status_code == 409
    assert "training__x" in refused.value.response.text


def test_a_token_that_the_page_does_not_take_is_told(private: Private, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private.page, "expect", lambda _: None)
    with pytest.raises(CloudError, match=f"{AIRFLOW} did not take AWS's token: it answered 403"), asked(private) as one:
        one.pools()
    assert private.sessions.running() == []


def test_a_stranger_s_certificate_is_not_signed_in_to(private: Private, monkeypatch: pytest.MonkeyPatch) -> None:
    """What answers on the port has to be the page; nothing is sent to anybody else."""

    def somebody_listens(_: Target, host: str, port: int, seconds: float) -> str | None:
        with contextlib.suppress(OSError), socket.create_connection((host, port), seconds):
            return None
        return "nobody"

    monkeypatch.setattr(forwards, "silence", somebody_listens)
    monkeypatch.setattr(airflow_api, "airflow_at", lambda _: Target("Airflow", "other.example", 443, True, "/", (), 0))
    monkeypatch.setattr(airflow_api, "TRY_AGAIN_SECONDS", 0.0)
    private.sessions.knows([BASTION], {"other.example:443": private.ports[f"{AIRFLOW}:443"]})
    with pytest.raises(CloudError, match="CERTIFICATE_VERIFY_FAILED"), asked(private) as client:
        client.pools()


def test_the_way_is_opened_again_when_its_session_has_ended(private: Private) -> None:
    said: list[str] = []
    with asked(private, said) as client:
        client.pools()
        for _ in range(2):
            end_the_session(private)
            client.pools()
        assert len(private.sessions.running()) == 1
    assert private.sessions.running() == []
    assert set(said[1:]) == {"the session through the bastion has ended: opening another"}
    assert private.tokens == 1, "it is the same session of the page"


def test_a_way_that_cannot_be_opened_again_is_given_up(private: Private, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(airflow_api, "TRY_AGAIN_SECONDS", 0.0)
    with asked(private) as client:
        client.pools()
        private.bastions.clear()
        end_the_session(private)
        with pytest.raises(CloudError, match="dev has no bastion"):
            client.pools()


def test_what_may_have_arrived_is_not_sent_twice(private: Private, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    with asked(private) as client:
        client.pools()
        real = httpx.HTTPTransport.handle_request

        def lose(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
            sent.append(request.method)
            real(transport, request)
            raise httpx.ReadError("connection reset")

        monkeypatch.setattr(httpx.HTTPTransport, "handle_request", lose)
        with pytest.raises(httpx.ReadError):
            client.make_pool(**POOL)
        monkeypatch.undo()
    assert sent == ["POST"]


def test_ctrl_c_ends_the_session(private: Private) -> None:
    # A process that was started in the background hears none.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupted() -> None:
        with asked(private) as client:
            client.pools()
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    signal.signal(signal.SIGINT, before)
    assert private.sessions.running() == []


def test_without_any_way_it_is_said_what_is_the_matter_and_what_to_do(private: Private) -> None:
    private.bastions.clear()
    with pytest.raises(CloudError) as refused, asked(private):
        raise AssertionError("it must not come this far")
    assert str(refused.value) == (
        "Airflow's page of ml-platform-dev is private, and AWS takes calls of its REST API from inside the VPC only. "
        "The page does not answer from here, and there is no way through the bastion: dev has no bastion: set "
        "`bastion` in terraform/environments/dev/main.tf and apply, or come from a network that private_client_cidrs "
        "or private_client_security_group_ids names. To have the page on the internet instead, set airflow_page_public "
        "and apply"
    )


def test_who_may_not_sign_in_is_told_which_right_is_missing(private: Private) -> None:
    private.denied = "CreateWebLoginToken"
    (private.environment.root / "config").symlink_to(ROOT / "config")
    told: dict[str, Any] = {"approve": True, "reason": "read it", "run": None, "confirm": bool, "say": print}
    with pytest.raises(CloudError, match="it takes airflow:CreateWebLoginToken on its role User or a higher one"):
        answer(private.environment, "flights", **told)
    assert private.sessions.running() == []


def test_an_environment_that_is_being_made_has_no_page(private: Private) -> None:
    private.made = False
    with pytest.raises(CloudError, match="not there yet: the environment is CREATING"), asked(private):
        raise AssertionError("it must not come this far")


def test_in_another_region_there_is_none(private: Private) -> None:
    private.made = None
    with pytest.raises(CloudError, match="no Airflow ml-platform-dev in us-east-1: set AWS_REGION"), asked(private):
        raise AssertionError("it must not come this far")


def test_aws_s_refusal_from_outside_is_no_missing_right(private: Private) -> None:
    transport = MwaaTransport(private, "ml-platform-dev")
    client = AirflowClient(httpx.Client(transport=transport, base_url="https://mwaa.invalid"))
    with pytest.raises(CloudError, match=r"from inside the VPC only \(.*within a VPC\)"):
        client.pools()


def test_a_client_that_could_not_be_made_is_not_tried_for_again(private: Private) -> None:
    private.denied = "GetEnvironment"
    with contextlib.ExitStack() as stack:
        opened = Opened(private.environment, print, stack)
        for _ in range(2):
            with pytest.raises(botocore.exceptions.ClientError, match="not authorized"):
                opened()
            private.denied = ""
