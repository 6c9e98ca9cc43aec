"""What the tests of the deployer share: saved models, runs, and ways to look at what is live."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError
from mlflow import MlflowClient

from deployer.deploy import run
from mlplatform.config.dataset import ModelConfig
from mlplatform.config.loading import load_family
from mlplatform.documents.deployment import DeployResult
from mlplatform.documents.evaluation import Examples
from mlplatform.documents.results import StepFailure
from mlplatform.documents.run import Candidate, Deployment, RunConfig
from mlplatform.steps import run_step
from mlplatform.storage import read_document, try_read_bytes, write_document

ROOT = Path(__file__).resolve().parents[3]
REGION = "us-east-1"
ACCOUNT = "123456789012"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/mlplatform/serving:000000000001"
DATA, ARTIFACTS = "data", "artifacts"
FAMILY = load_family("sklearn", ROOT)
ROWS: list[dict[str, Any]] = [
    {"distance": 250.0, "carrier": "AA", "wind": 0.5},
    {"distance": None, "carrier": "Ünïted", "wind": None},
    {"distance": 900.0, "carrier": "never seen", "wind": -1.0},
]


@dataclass(frozen=True)
class SavedModel:
    """A saved model and what it answers for ``ROWS``."""

    directory: Path
    digest: str
    predictions: list[float]


def make_examples(predictions: Sequence[float | list[float]]) -> Examples:
    rows = [
        {"features": row, "prediction": prediction, "target": 0.0, "references": {}}
        for row, prediction in zip(ROWS, predictions, strict=True)
    ]
    return Examples.model_validate({"examples": rows})


def make_config(
    name: str,
    candidate: Candidate,
    tracking_uri: str,
    *,
    run_key: str = "0123456789abcdef0123",
    owner: str = "ml-team",
    **deployment: Any,
) -> RunConfig:
    """Return a run's configuration for registered model and endpoint ``name``."""
    model = {
        "name": "flights",
        "description": "Late flights",
        "owner": owner,
        "registered_model": name,
        "task": "binary",
        "tables": {"flights": {"trigger": True, "columns": {"late": {"type": "boolean"}}}},
        "query": "SELECT * FROM flights",
        "target": "late",
        "features": {"distance": {"type": "number"}, "wind": {"type": "number"}, "carrier": {"type": "category"}},
        "split": {"kind": "time", "column": "day", "validation_days": 1, "test_days": 1},
        "metric": "roc_auc",
        "families": {"sklearn": {}},
        "policy": {"minimum_quality": 0.5},
    }
    settings = {
        "endpoint_name": name,
        "serving_image": IMAGE,
        "execution_role_arn": f"arn:aws:iam::{ACCOUNT}:role/sagemaker",
        "instance_type": "ml.m5.large",
        "instance_count": 1,
        "startup_timeout_seconds": 60,
        "artifacts_bucket": ARTIFACTS,
        "examples_uri": f"s3://{DATA}/{name}/examples.json",
    }
    return RunConfig(
        run_key=run_key,
        seed=0,
        family=FAMILY,
        model=ModelConfig.model_validate(model),
        policy=ModelConfig.model_validate(model).policy,
        tracking_uri=tracking_uri,
        region=REGION,
        lineage={"git-sha": "0" * 40},
        candidate=candidate,
        deployment=Deployment.model_validate(settings | deployment),
    )


