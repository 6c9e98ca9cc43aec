"""`make train` against a real Airflow; only MWAA's ways of letting callers in are stood in for."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import botocore.exceptions
import httpx
import pytest

from cloud.airflow_api import API, COOKIE, SIGN_IN, MwaaTransport, WebSession
from cloud.approve import OPTIONS, TASK
from cloud.train import follow
from local.pipeline.airflow_client import AirflowClient
from local.pipeline.attached import AttachedPlatform

DAG = "train__flights"


class Mwaa:
    """`InvokeRestApi`: signs the caller in to Airflow, and turns its refusals into errors of the client."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30)
        self._http.headers["Authorization"] = f"Bearer {self._http.get('/auth/token').json()['access_token']}"

    def invoke_rest_api(
        self, *, Name: str, Method: str, Path: str, QueryParameters: Any = None, Body: Any = None
    ) -> dict[str, Any]:
        done = self._http.request(Method, f"{API}{Path}", params=QueryParameters, json=Body)
        answer = {"RestApiStatusCode": done.status_code, "RestApiResponse": done.json()}
        if done.is_error:
            error = {"Error": {"Code": "RestApiClientException", "Message": Name}, **answer}
            raise botocore.exceptions.ClientError(error, "InvokeRestApi")  # type: ignore[arg-type]
        return answer

    def create_web_login_token(self, Name: str) -> dict[str, str]:
        return {"WebToken": f"token of {Name}"}


class Page(httpx.HTTPTransport):
    """MWAA's page, which is Airflow's own but for the sign-in."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path != SIGN_IN:
            return super().handle_request(request)
        assert request.read() == b"token=token+of+ml-platform-dev"
        with httpx.Client() as http:
            token = http.get(request.url.copy_with(path="/auth/token")).json()["access_token"]
        return httpx.Response(200, headers={"Set-Cookie": f"{COOKIE}={token}; Path=/; HttpOnly"})


@pytest.fixture
def client(platform: AttachedPlatform) -> AirflowClient:
    transport = MwaaTransport(Mwaa(platform.addresses["airflow"]), "ml-platform-dev")
    return AirflowClient(httpx.Client(transport=transport, base_url="https://mwaa.invalid"))


def test_a_run_is_followed_through_mwaa(client: AirflowClient, demo: subprocess.CompletedProcess[str]) -> None:
    found = re.search(r"Steps of (demo-\S+)", demo.stdout)
    assert found
    said: list[str] = []
    follow(client, DAG, found[1], said.append)
    assert said[-1] == f"run {found[1]} succeeded"
    assert any(re.fullmatch(r"training\.train\[0\]: success, \d+ s", line) for line in said)


def test_an_answer_reaches_the_question_through_mwaa(
    client: AirflowClient, demo: subprocess.CompletedProcess[str]
) -> None:
    """Airflow has looked at all of the request when it says that somebody was first."""
    found = re.search(r"Decision of (demo-\S+): version \d+ needs-approval", demo.stdout)
    assert found
    with pytest.raises(httpx.HTTPStatusError) as refused:
        client.answer(DAG, found[1], TASK, OPTIONS[True], reason="once more")
    assert refused.value.response.status_code == 409
    assert "already been updated" in refused.value.response.text


def test_airflows_refusal_comes_through_mwaa(client: AirflowClient, demo: subprocess.CompletedProcess[str]) -> None:
    found = re.search(r"Steps of (demo-\S+)", demo.stdout)
    assert found
    with pytest.raises(httpx.HTTPStatusError) as refused:
        client.trigger(DAG, found[1], {})
    assert refused.value.response.status_code == 409


def test_a_session_of_the_page_is_good_for_all_of_it(
    platform: AttachedPlatform, demo: subprocess.CompletedProcess[str]
) -> None:
    found = re.search(r"Steps of (demo-\S+)", demo.stdout)
    assert found
    url = platform.addresses["airflow"]
    session = WebSession(Mwaa(url), "ml-platform-dev")
    with httpx.Client(transport=Page(), auth=session, base_url=url, timeout=30) as http:
        client, said = AirflowClient(http), list[str]()
        follow(client, DAG, found[1], said.append)
        assert said[-1] == f"run {found[1]} succeeded"
        with pytest.raises(httpx.HTTPStatusError) as refused:
            client.trigger(DAG, found[1], {})
    assert refused.value.response.status_code == 409
