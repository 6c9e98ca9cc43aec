"""Where an environment's Airflow and AWS are, in the cloud and on this machine."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud import bundle
from cloud.airflow_api import Opened, Say
from cloud.environments import Environment
from cloud.status.attempts import attempt
from cloud.status.facts import Unread
from local.pipeline.airflow_client import AirflowClient
from local.pipeline.attached import AttachedPlatform


@dataclass(frozen=True)
class Place:
    """How to reach an environment."""

    environment: str
    bundle: Path
    """A folder with ``config/`` and ``platform.json``."""
    no_settings: str | None
    """Why there is no ``platform.json``, without which no dataset's settings can be loaded."""
    airflow: Callable[[], AirflowClient]
    airflow_url: str
    s3: Any
    sagemaker: Any
    cloudwatch: Any


def on_this_machine(platform: AttachedPlatform) -> Place:
    """Return where the local platform is."""
    return Place(
        environment="local",
        bundle=platform.home.bundle,
        no_settings=None,
        airflow=lambda: platform.airflow,
        airflow_url=platform.addresses["airflow"],
        s3=platform.s3,
        sagemaker=platform.sagemaker,
        cloudwatch=platform.cloudwatch,
    )


@contextmanager
def in_aws(environment: Environment, say: Say) -> Iterator[Place]:
    """Give where an environment in AWS is, while it is asked.

    What people choose is read from this checkout, what is the case from the DAG bucket's ``platform.json``.

    Raises:
        CloudError: nothing is applied, or AWS does not know the caller.
    """
    outputs, s3 = environment.outputs, environment.client("s3")
    with tempfile.TemporaryDirectory(prefix="ml-platform-status-") as folder, ExitStack() as stack:
        place = Path(folder)
        (place / "config").symlink_to(environment.root / "config")
        found = attempt(lambda: _platform(s3, outputs["dags_bucket"], environment.name))
        if not isinstance(found, Unread):
            (place / "platform.json").write_bytes(found)
        yield Place(
            environment=environment.name,
            bundle=place,
            no_settings=found.reason if isinstance(found, Unread) else None,
            airflow=Opened(environment, say, stack),
            airflow_url=outputs["airflow_url"],
            s3=s3,
            sagemaker=environment.client("sagemaker"),
            cloudwatch=environment.client("cloudwatch"),
        )


def _platform(s3: Any, bucket: str, environment: str) -> bytes:
    content: bytes = s3.get_object(Bucket=bucket, Key=bundle.PLATFORM)["Body"].read()
    if json.loads(content)["environment"] != environment:
        raise ValueError(f"s3://{bucket}/{bundle.PLATFORM} is of another environment")
    return content
