"""A client of an environment's Airflow, by the way that there is to it.

AWS takes calls of Airflow's REST API for a public page by `InvokeRestApi`, from anywhere. For a private page it takes
them from inside the VPC only, so the page itself is asked, in a session that `CreateWebLoginToken` opens: straight
where it answers from here, else through the bastion.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import botocore.exceptions
import httpx

from cloud.access.forwards import LOCAL, Forward, ended_by_signals, sessions
from cloud.access.targets import Target, airflow_at
from cloud.access.ways import reached
from cloud.environments import Environment
from cloud.errors import CloudError
from local.pipeline.airflow_client import AirflowClient

API = "/api/v2"
SIGN_IN = "/pluginsv2/aws_mwaa/login"
"""Where MWAA's page takes the token of `CreateWebLoginToken` from a program, and gives a session's for it."""
COOKIE = "_token"
TRIES = 3
TRY_AGAIN_SECONDS = 20.0
_SECONDS = 30.0
_FROM_INSIDE_ONLY = "within a VPC"
_PRIVATE = "Airflow's page of {name} is private, and AWS takes calls of its REST API from inside the VPC only"
Say = Callable[[str], None]


@contextlib.contextmanager
def airflow(environment: Environment, say: Say) -> Iterator[AirflowClient]:
    """Lend a client of the environment's Airflow; the way to it is closed afterwards.

    Nothing of Terraform's state is asked for: who approves may not have the right to read it.

    Raises:
        CloudError: there is no way to it, or it does not answer.
    """
    mwaa, name = environment.client("mwaa"), environment.prefix
    try:
        found = mwaa.get_environment(Name=name)["Environment"]
    except botocore.exceptions.ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        raise CloudError(
            f"there is no Airflow {name} in {environment.region}: set AWS_REGION and your sign-in to the platform's "
            "region and account, or apply first"
        ) from None
    if found["WebserverAccessMode"] != "PRIVATE_ONLY":
        with httpx.Client(transport=MwaaTransport(mwaa, name), base_url="https://mwaa.invalid") as http:
            yield AirflowClient(http)
        return
    if not found.get("WebserverUrl"):
        raise CloudError(f"Airflow's page of {name} is not there yet: the environment is {found['Status']}")
    page = replace(airflow_at(_host(found["WebserverUrl"])), local_port=0)  # the usual one is for `make open`
    transport: httpx.BaseTransport = httpx.HTTPTransport(verify=ssl.create_default_context(cadata=page.authority))
    if not reached(page):
        transport = ThroughBastion(environment, page, transport, say)
    session = WebSession(mwaa, name)
    with (
        ended_by_signals(),
        httpx.Client(transport=transport, auth=session, base_url=f"https://{page.host}", timeout=_SECONDS) as http,
    ):
        try:
            yield AirflowClient(http)
        except httpx.TransportError as error:
            raise CloudError(f"Airflow's page {page.host} does not answer: {error}") from None


class Opened:
    """A client that is made when it is first asked for; a failure is told again, not tried again."""

    def __init__(self, environment: Environment, say: Say, stack: contextlib.ExitStack) -> None:
        self._open = lambda: stack.enter_context(airflow(environment, say))
        self._client: AirflowClient | None = None
        self._problem: Exception | None = None

    def __call__(self) -> AirflowClient:
        """Return the client.

        Raises:
            CloudError: there is no way to Airflow.
        """
        if self._problem:
            raise self._problem
        if self._client is None:
            try:
                self._client = self._open()
            except Exception as error:
                self._problem = error
                raise
        return self._client


class MwaaTransport(httpx.BaseTransport):
    """Carries requests to Airflow's REST API through MWAA's `InvokeRestApi`, which signs the caller in by IAM."""

    def __init__(self, mwaa: Any, environment_name: str) -> None:
        self._mwaa = mwaa
        self._name = environment_name

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Hand a request on and return Airflow's answer, whatever its status."""
        call: dict[str, Any] = {
            "Name": self._name,
            "Method": request.method,
            "Path": request.url.path.removeprefix(API),
        }
        if request.url.params:
            call["QueryParameters"] = dict(request.url.params)
        if body := request.read():
            call["Body"] = json.loads(body)
        try:
            answer = self._mwaa.invoke_rest_api(**call)
        except botocore.exceptions.ClientError as error:
            if "RestApiStatusCode" not in error.response:
                if _FROM_INSIDE_ONLY in str(error):
                    # No right is missing, whatever the error's code says.
                    raise CloudError(
                        f"{_PRIVATE.format(name=self._name)} ({error}): it was public a moment ago, so run the command "
                        "again, which then goes another way"
                    ) from None
                raise
            answer = error.response  # Airflow's own refusal
        return httpx.Response(answer["RestApiStatusCode"], json=answer.get("RestApiResponse"), request=request)