class World:
    """One registered model and one endpoint, both called ``name``, on the servers of the session."""

    def __init__(self, name: str, tracking_uri: str, aws_url: str, models: list[SavedModel]) -> None:
        self.name = name
        self.aws_url = aws_url
        self.models = models
        self._tracking_uri = tracking_uri
        self.client = MlflowClient(tracking_uri)
        self.sagemaker = boto3.client("sagemaker", region_name=REGION)
        self._runtime = boto3.client("sagemaker-runtime", region_name=REGION)
        self.client.create_registered_model(name)
        self._runs = 0

    def register(self, model: SavedModel) -> Candidate:
        """Register a saved model as training does, and return it as a candidate."""
        mlflow_run = self.client.create_run("0").info.run_id
        self.client.log_artifacts(mlflow_run, str(model.directory), "model/modelformat")
        version = self.client.create_model_version(self.name, f"runs:/{mlflow_run}/model", mlflow_run).version
        return Candidate(version=str(version), run_id=mlflow_run, model_digest=model.digest)

    def prepare(self, candidate: Candidate, predictions: list[float], **deployment: Any) -> str:
        """Write what a deployment reads and return the prefix of its run."""
        self._runs += 1
        prefix = f"s3://{DATA}/{self.name}/{self._runs}"
        options = {"examples_uri": f"{prefix}/examples.json", "rollout": {"bake_seconds": 0}, **deployment}
        config = make_config(self.name, candidate, self._tracking_uri, **options)
        write_document(f"{prefix}/config.json", config)
        write_document(f"{prefix}/examples.json", make_examples(predictions))
        return prefix

    def run(self, prefix: str) -> int:
        """Run the step in this process and return its exit code."""
        return run_step("deploy", run, f"{prefix}/config.json", f"{prefix}/evaluate", f"{prefix}/deploy")

    def start(self, prefix: str) -> subprocess.Popen[str]:
        """Start the step as a pod does."""
        arguments = [
            "--config",
            f"{prefix}/config.json",
            "--input",
            f"{prefix}/evaluate",
            "--output",
            f"{prefix}/deploy",
        ]
        return subprocess.Popen(
            [sys.executable, "-m", "deployer", "deploy", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def deploy(self, model: SavedModel) -> DeployResult:
        """Register and deploy a model, expecting success."""
        prefix = self.prepare(self.register(model), model.predictions)
        assert self.run(prefix) == 0
        return self.result(prefix)

    def result(self, prefix: str) -> DeployResult:
        return read_document(f"{prefix}/deploy/result.json", DeployResult)

    def error(self, prefix: str) -> StepFailure:
        assert try_read_bytes(f"{prefix}/deploy/result.json") is None
        return read_document(f"{prefix}/deploy/error.json", StepFailure)

    def fault(self, kind: str, times: int = 1) -> None:
        """Arm a fault of the local AWS API at this endpoint."""
        body = json.dumps({"kind": kind, "endpoint": self.name, "times": times}).encode()
        request = urllib.request.Request(
            f"{self.aws_url}/_local/faults", body, {"Content-Type": "application/json"}, method="POST"
        )
        urllib.request.urlopen(request, timeout=5).close()

    def clear_faults(self) -> None:
        request = urllib.request.Request(f"{self.aws_url}/_local/faults", method="DELETE")
        urllib.request.urlopen(request, timeout=5).close()

    def wait_for_alarm(self, state: str, seconds: float = 30) -> None:
        """Wait until the alarm of `alarm` is in a state."""
        cloudwatch = boto3.client("cloudwatch", region_name=REGION)
        deadline = time.monotonic() + seconds
        while cloudwatch.describe_alarms(AlarmNames=[self.alarm_name])["MetricAlarms"][0]["StateValue"] != state:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    @property
    def alarm_name(self) -> str:
        return f"{self.name}-rollback-5xx"

    def alarm(self) -> str:
        """Make the alarm on errors that Terraform makes, and return its name."""
        boto3.client("cloudwatch", region_name=REGION).put_metric_alarm(
            AlarmName=self.alarm_name,
            Namespace="AWS/SageMaker",
            MetricName="Invocation5XXErrors",
            Dimensions=[
                {"Name": "EndpointName", "Value": self.name},
                {"Name": "VariantName", "Value": "primary"},
            ],
            Statistic="Average",
            Period=60,
            EvaluationPeriods=3,
            DatapointsToAlarm=2,
            ComparisonOperator="GreaterThanThreshold",
            Threshold=0.01,
            TreatMissingData="notBreaching",
        )
        return self.alarm_name

    def endpoint(self) -> dict[str, Any] | None:
        try:
            description: dict[str, Any] = self.sagemaker.describe_endpoint(EndpointName=self.name)
        except ClientError:
            return None
        return description

    def alias(self, alias: str) -> str | None:
        aliases: dict[str, str] = self.client.get_registered_model(self.name).aliases
        found = aliases.get(alias)
        return None if found is None else str(found)

    def live(self, **invocation: str) -> tuple[str, list[float]]:
        """Return the version that answers now, and its predictions for ``ROWS``."""
        body = json.dumps({"instances": ROWS})
        answer = self._runtime.invoke_endpoint(
            EndpointName=self.name, ContentType="application/json", Body=body, **invocation
        )
        content = json.loads(answer["Body"].read())
        return content["model"]["version"], content["predictions"]
