"""Airflow's page as MWAA has it, as far as a program signs in to it and asks its API; no server, and no Airflow.

A token of `CreateWebLoginToken` is good for a minute; the session it opens, whose token is a cookie, for twelve hours.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping
from urllib.parse import parse_qs, parse_qsl, urlsplit

from local.emulators.airflow_api import AirflowApi
from local.emulators.names import HOST
from local.emulators.responses import Response, json_response

API = "/api/v2"
SIGN_IN = "/pluginsv2/aws_mwaa/login"
_TOKEN_SECONDS = 60
_SESSION_SECONDS = 12 * 3600
_DOMAIN = ".c1.airflow."
_OF_VPC = "-vpce"


def hosts_in(region: str) -> str:
    """Return what a certificate for all pages of a region is for."""
    return f"*{_DOMAIN}{region}.{HOST}"


def host_of(name: str, region: str) -> str:
    """Return the host of an environment's page."""
    return f"{name}{_OF_VPC}{_DOMAIN}{region}.{HOST}"


def name_of(host: str) -> str:
    """Return the name of the environment whose page a host is; empty of any other host."""
    name, found, _ = host.partition(f"{_OF_VPC}{_DOMAIN}")
    return name if found else ""


class AirflowPage:
    """One environment's page, and who is signed in to it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.api = AirflowApi()
        self._clock = clock
        self._tokens: dict[str, float] = {}
        self._sessions: dict[str, float] = {}

    def expect(self, token: str) -> None:
        """Take a token of `CreateWebLoginToken` from now on."""
        self._tokens[token] = self._clock() + _TOKEN_SECONDS

    def end_sessions(self) -> None:
        """Know nobody any more."""
        self._sessions.clear()

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Response:
        """Answer a request; `target` is its path with its query."""
        url = urlsplit(target)
        if (method, url.path) == ("POST", SIGN_IN):
            (token,) = parse_qs(body.decode()).get("token", [""])
            if not self._holds(self._tokens, token):
                return json_response(403, {"detail": "Forbidden"})
            session = uuid.uuid4().hex
            self._sessions[session] = self._clock() + _SESSION_SECONDS
            return Response(200, {"Set-Cookie": f"_token={session}; Path=/; Secure; SameSite=lax"})
        if not url.path.startswith(f"{API}/"):
            return Response(302, {"Location": f"{SIGN_IN}?next=%2F"})
        if not self._holds(self._sessions, headers.get("Authorization", "").removeprefix("Bearer ")):
            return json_response(401, {"detail": "Not authenticated"})
        sent = json.loads(body) if body else None
        status, document = self.api.answer(method, url.path.removeprefix(API), dict(parse_qsl(url.query)), sent)
        return json_response(status, document)

    def _holds(self, known: dict[str, float], token: str) -> bool:
        return known.get(token, 0.0) > self._clock()
