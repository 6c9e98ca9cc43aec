"""What the smoke test asks for is what there is."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cloud.environments import Environment
from cloud.smoke import Check, smoke
from cloud.terraform import ROOT
from local.emulators.airflow_api import AirflowApi
from mlplatform.config.loading import model_names
from mlplatform.config.names import dag_ids
from mlplatform.config.pools import Pool
from tests.airflow_api import client_of

Asked = Callable[..., Check]
DAGS = [dag for name in model_names(ROOT) if name != "flights" for dag in dag_ids(name)]
"""What is expected where flights is not enabled."""


class Mwaa:
    """An environment that is available, and Airflow behind `InvokeRestApi`, with two entries on a page."""

    def __init__(self, dags: list[str], errors: list[dict[str, str]], paused: Collection[str] = ()) -> None:
        self._lists: dict[str, tuple[str, list[Any]]] = {
            "/dags": ("dags", [{"dag_id": dag, "is_paused": dag in paused} for dag in dags]),
            "/importErrors": ("import_errors", errors),
        }

    def get_environment(self, **_: Any) -> dict[str, Any]:
        return {
            "Environment": {
                "Name": "env",
                "Status": "AVAILABLE",
                "AirflowVersion": "3",
                "WebserverAccessMode": "PUBLIC_ONLY",
            }
        }

    def get_object(self, **_: Any) -> dict[str, Any]:
        raise ClientError({"Error": {"Code": "NoSuchKey", "Message": "no platform.json"}}, "GetObject")

    def invoke_rest_api(self, *, Path: str, QueryParameters: dict[str, str], **_: Any) -> dict[str, Any]:
        key, entries = self._lists[Path]
        start = int(QueryParameters["offset"])
        page = {key: entries[start : start + 2], "total_entries": len(entries)}
        return {"RestApiStatusCode": 200, "RestApiResponse": page}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Asked:
    """Return a function that asks an environment for its DAGs; flights is not enabled in it, iris starts paused."""
    own = {
        "flights": "\nenvironments: {prod: {enabled: false}}\n",
        "iris": "\nenvironments: {prod: {settings: {orchestration: {start_paused: true}}}}\n",
    }
    for file in (ROOT / "config").rglob("*.yaml"):
        copy = tmp_path / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        added = own.get(file.stem, "") if file.parent.name == "models" else ""
        copy.write_text(file.read_text(encoding="utf-8") + added)

    def ask(dags: list[str], errors: list[dict[str, str]], paused: Collection[str] = ()) -> Check:
        environment = Environment("prod", tmp_path)
        monkeypatch.setitem(environment.__dict__, "outputs", {"airflow_environment": "env"})
        monkeypatch.setattr(environment, "client", lambda service: Mwaa(dags, errors, paused))
        return next(check for check in smoke(environment, print) if check.name == "dags")

    return ask


def test_every_dag_of_the_bundle_is_asked_for(asked: Asked) -> None:
    for missing in DAGS:
        answer = asked([dag for dag in DAGS if dag != missing], [])
        assert not answer.passed
        assert answer.detail.startswith(f"{missing} is not there (")
    assert asked(DAGS, []) == Check("dags", True, "12 DAGs of housing, iris, titanic")


LOST = (
    "a model that is approved meanwhile is not deployed, later neither, as Airflow hands an approval on only to a DAG "
    "that is not paused at that moment"
)
UNPAUSE = ". Unpause in Airflow what nobody means to be paused"


def test_paused_dags_are_named_with_what_that_costs(asked: Asked) -> None:
    paused = {"train__titanic", "deploy__titanic", "deploy__housing", "rollback__housing", "monitor__titanic", "theirs"}
    assert asked([*DAGS, "theirs"], [], paused) == Check(
        "dags",
        True,
        f"train__titanic is paused: runs stay queued; deploy__housing, deploy__titanic are paused: {LOST}; "
        f"rollback__housing is paused: a step back stays queued; "
        f"monitor__titanic is paused: nothing watches the live model{UNPAUSE}",
        warning=True,
    )


def test_dags_that_start_paused_by_the_configuration_may_stay_so(asked: Asked) -> None:
    iris = dag_ids("iris")
    told = f"12 DAGs of housing, iris, titanic; paused, as configured: {', '.join(sorted(iris))}"
    assert asked(DAGS, [], iris) == Check("dags", True, told)


def test_a_training_that_somebody_unpaused_wants_its_deployment(asked: Asked) -> None:
    answer = asked(DAGS, [], [dag for dag in dag_ids("iris") if dag != "train__iris"])
    assert answer == Check("dags", True, f"deploy__iris is paused: {LOST}{UNPAUSE}", warning=True)


def test_import_errors_are_named(asked: Asked) -> None:
    errors = [
        {"filename": "refused_datasets.py", "stack_trace": "Traceback\n  x\nConfigError: config/models/x.yaml: bad\n"},
        {"filename": "other.py", "stack_trace": "Traceback\nImportError: no y\n"},
        {"filename": "third.py", "stack_trace": ""},
    ]
    answer = asked(DAGS, errors)
    assert not answer.passed
    assert answer.detail == (
        "3 DAG files cannot be imported: refused_datasets.py: ConfigError: config/models/x.yaml: bad; "
        "other.py: ImportError: no y; third.py"
    )


AWS = ("cloudwatch", "sagemaker")


class Aws:
    """SageMaker and CloudWatch with endpoints and alarms of some names."""

    def __init__(self, endpoints: list[str], alarms: list[str]) -> None:
        self._endpoints, self._alarms = endpoints, alarms

    def describe_endpoint(self, EndpointName: str) -> dict[str, str]:
        if EndpointName == "ml-platform-prod-titanic":
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "not you"}}, "DescribeEndpoint")
        if EndpointName not in self._endpoints:
            message = f'Could not find endpoint "{EndpointName}".'
            raise ClientError({"Error": {"Code": "ValidationException", "Message": message}}, "DescribeEndpoint")
        return {"EndpointStatus": "InService"}

    def get_paginator(self, _: str) -> Aws:
        return self

    def paginate(self, AlarmNamePrefix: str) -> list[dict[str, Any]]:
        found = [name for name in self._alarms if name.startswith(AlarmNamePrefix)]
        return [{"MetricAlarms": [{"AlarmName": name, "StateValue": "OK"}]} for name in found]


@pytest.fixture
def rollback(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str], list[str]], Check]:
    """Return a function that asks an environment with such endpoints and alarms whether all can be rolled back."""

    def ask(endpoints: list[str], alarms: list[str]) -> Check:
        environment = Environment("prod", ROOT)
        monkeypatch.setitem(environment.__dict__, "outputs", {})
        monkeypatch.setattr(environment, "client", lambda name: Aws(endpoints, alarms) if name in AWS else Mwaa([], []))
        return next(check for check in smoke(environment, print) if check.name == "rollback")

    return ask


def test_a_live_dataset_that_nothing_rolls_back_is_named(rollback: Callable[[list[str], list[str]], Check]) -> None:
    titanic = "ml-platform-prod-titanic-rollback-5xx"
    alarms = ["ml-platform-prod-flights-rollback-5xx", titanic, "ml-platform-prod-iris-errors"]
    ours = ["ml-platform-prod-flights", "ml-platform-prod-iris", "ml-platform-prod-housing", "ml-platform-dev-iris"]
    answer = rollback(ours, alarms)
    assert (answer.passed, answer.warning) == (True, True), "all works, but a person is to know"
    assert answer.detail == (
        "nothing rolls back a bad deployment of housing, iris: add it to `endpoints` in "
        "terraform/environments/prod/main.tf, then `make plan apply ENV=prod`"
    )
    answer = rollback(["ml-platform-prod-flights", "ml-platform-dev-iris"], alarms)
    assert answer == Check("rollback", True, "alarms watch over flights, titanic")
    answer = rollback([], [])
    assert (answer.passed, answer.detail.startswith("AWS answered: ")) == (False, True), "a refusal is no absence"


def test_pools_that_are_missing_or_different_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    airflow = AirflowApi()
    environment = Environment("prod", ROOT)
    monkeypatch.setitem(environment.__dict__, "outputs", {"dags_bucket": "dags"})
    aws = Mwaa([], [])
    aws.get_object = lambda **_: {"Body": io.BytesIO(b"{}")}  # type: ignore[method-assign]
    monkeypatch.setattr(environment, "client", lambda service: aws)
    monkeypatch.setattr("cloud.smoke.Opened", lambda *_: lambda: client_of(airflow))
    monkeypatch.setattr("cloud.bundle.pools", lambda *_: [Pool("training__x", 4, "of x", True)])

    def ask() -> Check:
        return next(check for check in smoke(environment, print) if check.name == "pools")

    assert ask().detail.startswith("+ pool training__x: 4 slots: run `make push-dags`")
    airflow.answer("POST", "/pools", None, {"name": "training__x", "slots": 4, "description": "of x"})
    assert ask().detail.startswith("~ pool training__x: include_deferred False becomes True: run")
    airflow.pools["training__x"]["include_deferred"] = True
    assert ask() == Check("pools", True, "1 pools")
