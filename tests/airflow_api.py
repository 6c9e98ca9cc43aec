"""A client of an Airflow that has pools and nothing else, for whoever tests what makes them."""

from __future__ import annotations

import json

import httpx

from local.emulators.airflow_api import AirflowApi
from local.pipeline.airflow_client import AirflowClient


def client_of(api: AirflowApi) -> AirflowClient:
    """Return a client whose requests reach `api`, without a network."""

    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else None
        path = request.url.path.removeprefix("/api/v2")
        status, document = api.answer(request.method, path, dict(request.url.params), body)
        return httpx.Response(status, json=document)

    return AirflowClient(httpx.Client(transport=httpx.MockTransport(answer), base_url="http://airflow.invalid"))
