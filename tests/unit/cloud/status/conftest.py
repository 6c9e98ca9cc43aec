"""An environment in AWS that holds what a release has really written, and an Airflow behind `InvokeRestApi`."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import pytest
from moto import mock_aws

from cloud.environments import Environment
from cloud.terraform import ROOT
from mlplatform.config.names import DEPLOYMENT_POOL, dag_ids, training_pool
from tests.golden.sets import SETS

GOLDEN = SETS[0]
READ = re.compile(r"artifacts/audit/|data/(deployments|monitoring)/|data/runs/.*/evaluate/config.json$")
"""Of what a release writes, what the status may be told from."""


def refused(operation: str, code: str = "AccessDenied", message: str = "not yours") -> botocore.exceptions.ClientError:
    return botocore.exceptions.ClientError({"Error": {"Code": code, "Message": message}}, operation)


class SageMaker:
    """The endpoints that the release left behind."""

    def __init__(self) -> None:
        known = GOLDEN.read("sagemaker.json")
        self.endpoints: dict[str, Any] = known["endpoints"]
        self.configs: dict[str, Any] = known["configurations"]

    def describe_endpoint(self, EndpointName: str) -> dict[str, Any]:
        if EndpointName not in self.endpoints:
            raise refused("DescribeEndpoint", "ValidationException", "Could not find endpoint")
        return dict(self.endpoints[EndpointName])

    def describe_endpoint_config(self, EndpointConfigName: str) -> dict[str, Any]:
        return dict(self.configs[EndpointConfigName])


class Mwaa:
    """Airflow's lists, each in pages of two entries; a path that is None is refused."""

    def __init__(self) -> None:
        self.dags: list[dict[str, Any]] = []
        self.pools: list[dict[str, Any]] = []
        self.runs: list[dict[str, Any]] = []
        self.tasks: list[dict[str, Any]] = []
        self.questions: list[dict[str, Any]] = []
        self.decisions: dict[str, Any] = {}
        self.refuses: str | None = None
        self.calls: Counter[str] = Counter()

    def get_environment(self, Name: str) -> dict[str, Any]:
        return {"Environment": {"Name": Name, "WebserverAccessMode": "PUBLIC_ONLY"}}

    def invoke_rest_api(self, *, Path: str, Method: str, QueryParameters: Any = None, **_: Any) -> dict[str, Any]:
        assert Method == "GET"
        self.calls[Path] += 1
        if self.refuses and self.refuses in Path:
            raise botocore.exceptions.ClientError(
                {
                    "Error": {"Code": "RestApiClientException", "Message": ""},
                    "RestApiStatusCode": 403,
                    "RestApiResponse": {"detail": "Forbidden"},
                },  # type: ignore[arg-type]
                "InvokeRestApi",
            )
        query = QueryParameters or {}
        if "/xcomEntries/" in Path:
            return self._answer({"value": self.decisions[Path.split("/")[4]]})
        key, entries = {
            "dags": ("dags", self.dags),
            "dagRuns": ("dag_runs", self.runs),
            "taskInstances": ("task_instances", self.tasks),
            "hitlDetails": ("hitl_details", self.questions),
            "pools": ("pools", self.pools),
        }[Path.rsplit("/", 1)[-1]]
        if "state" in query:
            entries = [one for one in entries if one["state"] == query["state"]]
        if "dag_id_pattern" in query:
            entries = [one for one in entries if one["dag_id"].startswith(query["dag_id_pattern"].rstrip("%"))]
        start = int(query["offset"])
        return self._answer({key: entries[start : start + 2], "total_entries": len(entries)})

    @staticmethod
    def _answer(content: Any) -> dict[str, Any]:
        return {"RestApiStatusCode": 200, "RestApiResponse": content}


class World:
    """The environment, whose parts tests change."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.sagemaker, self.mwaa = SageMaker(), Mwaa()
        self.s3 = boto3.client("s3")
        self.cloudwatch = boto3.client("cloudwatch")
        self.asked: Counter[str] = Counter()
        self.s3.meta.events.register("before-call.s3", lambda model, **_: self.asked.update([model.name]))

    def client(self, service: str) -> Any:
        return getattr(self, service)

    def put(self, name: str, content: bytes) -> None:
        bucket, key = GOLDEN.uri(name).removeprefix("s3://").split("/", 1)
        self.s3.put_object(Bucket=bucket, Key=key, Body=content)

    def alarm(self, name: str, endpoint: str, state: str = "OK") -> None:
        self.cloudwatch.put_metric_alarm(
            AlarmName=name,
            Namespace="AWS/SageMaker",
            MetricName="Invocation5XXErrors",
            Dimensions=[{"Name": "EndpointName", "Value": endpoint}],
            Period=60,
            EvaluationPeriods=1,
            ComparisonOperator="GreaterThanThreshold",
            Threshold=0.01,
            Statistic="Average",
        )
        self.cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason="test")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    """The environment `dev`; flights is switched off there."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for folder in ("models", "families"):
        (tmp_path / "config" / folder).mkdir(parents=True)
        for file in (ROOT / "config" / folder).glob("*.yaml"):
            own = "\nenvironments: {dev: {enabled: false}}\n" if file.stem == "flights" else ""
            (tmp_path / "config" / folder / file.name).write_text(file.read_text(encoding="utf-8") + own)
    for file in (ROOT / "config").glob("*.yaml"):
        (tmp_path / "config" / file.name).write_text(file.read_text(encoding="utf-8"))
    environment = Environment("dev", tmp_path)
    outputs = {"dags_bucket": "dags", "airflow_environment": "env", "airflow_url": "https://airflow.example"}
    monkeypatch.setitem(environment.__dict__, "outputs", outputs)
    with mock_aws():
        made = World(environment)
        for bucket in GOLDEN.buckets.values():
            made.s3.create_bucket(Bucket=bucket)
        for name, path in GOLDEN.objects():
            if READ.match(name):
                made.put(name, path.read_bytes())
        made.s3.create_bucket(Bucket="dags")
        platform = json.dumps({**GOLDEN.platform, "environment": "dev"}).encode()
        made.s3.put_object(Bucket="dags", Key="dags/platform.json", Body=platform)
        for dataset in ("housing", "iris", "titanic"):
            for alarm in GOLDEN.platform["serving"]["alarms"][dataset]:
                made.alarm(alarm, dataset)
            for dag in dag_ids(dataset):
                made.mwaa.dags.append({"dag_id": dag, "is_paused": False, "next_dagrun_run_after": None})
            made.mwaa.pools.append({"name": training_pool(dataset), "slots": 2})
        made.mwaa.pools.append({"name": DEPLOYMENT_POOL, "slots": 32})
        made.mwaa.dags.append({"dag_id": "somebody_elses", "is_paused": True, "next_dagrun_run_after": None})
        monkeypatch.setattr(environment, "client", made.client)
        yield made
