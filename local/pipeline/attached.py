"""A running local platform, seen by somebody who uses it: its addresses and a client for each part."""

from __future__ import annotations

import json
import ssl
from functools import cached_property
from typing import Any

import boto3
import httpx
from botocore.config import Config

from local.pipeline.airflow_client import AirflowClient
from local.platform.facts import BUCKETS, REGION
from local.platform.home import Home, PlatformError
from local.platform.state import PlatformState, read_state


class AttachedPlatform:
    """Clients for a platform that runs in `home`.

    Raises:
        PlatformError: nothing runs there, or not all of it.
    """

    def __init__(self, home: Home) -> None:
        state = read_state(home.state_file)
        if state is None or state.phase != "running":
            raise PlatformError(f"no platform runs in {home.root}: start one with `make local-up`")
        if state.broken:
            raise PlatformError(
                f"of the platform in {home.root} {', '.join(sorted(state.broken))} does not run: `make local-status` "
                "says why, and `make local-up` puts a new one, which is empty, in its place"
            )
        self.home = home
        self.state: PlatformState = state
        self.addresses = state.addresses
        self.landing, self.data, self.artifacts = (BUCKETS[name] for name in ("landing", "data", "artifacts"))

    def _aws(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.addresses["aws"],
            region_name=REGION,
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=Config(retries={"mode": "standard", "max_attempts": 3}),
        )

    @cached_property
    def airflow(self) -> AirflowClient:
        """Airflow's REST API."""
        return AirflowClient.on_this_machine(self.addresses["airflow"])

    @cached_property
    def s3(self) -> Any:
        """S3."""
        return self._aws("s3")

    @cached_property
    def sqs(self) -> Any:
        """SQS, where the notifications can be read."""
        return self._aws("sqs")

    @cached_property
    def sagemaker(self) -> Any:
        """SageMaker's control plane."""
        return self._aws("sagemaker")

    @cached_property
    def cloudwatch(self) -> Any:
        """CloudWatch, where the alarms are."""
        return self._aws("cloudwatch")

    @cached_property
    def endpoints(self) -> Any:
        """SageMaker's runtime: InvokeEndpoint."""
        return self._aws("sagemaker-runtime")

    @cached_property
    def registry(self) -> Any:
        """MLflow's tracking and registry client."""
        from mlflow.tracking import MlflowClient

        return MlflowClient(tracking_uri=self.addresses["mlflow"])

    @cached_property
    def kubernetes(self) -> httpx.Client:
        """The local Kubernetes API's own endpoints: faults and records, see its README."""
        folder = self.home.kubeconfig.parent
        return httpx.Client(
            base_url=self.addresses["kubernetes"],
            headers={"Authorization": f"Bearer {(folder / 'token').read_text().strip()}"},
            verify=ssl.create_default_context(cafile=folder / "ca.crt"),
        )

    def pods(self, run_key: str | None = None, step: str | None = None) -> list[dict[str, Any]]:
        """Return the records of all pods there ever were, of one run or step if asked."""
        records: list[dict[str, Any]] = self.kubernetes.get("/local/pods-history").raise_for_status().json()
        wanted = {"ml-platform/run-key": run_key, "ml-platform/step": step}
        return [pod for pod in records if all(value in (None, pod["labels"].get(key)) for key, value in wanted.items())]

    def read_json(self, key: str, bucket: str | None = None) -> Any:
        """Return a JSON object of the data bucket (or another); None when it is not there."""
        try:
            body = self.s3.get_object(Bucket=bucket or self.data, Key=key)["Body"].read()
        except self.s3.exceptions.NoSuchKey:
            return None
        return json.loads(body)

    def keys(self, prefix: str, bucket: str | None = None) -> list[str]:
        """Return the keys under a prefix, sorted."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket or self.data, Prefix=prefix)
        return sorted(entry["Key"] for page in pages for entry in page.get("Contents", []))