class WebSession(httpx.Auth):
    """Signs in to MWAA's page as AWS documents it for programs, and again when the session has ended.

    The token of `CreateWebLoginToken` is good for a minute, the session it opens for twelve hours.
    """

    def __init__(self, mwaa: Any, environment_name: str) -> None:
        self._mwaa = mwaa
        self._name = environment_name
        self._token = ""
        self._lock = threading.Lock()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
        """Send a request within the session; where that is refused, once more within a new one."""
        refused = ""
        for _ in range(2):
            # One for all threads: who comes second finds the token of who was first.
            with self._lock:
                if self._token == refused:
                    self._token = self._session(request, (yield self._login(request)))
                token = self._token
            request.headers["Authorization"] = f"Bearer {token}"
            response = yield request
            if response.status_code != httpx.codes.UNAUTHORIZED:
                return
            refused = token

    def _login(self, request: httpx.Request) -> httpx.Request:
        token = self._mwaa.create_web_login_token(Name=self._name)["WebToken"]
        return httpx.Request(
            "POST",
            request.url.copy_with(path=SIGN_IN, query=None),
            data={"token": token},
            extensions=request.extensions,
        )

    def _session(self, request: httpx.Request, answer: httpx.Response) -> str:
        if token := answer.cookies.get(COOKIE):
            return str(token)
        raise CloudError(
            f"Airflow's page {request.url.host} did not take AWS's token: it answered {answer.status_code} without a "
            "session"
        )


class ThroughBastion(httpx.BaseTransport):
    """Carries requests to a page through the bastion, in a session that is opened again when it has ended."""

    def __init__(self, environment: Environment, page: Target, transport: httpx.BaseTransport, say: Say) -> None:
        self._environment = environment
        self._page = page
        self._transport = transport
        self._say = say
        self._lock = threading.Lock()
        self._session = contextlib.ExitStack()
        self._forward: Forward | None = None

    def __enter__(self) -> ThroughBastion:
        """Open the first session; the client that it belongs to asks for it when it is entered.

        Raises:
            CloudError: there is no bastion, or no session through it.
        """
        self._say("Airflow's page is private: going through the bastion")
        try:
            self._forward = self._opened()
        except CloudError as error:
            raise CloudError(
                f"{_PRIVATE.format(name=self._environment.prefix)}. The page does not answer from here, and there is "
                f"no way through the bastion: {error}. To have the page on the internet instead, set "
                "airflow_page_public and apply"
            ) from None
        return self

    def close(self) -> None:
        """End the session."""
        self._transport.close()
        self._session.close()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to the page under its own name; again, if that is safe and the session had ended.

        Raises:
            CloudError: no session can be opened any more.
            httpx.TransportError: the page does not answer.
        """
        for left in reversed(range(TRIES)):
            forward = self._running()
            try:
                return self._send(request, forward)
            except httpx.TransportError as error:
                # A request that may have arrived is repeated only where that changes nothing.
                if not left or not (request.method == "GET" or isinstance(error, httpx.ConnectError)):
                    raise
                self._leave(forward)
        raise AssertionError("the last try returns or raises")

    def _send(self, request: httpx.Request, forward: Forward) -> httpx.Response:
        there = httpx.Request(
            request.method,
            request.url.copy_with(host=LOCAL, port=forward.port),
            headers=request.headers,  # with the page's own name as Host
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": self._page.host},
        )
        response = self._transport.handle_request(there)
        response.read()  # what breaks on the way breaks here
        return response

    def _running(self) -> Forward:
        with self._lock:
            if self._forward is None or self._forward.process.poll() is not None:
                self._forward = None
                self._say("the session through the bastion has ended: opening another")
                self._forward = self._opened_again()
            return self._forward

    def _leave(self, forward: Forward) -> None:
        """Have the next request open a session, unless another thread has done so."""
        with self._lock:
            if self._forward is forward:
                self._forward = None

    def _opened_again(self) -> Forward:
        """A bastion that is being replaced is not there for a while."""
        for left in reversed(range(TRIES)):
            try:
                return self._opened()
            except CloudError:
                if not left:
                    raise
                time.sleep(TRY_AGAIN_SECONDS)
        raise AssertionError("the last try returns or raises")

    def _opened(self) -> Forward:
        self._session.close()
        (forward,) = self._session.enter_context(sessions(self._environment, [self._page], self._say))
        return forward


def _host(url: str) -> str:
    """Return the host of a page; AWS tells it without a scheme."""
    return str(urlsplit(url if "//" in url else f"//{url}").hostname)
